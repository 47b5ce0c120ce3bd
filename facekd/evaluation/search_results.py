"""What 'facekd verify --identification' finds: fields are named as the keys of report.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facekd.core.types import Array, Rate
from facekd.evaluation.results import (
    Acquisition,
    Cost,
    FixedRate,
    ModelDifference,
    RequirementCheck,
    Unit,
    fields_of,
    plain,
)
from facekd.rates.counts import Curve
from facekd.rates.identification import Ranks


@dataclass(frozen=True, slots=True)
class RankRate:
    """The share of mated probes whose person is among the first `rank`; None where the gallery has fewer people."""

    rank: int
    found: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class GalleryCounts:
    """What is enrolled."""

    people: int
    photos: int


@dataclass(frozen=True, slots=True)
class ProbeCounts:
    """What is looked for."""

    mated: int
    unknown: int


@dataclass(frozen=True, slots=True)
class SearchFailures:
    """Photos that gave no crop, and the people who could not be enrolled for it."""

    gallery_photos: int
    people: int
    mated_probes: int
    unknown_probes: int


@dataclass(frozen=True, slots=True)
class Crowd:
    """Distractors by one model."""

    vectors: Array  # float32[N, D], in the order in which they are enrolled
    persons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GalleryStep:
    """What the gallery shows with so many distractors."""

    distractors: int  # photos
    found: float  # at rank 1
    low: float
    high: float
    tpir: tuple[Rate, ...]  # at each FPIR asked


@dataclass(frozen=True, slots=True)
class SearchRates:
    """One model in one gallery. In a rate of `tpir`, far is FPIR and tar TPIR."""

    model: str
    model_id: str
    interval: Unit
    ranks: tuple[RankRate, ...]
    cmc: Ranks
    tpir: tuple[Rate, ...]  # at each FPIR asked
    tpir_curve: tuple[Rate, ...]
    gallery: GalleryCounts
    probes: ProbeCounts
    failures_to_enroll: SearchFailures
    fixed: tuple[FixedRate, ...] = ()  # FPIR and FNIR at thresholds given
    acquisition: Acquisition | None = None
    distractors: tuple[GalleryStep, ...] = ()  # by how many are enrolled; all others of these rates are with all


@dataclass(frozen=True, slots=True)
class Searched:
    """One model in one gallery, with what is drawn of it."""

    file: Path
    rates: SearchRates
    curve: Curve | None  # TPIR over FPIR; None where there is no unknown probe

    @property
    def name(self) -> str:
        return self.rates.model

    def as_json(self) -> dict[str, Any]:
        tpirs = {key: [_tpir(rate) for rate in getattr(self.rates, key)] for key in ("tpir", "tpir_curve")}
        steps = [
            {**fields_of(step, but=("tpir",)), "tpir": [_tpir(rate) for rate in step.tpir]}
            for step in self.rates.distractors
        ]
        return {"file": str(self.file), **plain(self.rates), **tpirs, "distractors": steps}


@dataclass(frozen=True, slots=True)
class JudgedSplit:
    """Which photos were enrolled and which looked for."""

    file: str
    sha256: str | None
    seed: int | None  # None where a list says it
    rule: str
    name: str
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SearchReport:
    """What 'facekd verify --identification' says of a gallery."""

    split: JudgedSplit
    models: tuple[Searched, ...]
    differences: tuple[ModelDifference, ...]
    costs: tuple[Cost, ...]
    requirements: tuple[RequirementCheck, ...]
    environment: Mapping[str, Any]


def _tpir(rate: Rate) -> dict[str, Any]:
    row: dict[str, Any] = plain(rate)
    row["fpir_asked"], row["fpir"], row["tpir"] = row.pop("far_asked"), row.pop("far"), row.pop("tar")
    return row if row["tpir"] is not None else row | {"fpir": None}
