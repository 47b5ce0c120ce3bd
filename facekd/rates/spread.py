"""All impostor scores of a stream, counted in narrow bins: the AUC, the ROC up to FAR 1 and the histogram.

The AUC asks, of each impostor score, how many genuine scores lie above it. A bin without a genuine score answers that
for all its impostor scores at once; where a bin holds some, the impostor score is looked up among these few. So the
AUC is exact, ties included, at the cost of a bin number for each score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facekd.core.types import Array
from facekd.rates.windows import keys_of, scores_of

BINS, MORE_BINS = 1 << 16, 1 << 19  # the latter where genuine scores lie among the impostor ones
MANY = 0.1  # share of impostor scores that would have to be looked up from which on there are more bins
SHOWN = 60  # bins of the histogram that is shown


@dataclass(frozen=True, slots=True)
class Cuts:
    """Where impostor scores are told apart."""

    factor: np.float32  # a score s is in bin int(s * factor + half): each step rounds, and none turns two round
    half: np.float32
    start: Array  # int32[B + 1], place in `genuine` of the first that is in this bin or a higher one
    genuine: Array  # float32[U], the distinct genuine scores, ascending
    below: Array  # int64[U + 1], genuine pairs that score lower than each; last all pairs with a score
    holds: Array  # bool[B], whether a genuine score is in the bin

    @classmethod
    def of(cls, genuine: Array, sample: Array, limit: float) -> Cuts:
        """Cuts at genuine scores.

        Args:
            genuine: float32, ascending.
            sample: float32, some impostor scores.
            limit: no score is further from 0.
        """
        cuts = cls._in_bins(BINS, genuine, limit)
        if len(sample) and cuts.holds[cuts.bins_of(sample)].mean() > MANY:
            return cls._in_bins(MORE_BINS, genuine, limit)
        return cuts

    @classmethod
    def _in_bins(cls, n: int, genuine: Array, limit: float) -> Cuts:
        factor, half = np.float32(n / 2 / max(1e-6, 1.001 * limit) * (1 - 2 / n)), np.float32(n / 2)
        distinct, counts = np.unique(genuine, return_counts=True)
        start = np.searchsorted(_bins(distinct, factor, half), np.arange(n + 1)).astype(np.int32)
        below = np.append(0, np.cumsum(counts))
        return cls(factor, half, start, distinct, below, start[1:] > start[:-1])

    def bins_of(self, scores: Array) -> Array:
        """int64, the bin of each score: never lower for a higher score."""
        return _bins(scores, self.factor, self.half)


@dataclass(slots=True)
class SpreadCount:
    """What was counted of some impostor scores; merge those of all parts."""

    bins: Array  # int64[B], scores in each
    won: int  # twice the genuine pairs above each score whose bin holds some, ties once

    @classmethod
    def empty(cls, cuts: Cuts) -> SpreadCount:
        return cls(np.zeros(len(cuts.holds), np.int64), 0)

    def add(self, cuts: Cuts, tile: Array) -> None:
        """Count a tile of scores, float32[rows, columns] with -inf where it holds no impostor pair."""
        impostor = tile.ravel()
        whole = bool(impostor.min(initial=0.0) > -np.inf)
        scores = impostor if whole else impostor[impostor > -np.inf]
        bins = cuts.bins_of(scores)
        self.bins += np.bincount(bins, minlength=len(self.bins))
        self._look_up(cuts, scores, bins)

    def _look_up(self, cuts: Cuts, scores: Array, bins: Array) -> None:
        """Count the genuine scores above each score whose bin holds some."""
        at = np.flatnonzero(cuts.holds[bins])
        if len(at) == 0:
            return
        scores, bins = scores[at], bins[at]
        low, high = cuts.start[bins], cuts.start[bins + 1]
        for _ in range(int((high - low).max()).bit_length()):  # a search by halves in each score's own bin
            middle = (low + high) >> 1
            open_ = low < high
            less = cuts.genuine[np.minimum(middle, len(cuts.genuine) - 1)] < scores
            low = np.where(open_ & less, middle + 1, low)
            high = np.where(open_ & ~less, middle, high)
        above = int(cuts.below[-1]) * len(low) - int(cuts.below[low].sum())
        tied = np.minimum(low, len(cuts.genuine) - 1)
        tied = tied[(cuts.genuine[tied] == scores) & (low < len(cuts.genuine))]
        self.won += 2 * above - int((cuts.below[tied + 1] - cuts.below[tied]).sum())

    def merge(self, other: SpreadCount) -> None:
        """Add what was counted of other scores."""
        self.bins, self.won = self.bins + other.bins, self.won + other.won


@dataclass(frozen=True, slots=True)
class Histogram:
    """Genuine and impostor scores in bins of one width."""

    edges: Array  # float64[B + 1]
    genuine: Array  # int64[B]
    impostor: Array  # int64[B]
    missing: int  # pairs without a score


def auc_of(cuts: Cuts, counted: SpreadCount, n_genuine: int, n_impostor: int) -> float:
    """`rates.auc` of all pairs; those without a score are ties among themselves, below every score."""
    scored, total = int(cuts.below[-1]), int(counted.bins.sum())
    alone = ~cuts.holds
    higher = scored - cuts.below[cuts.start[:-1][alone]]
    counts = counted.bins[alone]
    won = counted.won + 2 * sum(int(a) * int(b) for a, b in zip(higher[counts > 0], counts[counts > 0], strict=True))
    missing = n_impostor - total
    return (won + missing * (2 * scored + (n_genuine - scored))) / (2 * n_genuine * n_impostor)


def lenient_points(cuts: Cuts, counted: SpreadCount, above: int, points: int) -> tuple[Array, Array]:
    """Exact points of the ROC where more than `above` impostor pairs are accepted: float32[T] and int64[T].

    A point's threshold is the lowest score that its bin can hold; they lie evenly in the pairs accepted.
    """
    accepted = np.cumsum(counted.bins[::-1])[::-1]  # scores in this bin or a higher one
    if accepted[0] <= above:
        return np.zeros(0, np.float32), np.zeros(0, np.int64)
    wanted = np.linspace(accepted[0], above, points, endpoint=False)
    chosen = np.unique(len(accepted) - 1 - np.searchsorted(accepted[::-1], wanted, side="left"))
    chosen = chosen[accepted[chosen] > above]
    return _lowest_of(chosen, cuts), accepted[chosen]


def histogram_of(cuts: Cuts, counted: SpreadCount, n_pairs: int) -> Histogram | None:
    """What is shown of the scores; None where there is none."""
    bins = len(cuts.holds)
    genuine = np.bincount(cuts.bins_of(cuts.genuine), np.diff(cuts.below), minlength=bins).astype(np.int64)
    held = np.flatnonzero(genuine + counted.bins)
    if len(held) == 0:
        return None
    width = max(1, -(-(int(held[-1]) + 1 - int(held[0])) // SHOWN))
    first = max(0, min(int(held[0]), bins - SHOWN * width))
    n = min(SHOWN, -(-(bins - first) // width))
    padded = np.zeros((2, n * width), np.int64)
    for row, of in zip(padded, (genuine, counted.bins), strict=True):
        part = of[first : first + n * width]
        row[: len(part)] = part
    shown = padded.reshape(2, n, width).sum(axis=2)
    edges = (first + width * np.arange(n + 1) - float(cuts.half)) / float(cuts.factor)
    return Histogram(edges, shown[0], shown[1], n_pairs - int(shown.sum()))


def _bins(scores: Array, factor: np.float32, half: np.float32) -> Array:
    places = scores * factor
    places += half
    return places.astype(np.int64)


def _lowest_of(bins: Array, cuts: Cuts) -> Array:
    """float32, the lowest score of each bin, found by halves among all float32 numbers."""
    low = np.full(len(bins), int(keys_of(np.array([np.finfo(np.float32).min], np.float32))[0]), np.int64)
    high = np.full(len(bins), int(keys_of(np.array([np.finfo(np.float32).max], np.float32))[0]), np.int64)
    for _ in range(33):
        middle = (low + high) >> 1
        scores = np.clip(scores_of(middle), -1e6, 1e6)
        reaches = np.floor(scores * cuts.factor + cuts.half) >= bins
        low, high = np.where(reaches, low, middle + 1), np.where(reaches, middle, high)
        low = np.minimum(low, high)
    return scores_of(high)
