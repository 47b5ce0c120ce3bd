"""Files that are either whole or not there: write aside, sync, rename."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from facekd.core.system import NO_LINK, lock, sync_folder
from facekd.errors import BusyError, UserError

PRIVATE = 0o600  # biometric data: for its owner only
ORDINARY = 0o666  # what is made to be handed on, such as an exported model: as the user's umask says
ASIDE = ".part"  # ends the name of a file being written; a kill leaves such a hidden file behind
FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")  # what a spreadsheet may take for the beginning of a formula
LOCK = "lock"  # the file that the one process which writes a folder holds


@contextlib.contextmanager
def atomic_write(path: Path, *, mode: int = PRIVATE) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` whole, when the block ends, or not at all.

    Args:
        mode: PRIVATE or ORDINARY.

    Raises:
        UserError: the folder can't be written or the disk is full.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{ASIDE}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        sync_folder(path.parent)
    except OSError as error:
        raise UserError(
            f"{path}: can't be written ({error.strerror or error}); free space or choose another --out"
        ) from error
    finally:
        if os.path.exists(aside):  # it never came to be where its folder can't be
            aside.unlink()


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """The right to write in `folder`, made where it is missing; one process has it at a time, by its file ``lock``.

    Raises:
        BusyError: another process has it.
        UserError: the folder can't be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | NO_LINK, PRIVATE)
    except OSError as error:
        raise UserError(f"{folder}: can't be written ({error.strerror}); check its owner") from error
    try:
        try:
            lock(handle)
        except BlockingIOError as error:
            raise BusyError(f"{folder}: another command is writing it; run this again when it is done") from error
        yield
    finally:
        os.close(handle)


def write_bytes(path: Path, data: bytes, *, mode: int = PRIVATE) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_write(path, mode=mode) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any, *, mode: int = PRIVATE) -> None:
    """Write `value` to `path` as JSON, whole or not at all; NaN and infinities are refused."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    write_bytes(path, text.encode("utf-8"), mode=mode)


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a table to `path` as CSV, whole or not at all.

    A spreadsheet would run a value that begins like a formula: such a value, and one that begins with ``'``, gets a
    ``'`` before it; `unquoted` takes it away again.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    # Before Python 3.13 a carriage return inside a value is not quoted by itself, and ends the row when it is read.
    quoting = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerow(header)
    for row in rows:
        safe = ["'" + value if value.startswith(FORMULA) else value for value in row]
        (quoting if any("\r" in value for value in safe) else writer).writerow(safe)
    write_text(path, text.getvalue())


def unquoted(value: str) -> str:
    """A value as it was before `write_csv` wrote it."""
    return value[1:] if value.startswith("'") and value[1:].startswith(FORMULA) else value


def no_stream(path: Path) -> None:
    """Refuse a pipe, a socket or a device: opening it may wait for ever, and reading it may never end.

    Raises:
        UserError: `path` is one.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise UserError(f"{path}: is a pipe or a device, which may never end; save it as a file and give that")


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        UserError: no such file, or no JSON.
    """
    no_stream(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error


def read_yaml(path: Path, advice: str) -> Any:
    """The value in a YAML file: mappings, lists and single values.

    Args:
        advice: what a refusal tells the user to do.

    Raises:
        UserError: no such file, no YAML, or a value of another kind, such as a set or a list that holds itself.
    """
    no_stream(path)
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UserError(f"{path}: not readable as YAML ({why}); {advice}") from error
    if why := _unplain(value, [], set()):
        raise UserError(f"{path}: {why}; {advice}")
    return value


def _unplain(value: Any, around: list[int], done: set[int]) -> str:
    """What is in `value` that no flag takes; empty for nothing."""
    if isinstance(value, set | bytes):
        return f"holds {'a set' if isinstance(value, set) else 'binary data'}"
    if not isinstance(value, dict | list | tuple) or id(value) in done:
        return ""
    if id(value) in around:
        return f"holds a {'mapping' if isinstance(value, dict) else 'list'} that holds itself"
    parts = (*value, *value.values()) if isinstance(value, dict) else value
    found = next(filter(None, (_unplain(part, [*around, id(value)], done) for part in parts)), "")
    done.add(id(value))  # however often it is referred to
    return found


def sha256_bytes(data: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """64 hex digits over the file's bytes, read in pieces.

    Raises:
        UserError: the file can't be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); check the path") from error


def read_secret(file: Path, what: str) -> str:
    """The one line of text in `file`, which only its owner may read.

    Args:
        what: it is, in a word.

    Raises:
        UserError: nothing of that kind there, or a file that others can read. The secret is in no message.
    """
    try:
        mode = file.stat().st_mode
        text = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: no {what} can be read there; make one: {make_secret(file)}") from error
    if stat.S_IMODE(mode) & 0o077:
        raise UserError(f"{file}: others than its owner can read this {what}; run 'chmod 600 {file}' or make another")
    return text


def make_secret(file: Path) -> str:
    """The command that makes one of 32 random bytes."""
    return f"(umask 077; openssl rand -hex 32 > {file})"
