"""Exact order statistics of a stream of float32 scores that is too long to keep.

For each rank sought, a window [low, high) of scores is guessed from a sample. One pass counts the scores above
the window and, inside it, how often each float32 value occurs; if the rank turns out to lie inside, its score is
known exactly, ties included. If the guess was wrong, or the window held too many distinct values to list each,
the next window is the part now known to hold the rank. Memory depends on the windows, not on the stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from facekd.core.types import Array

MAX_BINS = 1 << 22  # distinct values listed for one window, 12 bytes each; more are joined into coarser bins
PENDING = 1 << 18  # scores kept until they are sorted into the bins
LOWEST = float(np.finfo(np.float32).min)


@dataclass(frozen=True, slots=True)
class Window:
    """Half-open interval of float32 scores."""

    low: float
    high: float


@dataclass(slots=True)
class Tally:
    """What was counted of one window in one part of the stream; parts are merged in any order."""

    above: int = 0  # scores >= high
    next_above: float = np.inf  # the lowest of them
    shift: int = 0  # a bin joins 2 ** shift neighboring float32 values
    bins: Array = field(default_factory=lambda: np.zeros(0, np.int32))  # ascending, keys >> shift
    counts: Array = field(default_factory=lambda: np.zeros(0, np.int64))
    pending: list[Array] = field(default_factory=list)  # keys not yet in bins
    n_pending: int = 0

    @property
    def inside(self) -> int:
        """Scores in the window; call `settle` first."""
        assert not self.pending
        return int(self.counts.sum())

    def add(self, window: Window, scores: Array) -> None:
        """Count `scores`, float32 and ascending."""
        first, end = np.searchsorted(scores, np.array([window.low, window.high], np.float32))
        self.above += len(scores) - int(end)
        if end < len(scores):
            self.next_above = min(self.next_above, float(scores[end]))
        if end > first:
            self.pending.append(keys_of(scores[first:end]))
            self.n_pending += int(end - first)
            if self.n_pending >= PENDING:
                self.settle()

    def add_unsorted(self, window: Window, scores: Array) -> None:
        """Count `scores`, float32 in any order."""
        reached = scores[np.flatnonzero(scores >= np.float32(window.low))]
        below = reached < np.float32(window.high)
        inside, above = reached[below], reached[~below]
        self.above += len(above)
        self.next_above = min(self.next_above, float(above.min(initial=np.inf)))
        self.pending.append(keys_of(inside))
        self.n_pending += len(inside)
        if self.n_pending >= PENDING:
            self.settle()

    def merge(self, other: Tally) -> None:
        """Add the counts of another part of the stream for the same window."""
        self.above += other.above
        self.next_above = min(self.next_above, other.next_above)
        self.pending += other.pending
        self.n_pending += other.n_pending
        if len(other.bins):
            shift = max(self.shift, other.shift)
            bins = np.concatenate([self.bins >> (shift - self.shift), other.bins >> (shift - other.shift)])
            self._set(shift, bins, np.concatenate([self.counts, other.counts]))
        if self.n_pending >= PENDING:
            self.settle()

    def settle(self) -> None:
        """Sort the pending scores into the bins."""
        if self.pending:
            new = np.sort(np.concatenate(self.pending) >> self.shift)
            self.pending, self.n_pending = [], 0
            first = _first_of_run(new)
            counts = np.diff(np.append(first, len(new)))
            self._set(self.shift, np.concatenate([self.bins, new[first]]), np.concatenate([self.counts, counts]))

    def _set(self, shift: int, bins: Array, counts: Array) -> None:
        order = np.argsort(bins, kind="stable")  # two ascending runs: merged in one pass
        bins, counts = bins[order], counts[order]
        while True:
            first = _first_of_run(bins)
            if len(first):
                bins, counts = bins[first], np.add.reduceat(counts, first)
            if len(bins) <= MAX_BINS:
                break
            shift, bins = shift + 1, bins >> 1
        self.shift, self.bins, self.counts = shift, bins, counts


@dataclass(frozen=True, slots=True)
class RankedScore:
    """The score at the sought rank, and what lies above it."""

    score: float
    above: int  # scores > score
    next_above: float  # the lowest of them; inf where there is none


def locate(window: Window, tally: Tally, rank: int) -> RankedScore | Window:
    """The `rank`-th highest score (1 is the highest), or the window to count next to find it."""
    tally.settle()
    if rank <= tally.above:
        return Window(window.high, np.inf)
    if rank > tally.above + tally.inside:
        return Window(LOWEST, window.low)
    from_top = tally.above + np.cumsum(tally.counts[::-1])  # scores in this bin or above
    place = int(np.searchsorted(from_top, rank))
    index = len(tally.bins) - 1 - place
    if tally.shift:
        key = int(tally.bins[index]) << tally.shift
        return Window(max(window.low, _value(key)), min(window.high, _value(key + (1 << tally.shift))))
    return RankedScore(
        score=_value(int(tally.bins[index])),
        above=int(from_top[place]) - int(tally.counts[index]),
        next_above=_value(int(tally.bins[index + 1])) if place else tally.next_above,
    )


def guess(sample: Array, share: float, spread: float) -> Window:
    """A window that should hold the score which a `share` of all scores exceeds.

    Args:
        sample: float32, ascending.
        spread: standard error of the share of the sample that lies above a score.
    """
    n = len(sample)
    if n == 0:
        return Window(LOWEST, np.inf)
    margin = 6 * spread + 12 / n  # twelve: also safe where the sample holds hardly any score so high
    low = n - 1 - int((share + margin) * n)
    high = n - int((share - margin) * n)
    return Window(
        float(sample[low]) if low >= 0 else LOWEST,
        float(sample[high]) if high < n and sample[high] > sample[max(low, 0)] else np.inf,
    )


def _first_of_run(ascending: Array) -> Array:
    if len(ascending) == 0:
        return np.zeros(0, np.int64)
    return np.flatnonzero(np.append(True, ascending[1:] != ascending[:-1]))


def keys_of(scores: Array) -> Array:
    """int32 keys in the order of the float32 `scores`; neighboring floats have neighboring keys."""
    bits = (scores + np.float32(0)).view(np.int32)  # adding 0 makes -0.0 the 0.0 it is equal to
    return bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF))


def scores_of(keys: Array) -> Array:
    """The float32 scores of int keys; the way back from `keys_of`."""
    found: Array = (keys ^ ((keys >> 31) & 0x7FFFFFFF)).astype(np.int32).view(np.float32)
    return found


def _value(key: int) -> float:
    """The float32 score of a key."""
    if key >= 0x7F800000:
        return np.inf
    return float(np.array(key ^ ((key >> 31) & 0x7FFFFFFF), np.int32).view(np.float32))
