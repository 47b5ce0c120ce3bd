"""What an evaluation finds: fields are named as the keys of report.json, and `plain` alone turns one into the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal

from facekd.core.types import Array, Rate, Scores
from facekd.rates.counts import Curve
from facekd.rates.folds import Accuracy
from facekd.rates.rates import support_of
from facekd.rates.rejects import Kept

RENAMED = {"failures_to_enroll": "failures_to_enrol"}  # as it was spelled in the first report.json
Unit = Literal["identities", "pairs"]  # what is resampled for an interval


@dataclass(frozen=True, slots=True)
class PairCounts:
    """Pairs of one list; those with a photo that gave no crop are among them."""

    genuine: int
    impostor: int


@dataclass(frozen=True, slots=True)
class ThresholdRate(Rate):
    """A rate with the 95 % interval of its threshold."""

    threshold_low: float | None
    threshold_high: float | None


@dataclass(frozen=True, slots=True)
class ListRates:
    """One network on one list of pairs."""

    accuracy: Accuracy | None
    eer: float
    interval: Unit
    tar: tuple[Rate, ...]  # at each FAR asked
    pairs: PairCounts


@dataclass(frozen=True, slots=True)
class Failures:
    """What could not be compared: photos without a crop, and the pairs that they are in."""

    pairs: int
    photos: int


@dataclass(frozen=True, slots=True)
class GroupRate:
    """TAR and FAR of a group at the whole list's threshold; None where the list or the group has too few pairs."""

    far_asked: float
    threshold: float | None
    tar: float | None = None
    low: float | None = None  # 95 % interval
    high: float | None = None
    far: float | None = None
    far_low: float | None = None
    far_high: float | None = None


@dataclass(frozen=True, slots=True)
class GroupRates:
    """The pairs with one value of a group column."""

    pairs: PairCounts
    people: int | None  # with genuine pairs; None where they are not known
    few: bool  # too few to compare groups
    tar: tuple[GroupRate, ...]  # at each FAR asked


@dataclass(frozen=True, slots=True)
class WorstToBest:
    """How much worse the worst group errs than the best; None where there are no two, or the best makes no error."""

    ratio: float | None
    worst: str | None
    best: str | None


@dataclass(frozen=True, slots=True)
class GroupRatio:
    """Worst to best group at one FAR, by what they miss and by what they accept falsely."""

    far_asked: float
    fnmr: WorstToBest
    far: WorstToBest


@dataclass(frozen=True, slots=True)
class Rejects:
    """Errors that are left when the pairs with the blurriest crops are rejected."""

    far_asked: float
    threshold: float
    rows: tuple[Kept, ...]


@dataclass(frozen=True, slots=True)
class ModelRates:
    """One model on one list of pairs, or on all pairs of a set, whose scores are not kept: what needs them is None."""

    model: str
    model_id: str
    accuracy: Accuracy | None
    eer: float | None
    eer_bounds: tuple[float, float] | None  # where no score was kept
    auc: float | None
    d_prime: float | None
    interval: Unit
    tar: tuple[Rate, ...]
    tar_without_failures: tuple[Rate, ...]
    pairs: PairCounts
    failures_to_enroll: Failures
    groups: Mapping[str, Mapping[str, GroupRates]]  # by column and value
    roc: tuple[Rate, ...]  # for the bands of the curves


@dataclass(frozen=True, slots=True)
class Judged:
    """One model with what is drawn of it."""

    file: Path
    rates: ModelRates
    curve: Curve = field(repr=False)
    scores: Scores | None = field(repr=False)  # None of all pairs
    rejects: Rejects | None = None

    @property
    def name(self) -> str:
        return self.rates.model

    def as_json(self) -> dict[str, Any]:
        ratios = {column: group_ratios(groups) for column, groups in self.rates.groups.items()}
        more = {"rejects": plain(self.rejects), "group_ratios": plain(ratios)}
        return {"file": str(self.file), **plain(self.rates), **more}


