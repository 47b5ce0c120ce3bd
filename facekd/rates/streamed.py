"""What scores that are counted and not kept still show: exact points of the ROC, the EER between two, and d'."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from facekd.core.types import Array, Rate
from facekd.rates.counts import Curve

POINTS = 400  # thresholds of the curve, evenly in the logarithm of the FAR that the sample promises,
EVEN = 1000  # evenly in that FAR itself, for the EER's sake,
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


def eer_between(curve: Curve) -> tuple[float, float]:
    """The bounds between which `rates.eer` lies, from the two neighboring points where FAR overtakes FNMR.

    The nearer the points of the curve lie to each other, the nearer the bounds; on a curve with an entry for each
    score no list can narrow them further.
    """
    far = np.concatenate([[0], curve.impostor, [curve.n_impostor]]) / curve.n_impostor
    fnmr = np.concatenate([[curve.n_genuine], curve.n_genuine - curve.genuine, [0]]) / curve.n_genuine
    after = int(np.argmax(far >= fnmr))  # never the first point, which accepts nothing
    before = after - 1
    return float(max(far[before], fnmr[after])), float(min(far[after], fnmr[before]))


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
