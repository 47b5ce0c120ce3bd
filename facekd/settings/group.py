"""What makes a class a group of settings, and how groups and flat names turn into each other.

A command's signature is made of groups. The command line and run.yaml know their fields by name alone; from Python a
command takes both: ``distill(data=TrainingData(data=[crops]))`` and ``distill(data=crops)``.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, dataclass_transform, get_args, get_origin, get_type_hints

from cyclopts import Group, Parameter

from facekd.core.choices import SPELLED_BEFORE
from facekd.core.printable import ADDRESS, without_keys
from facekd.errors import UserError

C = TypeVar("C", bound=type)

# In the order in which --help shows them; what people use first comes first.
PANELS = ("Most used", "Parameters", "Sites", "Data", "Teacher", "Objective", "Student", "Network", "Optimization",
          "Views", "Model", "Faces", "Quality", "Decision", "Server", "Runtime", "Output")  # fmt: skip

VERBS = ("choose", "combine", "fuse")  # settings that are not called by what they choose among


def panel(name: str) -> Group:
    """A panel of --help, at its place."""
    return Group(name, sort_key=PANELS.index(name))


FIRST = Parameter(group=panel("Most used"))  # Annotated with it, a field leaves its group's panel


@dataclass_transform(kw_only_default=True, frozen_default=True)
def settings(name: str) -> Callable[[C], C]:
    """A frozen, keyword-only dataclass whose fields are flags in the panel `name`, told of by their own docstrings.

    Text is taken for each Path, and one path alone for a list of them. What can't be is refused in ``__post_init__``.
    A command with other defaults takes a subclass: with an instance of other values as its argument's default,
    cyclopts would bring the class's own defaults back as soon as one flag is given.
    """

    def made(cls: C) -> C:
        refuse = getattr(cls, "__post_init__", None)  # its own, or of the group that it extends

        def check(self: Any) -> None:
            for field in dataclasses.fields(self):
                value = getattr(self, field.name)
                if several := takes_paths(str(field.type)):
                    value = as_paths(value, several == "several")
                kinds = _kinds(type(self))[field.name]  # type: ignore[arg-type]  # a class has a hash
                object.__setattr__(self, field.name, _taken(value, kinds, field.name))
            if refuse is not None:
                refuse(self)

        cls.__post_init__ = check  # type: ignore[attr-defined]
        made: Any = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
        return cast(C, Parameter(name="*", group=panel(name))(made))

    return made


def flat(*groups: Any, **more: Any) -> dict[str, Any]:
    """The fields of groups by name, and some more values: what run.yaml holds."""
    found = {field.name: getattr(group, field.name) for group in groups for field in dataclasses.fields(group)}
    return found | more


def flattened(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """A command's arguments with the fields of groups by name."""
    groups = {name: value for name, value in arguments.items() if dataclasses.is_dataclass(value)}
    return flat(*groups.values(), **{name: value for name, value in arguments.items() if name not in groups})


def flag_names(command: Callable[..., Any]) -> list[str]:
    """What a command can be asked by name: its own arguments, and the fields of its groups in place of these."""
    groups = groups_of(command)
    names: list[str] = []
    for name in inspect.signature(command).parameters:
        names += [field.name for field in dataclasses.fields(groups[name])] if name in groups else [name]
    return names


def grouped(command: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A command's arguments from `given`, in which fields of its groups may stand by name.

    Raises:
        TypeError: a name that the command has not, or a group beside one of its own fields.
    """
    groups = groups_of(command)
    # Exactly: what another group adds or has otherwise would be passed over without a word.
    whole = {name: value for name, value in given.items() if name in groups and type(value) is groups[name]}
    rest = {name: value for name, value in given.items() if name not in whole}
    for name, group in groups.items():
        fields = {field.name for field in dataclasses.fields(group)}
        own = {key: rest.pop(key) for key in fields & rest.keys()}
        for key, value in own.items():
            if dataclasses.is_dataclass(value):
                raise _other_group(command, key, groups.get(key, group), value)
        if own and name in whole:
            raise TypeError(f"{command.__name__}() takes {name} as a whole or {', '.join(sorted(own))}, not both")
        if own:
            whole[name] = group(**own)
    for name in groups.keys() & rest.keys():
        raise _other_group(command, name, groups[name], rest[name])
    return rest | whole


def _other_group(command: Callable[..., Any], name: str, group: type, value: object) -> TypeError:
    return TypeError(f"{command.__name__}() takes {name} as {group.__name__}, not {type(value).__name__}")


@cache
def groups_of(command: Callable[..., Any]) -> dict[str, type]:
    """The groups in a command's signature, by the argument's name."""
    inner = inspect.unwrap(command)
    found = {}
    for name, parameter in inspect.signature(inner).parameters.items():
        kind = parameter.annotation
        kind = inner.__globals__.get(kind) if isinstance(kind, str) else kind
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            found[name] = kind
    return found


@cache
def _kinds(group: type) -> dict[str, tuple[Any, ...]]:
    """What each field of a group may be: the parts of a union, and else one."""
    found = {}
    for name, hint in get_type_hints(group).items():
        union = get_origin(hint) in (Union, UnionType)
        found[name] = get_args(hint) if union else (hint,)
    return found


def _taken(value: Any, kinds: tuple[Any, ...], name: str) -> Any:
    """`value` for a field, a lone one as a list where the field takes lists alone.

    The command line's values are of the right kind; from Python anything can come.

    Raises:
        UserError: a name that there is not, or another kind of value.
    """
    flag = f"--{name.replace('_', '-')}"
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    if isinstance(value, str) and SPELLED_BEFORE.get(value) in choices:
        return SPELLED_BEFORE[value]
    if choices and isinstance(value, str) and value not in choices:
        what = "value" if name in VERBS else name.replace("_", " ")
        raise UserError(f"{flag} {value}: there is no such {what}; choose from {', '.join(choices)}")
    plain = {kind for kind in kinds if isinstance(kind, type)}
    if isinstance(value, str | int | float) and not plain & {type(value), str, int, float, bool} and not choices:
        return [value] if any(get_origin(kind) is list for kind in kinds) else value
    if isinstance(value, str) and not choices and plain & {int, float, bool} and str not in plain:
        wanted = "True or False" if plain <= {bool, type(None)} else "a number"
        raise UserError(f"{flag} {value!r}: is text; give {wanted}")
    if isinstance(value, float) and int in plain and float not in plain:
        raise UserError(f"{flag} {value}: give a whole number")
    return value


def takes_paths(annotation: str) -> str:
    """ "one" or "several" of an annotation that names Path; else empty."""
    if not re.search(r"\bPath\b", annotation):
        return ""
    return (
        "several" if "list[" in annotation and not annotation.removeprefix("Annotated[").startswith("Path") else "one"
    )


def as_paths(value: Any, several: bool = False, gallery: bool = False) -> Any:
    """`value` with each text in it as a Path; where there may be `several`, one alone as a list.

    Args:
        gallery: it may be one, which alone may lie in an object store.

    Raises:
        UserError: an address, which would be taken for a folder called s3: or https:.
    """
    if isinstance(value, str | os.PathLike):
        path = Path(value)
        if ADDRESS.match(str(path)) and not (gallery and str(path).startswith("s3:/")):
            raise UserError(
                f"{without_keys(str(path))}: an address, and facekd reads and writes files; download it, or give the "
                "path of a file or folder"
            )
        return [path] if several else path
    return [as_paths(one) for one in value] if isinstance(value, list | tuple) else value
