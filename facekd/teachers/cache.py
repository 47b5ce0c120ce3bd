"""The seeded-view teacher cache: what a teacher says of view v of crop i, computed once and kept.

Others dropped caching because an embedding of the plain crop is wrong for its augmented view. Here a view is a pure
function of (seed, i, v), so the embedding of that very view can be kept.

On disk::

    CACHE/KEY/key.json         what the embeddings are of; KEY is its digest
    CACHE/KEY/embeddings.f16   float16[views, N, D] of the length the teacher gave, memory-mapped
    CACHE/KEY/blocks.u32       uint32[views, blocks]: the CRC-32 of a block of rows that is whole, else 0
    CACHE/KEY/lock             held by the one process that writes

A block's rows are synced to disk before its mark is set, so a kill costs at most the block at hand. Logits are never
kept: they are the teacher's head on the embedding.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from facekd.core import formats
from facekd.core.files import exclusive, read_json, sha256_bytes, write_json
from facekd.core.system import reserve
from facekd.core.types import Array
from facekd.errors import UserError

KEY, ROWS, MARKS = "key.json", "embeddings.f16", "blocks.u32"
BLOCK = 256  # crops of one view that are written, marked and checked together
LEAST_COSINE = 0.999  # of a kept row to the one computed again; float16 alone stays above 0.9999


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheKey:
    """What a cache holds; any difference is another cache."""

    teacher: str  # model_id
    augmentation: str  # crops.views.augmentation_id
    crops: str  # digest of the crops' ids and images, in their order
    num_crops: int
    dim: int
    seed: int  # of the views
    views: int  # of each crop

    @property
    def name(self) -> str:
        """16 hex digits: the folder's name."""
        return sha256_bytes(json.dumps(asdict(self), sort_keys=True).encode())[:16]


