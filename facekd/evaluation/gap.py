"""What 'facekd compare' finds: how much of the gap between a student alone and its teacher each student closes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from facekd.core.types import Array
from facekd.deploy.embedder import CropEmbedder
from facekd.evaluation.judged import embed_crops
from facekd.evaluation.lists import Compared, list_rates, pair_scores
from facekd.evaluation.results import Cost, ListRates, fields_of, lowest_far, plain
from facekd.rates.counts import Curve, curve
from facekd.rates.persons import paired_differences
from facekd.rates.retention import Closed, gap_closed

SHARED = 0.1  # by how much the cosine of one crop in two networks has to exceed that of two people in one space


@dataclass(frozen=True, slots=True)
class GapRow:
    """The share of the gap that a student closes at one FAR, and its paired test against the student alone."""

    model: str
    far_asked: float
    gap: float | None  # see rates.retention.Closed
    gap_low: float | None
    gap_high: float | None
    share: float | None
    low: float | None
    high: float | None
    why: str | None  # there is no share
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    p_value: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a student's embeddings are its teacher's."""

    model: str
    cosine: float | None  # of the two embeddings of one crop; the mean
    cosine_of_others: float | None  # of two people
    cross: ListRates | None  # the student's probes against the teacher's gallery
    why: str | None  # the two are not comparable


@dataclass(frozen=True, slots=True)
class ListComparison:
    """All networks on one list."""

    heading: str
    about: str
    crops: str
    left_out: Mapping[str, int]
    lead_far: float | None  # the lowest that the list supports
    models: Mapping[str, ListRates]  # by name
    closed: tuple[GapRow, ...]
    agreement: tuple[Agreement, ...]
    curves: Mapping[str, Curve]

    def as_json(self) -> dict[str, Any]:
        models = [{"model": name, **plain(rates)} for name, rates in self.models.items()]
        return {**fields_of(self, but=("curves",)), "models": models}


@dataclass(frozen=True, slots=True)
class ComparedNetwork:
    """One of the networks that are compared."""

    model: str
    role: str
    file: str
    model_id: str
    trained_on: tuple[str, ...] | None  # None where nothing says so


@dataclass(frozen=True, slots=True)
class GapReport:
    """What 'facekd compare' says."""

    networks: tuple[ComparedNetwork, ...]
    lists: tuple[ListComparison, ...]
    costs: tuple[Cost, ...]
    environment: Mapping[str, Any]


def compare_on(
    compared: Compared, names: Sequence[str], embedders: Sequence[CropEmbedder], fars: Sequence[float], quiet: bool
) -> ListComparison:
    """All that one list says of the networks: the teacher, the student alone, then the students."""
    vectors = [
        embed_crops(f"embed by {name}", embedder, compared.crops, compared.ids, quiet).vectors
        for name, embedder in zip(names, embedders, strict=True)
    ]
    scores = [pair_scores(one, one, compared) for one in vectors]
    models = {name: list_rates(values, compared, fars) for name, values in zip(names, scores, strict=True)}
    students = dict(zip(names[2:], scores[2:], strict=True))
    return ListComparison(
        heading=compared.heading,
        about=compared.about,
        crops=str(compared.crops.path),
        left_out=compared.left_out,
        lead_far=lowest_far(models[names[0]].tar),
        models=models,
        closed=tuple(gap_rows(scores[0], scores[1], students, compared, fars)),
        agreement=tuple(
            _agreement(name, student, vectors[0], compared, fars)
            for name, student in zip(names[2:], vectors[2:], strict=True)
        ),
        curves={name: curve(one, compared.same) for name, one in zip(names, scores, strict=True)},
    )


def gap_rows(
    teacher: Array,
    alone: Array,
    students: Mapping[str, Array],
    compared: Compared,
    fars: Sequence[float],
) -> list[GapRow]:
    """For each student and FAR: the share of the gap closed, why there is none, and the paired test against alone.

    Args:
        teacher, alone: float[P], scores of the pairs; `students` the same by their names.
    """
    pairs = compared.same, *compared.persons
    found = gap_closed(teacher, alone, list(students.values()), *pairs, fars)
    rows = []
    for (name, values), closed in zip(students.items(), found, strict=True):
        tested = paired_differences(values, alone, *pairs, fars)
        for one, test in zip(closed, tested, strict=True):
            rows.append(
                GapRow(
                    **{"model": name, **asdict(one), "why": _why(one)},
                    gain=test.difference,
                    gain_low=test.low,
                    gain_high=test.high,
                    p_value=test.p_value,
                )
            )
    return rows


def _why(one: Closed) -> str | None:
    """Why there is no share."""
    if one.gap is None or one.gap_low is None:
        return "too few pairs"
    if one.gap <= 0:
        return "the teacher is not ahead"
    return "the teacher's lead is not told from nothing" if one.share is None else None


def _agreement(name: str, student: Array, teacher: Array, compared: Compared, fars: Sequence[float]) -> Agreement:
    """Mean cosine of the two embeddings of a crop, and TAR with students' probes against the teacher's gallery."""
    if student.shape[1] != teacher.shape[1]:
        why = f"not comparable: {student.shape[1]} numbers against the teacher's {teacher.shape[1]}"
        return Agreement(name, None, None, None, why)
    cosine = float(np.einsum("nd,nd->n", student, teacher).mean())
    crossed = pair_scores(student, teacher, compared)
    apart = crossed[~compared.same]
    others = float(apart[np.isfinite(apart)].mean(dtype=np.float64))
    if cosine - others < SHARED:
        return Agreement(name, cosine, others, None, "not comparable: the two do not share a space")
    return Agreement(name, cosine, others, list_rates(crossed, compared, fars), None)
