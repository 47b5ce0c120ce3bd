"""facekd cache: what a teacher says of seeded views, computed once for every run that asks for the same."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import Parameter

from facekd.core.door import as_paths, door
from facekd.crops import Augment
from facekd.errors import UserError
from facekd.stages.console import progress, say

if TYPE_CHECKING:
    from facekd.core.types import Array
    from facekd.crops.cropset import CropSet
    from facekd.teachers.cache import CacheKey, TeacherCache
    from facekd.teachers.teacher import Teacher

Engine = Literal["local", "ray"]
Backend = Literal["onnxruntime", "openvino", "torch"]
Task = tuple[int, slice]  # a view's number, and the crops of a block

HOME = Path("runs/teacher-cache")
VIEWS = 8

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


@Parameter(name="*")  # its fields are flags of both commands
@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a teacher is asked, as a distillation with the same settings asks it.

    Args:
        teacher: Run folder of a trained teacher, or an ONNX embedder.
        data: Crop store, image Parquet or .rec; give it again for more.
        contract: What an ONNX teacher expects of a crop, where facekd does not know it.
        teacher_backend: What runs an ONNX teacher; onnxruntime unless given. openvino can be much
            quicker; torch, through onnx2torch, runs on the GPU too.
        views: Views of each crop; training shows them in turn.
        augment: Kind of views: plain; occluded, most of which have a rectangle masked or taken from another crop; or
            flip, the crop and its mirror image alone.
        held_out: Share of the identities that the distillation will hold out.
        minimum: Leave people with fewer crops out, as in the distillation.
        drop: CSV of crops or people to do without, as in the distillation.
        seed: Of the split and the views, as in the distillation.
        cache: The folder of caches.
    """

    teacher: Path
    data: list[Path]
    contract: Path | None = None
    teacher_backend: Backend | None = None
    views: int = VIEWS
    augment: Augment = "plain"
    held_out: float = 0.15
    minimum: int = 2
    drop: list[Path] | None = None
    seed: int = 0
    cache: Path = HOME

    def __post_init__(self) -> None:
        for name in ("teacher", "data", "contract", "drop", "cache"):
            object.__setattr__(self, name, as_paths(getattr(self, name), several=name in ("data", "drop")))


@door
def build(asked: Asked, *, engine: Engine = "local", address: str | None = None, quiet: bool = False) -> CacheSummary:
    """Compute the teacher's embedding of every view that a distillation with the same settings will show it.

    'facekd distill --views' does the same before its first step; here it is done alone. A killed build goes on where
    it stopped.

    Example: facekd cache build --teacher runs/teacher --data crops/ --views 8

    Args:
        engine: local, on the cores or the GPU of this machine; ray, on the cores of a Ray cluster.
        address: The cluster of ray, such as ray://HOST:10001 or auto; without it one is started here. Its machines
            need facekd, and the teacher and the data at the same paths.
        quiet: Print nothing.
    """
    from facekd.stages.verify_ray import check_ray

    if engine == "ray":
        check_ray(address)
    elif address is not None:
        raise UserError(f"--address {address} is of a Ray cluster; add --engine ray or leave it out")
    master, crops = _open(asked)
    embed = partial(_embed_on_ray, asked, address) if engine == "ray" else None
    made, computed = fill_cache(
        master, crops, asked.seed, asked.views, asked.cache, quiet, augment=asked.augment, embed=embed
    )
    size = sum(path.stat().st_size for path in made.folder.iterdir())
    say(f"{made.folder}: {asked.views} {asked.augment} views of {len(crops)} crops, {size / 2**20:.0f} MiB", quiet)
    return CacheSummary(made.folder, computed, size)


@door
def verify(asked: Asked, *, samples: int = 64, quiet: bool = False) -> CacheSummary:
    """Check every row of a cache against its checksum, and some against the teacher, computed afresh.

    Example: facekd cache verify --teacher runs/teacher --data crops/ --views 8

    Args:
        samples: Rows that are computed afresh.
        quiet: Print nothing.
    """
    from facekd.teachers.cache import KEY, TeacherCache

    if samples < 1:
        raise UserError(f"--samples {samples}: give one or more")
    master, crops = _open(asked)
    key = _key(master, crops, asked.seed, asked.views, asked.augment)
    folder = asked.cache / key.name
    if not (folder / KEY).is_file():
        raise UserError(
            f"{asked.cache}: holds no cache of these settings; 'facekd cache build' with the same flags makes it"
        )
    TeacherCache(folder, key).check(_afresh(master, crops, asked.seed, asked.augment), samples)
    size = sum(path.stat().st_size for path in folder.iterdir())
    say(f"{folder}: whole; {samples} rows are what the teacher gives now", quiet)
    return CacheSummary(folder, 0, size)


@door
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
    from facekd.teachers.cache import open_cache

    if views < 1:
        raise UserError(f"--views {views}: give one or more")
    cache = open_cache(home, _key(teacher, crops, seed, views, augment))
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
    cache.check(_afresh(teacher, crops, seed, augment))
    return cache, computed


def _open(asked: Asked) -> tuple[Teacher, CropSet]:
    from accelerate import Accelerator

    from facekd.stages.training_run import read_training_data
    from facekd.teachers.teacher import load_teacher

    crops = read_training_data(asked.data, asked.held_out, asked.seed, asked.minimum, asked.drop).train
    return load_teacher(asked.teacher, asked.contract, Accelerator().device, asked.teacher_backend), crops


def _key(teacher: Teacher, crops: CropSet, seed: int, views: int, augment: Augment) -> CacheKey:
    from facekd.crops.views import augmentation_id
    from facekd.teachers.cache import CacheKey

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
    from facekd.engines.local import cores, map_ordered

    # Views are drawn ahead of the teacher, which uses all cores itself.
    for pixels in map_ordered(partial(_views, crops, seed, augment), tasks, max(1, cores() // 2)):
        yield _say(teacher, pixels, crops.template)


def _embed_on_ray(asked: Asked, address: str | None, key: CacheKey, tasks: Sequence[Task]) -> Iterator[Array]:
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


def _embed_there(asked: Asked, key: CacheKey, task: Task) -> Array:
    """On a worker: one core, as Ray reckons with."""
    import torch

    if key not in _opened:
        torch.set_num_threads(1)
        master, crops = _open(asked)
        if _key(master, crops, asked.seed, asked.views, asked.augment) != key:
            raise UserError(
                f"{socket.gethostname()}: has another teacher, other crops or other versions of albumentations, OpenCV "
                "or numpy than the machine that asks; give all machines of the cluster the same"
            )
        _opened.clear()
        _opened[key] = master, crops
    master, crops = _opened[key]
    return _say(master, _views(crops, asked.seed, asked.augment, task), crops.template)


def _views(crops: CropSet, seed: int, augment: Augment, task: Task) -> Array:
    """uint8[B, S, S, 3]: one view of each crop of a block."""
    import numpy as np

    from facekd.crops.views import view_batch

    number, block = task
    places = np.arange(block.start, block.stop)
    return view_batch(crops, seed, places, np.full(len(places), number), augment)


def _afresh(teacher: Teacher, crops: CropSet, seed: int, augment: Augment) -> Callable[[Array, Array], Array]:
    from facekd.crops.views import view_batch

    return lambda places, numbers: _say(teacher, view_batch(crops, seed, places, numbers, augment), crops.template)


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
