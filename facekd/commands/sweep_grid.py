"""The GRID.yaml of 'facekd sweep': which runs of distill it asks for, all of it checked before the first one."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facekd.core.files import read_yaml
from facekd.core.suggest import nearest
from facekd.errors import UserError
from facekd.settings.group import flag_names, flattened
from facekd.settings.training import PEAK_LR

ALONE, RANDOM = "alone", "random-teacher"  # the controls
PARTS = ("base", "cells", "grid")
# In `base` alone: equal budget, and the same people held out.
BUDGET = ("data", "epochs", "held_out", "minimum", "drop", "seed")
OURS = ("out", "quiet")  # the sweep's own
# What a student alone has no use for.
FROM_TEACHER = (
    "teacher", "contract", "combine", "joint", "term", "ramp", "temperature", "top_k", "weights_decay", "views",
    "cache",
)  # fmt: skip
WEIGHED = ("term", "ramp")  # lists of NAME=NUMBER


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of distill."""

    name: str  # of its folder too
    arguments: dict[str, Any]  # of distill, every one, without those in OURS


def read_grid(path: Path, random_teacher: Path) -> list[Cell]:
    """The controls and then the cells of a GRID.yaml.

    Args:
        random_teacher: where the untrained network lies, or will, that teaches the second control.

    Raises:
        UserError: no such file, no mapping, an unknown flag, a value that distill does not take, a flag in the wrong
            place, a name that is no folder's, or no cell with a teacher.
    """
    values = read_yaml(path, "see 'facekd sweep --help' for a grid")
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no base, cells or grid; see 'facekd sweep --help' for one that does")
    for key in values:
        if key not in PARTS:
            raise UserError(f"{path}: a grid has no part {key!r}{nearest(str(key), PARTS)}")
    parts = {key: _mapping(values.get(key), f"{path}, {key}") for key in PARTS}
    base = _flags(parts["base"], f"{path}, base")
    if not base.get("data"):
        raise UserError(f"{path}: base names no data; add the crops that all cells learn from, as 'data: [crops/]'")
    asked = {
        str(name): _flags(_mapping(flags, f"{path}, cell {name}"), f"{path}, cell {name}")
        for name, flags in parts["cells"].items()
    }
    for name, flags in _product(parts["grid"], path).items():
        if name in asked:
            raise UserError(f"{path}: two cells are called {name!r}; rename the one in cells")
        asked[name] = flags
    if not asked:
        raise UserError(f"{path}: asks for no cell; add cells (a name and its flags) or a grid (a flag and its values)")
    for name, flags in asked.items():
        if not re.fullmatch(r"\w[\w.=+,-]*", name) or name in (ALONE, RANDOM):
            raise UserError(
                f"{path}: {name!r} can't be a cell's name; use letters, digits and . = + - but no control's"
            )
        for flag in flags:
            if flag.split(".")[0] in BUDGET:
                raise UserError(
                    f"{path}, cell {name}: {flag} may differ in no cell, for all are to have one budget and the same "
                    "people held out; put it into base"
                )
    merged = {name: _merged(base, flags) for name, flags in asked.items()}
    taught = [name for name, flags in merged.items() if flags.get("teacher") is not None]
    if not taught:
        raise UserError(f"{path}: no cell has a teacher; name one in base, as 'teacher: runs/teacher'")
    controls = {
        ALONE: {flag: value for flag, value in base.items() if flag.split(".")[0] not in FROM_TEACHER},
        RANDOM: {**merged[taught[0]], "teacher": str(random_teacher), "contract": None, "combine": None},
    }
    cells = [_cell(name, flags, path) for name, flags in merged.items()]  # first: errors are to name the user's cells
    return [_cell(name, flags, path) for name, flags in controls.items()] + cells


