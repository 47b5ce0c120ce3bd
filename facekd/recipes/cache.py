"""What a teacher says of seeded views, computed once for every run that asks for the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from facekd.console import progress
from facekd.core.choices import Augment
from facekd.core.pixels import to_input
from facekd.core.system import cores
from facekd.core.types import Array
from facekd.crops.cropset import CropSet
from facekd.crops.views import augmentation_id, view_batch
from facekd.engines.local import map_ordered
from facekd.errors import UserError
from facekd.teachers.cache import CacheKey, TeacherCache, open_cache
from facekd.teachers.teacher import Teacher

Task = tuple[int, slice]  # a view's number, and the crops of a block


def fill_cache(
    teacher: Teacher,
    crops: CropSet,
    seed: int,
    views: int,
    home: Path,
    quiet: bool,
    *,
    augment: Augment = "plain",
    embed: Callable[[CacheKey, Sequence[Task]], Iterator[Array]] | None = None,
) -> tuple[TeacherCache, int]:
    """The teacher's cache of `views` seeded views of each crop, completed and checked.

    Args:
        embed: what the teacher says of views of crops, float32[B, D] for each task in turn; None asks it here.

    Returns:
        The cache, and how many views of crops were computed now.

    Raises:
        UserError: no views, no room, a damaged cache, or a teacher without finite embeddings.
    """
    if views < 1:
        raise UserError(f"--views {views}: give one or more")
    cache = open_cache(home, cache_key(teacher, crops, seed, views, augment))
    missing = cache.missing()
    computed = 0
    if missing:
        tasks = [(number, cache.span(block)) for number, block in missing]
        said = _embed_here(teacher, crops, seed, augment, tasks) if embed is None else embed(cache.key, tasks)
        with cache.writing():
            shown = progress(said, len(missing), "teacher's cache", quiet)
            for (number, block), vectors in zip(missing, shown, strict=True):
                cache.put(number, block, vectors)
                computed += len(vectors)
    cache.check(afresh(teacher, crops, seed, augment))
    return cache, computed


def cache_key(teacher: Teacher, crops: CropSet, seed: int, views: int, augment: Augment) -> CacheKey:
    return CacheKey(
        teacher=teacher.contract.model_id,
        augmentation=augmentation_id(augment),
        crops=crops.image_digest(),
        num_crops=len(crops),
        dim=teacher.contract.dim,
        seed=seed,
        views=views,
    )


def _embed_here(
    teacher: Teacher, crops: CropSet, seed: int, augment: Augment, tasks: Sequence[Task]
) -> Iterator[Array]:
    # Views are drawn ahead of the teacher, which uses all cores itself.
    for pixels in map_ordered(partial(draw_views, crops, seed, augment), tasks, max(1, cores() // 2)):
        yield teacher_says(teacher, pixels, crops.template)


def draw_views(crops: CropSet, seed: int, augment: Augment, task: Task) -> Array:
    """uint8[B, S, S, 3]: one view of each crop of a block."""
    number, block = task
    places = np.arange(block.start, block.stop)
    return view_batch(crops, seed, places, np.full(len(places), number), augment)


def afresh(teacher: Teacher, crops: CropSet, seed: int, augment: Augment) -> Callable[[Array, Array], Array]:
    return lambda places, numbers: teacher_says(
        teacher, view_batch(crops, seed, places, numbers, augment), crops.template
    )


def teacher_says(teacher: Teacher, pixels: Array, template: str, batch: int = 64) -> Array:
    """float32[B, D] of any length, for a softmax head knows lengths: what the teacher says of uint8[B, S, S, 3]."""
    pieces = []
    for start in range(0, len(pixels), batch):
        inputs = to_input(pixels[start : start + batch], teacher.contract, template=template)
        pieces.append(teacher.embed(torch.from_numpy(inputs)).float().cpu().numpy())
    return np.concatenate(pieces)
