"""Who teaches in facekd distill: one teacher, several as one, or one that learns in the same run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from facekd.console import progress
from facekd.core.choices import HeadName
from facekd.core.contract import Contract
from facekd.core.pixels import to_input, unit
from facekd.core.types import Array
from facekd.crops.cropset import CropSet
from facekd.crops.training import TrainingCrops
from facekd.errors import UserError
from facekd.nets import build
from facekd.nets.heads import Head
from facekd.recipes.cache import fill_cache
from facekd.recipes.train import embed_crops, save_trained
from facekd.settings.training import KeptViews, Teaching
from facekd.teachers.several import Together, aligned, alone, concatenated, pair_contracts, together
from facekd.teachers.teacher import Teacher, load_teacher
from facekd.training.loop import Batch
from facekd.training.norms import settle_norms

JOINT = "teacher"  # below the run folder: the teacher that was trained with the student
JOINT_DIM = 512  # of its embedding
FITTED_ON, RIDGE = 1024, 1e-3  # training crops on which `fit_map` solves for the map, and what keeps it from noise
ALIGNED_ON = 4096  # training crops, at most, on which several teachers are turned into one space


def check_views(asked: Teaching, views: int) -> None:
    """Pass where what teachers say of so many views can be kept.

    Raises:
        UserError: nobody teaches, or somebody who still learns.
    """
    if asked.joint is not None and views:
        raise UserError(
            f"--views {views}: keeps what a finished teacher says, and that of --joint {asked.joint} still learns; "
            "leave views out"
        )
    if views < 0 or (views and not asked.teachers):
        raise UserError(f"--views {views}: keeps what a teacher says of so many views; give --teacher too, or 0")


def load_teachers(
    asked: Teaching, crops: TrainingCrops, seed: int, device: torch.device, quiet: bool
) -> Together | None:
    """The teachers as one; None where there is none.

    Raises:
        UserError: as `teachers.teacher`; crops of another size than a teacher's; or too few to align teachers on.
    """
    paths = asked.teachers
    runs = {path: asked.teacher_backend for path in paths if path.suffix == ".onnx" or len(paths) == 1}
    found = [
        load_teacher(path, file, device, runs.get(path))
        for path, file in zip(paths, pair_contracts(paths, asked.contracts), strict=True)
    ]
    for teacher in found:
        _check_fits(teacher, crops.train)
    if len(found) < 2:
        return alone(found[0]) if found else None
    combine = asked.combine or "concat"
    if combine == "concat":
        return together(found, concatenated, combine)
    count = len(crops.train)
    least = max(teacher.contract.dim for teacher in found)
    if count < least:
        raise UserError(
            f"--combine average: turns embeddings of up to {least} numbers into one space, for which it needs as many "
            f"crops, and {crops.train.path} has {count}; give more, or --combine concat"
        )
    chosen = np.random.default_rng(seed).choice(count, min(count, ALIGNED_ON), replace=False)
    sample = crops.train.take(np.sort(chosen))
    samples = [torch.from_numpy(embed_by(one, sample, quiet, f"{one.path} on {len(sample)} crops")) for one in found]
    return together(found, aligned(samples), f"{combine} on {sample.image_digest()}")


def _check_fits(teacher: Teacher, crops: CropSet) -> None:
    wanted = teacher.contract
    if (crops.template, crops.size) != (wanted.template, wanted.size):
        raise UserError(
            f"{teacher.path}: takes {wanted.template} crops of {wanted.size} pixels, and {crops.path} has "
            f"{crops.template} crops of {crops.size}; align them at {wanted.size} pixels, or choose another teacher"
        )


def embed_by(teacher: Teacher, crops: CropSet, quiet: bool, label: str, batch: int = 64) -> Array:
    """float32[N, D]: what the teacher says of stored crops, without views.

    Raises:
        UserError: an embedding that is not finite.
    """
    taught = [np.zeros((0, teacher.contract.dim), np.float32)]
    for start in progress(range(0, len(crops), batch), len(crops), label, quiet, unit=batch):
        indices = np.arange(start, min(start + batch, len(crops)))
        inputs = to_input(crops.batch(indices), teacher.contract, template=crops.template)
        said = teacher.embed(torch.from_numpy(inputs)).cpu()
        check_finite(teacher, said, [crops.ids[i] for i in indices])
        taught.append(said.numpy())
    return np.concatenate(taught)


def fit_map(
    projection: nn.Linear,
    student: nn.Module,
    contract: Contract,
    teacher: Teacher,
    crops: CropSet,
    seed: int,
    quiet: bool,
) -> None:
    """Set the map from the student's embeddings to the teacher's to the one of least squares, both of unit norm.

    For a student that is trained already: a random map would pull it away from what it knows until the map is learned.

    Args:
        contract: the student's.
        crops: to learn from; some of them, drawn by `seed`, are looked at.
    """
    chosen = np.random.default_rng(seed).permutation(len(crops))[:FITTED_ON]
    sample = crops.take(np.sort(chosen))
    own = embed_crops(student, sample, contract).astype(np.float64)
    said = unit(embed_by(teacher, sample, quiet, f"teacher on {len(sample)} crops, for the map to it")).astype(
        np.float64
    )
    ridge = RIDGE * len(sample) / own.shape[1] * np.eye(own.shape[1])
    solved = np.linalg.solve(own.T @ own + ridge, own.T @ said)
    with torch.no_grad():
        projection.weight.copy_(torch.from_numpy(solved.T.astype(np.float32)))


def fit_directions(projection: nn.Linear, teacher: Teacher, crops: CropSet, seed: int, quiet: bool) -> None:
    """Set the map from a fresh student's embeddings to the teacher's to the directions in which the teacher differs
    most: what of it so many dimensions can hold (its principal components, about the origin, as cosines are).

    The map keeps lengths and angles, so that the student's own cosines are the teacher's as far as it follows. From a
    random map, which holds no more of the teacher than chance has it, student and map would have to find each other.

    Args:
        projection: to more dimensions than the student has.
        crops: to learn from; some of them, drawn by `seed`, are looked at.
    """
    chosen = np.random.default_rng(seed).permutation(len(crops))[:FITTED_ON]
    sample = crops.take(np.sort(chosen))
    said = unit(embed_by(teacher, sample, quiet, f"teacher on {len(sample)} crops, for the map to it")).astype(
        np.float64
    )
    directions = np.linalg.eigh(said.T @ said)[1][:, ::-1][:, : projection.in_features]  # float64[E, D]
    with torch.no_grad():
        projection.weight.copy_(torch.from_numpy(directions.astype(np.float32)))


def check_finite(teacher: Teacher, said_BD: torch.Tensor, crop_ids: Sequence[str]) -> None:
    """Pass where a teacher's embeddings of these crops are numbers.

    Raises:
        UserError: which one is not.
    """
    finite = torch.isfinite(said_BD).all(dim=1)
    if not finite.all():
        first = crop_ids[int(finite.logical_not().nonzero()[0])]
        raise UserError(
            f"{teacher.path}: gives an embedding that is not finite of crop {first} ({int((~finite).sum())} of "
            f"{len(crop_ids)} in its batch); leave such crops out by --drop, or choose another teacher"
        )


def kept_rows(
    masters: Together, crops: CropSet, seed: int, asked: KeptViews, quiet: bool
) -> Callable[[Array, Array], Array]:
    """What the teachers together said of views of crops, from a cache for each of them, filled where it is not.

    Returns:
        A function from crops and view numbers, int64[B] each, to float32[B, D].
    """
    caches = [
        fill_cache(one, crops, seed, asked.views, asked.cache, quiet, augment=asked.augment)[0] for one in masters.parts
    ]

    def rows(places: Array, numbers: Array) -> Array:
        found: Array = masters.mix([torch.from_numpy(cache.rows(places, numbers)) for cache in caches]).numpy()
        return found

    return rows


def joint_teacher(
    net: str,
    spec: Contract,
    head: HeadName,
    margin: float | None,
    scale: float | None,
    crops: TrainingCrops,
    seed: int,
) -> Teacher:
    """A network with a head over the crops' identities that begins with the student and learns beside it.

    Args:
        spec: the student's; the teacher takes the same input.
        head: with `margin` and `scale`, what it learns labels by.

    Raises:
        UserError: no such network, or no crop has an identity.
    """
    if not crops.names:
        raise UserError(
            f"--joint {net}: its teacher learns by identities, and no crop of {crops.train.path} has one; give named "
            "crops, or a finished --teacher"
        )
    torch.manual_seed(seed + 1)  # a student of the same architecture is to begin as another
    built = build(net, dim=JOINT_DIM, size=spec.size).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    classes = Head(head, JOINT_DIM, len(crops.names), margin, scale)
    contract = replace(spec, dim=JOINT_DIM)
    path = Path(f"--joint {net}")
    return Teacher(path, contract, built, built, classes, crops.names, "learns in the same run", learns=True)


def learners(teacher: Teacher | None) -> dict[str, nn.Module]:
    """What of the teacher is trained, by its name in the checkpoint; nothing of a finished one."""
    if teacher is None or not teacher.learns:
        return {}
    assert teacher.net is not None
    assert teacher.head is not None
    return {"teacher": teacher.net, "teacher_head": teacher.head}


def save_joint(
    out: Path, name: str, teacher: Teacher, load: Callable[[int], Batch], ahead: range, device: torch.device
) -> None:
    """Write the teacher of a joint run, its norms settled, and its head into JOINT below `out`: a teacher's run.

    Args:
        ahead: steps whose batches its norms are settled on.
    """
    assert teacher.net is not None
    inputs = (load(step).images_BCHW.to(device, memory_format=torch.channels_last) for step in ahead)
    settle_norms(teacher.net, inputs)
    save_trained(out / JOINT, name, teacher.net.eval(), teacher.contract, teacher.head, teacher.identities)
