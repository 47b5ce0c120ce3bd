"""Rates from counts: TAR at FAR, EER, AUC, d', and the points of ROC and DET plots.

TAR = 1 - FNMR is the share of all genuine pairs accepted, FAR = FMR the share of all impostor pairs accepted
(comparison level, ISO/IEC 19795-1). Nothing here interpolates between thresholds to find a TAR.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np

from facekd.core.types import Array, Rate
from facekd.errors import UserError
from facekd.rates.counts import Curve, check_scores
from facekd.rates.intervals import wilson


def far_budget(far: float, n_impostor: float) -> int:
    """``floor(far * n_impostor)``: how many impostor pairs may be accepted.

    `far` means the decimal it is written as, so 0.29 of 100 is 29, though 0.29 * 100 is 28.999999999999996 in floats.

    Raises:
        UserError: `far` is not in (0, 1].
    """
    if not 0 < far <= 1:  # NaN too
        raise UserError(f"FAR {far} can't be asked of a list: give a rate above 0 and at most 1, such as 1e-3")
    return math.floor(Fraction(str(far)) * Fraction(n_impostor))


def support(far: float, n_impostor: float) -> Literal["none", "bound", "estimate"]:
    """What a list of `n_impostor` independent impostor pairs can say about `far`.

    "none": fewer than 3 / far pairs, so even no false accept at all would not bound FAR by `far` (rule of 3).
    "bound": it bounds FAR, but below 30 / far pairs it doesn't estimate it to +-30 % at 90 % confidence (rule of 30).
    "estimate": it does.

    Source: rule of 3 and rule of 30 (Doddington et al., Speech Communication 31, 2000), ISO/IEC 19795-1 annex B.
    """
    budget = far_budget(far, n_impostor)  # far * n >= 3 exactly when its floor is
    return "none" if budget < 3 else "bound" if budget < 30 else "estimate"


def support_of(rate: Rate) -> Literal["none", "bound", "estimate"]:
    """`support` of the FAR that a rate was asked at, by its list's evidence."""
    return support(rate.far_asked, rate.n_impostor if rate.evidence is None else rate.evidence)


def rate_at(curve: Curve, far_asked: float) -> Rate:
    """TAR at the smallest threshold whose FAR is at most `far_asked`.

    The threshold is one of the list's own scores. It is None where no score will do: because the list is too short
    (`support` is "none"; then tar, low and high are None too and far is 0), or because more impostor pairs than
    the budget tie at the top score, so that nothing may be accepted (then tar and far are 0).

    low and high are the 95 % Wilson interval of tar over the genuine pairs as if they were independent and the
    threshold were given; pairs that share a person need rates/persons.py.

    Raises:
        UserError: `far_asked` is not in (0, 1].
    """
    n_genuine, n_impostor = curve.n_genuine, curve.n_impostor
    if support(far_asked, n_impostor) == "none":
        return Rate(far_asked, 0.0, None, None, n_genuine, n_impostor, None, None)
    # counts never decrease, so the entries within the budget come first
    within = int(np.searchsorted(curve.impostor, far_budget(far_asked, n_impostor), side="right"))
    accepted, far, threshold = 0, 0.0, None
    if within:
        accepted = int(curve.genuine[within - 1])
        far = int(curve.impostor[within - 1]) / n_impostor
        threshold = float(curve.thresholds[within - 1])
    low, high = wilson(accepted, n_genuine)
    return Rate(far_asked, far, accepted / n_genuine, threshold, n_genuine, n_impostor, low, high)


def eer(curve: Curve) -> float:
    """The equal error rate: where FAR = FNMR on the straight lines that join the ROC's points.

    The ROC runs from (0, 0), nothing accepted, to (1, 1), everything; failures to enroll make its last line, as
    lowest scores that all tie.
    """
    far, tar = _roc(curve)
    gap = far - (1 - tar)  # rises from -1 to 1
    after = int(np.searchsorted(gap, 0.0))  # the first point with FAR >= FNMR; never the first of all
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(far[before] + share * (far[after] - far[before]))


