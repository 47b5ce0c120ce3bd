"""Several teachers as one: each sees a view as its own contract says, and what they say is put together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from facekd.core.contract import Contract, known_contract
from facekd.core.files import sha256_bytes, sha256_file
from facekd.core.pixels import channel_scale
from facekd.errors import UserError
from facekd.nets.files import METADATA, read_onnx
from facekd.teachers.teacher import Teacher

Mix = Callable[[Sequence[Tensor]], Tensor]  # float32[B, D] of each teacher, of any norm -> float32[B, E]


@dataclass(frozen=True, slots=True)
class Together:
    """One or more teachers, and the one that they are together."""

    teacher: Teacher
    parts: tuple[Teacher, ...]
    mix: Mix


def alone(teacher: Teacher) -> Together:
    """One teacher, who says what he says."""
    return Together(teacher, (teacher,), lambda said: said[0])


def together(teachers: Sequence[Teacher], mix: Mix, how: str) -> Together:
    """Two teachers or more as one, who takes plain pixels and gives each his own input.

    Args:
        mix: `concatenated`, or what `aligned` gave.
        how: what `mix` is, down to the crops that it was fitted to: part of the fingerprint.

    Raises:
        UserError: teachers of another size or template than the first.
    """
    first = teachers[0].contract
    for teacher in teachers[1:]:
        found = teacher.contract
        if (found.template, found.size) != (first.template, first.size):
            raise UserError(
                f"{teachers[0].path} takes {first.template} crops of {first.size} pixels, {teacher.path} "
                f"{found.template} crops of {found.size}: several teachers see the same crops; choose others"
            )
    ids = [teacher.contract.model_id for teacher in teachers]
    contract = Contract(
        dim=mix([torch.zeros(1, teacher.contract.dim) for teacher in teachers]).shape[1],
        size=first.size,
        template=first.template,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        weights_sha256=sha256_bytes("\n".join([how, *ids]).encode()),
    )

    inputs = [_input_of(teacher.contract) for teacher in teachers]

    def embed(images_BCHW: Tensor) -> Tensor:
        return mix([teacher.embed(own(images_BCHW)) for teacher, own in zip(teachers, inputs, strict=True)])

    path = Path(" + ".join(str(teacher.path) for teacher in teachers))
    one = Teacher(path, contract, embed, None, None, (), "are several teachers")
    return Together(one, tuple(teachers), mix)


def _input_of(contract: Contract) -> Callable[[Tensor], Tensor]:
    """`to_input` for plain pixels float32[B, 3, S, S] on any device."""
    order, *numbers = channel_scale(contract)
    factor, summand = (torch.from_numpy(one).view(1, 3, 1, 1) for one in numbers)

    def call(images_BCHW: Tensor) -> Tensor:
        found: Tensor = images_BCHW[:, order.tolist()] * factor.to(images_BCHW) + summand.to(images_BCHW)
        return found

    return call


def concatenated(said: Sequence[Tensor]) -> Tensor:
    """float32[B, D1 + D2 + …] of unit norm: the n unit embeddings one after another, by √n.

    The cosine of two crops is then the mean of the teachers' cosines.
    """
    return torch.cat([F.normalize(one) for one in said], dim=1) / math.sqrt(len(said))


def aligned(samples: Sequence[Tensor]) -> Mix:
    """A mix that turns all embeddings into the first teacher's space, averages and norms them: float32[B, D1].

    Args:
        samples: float32[N, D] of each teacher, what it says of the same N crops; N is at least the largest D.
    """
    first = F.normalize(samples[0])
    maps = [procrustes(F.normalize(one), first) for one in samples[1:]]

    def mix(said: Sequence[Tensor]) -> Tensor:
        with torch.autocast(said[0].device.type, enabled=False):  # not in bfloat16
            turned = [F.normalize(one) @ turn.to(one) for one, turn in zip(said[1:], maps, strict=True)]
        return F.normalize(torch.stack([F.normalize(said[0]), *turned]).mean(0))

    return mix


def procrustes(source_ND: Tensor, target_NE: Tensor) -> Tensor:
    """float32[D, E]: the map R that lays `source` best on `target`, Σ (x R) · y largest, without stretching anything.

    For D = E it is a rotation or mirroring, for D < E its rows are orthonormal (cosines stay), for D > E its columns
    (a projection). Source: P. Schönemann, "A generalized solution of the orthogonal Procrustes problem",
    Psychometrika 31(1), 1966: R = U Vᵀ of the singular value decomposition of XᵀY.
    """
    left, _, right = torch.linalg.svd(source_ND.cpu().double().T @ target_NE.cpu().double(), full_matrices=False)
    turn: Tensor = left @ right
    return turn.float()


def pair_contracts(paths: Sequence[Path], contracts: Sequence[Path]) -> list[Path | None]:
    """The contract file of each teacher: one for each ONNX file that facekd does not know, in the teachers' order.

    A single teacher takes the one that is given, whatever facekd knows.

    Raises:
        UserError: another number of contracts.
    """
    if not contracts:
        return [None] * len(paths)
    lacking = list(paths) if len(paths) == 1 else [path for path in paths if _lacks_contract(path)]
    if len(contracts) != len(lacking):
        names = ", ".join(map(str, lacking)) or "none"
        raise UserError(
            f"--contract is given {len(contracts)} times; the teachers that need one are {names}: give one for each, "
            "in this order"
        )
    given = iter(contracts)
    return [next(given) if path in lacking else None for path in paths]


def _lacks_contract(path: Path) -> bool:
    if path.suffix != ".onnx" or not path.is_file():
        return False
    if METADATA in {entry.key for entry in read_onnx(path).metadata_props}:
        return False
    return known_contract(sha256_file(path)) is None