@dataclass(frozen=True, slots=True)
class ModelDifference:
    """TAR of one model minus that of another on the same pairs; None where the list can't show the FAR."""

    a: str
    b: str
    far_asked: float
    difference: float | None
    low: float | None  # 95 % interval
    high: float | None
    p_value: float | None
    interval: Unit


@dataclass(frozen=True, slots=True)
class Cost:
    """What a model costs on this machine."""

    model: str
    parameters: int
    macs: int | None
    bytes: int
    latency_ms: float  # of one crop, from uint8 to a unit embedding; the median
    crops_per_second: float  # 32 at once


@dataclass(frozen=True, slots=True)
class RequirementCheck:
    """Whether a model's lower bound holds what is required, with the line that says so."""

    require: str
    model: str
    met: bool
    low: float | None
    line: str


@dataclass(frozen=True, slots=True)
class JudgedPairs:
    """Which pairs were judged."""

    file: str
    sha256: str | None  # None of a folder
    name: str
    left_out: Mapping[str, int]  # by why


@dataclass(frozen=True, slots=True)
class PairReport:
    """What 'facekd verify' says of pairs."""

    pairs: JudgedPairs
    models: tuple[Judged, ...]
    differences: tuple[ModelDifference, ...]
    costs: tuple[Cost, ...]
    requirements: tuple[RequirementCheck, ...]
    environment: Mapping[str, Any]


def plain(value: Any) -> Any:
    """A result as JSON has it: each dataclass by its fields, each rate with what its list can say of its FAR."""
    if isinstance(value, Rate):
        keys = ("far_asked", "far", "tar", "low", "high", "threshold")
        ends = ("threshold_low", "threshold_high") if isinstance(value, ThresholdRate) else ()
        shown = {"support": support_of(value)}
        return {key: getattr(value, key) for key in keys} | shown | {key: getattr(value, key) for key in ends}
    if hasattr(value, "as_json"):
        return value.as_json()
    if isinstance(value, Accuracy):
        return fields_of(value, but=("thresholds",))
    if isinstance(value, ModelRates) and value.eer_bounds is None:
        return fields_of(value, but=("eer_bounds",))
    if is_dataclass(value):
        return fields_of(value)
    if isinstance(value, Mapping):
        return {key: plain(one) for key, one in value.items()}
    if isinstance(value, Array):
        return value.tolist()
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


def fields_of(value: Any, but: Sequence[str] = ()) -> dict[str, Any]:
    """A dataclass's fields as JSON, by their keys."""
    return {RENAMED.get(f.name, f.name): plain(getattr(value, f.name)) for f in fields(value) if f.name not in but}


def lowest_far(rates: Sequence[Rate]) -> float | None:
    """The lowest FAR that a list estimates, or else bounds; None where it shows none of those asked."""
    for sort in ("estimate", "bound"):
        fars = [rate.far_asked for rate in rates if support_of(rate) == sort]
        if fars:
            return min(fars)
    return None


def rate_of(rates: Sequence[Rate], far: float | None) -> Rate | None:
    """The rate at a FAR; None where it was not asked or the list can't show it."""
    return next((rate for rate in rates if rate.far_asked == far and rate.tar is not None), None)


def group_ratios(groups: Mapping[str, GroupRates]) -> tuple[GroupRatio, ...]:
    """How much worse the worst group errs than the best, at each FAR; marked groups are left out."""
    solid = {name: group.tar for name, group in groups.items() if not group.few}
    rows = []
    for place, rate in enumerate(next(iter(groups.values())).tar):
        here = {name: rates[place] for name, rates in solid.items()}
        missed = {name: 1 - one.tar for name, one in here.items() if one.tar is not None}
        accepted = {name: one.far for name, one in here.items() if one.far is not None}
        rows.append(GroupRatio(rate.far_asked, _worst_to_best(missed), _worst_to_best(accepted)))
    return tuple(rows)


def _worst_to_best(errors: Mapping[str, float]) -> WorstToBest:
    if len(errors) < 2:
        return WorstToBest(None, None, None)
    worst, best = (pick(errors, key=errors.__getitem__) for pick in (max, min))
    return WorstToBest(errors[worst] / errors[best] if errors[best] > 0 else None, worst, best)
