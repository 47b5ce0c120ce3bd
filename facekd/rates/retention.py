"""How much of the way from a student alone to its teacher distillation went, and how sure that is.

The share closed is ``(student - alone) / (teacher - alone)``, of TAR at one FAR, each network at its own threshold on
the same pairs. Its interval comes from resampled persons (rates/persons.py): every resample draws one set of persons
for all three networks, so what makes a list easy or hard for all of them cancels. The resamples give the joint
variance of gain and gap, and the interval is Fieller's: all shares r for which ``gain - r * gap`` is not told from 0 at
1.96 standard errors. It leaves 0 out exactly where the paired test of student against alone does, and it has two ends
exactly where the gap itself is told from 0; elsewhere a share would be a number divided by what may be nothing, and
there is none.

Source: E. C. Fieller, "Some problems in interval estimation", Journal of the Royal Statistical Society B 16, 1954.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facekd.core.types import Array
from facekd.rates.counts import curve
from facekd.rates.intervals import Z95
from facekd.rates.persons import resampled_tars
from facekd.rates.rates import rate_at, support


@dataclass(frozen=True, slots=True)
class Closed:
    """The share of a gap that a student closes at one asked FAR; 1 is all of it, below 0 it fell further back.

    gap is None where the list can't show the FAR or fewer than two persons have genuine pairs. share is None there
    too, and where the teacher's lead is not told from 0 (gap_low is not above 0).
    """

    far_asked: float
    gap: float | None  # TAR of the teacher minus TAR of the student alone
    gap_low: float | None  # 95 % interval
    gap_high: float | None
    share: float | None
    low: float | None  # 95 % interval
    high: float | None


def gap_closed(
    teacher: Array,
    alone: Array,
    students: Sequence[Array],
    same: Array,
    left_person: Array,
    right_person: Array,
    fars: Sequence[float],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[list[Closed]]:
    """For each student the share of the gap that it closes at each of `fars`.

    Args:
        teacher: float[P], the teacher's scores of the pairs, higher is more alike; -inf for a pair without a score.
        alone: float[P], those of the student that was trained without the teacher.
        students: float[P] each, those of the distilled ones.
        same: bool[P].
        left_person, right_person: int[P], who is on either side of the pair.

    Raises:
        UserError: as `persons.person_rates`.
    """
    known = [far for far in fars if support(far, int(np.count_nonzero(~same))) != "none"]
    if len(np.unique(left_person[same])) < 2:
        known = []

    def tars(values: Array) -> tuple[Array, Array]:
        """float64[F] and float64[resamples, F]."""
        counts = curve(values, same)
        drawn = resampled_tars(values, same, left_person, right_person, known, resamples=resamples, seed=seed)
        return np.array([rate_at(counts, far).tar for far in known], np.float64), drawn

    of_alone, of_teacher = tars(alone), tars(teacher)
    found = []
    for values in students:
        of_student = tars(values)
        row = {}
        for k, far in enumerate(known):
            gap, gain = (float(of[0][k] - of_alone[0][k]) for of in (of_teacher, of_student))
            gaps, gains = (of[1][:, k] - of_alone[1][:, k] for of in (of_teacher, of_student))
            error = float(np.nanstd(gaps, ddof=1))
            ends = max(-1.0, gap - Z95 * error), min(1.0, gap + Z95 * error)
            row[far] = Closed(far, gap, *ends, *(share_of(gain, gap, gains, gaps) or (None, None, None)))
        found.append([row.get(far, Closed(far, None, None, None, None, None, None)) for far in fars])
    return found


def share_of(gain: float, gap: float, gains: Array, gaps: Array) -> tuple[float, float, float] | None:
    """``gain / gap`` with its 95 % interval after Fieller; None where the gap is not told from 0, or is below it.

    Args:
        gains, gaps: float64[R], both in the same resamples; NaN in both where a resample has none.
    """
    drawn = np.stack([gains, gaps])
    (gain_variance, both), (_, gap_variance) = np.cov(drawn[:, np.isfinite(drawn).all(axis=0)]).tolist()
    z2 = Z95 * Z95
    a = gap * gap - z2 * gap_variance
    if gap <= 0 or a <= 0:
        return None
    # gain - r * gap within 1.96 standard errors of 0: a r^2 - 2 b r + c <= 0
    b = gain * gap - z2 * both
    c = gain * gain - z2 * gain_variance
    half = math.sqrt(max(0.0, b * b - a * c))  # the share itself satisfies it, so only rounding takes it below 0
    return gain / gap, min(gain / gap, (b - half) / a), max(gain / gap, (b + half) / a)
