"""The share of a gap that is closed: against a slow twin, on a known truth, and silent where there is no gap."""

from __future__ import annotations

import numpy as np
import pytest

from facekd.core.types import Array
from facekd.rates.counts import curve
from facekd.rates.deviations import tar_deviation
from facekd.rates.intervals import t95
from facekd.rates.persons import ListOfPeople, paired_differences
from facekd.rates.rates import rate_at
from facekd.rates.retention import gap_closed

FAR = 0.05


def scores(
    seed: int, noises: tuple[float, ...], persons: int = 50, photos: int = 4
) -> tuple[list[Array], Array, Array]:
    """All pairs of `photos` photos of each person, seen with more or less noise, and who is on either side."""
    rng = np.random.default_rng(seed)
    people = rng.normal(size=(persons, 1, 12))
    shared = rng.normal(size=(persons, photos, 12))  # what is hard for one model is so for the others
    who = np.repeat(np.arange(persons), photos)
    left, right = np.triu_indices(len(who), 1)
    found = []
    for noise in noises:
        seen = people + noise * (shared + 0.3 * rng.normal(size=shared.shape))
        vectors = seen.reshape(len(who), -1)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        found.append((vectors @ vectors.T)[left, right])
    return found, who[left], who[right]


def test_a_share_is_the_one_of_a_slow_twin() -> None:
    """Its ends are the least and the greatest share on a grid that the errors do not tell from the one found."""
    (teacher, alone, student), left, right = scores(0, (0.7, 1.1, 0.9))
    same = left == right
    (found,) = gap_closed(teacher, alone, [student], same, left, right, [FAR, 0.2])
    for closed in found:
        s, t, a = (rate_at(curve(m, same), closed.far_asked).tar for m in (student, teacher, alone))
        assert s is not None and t is not None and a is not None  # noqa: PT018
        assert closed.share == pytest.approx((s - a) / (t - a))
        assert closed.gap == pytest.approx(t - a)
        of_student, of_teacher, of_alone = (ListOfPeople.of(m, same, left, right) for m in (student, teacher, alone))
        s_error, t_error, a_error = (
            tar_deviation(one.genuine, one.impostor, closed.far_asked) for one in (of_student, of_teacher, of_alone)
        )
        gain, gap = s_error - a_error, t_error - a_error
        kept = []
        for r in np.arange(-3, 6, 1e-3):
            error = gain.variance() - 2 * r * gain.covariance(gap) + r * r * gap.variance()
            if (gain.value - r * gap.value) ** 2 <= t95(50) ** 2 * 50 / 49 * error:
                kept.append(r)
        assert (closed.low, closed.high) == (pytest.approx(kept[0], abs=2e-3), pytest.approx(kept[-1], abs=2e-3))
        assert 0 < closed.low < closed.share < closed.high < 1


def test_the_teacher_closes_all_and_the_student_alone_nothing() -> None:
    (teacher, alone), left, right = scores(1, (0.7, 1.0))
    all_of_it, none_of_it = gap_closed(teacher, alone, [teacher, alone], left == right, left, right, [FAR])
    assert (all_of_it[0].share, all_of_it[0].low, all_of_it[0].high) == pytest.approx((1, 1, 1))
    assert (none_of_it[0].share, none_of_it[0].low, none_of_it[0].high) == pytest.approx((0, 0, 0))


def test_worse_than_alone_is_below_zero() -> None:
    (teacher, alone, student), left, right = scores(2, (0.6, 0.9, 1.3))
    closed = gap_closed(teacher, alone, [student], left == right, left, right, [FAR])[0][0]
    assert closed.share is not None
    assert closed.share < -0.2
    assert closed.high is not None
    assert closed.high < 0


@pytest.mark.parametrize("noises", [(1.0, 0.8, 0.9), (0.9, 0.9, 0.7), (0.897, 0.9, 0.7)])
def test_no_share_without_a_gap(noises: tuple[float, ...]) -> None:
    """The teacher is behind, or ahead by less than the list can tell."""
    (teacher, alone, student), left, right = scores(4, noises)
    closed = gap_closed(teacher, alone, [student], left == right, left, right, [FAR])[0][0]
    assert closed.gap is not None
    assert closed.gap_low is not None
    assert closed.gap_low <= 0
    assert closed.share is closed.low is closed.high is None


def test_no_number_where_the_list_shows_none() -> None:
    (teacher, alone), left, right = scores(5, (0.7, 1.0), persons=6)
    few, enough = gap_closed(teacher, alone, [teacher], left == right, left, right, [1e-3, 0.2])[0]
    assert (few.far_asked, few.gap, few.share) == (1e-3, None, None)
    assert enough.gap is not None
    one = np.where(left == right, 0, left)  # every genuine pair is of one person
    other = np.where(left == right, 0, right + 10)
    lone = gap_closed(teacher, alone, [teacher], left == right, one, other, [0.2])[0][0]
    assert lone.gap is lone.share is None


def test_the_interval_leaves_zero_out_exactly_where_the_paired_test_does() -> None:
    sides = set()
    for seed in range(12):
        (teacher, alone, student), left, right = scores(seed, (0.6, 1.0, 0.94), persons=30)
        same = left == right
        closed = gap_closed(teacher, alone, [student], same, left, right, [FAR])[0][0]
        tested = paired_differences(student, alone, same, left, right, [FAR])[0]
        assert closed.low is not None
        assert closed.high is not None
        assert tested.p_value is not None
        told = closed.low > 0 or closed.high < 0
        assert told == (tested.p_value < 0.05)
        sides.add(told)
    assert sides == {True, False}


@pytest.mark.slow
def test_the_interval_covers_the_truth() -> None:
    """The truth is what 100 lists of the same kind show together; each list then has to cover it."""
    found, gains, gaps = [], [], []
    for seed in range(100):
        (teacher, alone, student), left, right = scores(1000 + seed, (0.75, 1.05, 0.85), persons=40, photos=3)
        same = left == right
        closed = gap_closed(teacher, alone, [student], same, left, right, [FAR])[0][0]
        assert closed.gap is not None
        if closed.share is not None and closed.low is not None and closed.high is not None:
            found.append((closed.low, closed.high))
            gains.append(closed.share * closed.gap)
            gaps.append(closed.gap)
    truth = np.sum(gains) / np.sum(gaps)
    assert 0.4 < truth < 0.9
    covered = [low <= truth <= high for low, high in found]
    assert len(found) > 90  # the gap is wide enough for nearly every list
    assert 0.89 <= np.mean(covered) <= 0.995
    assert np.median([high - low for low, high in found]) < 0.6
