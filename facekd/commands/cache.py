"""facekd cache: what a teacher says of seeded views, computed once for every run that asks for the same."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.console import say
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.runtime import Cluster
from facekd.settings.training import CACHES, TeacherViews

if TYPE_CHECKING:
    from facekd.core.types import Array
    from facekd.crops.cropset import CropSet
    from facekd.recipes.cache import Task
    from facekd.teachers.cache import CacheKey
    from facekd.teachers.teacher import Teacher


_opened: dict[CacheKey, tuple[Teacher, CropSet]] = {}  # on a worker of Ray: what its tasks share


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


@door
def build(asked: TeacherViews, *, cluster: Cluster = Cluster(), quiet: bool = False) -> CacheSummary:
    """Compute the teacher's embedding of every view that a distillation with the same settings will show it.

    'facekd distill --views' does the same before its first step; here it is done alone. A killed build goes on where
    it stopped.

    Example: facekd cache build --teacher runs/teacher --data crops/ --views 8

    Args:
        quiet: Print nothing.
    """
    from facekd.engines.mapper import check_ray
    from facekd.recipes.cache import fill_cache

    ray = cluster.engine == "ray"
    if ray:
        check_ray(cluster.address)
    master, crops = _open(asked)
    embed = partial(_embed_on_ray, asked, cluster.address) if ray else None
    made, computed = fill_cache(
        master, crops, asked.seed, asked.views, asked.cache, quiet, augment=asked.augment, embed=embed
    )
    size = sum(path.stat().st_size for path in made.folder.iterdir())
    say(f"{made.folder}: {asked.views} {asked.augment} views of {len(crops)} crops, {size / 2**20:.0f} MiB", quiet)
    return CacheSummary(made.folder, computed, size)


@door
def verify(asked: TeacherViews, *, samples: int = 64, quiet: bool = False) -> CacheSummary:
    """Check every row of a cache against its checksum, and some against the teacher, computed afresh.

    Example: facekd cache verify --teacher runs/teacher --data crops/ --views 8

    Args:
        samples: Rows that are computed afresh.
        quiet: Print nothing.
    """
    from facekd.recipes.cache import afresh, cache_key
    from facekd.teachers.cache import KEY, TeacherCache

    if samples < 1:
        raise UserError(f"--samples {samples}: give one or more")
    master, crops = _open(asked)
    key = cache_key(master, crops, asked.seed, asked.views, asked.augment)
    folder = asked.cache / key.name
    if not (folder / KEY).is_file():
        raise UserError(
            f"{asked.cache}: holds no cache of these settings; 'facekd cache build' with the same flags makes it"
        )
    TeacherCache(folder, key).check(afresh(master, crops, asked.seed, asked.augment), samples)
    size = sum(path.stat().st_size for path in folder.iterdir())
    say(f"{folder}: whole; {samples} rows are what the teacher gives now", quiet)
    return CacheSummary(folder, 0, size)


@door
def gc(cache: Path = CACHES, *, days: float = 30, quiet: bool = False) -> GcSummary:
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


def _open(asked: TeacherViews) -> tuple[Teacher, CropSet]:
    from accelerate import Accelerator

    from facekd.crops.training import read_training_crops
    from facekd.teachers.teacher import load_teacher

    crops = read_training_crops(asked.data, asked.held_out, asked.seed, asked.minimum, asked.drop).train
    return load_teacher(asked.teacher, asked.contract, Accelerator().device, asked.teacher_backend), crops


def _embed_on_ray(asked: TeacherViews, address: str | None, key: CacheKey, tasks: Sequence[Task]) -> Iterator[Array]:
    """The same by the workers of a cluster, which read teacher and crops themselves."""
    from facekd.engines.ray import map_ordered

    here = replace(
        asked,
        teacher=asked.teacher.absolute(),  # workers run in other folders
        data=[path.absolute() for path in asked.data],
        contract=asked.contract and asked.contract.absolute(),
        drop=asked.drop and [path.absolute() for path in asked.drop],
    )
    try:
        yield from map_ordered(partial(_embed_there, here, key), tasks, address)
    except UserError as error:
        # Ray's own subclass, whose text is a worker's traceback; its cause is what the user is to read.
        raise getattr(error, "cause", error) from error


def _embed_there(asked: TeacherViews, key: CacheKey, task: Task) -> Array:
    """On a worker: one core, as Ray reckons with."""
    import torch

    from facekd.recipes.cache import cache_key, draw_views, teacher_says

    if key not in _opened:
        torch.set_num_threads(1)
        master, crops = _open(asked)
        if cache_key(master, crops, asked.seed, asked.views, asked.augment) != key:
            raise UserError(
                f"{socket.gethostname()}: has another teacher, other crops or other versions of albumentations, OpenCV "
                "or numpy than the machine that asks; give all machines of the cluster the same"
            )
        _opened.clear()
        _opened[key] = master, crops
    master, crops = _opened[key]
    return teacher_says(master, draw_views(crops, asked.seed, asked.augment, task), crops.template)
