"""How much of the way from a student alone to its teacher distillation went, and how sure that is.

The share closed is ``(student - alone) / (teacher - alone)``, of TAR at one FAR, each network at its own threshold on
the same pairs. Its interval comes from what each person adds to the errors of all three (rates/deviations.py), so
what makes a list easy or hard for all of them cancels. That gives the joint variance of gain and gap, and the interval
is Fieller's: all shares r for which ``gain - r * gap`` is not told from 0. It leaves 0 out where the paired test of
student against alone does, and it has two ends exactly where the gap itself is told from 0; elsewhere a share would be
a number divided by what may be nothing, and there is none.

Source: E. C. Fieller, "Some problems in interval estimation", Journal of the Royal Statistical Society B 16, 1954.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from facekd.core.types import Array
from facekd.rates.counts import check_scores
from facekd.rates.deviations import Deviation, tar_deviation
from facekd.rates.dyads import Dyads
from facekd.rates.intervals import t95
from facekd.rates.persons import ListOfPeople, difference_of
from facekd.rates.rates import rate_at


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
    alone, same = check_scores(alone, same)
    dyads = Dyads.of(same, left_person, right_person)
    of_alone, of_teacher, *of_students = (ListOfPeople.on(dyads, one, same) for one in (alone, teacher, *students))
    known = [far for far in fars if dyads.people >= 2 and of_alone.shows(far) and of_alone.rate(far).tar is not None]
    found: list[dict[float, Closed]] = [{} for _ in students]
    for far in known:
        gap, gap_deviation = _lead(of_teacher, of_alone, far)
        test = difference_of(far, gap, gap_deviation, of_alone.genuine.people)
        for row, of_student in zip(found, of_students, strict=True):
            gain, gain_deviation = _lead(of_student, of_alone, far)
            shared = share_of(gain, gap, gain_deviation, gap_deviation, of_alone.genuine.people)
            row[far] = Closed(far, gap, test.low, test.high, *(shared or (None, None, None)))
    nothing = [Closed(far, None, None, None, None, None, None) for far in fars]
    return [[row.get(far, empty) for far, empty in zip(fars, nothing, strict=True)] for row in found]


def _lead(ahead: ListOfPeople, behind: ListOfPeople, far: float) -> tuple[float, Deviation]:
    """How much higher the TAR of one is, and its error."""
    plain = [rate_at(one.curve, far).tar for one in (ahead, behind)]
    assert plain[0] is not None
    assert plain[1] is not None
    deviations = [tar_deviation(one.genuine, one.impostor, far) for one in (ahead, behind)]
    return plain[0] - plain[1], deviations[0] - deviations[1]


def share_of(
    gain: float, gap: float, gain_deviation: Deviation, gap_deviation: Deviation, people: float
) -> tuple[float, float, float] | None:
    """``gain / gap`` with its 95 % interval after Fieller; None where the gap is not told from 0, or is below it.

    Args:
        gain, gap: over all pairs alike. The deviations have their values by the people's weights, which decide.
        people: as how many with equal weights count.
    """
    z2 = t95(people) ** 2 * people / max(people - 1, 1)
    led, gained = gap_deviation.value, gain_deviation.value
    a = led * led - z2 * gap_deviation.covariance(gap_deviation)
    if gap <= 0 or led <= 0 or a <= 0:
        return None
    # gained - r * led within its errors of 0: a r^2 - 2 b r + c <= 0
    b = gained * led - z2 * gain_deviation.covariance(gap_deviation)
    c = gained * gained - z2 * gain_deviation.covariance(gain_deviation)
    half = math.sqrt(max(0.0, b * b - a * c))  # the share itself satisfies it, so only rounding takes it below 0
    return gain / gap, min(gain / gap, (b - half) / a), max(gain / gap, (b + half) / a)
