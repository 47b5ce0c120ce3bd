"""What each person of a list contributes to the error of a rate.

A rate is estimated with the weights of `dyads.Dyads`. Its error is, to first order, a sum over people: how far the
person's own genuine pairs are from the rate, and how far the person's impostor pairs move the threshold. From the
squares of these contributions comes the variance; a couple's impostor pairs stand in both of its persons' sums, so
they are taken out once (the dyadic-robust variance: P. Aronow, C. Samii, V. Assenova, Political Analysis 23(4), 2015).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from facekd.core.types import Array
from facekd.rates.dyads import PERSON_CORRELATION, Dyads, effective, evidence, pair_weights

MOST = 1 + 1e-9  # of a budget: sums of weights are rounded
STEP = (0.1, 1.0)  # least and most logarithm of FAR over which the ROC's slope is taken


@dataclass(frozen=True, slots=True)
class Deviation:
    """A rate by the weights of the people, and what each adds to its error. Differences of rates are differences."""

    value: float
    genuine: Array  # float64[persons], by genuine pairs
    impostor: Array  # float64[persons], by impostor pairs
    couples: Array  # float64[C], of each couple; in `impostor` it is in both of its persons
    share: float = 1.0  # of the people whose impostor pairs were looked at

    def __sub__(self, other: Self) -> Self:
        """The same of the difference of two rates on one list."""
        return type(self)(
            self.value - other.value,
            self.genuine - other.genuine,
            self.impostor - other.impostor,
            self.couples - other.couples,
            self.share,
        )

    def covariance(self, other: Self) -> float:
        """Of the errors of two rates on one list."""
        own = float(self.couples @ other.couples)
        shared = float(self.impostor @ other.impostor) - 2 * own
        crossed = float(self.genuine @ other.impostor + self.impostor @ other.genuine)
        return float(self.genuine @ other.genuine) + crossed + shared * self.share + own * self.share**2

    def variance(self) -> float:
        """Of the error; never less than half of what genuine pairs alone, or couples alone, say."""
        own = float(self.couples @ self.couples) * self.share**2
        return max(self.covariance(self), 0.5 * max(float(self.genuine @ self.genuine), own))


@dataclass(frozen=True, slots=True)
class GenuinePairs:
    """Genuine scores of one model, falling, with the people's weights."""

    falling: Array  # float[G], minus the scores, ascending; +inf for a pair without a score
    person: Array  # int32[G]
    weight: Array  # float64[persons], of each of their pairs
    pairs: Array  # int64[persons]
    sums: Array = field(repr=False)  # float64[G + 1], weights of the first k
    total: float  # weight of all pairs

    @classmethod
    def of(cls, scores: Array, person: Array, pairs: Array) -> Self:
        """Genuine pairs by who is on them.

        Args:
            scores: float[G].
            person: int[G], numbers from 0.
            pairs: int64[persons], how many each has, pairs without a score too, which need not be in `scores`.
        """
        weight = pair_weights(pairs, PERSON_CORRELATION)
        order = np.argsort(-scores)
        person = person[order]
        sums = np.append(0.0, np.cumsum(weight[person]))
        return cls(-scores[order], person, weight, pairs, sums, float(weight @ pairs))

    @property
    def evidence(self) -> float:
        """As how many independent pairs they count."""
        return float(evidence(self.pairs, PERSON_CORRELATION).sum())

    @property
    def people(self) -> float:
        """As how many people with equal weights they count (Kish)."""
        weights = self.weight * self.pairs
        return float(weights.sum() ** 2 / (weights**2).sum())

    def tar(self, blocking: float) -> float:
        """The weighted share that scores above ``-blocking``."""
        return float(self.sums[np.searchsorted(self.falling, blocking, side="left")] / self.total)

    def hits(self, blocking: float) -> Array:
        """float64[persons]: the weight of each person's pairs that score above ``-blocking``."""
        n = int(np.searchsorted(self.falling, blocking, side="left"))
        hits: Array = np.bincount(self.person[:n], minlength=len(self.pairs)) * self.weight
        return hits

    def deviations(self, blocking: float) -> Array:
        """float64[persons]: what each adds to the error of `tar`, the threshold as given."""
        return np.asarray((self.hits(blocking) - self.tar(blocking) * self.pairs * self.weight) / self.total)


