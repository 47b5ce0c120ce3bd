"""Where an export goes: refused early where something else would be lost, written aside, put there whole."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from facekd.core.system import is_free, locked_folder, sync_folder
from facekd.errors import UserError
from facekd.nets.files import json_beside

PACKAGE = "Manifest.json"  # in every .mlpackage
PART = ".part"  # ends the name of the folder where an export is made


def check_place(out: Path, source: Path) -> None:
    """Pass where `out` can be written and nothing is lost but an export of before. Said before any work.

    Args:
        source: the network that is exported.

    Raises:
        UserError: a folder that can't be written, the source itself, somebody's folder, the .bin or the JSON of
            something else.
    """
    parent = next(one for one in out.absolute().parents if os.path.exists(one))
    if not parent.is_dir():
        raise UserError(f"{out}: can't be written, as {parent} is a file and no folder; choose another")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise UserError(f"{out}: can't be written, as {parent} is read-only for you; choose another")
    if out.exists() and source.exists() and out.samefile(source):
        raise UserError(f"{out}: is the network that is exported, and would be lost; give the export another name")
    if out.is_dir() and not (out.suffix == ".mlpackage" and (out / PACKAGE).is_file()):
        raise UserError(f"{out}: is a folder of something else, which would be lost; give the export another name")
    weights = out.with_suffix(".bin")
    if out.suffix == ".xml" and os.path.lexists(weights) and not out.exists():
        raise UserError(f"{weights}: lies where the weights of {out.name} go; give the export another name, or move it")
    beside = json_beside(out)
    if os.path.lexists(beside) and not _describes_an_export(beside):
        raise UserError(
            f"{beside}: lies where the export's JSON goes, and is none; give the export another name, or move it"
        )


def _describes_an_export(path: Path) -> bool:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and {"model_id", "sha256"} <= values.keys()


@contextlib.contextmanager
def aside(out: Path) -> Iterator[Path]:
    """A hidden folder beside `out` that goes away, for what will have that name; one that a kill left goes too.

    Raises:
        UserError: it, or anything in the block, can't be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            with locked_folder(out.parent):  # a new one is not locked yet
                for left in out.parent.glob(f".{glob.escape(out.name)}.*{PART}"):
                    if left.is_dir() and is_free(left):
                        shutil.rmtree(left, ignore_errors=True)
                folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.", suffix=PART))
                stack.enter_context(locked_folder(folder))
                stack.callback(shutil.rmtree, folder, ignore_errors=True)  # before it is free
            yield folder
    except OSError as error:
        raise UserError(f"{out}: can't be written ({error.strerror or error}); free space or choose another") from error


def files_of(made: Path) -> list[Path]:
    """The files that an export is, but for its JSON: one, those of a folder, or an .xml and its .bin."""
    if made.is_dir():
        return sorted(path for path in made.rglob("*") if path.is_file())
    return [path for path in (made, made.with_suffix(".bin")) if path.exists()]


def put_in_place(made: Path, out: Path) -> None:
    """Give an export and the JSON beside it the names that were asked for; what had them before is gone.

    All is on the disk before anything is renamed. The JSON of before goes first and the new one comes last, so a kill
    leaves an export without a JSON at worst, never with another's. An .xml names no .bin, its own name does: it is away
    while its .bin changes.
    """
    for part in (*files_of(made), json_beside(made)):
        with part.open("rb") as file:
            os.fsync(file.fileno())
    with locked_folder(out.parent):  # else the JSON of another export at the same time may come between
        json_beside(out).unlink(missing_ok=True)
        if out.is_dir():
            out.rename(made.with_name("before"))
        weights = made.with_suffix(".bin")
        if weights.exists():
            out.unlink(missing_ok=True)
            weights.replace(out.with_suffix(".bin"))
        made.replace(out)
        json_beside(made).replace(json_beside(out))
    sync_folder(out.parent)