def auc(curve: Curve) -> float:
    """The share of (genuine, impostor) couples in which the genuine pair scores higher, ties counted half.

    Failures to enroll are ties among themselves, below every score.
    """
    genuine = np.concatenate([[0], curve.genuine, [curve.n_genuine]])
    impostor = np.concatenate([[0], curve.impostor, [curve.n_impostor]])
    # twice the area under the ROC in integers: exact, and far from overflow for any list that fits in memory
    twice = int(np.dot(np.diff(impostor), genuine[1:] + genuine[:-1]))
    return twice / (2 * curve.n_genuine * curve.n_impostor)


def d_prime(values: Array, same: Array) -> float | None:
    """``(mean genuine - mean impostor) / sqrt((var genuine + var impostor) / 2)`` over the finite scores.

    None where it is undefined: a class with fewer than two finite scores, no spread in either class, or scores so large
    that their squares are no numbers.

    Source: J. Daugman, "The importance of being random", Pattern Recognition 36, 2003; sample variances (n - 1).

    Raises:
        UserError: as `counts.curve`.
    """
    values, same = check_scores(values, same)
    finite = np.isfinite(values)
    genuine, impostor = values[same & finite], values[~same & finite]
    if len(genuine) < 2 or len(impostor) < 2:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        spread = (genuine.var(ddof=1, dtype=np.float64) + impostor.var(ddof=1, dtype=np.float64)) / 2
    if spread == 0 or not np.isfinite(spread):
        return None
    return float((genuine.mean(dtype=np.float64) - impostor.mean(dtype=np.float64)) / math.sqrt(spread))


@dataclass(frozen=True, slots=True)
class RocPoints:
    """Points of the curve itself, from strict to lenient; fnmr over far is the DET plot."""

    thresholds: Array  # float64[M], descending
    far: Array  # float64[M], never decreasing
    tar: Array  # float64[M], never decreasing
    fnmr: Array  # float64[M], 1 - tar without its rounding near 0


def roc_points(curve: Curve, max_points: int = 500) -> RocPoints:
    """At most `max_points` of the curve's points, dense where logarithmic axes are.

    Chosen evenly in the logarithm of the false accepts (ROC and DET, horizontal) and of the false rejects (DET,
    vertical), with both ends. Every point is exact; points between are left out, none is invented.
    """
    assert max_points >= 4, max_points
    k = len(curve.thresholds)
    if k == 0:
        none = np.zeros(0)
        return RocPoints(none, none, none, none)
    misses = curve.n_genuine - curve.genuine
    keep = np.arange(k)
    if k > max_points:
        share = max_points // 2 - 1
        # an asked count is met by the last entry that does not exceed it: the most genuine pairs for that FAR
        by_far = np.searchsorted(curve.impostor, np.geomspace(1, curve.n_impostor, share), side="right") - 1
        by_miss = np.searchsorted(-misses, -np.geomspace(1, curve.n_genuine, share), side="left")
        keep = np.unique(np.clip(np.concatenate([[0, k - 1], by_far, by_miss]), 0, k - 1))
    return RocPoints(
        thresholds=curve.thresholds[keep],
        far=curve.impostor[keep] / curve.n_impostor,
        tar=curve.genuine[keep] / curve.n_genuine,
        fnmr=misses[keep] / curve.n_genuine,
    )


def _roc(curve: Curve) -> tuple[Array, Array]:
    """FAR and TAR with the two ends (0, 0) and (1, 1) that no score of the list need reach."""
    far = np.concatenate([[0], curve.impostor, [curve.n_impostor]]) / curve.n_impostor
    tar = np.concatenate([[0], curve.genuine, [curve.n_genuine]]) / curve.n_genuine
    return far, tar
