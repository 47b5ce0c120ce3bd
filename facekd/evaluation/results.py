"""What an evaluation finds: fields are named as the keys of report.json, and `plain` alone turns one into the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from facekd.core.types import Array, Rate, Scores
from facekd.rates.counts import Curve
from facekd.rates.folds import Accuracy
from facekd.rates.rates import support_of
from facekd.rates.rejects import Kept
from facekd.rates.sampled import SampledPeople
from facekd.rates.spread import Histogram

FEW = 30  # a group of fewer people, or genuine pairs where people are not known, is marked: the rule of 30
CROSS = " × "  # between the groups of a pair's two sides
RENAMED = {"failures_to_enroll": "failures_to_enrol"}  # as it was spelled in the first report.json
Unit = Literal["identities", "pairs"]  # of an interval
KnownBy = Literal["stated", "photo names"]  # what says who people are: the set or list itself, or its photos' names
Interval: TypeAlias = tuple[float, float, float]  # a rate, and its 95 % interval


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
    far_low: float | None = None  # 95 % interval of far, the threshold taken as given
    far_high: float | None = None


@dataclass(frozen=True, slots=True)
class FixedRate:
    """What a threshold gives that was fixed before: FMR and FNMR of pairs, FPIR and FNIR of a search."""

    name: str  # as it was given: the number, or the rate that it was calibrated to
    threshold: float
    asked: float | None  # the rate that it was calibrated to
    calibrated: Interval | None  # and what that was there
    false: Interval | None  # FMR or FPIR here; None without an impostor pair
    missed: Interval | None  # FNMR or FNIR here; None without a genuine pair
    drift: Literal["agrees", "higher", "lower"] | None  # of the false rate here, against that of the calibration


@dataclass(frozen=True, slots=True)
class Acquisition:
    """Failure to acquire: photos without a crop. Failure to enroll: people none of whose photos gave one."""

    photos: int
    failed_photos: int
    people: int | None  # None where they are not known
    failed_people: int | None

    @property
    def fta(self) -> float:
        return self.failed_photos / max(1, self.photos)

    @property
    def fte(self) -> float | None:
        return None if self.failed_people is None else self.failed_people / max(1, self.people or 0)

    def as_json(self) -> dict[str, Any]:
        return fields_of(self) | {"fta": self.fta, "fte": self.fte}


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
    fixed: tuple[FixedRate, ...] = ()  # at thresholds given


@dataclass(frozen=True, slots=True)
class AcrossCell:
    """Impostor pairs of one photo of group `a` and one of group `b`; None where they are too few for the FAR."""

    a: str
    b: str
    impostor: int
    fmr: Interval | None


@dataclass(frozen=True, slots=True)
class Across:
    """Who is taken for whom: FMR within and across groups at one threshold."""

    threshold: float
    asked: float | None  # the FAR that it is of
    cells: tuple[AcrossCell, ...]


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
    """One model on one list of pairs, or on all pairs of a set, whose scores are not kept: what needs folds is None."""

    model: str
    model_id: str
    accuracy: Accuracy | None
    eer: float | None
    auc: float | None
    d_prime: float | None
    interval: Unit
    tar: tuple[Rate, ...]
    tar_without_failures: tuple[Rate, ...]
    pairs: PairCounts
    failures_to_enroll: Failures
    groups: Mapping[str, Mapping[str, GroupRates]]  # by column and value
    roc: tuple[Rate, ...]  # for the bands of the curves
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)  # of eer, auc and accuracy, 95 %
    fixed: tuple[FixedRate, ...] = ()  # at thresholds given
    acquisition: Acquisition | None = None
    across: Mapping[str, Across] = field(default_factory=dict)  # by group column


@dataclass(frozen=True, slots=True)
class Judged:
    """One model with what is drawn of it."""

    file: Path
    rates: ModelRates
    curve: Curve = field(repr=False)
    scores: Scores | None = field(repr=False)  # None of all pairs
    rejects: Rejects | None = None
    histogram: Histogram | None = field(default=None, repr=False)  # of all pairs
    people: SampledPeople | None = field(default=None, repr=False)  # of all pairs

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
    """Whether the bound that decides holds what is required, with the line that says so."""

    require: str
    model: str
    met: bool
    low: float | None  # the bound of a least
    line: str
    high: float | None = None  # that of a most
    group: str | None = None  # as "sex female"


@dataclass(frozen=True, slots=True)
class JudgedPairs:
    """Which pairs were judged."""

    file: str
    sha256: str | None  # None of a folder
    name: str
    left_out: Mapping[str, int]  # by why
    people: KnownBy | None = None  # what says who they are; None where somebody is not known


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
        ends: tuple[str, ...] = ()
        if isinstance(value, ThresholdRate):
            ends = ("threshold_low", "threshold_high", *(("far_low", "far_high") if value.far_low is not None else ()))
        shown = {"support": support_of(value)}
        return {key: getattr(value, key) for key in keys} | shown | {key: getattr(value, key) for key in ends}
    if hasattr(value, "as_json"):
        return value.as_json()
    if isinstance(value, Accuracy):
        return fields_of(value, but=("thresholds",))
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


def estimated_far(rates: Sequence[Rate]) -> float | None:
    """The lowest FAR that a list estimates, for a headline; None where it estimates none of those asked."""
    fars = [rate.far_asked for rate in rates if support_of(rate) == "estimate"]
    return min(fars, default=None)


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
    solid = {name: group.tar for name, group in groups.items() if not group.few and CROSS not in name}
    rows = []
    for place, rate in enumerate(next(iter(groups.values())).tar if groups else ()):
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
