"""facekd cache: what a teacher says of seeded views, computed once for every run that asks for the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.errors import UserError
from facekd.stages.console import progress, say

if TYPE_CHECKING:
    from facekd.core.types import Array
    from facekd.crops.cropset import CropSet
    from facekd.teachers.cache import CacheKey, TeacherCache
    from facekd.teachers.teacher import Teacher

HOME = Path("runs/teacher-cache")
VIEWS = 8


@dataclass(frozen=True, slots=True)
class CacheSummary:
    """A cache, and what was computed for it now."""

    folder: Path
    views: int  # of crops, computed now
    bytes: int


@dataclass(frozen=True, slots=True)
class GcSummary:
    """What was removed."""

    removed: tuple[Path, ...]
    bytes: int


def build(
    *,
    teacher: Path,
    data: list[Path],
    contract: Path | None = None,
    views: int = VIEWS,
    held_out: float = 0.15,
    drop: list[Path] | None = None,
    seed: int = 0,
    cache: Path = HOME,
    quiet: bool = False,
) -> CacheSummary:
    """Compute the teacher's embedding of every view that a distillation with the same settings will show it.

    'facekd distill --views' does the same before its first step; here it is done alone. A killed build goes on where
    it stopped.

    Example: facekd cache build --teacher runs/teacher --data crops/ --views 8

    Args:
        teacher: Run folder of a trained teacher, or an ONNX embedder.
        data: Crop store, image Parquet or .rec; give it again for more.
        contract: What an ONNX teacher expects of a crop, where facekd does not know it.
        views: Views of each crop; training shows them in turn.
        held_out: Share of the identities that the distillation will hold out.
        drop: CSV of crops or people to do without, as in the distillation.
        seed: Of the split and the views, as in the distillation.
        cache: The folder of caches.
        quiet: Print nothing.
    """
    master, crops = _asked(teacher, contract, data, held_out, drop, seed)
    made, computed = fill_cache(master, crops, seed, views, cache, quiet)
    size = sum(path.stat().st_size for path in made.folder.iterdir())
    say(f"{made.folder}: {views} views of {len(crops)} crops, {size / 2**20:.0f} MiB", quiet)
    return CacheSummary(made.folder, computed, size)


def verify(
    *,
    teacher: Path,
    data: list[Path],
    contract: Path | None = None,
    views: int = VIEWS,
    held_out: float = 0.15,
    drop: list[Path] | None = None,
    seed: int = 0,
    cache: Path = HOME,
    samples: int = 64,
    quiet: bool = False,
) -> CacheSummary:
    """Check every row of a cache against its checksum, and some against the teacher, computed afresh.

    Example: facekd cache verify --teacher runs/teacher --data crops/ --views 8

    Args:
        teacher: Run folder of a trained teacher, or an ONNX embedder.
        data: Crop store, image Parquet or .rec; give it again for more.
        contract: What an ONNX teacher expects of a crop, where facekd does not know it.
        views: Views of each crop.
        held_out: Share of the identities that the distillation holds out.
        drop: CSV of crops or people to do without, as in the distillation.
        seed: Of the split and the views.
        cache: The folder of caches.
        samples: Rows that are computed afresh.
        quiet: Print nothing.
    """
    from facekd.teachers.cache import KEY, TeacherCache

    if samples < 1:
        raise UserError(f"--samples {samples}: give one or more")
    master, crops = _asked(teacher, contract, data, held_out, drop, seed)
    key = _key(master, crops, seed, views)
    folder = cache / key.name
    if not (folder / KEY).is_file():
        raise UserError(f"{cache}: holds no cache of these settings; 'facekd cache build' with the same flags makes it")
    found = TeacherCache(folder, key)
    found.check(_afresh(master, crops, seed), samples)
    size = sum(path.stat().st_size for path in folder.iterdir())
    say(f"{folder}: whole; {samples} rows are what the teacher gives now", quiet)
    return CacheSummary(folder, 0, size)


def gc(cache: Path = HOME, *, days: float = 30, quiet: bool = False) -> GcSummary:
    """Remove caches that no run has opened lately.

    Example: facekd cache gc runs/teacher-cache --days 7

    Args:
        cache: The folder of caches.
        days: Caches opened since are kept; 0 removes all.
        quiet: Print nothing.
    """
    from facekd.teachers.cache import caches, remove, unused

    if days < 0:
        raise UserError(f"--days {days:g}: use zero or a number above it")
    folders = unused(cache, days)
    freed = 0
    for folder in folders:
        freed += remove(folder)
        say(f"removed {folder}", quiet)
    say(f"{cache}: {freed / 2**20:.0f} MiB freed, {len(caches(cache))} caches left", quiet)
    return GcSummary(tuple(folders), freed)


def fill_cache(
    teacher: Teacher, crops: CropSet, seed: int, views: int, home: Path, quiet: bool
) -> tuple[TeacherCache, int]:
    """The teacher's cache of `views` seeded views of each crop, completed and checked.

    Returns:
        The cache, and how many views of crops were computed now.

    Raises:
        UserError: no views, no room, a damaged cache, or a teacher without finite embeddings.
    """
    import numpy as np

    from facekd.engines.local import cores, map_ordered
    from facekd.teachers.cache import open_cache

    if views < 1:
        raise UserError(f"--views {views}: give one or more")
    cache = open_cache(home, _key(teacher, crops, seed, views))
    missing = cache.missing()
    computed = 0
    if missing:
        everyone = np.arange(len(crops))

        def shown(task: tuple[int, int]) -> tuple[int, int, Array]:
            number, block = task
            places = everyone[cache.span(block)]
            return number, block, _views(crops, seed, places, np.full(len(places), number))

        with cache.writing():
            # Views are drawn ahead of the teacher, which uses all cores itself.
            for number, block, pixels in progress(
                map_ordered(shown, missing, max(1, cores() // 2)), len(missing), "teacher's cache", quiet
            ):
                cache.put(number, block, _say(teacher, pixels, crops.template))
                computed += len(pixels)
    cache.check(_afresh(teacher, crops, seed))
    return cache, computed


def _asked(
    teacher: Path, contract: Path | None, data: list[Path], held_out: float, drop: list[Path] | None, seed: int
) -> tuple[Teacher, CropSet]:
    from accelerate import Accelerator

    from facekd.stages.training_run import read_training_data
    from facekd.teachers.teacher import load_teacher

    crops = read_training_data(data, held_out, seed, drop=drop).train
    return load_teacher(teacher, contract, Accelerator().device), crops


def _key(teacher: Teacher, crops: CropSet, seed: int, views: int) -> CacheKey:
    from facekd.crops.views import augmentation_id
    from facekd.teachers.cache import CacheKey

    return CacheKey(
        teacher=teacher.contract.model_id,
        augmentation=augmentation_id(),
        crops=crops.image_digest(),
        num_crops=len(crops),
        dim=teacher.contract.dim,
        seed=seed,
        views=views,
    )


def _afresh(teacher: Teacher, crops: CropSet, seed: int) -> Callable[[Array, Array], Array]:
    return lambda places, numbers: _say(teacher, _views(crops, seed, places, numbers), crops.template)


def _views(crops: CropSet, seed: int, places: Array, numbers: Array) -> Array:
    """uint8[B, S, S, 3]: view `numbers[b]` of crop `places[b]`."""
    import numpy as np

    from facekd.crops.views import view

    pairs = zip(places.tolist(), numbers.tolist(), strict=True)
    return np.stack([view(crops.pixels(place), seed, place, number) for place, number in pairs])


def _say(teacher: Teacher, pixels: Array, template: str, batch: int = 64) -> Array:
    """float32[B, D] of any length, for a softmax head knows lengths: what the teacher says of uint8[B, S, S, 3]."""
    import numpy as np
    import torch

    from facekd.core.pixels import to_input

    pieces = []
    for start in range(0, len(pixels), batch):
        inputs = to_input(pixels[start : start + batch], teacher.contract, template=template)
        pieces.append(teacher.embed(torch.from_numpy(inputs)).float().cpu().numpy())
    return np.concatenate(pieces)
