"""What scores that are counted and not kept still show: exact points of the ROC, the EER, and d'."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from facekd.core.types import Array, Rate
from facekd.rates.counts import Curve
from facekd.rates.windows import LOWEST, Tally, Window, scores_of

POINTS = 400  # thresholds of the curve, evenly in the logarithm of the FAR that the sample promises,
EVEN = 1000  # evenly in that FAR itself,
TAIL = 100  # and evenly from the highest score of the sample to 1


def curve_thresholds(sample: Array, top: float) -> Array:
    """float32[T], ascending: where to count, so that the points lie densely on either axis of FAR up to about `top`.

    Args:
        sample: float32, ascending impostor scores; may be empty.
    """
    n = len(sample)
    if n == 0:
        return np.linspace(-1, 1, TAIL, dtype=np.float32)
    most = max(1.0, top * n)
    places = n - np.concatenate([np.geomspace(1, most, POINTS), np.linspace(1, most, EVEN)]).astype(np.int64)
    tail = np.linspace(sample[-1], max(1.0, float(sample[-1])), TAIL, dtype=np.float32)
    return np.unique(np.concatenate([sample[places], tail]).astype(np.float32))


def curve_at(
    thresholds: Array, impostor: Array, genuine: Array, rates: Sequence[Rate], n_genuine: int, n_impostor: int
) -> Curve:
    """Exact points of the ROC at `thresholds` and at those of `rates`; the scores between them have no entry.

    Args:
        thresholds: float32[T].
        impostor: int64[T], impostor pairs accepted at each.
        genuine: float32, every finite genuine score, ascending.
    """
    known = [rate for rate in rates if rate.threshold is not None]
    at = np.concatenate([thresholds, np.array([rate.threshold for rate in known], np.float32)])
    accepted = np.concatenate([impostor, np.array([round(rate.far * n_impostor) for rate in known], np.int64)])
    falling, first = np.unique(-at, return_index=True)
    return Curve(
        thresholds=-falling.astype(np.float64),
        genuine=len(genuine) - np.searchsorted(genuine, at[first], side="left"),
        impostor=accepted[first],
        n_genuine=n_genuine,
        n_impostor=n_impostor,
    )


def crossing(window: Window, tally: Tally, genuine: Array, n_genuine: int, n_impostor: int) -> float | Window:
    """The EER as `rates.eer` of the whole list, or the window to count next to find it.

    Args:
        genuine: float32, every genuine score, ascending.
    """
    tally.settle()

    def gap(accepted: Array, thresholds: Array) -> tuple[Array, Array]:
        far = accepted / n_impostor
        tar = (len(genuine) - np.searchsorted(genuine, thresholds, side="left")) / n_genuine
        return far, far - (1 - tar)

    top = np.array([window.high], np.float32)
    first_far, first_gap = gap(np.array([tally.above]), top)
    if first_gap[0] >= 0:
        return Window(window.high, np.inf)
    lows = np.maximum(scores_of(tally.bins.astype(np.int64) << tally.shift), np.float32(window.low))
    from_top = tally.above + np.cumsum(tally.counts[::-1])  # in this bin or above
    if tally.shift:
        _, gaps = gap(from_top, lows[::-1])
        over = np.flatnonzero(gaps >= 0)
        if len(over) == 0:
            return Window(LOWEST, window.low) if window.low > LOWEST else _last(first_far, first_gap)
        index = len(tally.bins) - 1 - int(over[0])
        key = int(tally.bins[index]) << tally.shift
        # The genuine scores between this bin and the one above it may carry the crossing.
        after = float(lows[index + 1]) if index + 1 < len(lows) else window.high
        ends = scores_of(np.array([key, min(key + (1 << tally.shift), 0x7F800000)], np.int64))
        return Window(max(window.low, float(ends[0])), min(window.high, max(float(ends[1]), after)))
    inside = genuine[np.searchsorted(genuine, np.float32(window.low)) : np.searchsorted(genuine, top[0])]
    thresholds = np.unique(np.concatenate([lows, inside]))[::-1]
    accepted = np.append(tally.above, from_top)[len(lows) - np.searchsorted(lows, thresholds, side="left")]
    far, gaps = gap(accepted, thresholds)
    far, gaps = np.concatenate([first_far, far]), np.concatenate([first_gap, gaps])
    over = np.flatnonzero(gaps >= 0)
    if len(over):
        after, before = int(over[0]), int(over[0]) - 1
        share = -gaps[before] / (gaps[after] - gaps[before])
        return float(far[before] + share * (far[after] - far[before]))
    return Window(LOWEST, window.low) if window.low > LOWEST else _last(far, gaps)


def _last(far: Array, gaps: Array) -> float:
    """The crossing on the ROC's last line, to (1, 1)."""
    share = -gaps[-1] / (1 - gaps[-1])
    return float(far[-1] + share * (1 - far[-1]))


def d_prime_of(sums: Sequence[tuple[float, float]], n: int, genuine: Array) -> float | None:
    """d' as `rates.d_prime`, of `n` impostor scores of which only sums were kept.

    Args:
        sums: in parts, the sum of the impostor scores and that of their squares, in any order.
        genuine: float32[G], ascending.
    """
    if n < 2 or len(genuine) < 2:
        return None
    total, squares = (math.fsum(part[k] for part in sums) for k in (0, 1))  # fsum: the order of the parts has no say
    spread = (max(0.0, squares - total**2 / n) / (n - 1) + float(genuine.var(ddof=1, dtype=np.float64))) / 2
    if spread < 1e-12:  # below that it is rounding
        return None
    return (float(genuine.mean(dtype=np.float64)) - total / n) / math.sqrt(spread)