@dataclass(frozen=True, slots=True)
class ImpostorPairs:
    """Impostor scores of one model, falling, with the couples' weights."""

    falling: Array  # float[I + 1], minus the scores, ascending, and +inf
    couple: Array  # int64[I]
    dyads: Dyads
    sums: Array = field(repr=False)  # float64[I + 1]
    total: float  # weight of all pairs

    @classmethod
    def of(cls, scores: Array, couple: Array, dyads: Dyads) -> Self:
        """Impostor scores, float[I], and which couple is on each, int[I]; pairs without a score may be left out."""
        order = np.argsort(-scores)
        couple = couple[order]
        sums = np.append(0.0, np.cumsum(dyads.couple_weight[couple]))
        total = float(dyads.couple_weight @ dyads.couple_pairs)
        return cls(np.append(-scores[order], np.float32(np.inf)), couple, dyads, sums, total)

    @property
    def people(self) -> float:
        """As how many people with equally many impostor pairs they count (Kish)."""
        return effective(self.dyads.by_person(self.dyads.couple_pairs * self.dyads.couple_weight))

    def blocking(self, far: float) -> float:
        """Minus the highest score that may not be accepted, so that the weighted FAR is at most `far`."""
        n = int(np.searchsorted(self.sums, far * MOST * self.total, side="right")) - 1
        return float(self.falling[n])

    def accepted(self, blocking: float) -> int:
        """How many score above ``-blocking``."""
        return int(np.searchsorted(self.falling[:-1], blocking, side="left"))

    def far(self, blocking: float) -> float:
        """The weighted share that scores above ``-blocking``."""
        return float(self.sums[self.accepted(blocking)] / self.total)

    def deviations(self, blocking: float) -> Array:
        """float64[C]: what each couple adds to the error of `far`."""
        accepted = np.bincount(self.couple[: self.accepted(blocking)], minlength=len(self.dyads.couple_pairs))
        expected = self.far(blocking) * self.dyads.couple_pairs
        return np.asarray((accepted - expected) * self.dyads.couple_weight / self.total)


def blocking_of(threshold: float, falling: Array) -> float:
    """Minus the highest score below a threshold, as `falling`'s numbers have it: what scores above it is accepted."""
    return float(np.nextafter(falling.dtype.type(-threshold), falling.dtype.type(np.inf)))


def far_deviation(impostor: ImpostorPairs, blocking: float) -> Deviation:
    """The share of impostor pairs that score above ``-blocking``, and what people add to its error."""
    couples = impostor.deviations(blocking)
    by_person = impostor.dyads.by_person(couples)
    return Deviation(impostor.far(blocking), np.zeros(len(by_person)), by_person, couples)


@dataclass(frozen=True, slots=True)
class ThresholdError:
    """The threshold for a FAR, and what people add to the error of the FAR there."""

    blocking: float  # minus the highest score that may not be accepted
    couples: Array  # float64[C]
    persons: Array  # float64[persons]
    slope: float  # of TAR over FAR, over as much of the ROC as the FAR is unsure of

    @classmethod
    def at(cls, genuine: GenuinePairs, impostor: ImpostorPairs, far: float, moved: float = 0.0) -> Self:
        """The error at a FAR.

        Args:
            moved: by how much less the threshold is where `impostor` is a sample.
        """
        blocking = impostor.blocking(far)
        couples = impostor.deviations(blocking)
        persons = impostor.dyads.by_person(couples)
        own, reached = float(couples @ couples), impostor.far(blocking)
        unsure = math.sqrt(max(float(persons @ persons) - own, own)) / reached if reached > 0 else STEP[1]
        factor = math.exp(min(max(unsure, STEP[0]), STEP[1]))
        low, high = min(far / factor, 0.999), max(far, min(far * factor, 0.999))
        least, most = (genuine.tar(impostor.blocking(end) + moved) for end in (low, high))
        return cls(blocking + moved, couples, persons, (most - least) / (high - low))


def tar_deviation(genuine: GenuinePairs, impostor: ImpostorPairs, far: float, moved: float = 0.0) -> Deviation:
    """TAR at the threshold for a FAR, and what people add to its error, through that threshold too.

    The threshold's error is worth the slope of the ROC. Arguments as `ThresholdError.at`.
    """
    error = ThresholdError.at(genuine, impostor, far, moved)
    value, own = genuine.tar(error.blocking), genuine.deviations(error.blocking)
    return Deviation(value, own, -error.slope * error.persons, -error.slope * error.couples)