def plain(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """distill's arguments as they stand in a JSON file."""
    return {
        key: [str(v) if isinstance(v, Path) else v for v in value]
        if isinstance(value, list)
        else str(value)
        if isinstance(value, Path)
        else value
        for key, value in arguments.items()
    }


def _mapping(values: Any, where: str) -> dict[Any, Any]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{where}: holds no 'name: value' lines; see 'facekd sweep --help' for a grid")
    return values


def _flags(values: Mapping[Any, Any], where: str) -> dict[str, Any]:
    """Flags of distill under their Python names; terms and ramps one by one, as ``term.NAME``.

    Raises:
        UserError: a flag that distill has not.
    """
    from facekd.commands.distill import distill

    known = [name for name in flag_names(distill) if name not in OURS]
    found: dict[str, Any] = {}
    for key, value in values.items():
        flag, _, name = str(key).removeprefix("--").replace("-", "_").partition(".")
        if flag in OURS:
            raise UserError(f"{where}: {key} is given to 'facekd sweep' itself, as --{flag}")
        if flag not in known or (name and flag not in WEIGHED):
            raise UserError(f"{where}: distill has no flag {key!r}{nearest(flag, known)}")
        if flag in WEIGHED and not name:
            found |= {flag: None} | ({} if value is None else _weighed(flag, value))  # None: said as a whole
        else:
            found[f"{flag}.{name}" if name else flag] = value
    return found


def _weighed(flag: str, value: Any) -> dict[str, Any]:
    """``{"term.labels": 1}`` of ``{"labels": 1}``, ``["labels=1"]`` or ``"labels=1"``."""
    if isinstance(value, dict):
        return {f"{flag}.{name}": number for name, number in value.items()}
    found = {}
    for text in value if isinstance(value, list) else [value]:
        name, _, number = str(text).partition("=")
        found[f"{flag}.{name}"] = number
    return found


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A cell's flags over those of base.

    A cell that says its terms as a whole has none of base's, one without a teacher nothing of what a teacher is for.
    """
    dropped = {flag for flag in WEIGHED if flag in own}
    if "teacher" in own and own["teacher"] is None:
        dropped |= set(FROM_TEACHER)
    return {key: value for key, value in base.items() if key.split(".")[0] not in dropped} | dict(own)


def _product(grid: Mapping[Any, Any], path: Path) -> dict[str, dict[str, Any]]:
    """The cells of a grid by name: every combination of its flags' values."""
    if not grid:
        return {}
    columns = []
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"{path}, grid: {key} needs a list of values, such as '{key}: [1, 2]'")
        columns.append([(str(key).removeprefix("--"), value) for value in values])
    cells = {}
    for choice in itertools.product(*columns):
        name = ",".join(f"{key.removeprefix('term.')}={_word(value)}" for key, value in choice)
        if name in cells:
            raise UserError(f"{path}, grid: two of its cells would be called {name!r}; name them in cells")
        cells[name] = _flags(dict(choice), f"{path}, grid")
    return cells


def _word(value: Any) -> str:
    """A value as part of a folder's name."""
    if isinstance(value, dict):
        value = [f"{key}{number}" for key, number in value.items()]
    text = "+".join(map(str, value)) if isinstance(value, list) else str(value)
    return re.sub(r"[^\w.+-]+", "-", text.replace("=", "")).strip("-")


def _cell(name: str, flags: dict[str, Any], path: Path) -> Cell:
    """What distill would be called with, as the command line reads it.

    Raises:
        UserError: a value of another kind than the flag's, or a flag that is missing.
    """
    import cyclopts

    from facekd.commands.distill import distill
    from facekd.recipes.terms import check_terms

    where = f"{path}, cell {name}"
    given: dict[str, Any] = {}
    for key, value in flags.items():
        flag, _, term = key.partition(".")
        if term:
            given.setdefault(flag, []).append(f"{term}={value}")
        elif value is not None:
            given[flag.replace("_", "-")] = value
    app = cyclopts.App(default_parameter=cyclopts.Parameter(negative=()))
    app.default(distill)
    app.config = cyclopts.config.Dict(given, source=path.name, use_commands_as_keys=False)
    try:
        _, bound, _ = app.parse_args([], exit_on_error=False, print_error=False)
        bound.apply_defaults()
        arguments = flattened({key: value for key, value in bound.arguments.items() if key not in OURS})
        check_terms(arguments["term"], arguments["ramp"])
        if arguments["lr"] is None:  # the report tells the rate
            arguments["lr"] = PEAK_LR[arguments["optimizer"]]
    except cyclopts.CycloptsError as error:
        raise UserError(f"{where}: {' '.join(str(error).split())}") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return Cell(name, arguments)
