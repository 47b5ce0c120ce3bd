"""Long work in parts: each is written aside when it is done, so that a killed run goes on with the next.

Beside OUT lies the hidden folder ``.OUT.parts`` while the work lasts. A part is named by its place and a digest over
what went into it; a part of other settings, or of photos that have changed, does not fit and is made anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from facekd.core.files import ASIDE, atomic_write, exclusive

PART = 1024  # items in a part: what a kill can cost


def part_paths(folder: Path, settings: str, stamps: Sequence[str]) -> list[Path]:
    """The file of each part of some items.

    Args:
        settings: what the parts depend on beside the items.
        stamps: one for each item; changes when the item does.
    """
    paths = []
    for number, start in enumerate(range(0, len(stamps), PART)):
        digest = hashlib.sha256("\n".join([settings, *stamps[start : start + PART]]).encode()).hexdigest()
        paths.append(folder / f"{number:06d}-{digest[:24]}.parquet")
    return paths


def missing_items(paths: Sequence[Path], count: int) -> Iterator[int]:
    """Places of the items whose part is not there yet, in order."""
    for number, path in enumerate(paths):
        if not path.exists():
            yield from range(number * PART, min((number + 1) * PART, count))


def write_parts(
    paths: Sequence[Path], count: int, results: Iterable[tuple[int, pa.Table]], schema: pa.Schema
) -> Iterator[int]:
    """Write each missing part when its last item is done.

    Args:
        results: for a run of items, how many they are and their rows; in the order of `missing_items`.

    Returns:
        After each result, how many items it was; nothing is written unless these are taken.

    Raises:
        UserError: a part can't be written.
    """
    todo = [path for path in paths if not path.exists()]
    sizes = {path: min(PART, count - number * PART) for number, path in enumerate(paths)}
    waiting: list[pa.Table] = []
    done = 0
    place = iter(todo)
    path = next(place, None)
    for items, rows in results:
        waiting.append(rows)
        done += items
        while path is not None and done >= sizes[path]:
            # Runs of items never cross a part: PART is a multiple of every batch's size.
            assert done == sizes[path], (done, sizes[path])
            with atomic_write(path) as file:
                pq.write_table(pa.concat_tables([schema.empty_table(), *waiting]), file, write_page_checksum=True)
            waiting, done = [], 0
            path = next(place, None)
        yield items
    assert path is None, "items are missing"


@contextlib.contextmanager
def parts_folder(out: Path) -> Iterator[Path]:
    """The folder for the parts of the file `out`, for its owner only; one process has it at a time.

    A part that can't be read any more, as after a power cut, is taken away.

    It goes when the block ends well, because the file is there then, and when it holds no part.

    Raises:
        UserError: another process is making this file, or the folder can't be written.
    """
    folder = out.with_name(f".{out.name}.parts")
    with exclusive(folder):
        folder.chmod(0o700)
        for torn in folder.glob(f".*{ASIDE}"):
            torn.unlink()
        for part in folder.glob("*.parquet"):
            if not _readable(part):
                part.unlink()
        try:
            yield folder
        except BaseException:
            if not any(folder.glob("*.parquet")):
                shutil.rmtree(folder)
            raise
        shutil.rmtree(folder)


def _readable(part: Path) -> bool:
    try:
        pq.read_table(part, page_checksum_verification=True)
    except (OSError, pa.ArrowException):
        return False
    return True
