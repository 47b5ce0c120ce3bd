"""The door that every command has: settings whole or by name, text for paths, and the process left as it was."""

from __future__ import annotations

import errno
import functools
import inspect
import os
from collections.abc import Callable
from typing import Any, TypeVar

from facekd.core.extras import told_of_missing
from facekd.core.process import left_as_it_was
from facekd.errors import UserError
from facekd.settings.group import as_paths, grouped, groups_of, takes_paths

R = TypeVar("R")
UNREACHED = (errno.EACCES, errno.EPERM, errno.EIO, errno.ESTALE)  # a folder on the way keeps others out, or is gone
GALLERIES = ("gallery", "photo", "other")  # arguments that may be one, or say themselves that they may not


def door(command: Callable[..., R]) -> Callable[..., R]:
    """`command`, taking its settings whole or by their fields' names, ``str`` for each ``Path``, leaving no trace."""
    signature = inspect.signature(command)
    paths = {
        name: kind
        for name, parameter in signature.parameters.items()
        if (kind := takes_paths(str(parameter.annotation)))
    }

    @functools.wraps(command)
    def entered(*args: Any, **kwargs: Any) -> R:
        try:
            given = signature.bind_partial(*args)
            groups = {name: given.arguments[name] for name in groups_of(command).keys() & given.arguments.keys()}
            if twice := groups.keys() & kwargs.keys():
                raise TypeError(f"got multiple values for argument {', '.join(map(repr, sorted(twice)))}")
            named = grouped(command, groups | kwargs)  # a group counts wherever it stands
            named = {name: value for name, value in named.items() if name not in groups}
            given = signature.bind_partial(*args, **named)  # the command itself says what is missing
        except TypeError as error:
            if str(error).startswith(command.__name__):
                raise
            raise TypeError(f"{command.__name__}() {error}") from None
        for name, value in given.arguments.items():
            if name in paths:
                given.arguments[name] = as_paths(value, paths[name] == "several", name in GALLERIES)
            elif isinstance(value, os.PathLike):  # a gallery is text, for it may lie in an object store
                given.arguments[name] = os.fspath(value)
        try:
            with left_as_it_was(), told_of_missing("this command"):
                return command(*given.args, **given.kwargs)
        except OSError as error:
            # Any question about such a path, even whether it is there, ends so.
            if error.errno in UNREACHED and error.filename is not None:
                raise UserError(f"{error.filename}: can't be reached ({error.strerror}); check its folders") from error
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise UserError(f"{str(error.filename)[:80]}…: longer than a file's name may be; check the path") from error
        except UnicodeEncodeError as error:
            if error.reason != "surrogates not allowed":
                raise
            # So Python holds bytes of a file's name that are no UTF-8; what facekd writes and libraries read is UTF-8.
            place = str(error.object)[max(0, error.start - 60) : error.end + 20]
            raise UserError(f"{place}: a name here is no UTF-8 text; rename that file or folder") from error

    # The command line asks what a command takes; what it gives may be of a room that takes long to load.
    entered.__annotations__ = {name: kind for name, kind in command.__annotations__.items() if name != "return"}
    return entered