class TeacherCache:
    """The cache in a folder, made by `open_cache`."""

    def __init__(self, folder: Path, key: CacheKey) -> None:
        self.folder = folder
        self.key = key
        self.num_blocks = -(-key.num_crops // BLOCK)
        shape = (key.views, key.num_crops, key.dim)
        _no_link(folder)
        for name, size in ((ROWS, 2 * int(np.prod(shape))), (MARKS, 4 * key.views * self.num_blocks)):
            if (folder / name).is_symlink():  # what it names would be written to
                raise UserError(f"{folder / name}: is a link, not a cache's own file; remove {folder}")
            found = (folder / name).stat().st_size if (folder / name).exists() else -1
            if found != size:
                raise UserError(
                    f"{folder / name}: is {found} bytes long where {size} are needed: the cache is damaged; remove "
                    f"{folder} and it is built anew"
                )
        self._rows = np.memmap(folder / ROWS, np.float16, "r+", shape=shape)
        self._marks = np.memmap(folder / MARKS, np.uint32, "r+", shape=(key.views, self.num_blocks))

    def span(self, block: int) -> slice:
        """The crops of a block."""
        return slice(block * BLOCK, min((block + 1) * BLOCK, self.key.num_crops))

    def missing(self) -> list[tuple[int, int]]:
        """View and block of what is not kept yet, view by view."""
        return [(int(view), int(block)) for view, block in np.argwhere(self._marks == 0)]

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """The right to write, which one process has at a time.

        Raises:
            UserError: another process has it.
        """
        with exclusive(self.folder):
            yield

    def put(self, view: int, block: int, vectors: Array) -> None:
        """Keep a block's embeddings, float32[n, D] of any length; inside `writing`."""
        here = self.span(block)
        assert vectors.shape == (here.stop - here.start, self.key.dim), vectors.shape
        finite = np.isfinite(vectors).all(axis=1) & (np.abs(vectors).max(axis=1) < np.finfo(np.float16).max)
        if not finite.all():
            wrong = here.start + int(np.flatnonzero(~finite)[0])
            raise UserError(
                f"{self.folder}: the teacher gives no embedding that half precision holds of crop {wrong}, view "
                f"{view}; it can't teach"
            )
        self._rows[view, here] = vectors
        self._rows.flush()
        self._marks[view, block] = self._checksum(view, block)
        self._marks.flush()

    def rows(self, crops: Array, views: Array) -> Array:
        """float32[B, D]: the embeddings of views of crops, int64[B] each; a view's number counts modulo all views."""
        return np.asarray(self._rows[views % self.key.views, crops], np.float32)

    def check(self, embed: Callable[[Array, Array], Array], samples: int = 8) -> None:
        """Compare every block with its checksum, and `samples` rows with what the teacher says now.

        Args:
            embed: int64[B] crops and int64[B] views -> float32[B, D] of any length, computed afresh.

        Raises:
            UserError: a block is damaged or missing, or the rows are not this teacher's.
        """
        for view, block in np.ndindex(self._marks.shape):
            if self._marks[view, block] != self._checksum(view, block):
                raise UserError(
                    f"{self.folder}: rows {self.span(block).start} to {self.span(block).stop - 1} of view {view} are "
                    f"missing or were changed; remove {self.folder} and it is built anew"
                )
        rng = np.random.default_rng(0)
        crops, views = rng.integers(0, self.key.num_crops, samples), rng.integers(0, self.key.views, samples)
        kept, now = self.rows(crops, views), embed(crops, views)
        lengths = np.linalg.norm(kept, axis=1) * np.linalg.norm(now, axis=1)
        cosine = (kept * now).sum(axis=1) / np.maximum(lengths, 1e-6)
        if not (cosine > LEAST_COSINE).all():
            wrong = int(np.argmin(cosine))
            raise UserError(
                f"{self.folder}: crop {crops[wrong]}, view {views[wrong]} is kept as another embedding than the "
                f"teacher gives now (cosine {cosine[wrong]:.4f}): the rows are of another teacher or were moved; "
                f"remove {self.folder} and it is built anew"
            )

    def _checksum(self, view: int, block: int) -> int:
        """CRC-32 of a block's bytes; never 0, which marks a block that is missing."""
        return zlib.crc32(self._rows[view, self.span(block)].tobytes()) or 1


def open_cache(home: Path, key: CacheKey) -> TeacherCache:
    """The cache for `key` below the folder `home`, begun where there is none.

    Raises:
        UserError: the folder can't be written, the disk can't hold it, or a damaged cache.
    """
    folder = home / key.name
    _no_link(folder)
    with exclusive(folder):
        if not (folder / KEY).exists():
            _reserve(folder / ROWS, 2 * key.views * key.num_crops * key.dim)
            _reserve(folder / MARKS, 4 * key.views * -(-key.num_crops // BLOCK))
            # Last: a folder with a key is whole.
            write_json(folder / KEY, {formats.KEY: formats.FORMATS["teacher cache"], **asdict(key)})
    found = _read_key(folder)
    if found != asdict(key):
        raise UserError(f"{folder / KEY}: is not the key that its folder is named for; remove {folder}")
    os.utime(folder / KEY)  # its last use, for `unused`
    return TeacherCache(folder, key)


def caches(home: Path) -> list[TeacherCache]:
    """Every cache below `home`, the one used longest ago first.

    Raises:
        UserError: no such folder, or a damaged cache.
    """
    if not home.is_dir():
        raise UserError(f"{home}: no folder of caches; 'facekd cache build' makes one")
    folders = sorted((path.parent for path in home.glob(f"*/{KEY}")), key=lambda folder: _last_use(folder))
    return [TeacherCache(folder, CacheKey(**_read_key(folder))) for folder in folders]


def unused(home: Path, days: float) -> list[Path]:
    """Folders below `home` of caches that no run has opened for `days`, and of those that were never begun whole."""
    if not home.is_dir():
        raise UserError(f"{home}: no folder of caches; 'facekd cache build' makes one")
    horizon = time.time() - 86400 * days
    whole = [path.parent for path in home.glob(f"*/{KEY}")]
    torn = [path.parent for path in home.glob(f"*/{ROWS}") if path.parent not in whole]
    return sorted([folder for folder in whole if _last_use(folder) < horizon] + torn)


def remove(folder: Path) -> int:
    """Remove a cache and give back how many bytes it took; of a link that lies in place of one, the link.

    Raises:
        UserError: a process writes it.
    """
    if folder.is_symlink():
        folder.unlink()
        return 0
    with exclusive(folder):
        size = sum(path.lstat().st_size for path in folder.iterdir())
        (folder / KEY).unlink(missing_ok=True)  # first: what is left after a kill is no cache
        shutil.rmtree(folder)
    return size


def _read_key(folder: Path) -> dict[str, Any]:
    try:
        values = read_json(folder / KEY)
    except UserError as error:
        raise UserError(f"{error}; remove {folder} and it is built anew") from error
    if not isinstance(values, dict):
        raise UserError(f"{folder / KEY}: is no key of a cache; remove {folder}")
    formats.check_format("teacher cache", values.pop(formats.KEY, None), folder / KEY)
    return values


def _no_link(folder: Path) -> None:
    if folder.is_symlink():  # what it leads to would be written to
        raise UserError(f"{folder}: is a link, not a cache's own folder; remove it, and it is built anew")


def _last_use(folder: Path) -> float:
    return (folder / KEY).stat().st_mtime


def _reserve(path: Path, size: int) -> None:
    """A private file of `size` zeros whose room on the disk is taken now, not when it is written.

    It takes the place of what is there: a link is replaced, the file that it names is left alone.
    """
    try:
        path.unlink(missing_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            reserve(handle, size)
        finally:
            os.close(handle)
    except OSError as error:
        raise UserError(
            f"{path}: can't take {size / 2**20:.0f} MiB ({error.strerror}); free space, use fewer --views, or choose "
            "another --cache"
        ) from error
