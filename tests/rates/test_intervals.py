from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from facekd.rates.exact_interval import clopper_pearson
from facekd.rates.intervals import Z95, t95, wilson, wilson_by_person, wilson_of_people

COUNTS = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_the_normal_quantile() -> None:
    assert stats.norm.ppf(0.975) == Z95


@given(COUNTS)
def test_wilson_inverts_the_score_test(counts):
    hits, n = counts
    assert wilson(hits, n) == pytest.approx(oracles.wilson_by_search(hits, n, Z95), abs=1e-12)
    found = stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson(hits, n) == pytest.approx((found.low, found.high), abs=1e-12)


@given(COUNTS)
def test_clopper_pearson_leaves_a_fortieth_in_each_tail(counts):
    hits, n = counts
    low, high = clopper_pearson(hits, n)
    assert low == 0 if hits == 0 else stats.binom.sf(hits - 1, n, low) == pytest.approx(0.025, abs=1e-9)
    assert high == 1 if hits == n else stats.binom.cdf(hits, n, high) == pytest.approx(0.025, abs=1e-9)


def test_known_answers():
    assert wilson(0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))
    assert wilson(10, 10) == (pytest.approx(0.7225, abs=1e-4), 1.0)
    # rule of 3: no false accept in 3,000 trials
    assert clopper_pearson(0, 3000)[1] == pytest.approx(1 - 0.025 ** (1 / 3000))
    assert clopper_pearson(1, 2) == (pytest.approx(0.012579, abs=1e-6), pytest.approx(0.987421, abs=1e-6))


@pytest.mark.parametrize("people", [2, 5, 30, 400])
def test_students_quantile(people: int) -> None:
    assert t95(people) == pytest.approx(stats.t.ppf(0.975, people - 1))
    assert t95(1.3) == t95(2)


@given(st.lists(st.integers(0, 1), min_size=3, max_size=60), st.integers(2, 9))
def test_pairs_that_only_repeat_each_other_add_next_to_nothing(hits, copies):
    hits = np.array(hits)
    once = wilson_by_person(hits, np.ones_like(hits))
    # one pair from each person: independent, so all but Wilson's own interval (n against n - 1)
    plain = wilson(hits.sum(), len(hits), t95(len(hits)))
    assert once == pytest.approx(plain, abs=0.5 / len(hits))
    if 0 < hits.sum() < len(hits):
        # What was found by trying every such list; where fewer than seven err, or are right, one more person counts.
        most = 1.0 if min(hits.sum(), len(hits) - hits.sum()) >= 7 or len(hits) <= 12 else 1.6
        repeated = wilson_by_person(hits * copies, np.full_like(hits, copies))
        assert repeated == pytest.approx(once, abs=most / len(hits))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_holds_the_rate_itself(persons):
    n = np.array([max(pair) for pair in persons])
    hits = np.array([min(pair) for pair in persons])
    if n.sum() == 0:
        return
    low, high = wilson_by_person(hits, n)
    assert 0 <= low <= hits.sum() / n.sum() <= high <= 1


@given(st.lists(st.integers(0, 5), min_size=2, max_size=30))
def test_never_narrower_than_for_independent_pairs(hits):
    n = np.full(len(hits), 5)
    low, high = wilson_by_person(np.array(hits), n)
    plain = wilson(sum(hits), n.sum())
    assert high - low >= plain[1] - plain[0] - 1e-12


def test_all_accepted_counts_a_person_as_three_pairs_at_most():
    n = np.full(50, 20)
    assert wilson_by_person(n, n) == pytest.approx(wilson(50 * 20 / (1 + 19 / 3), 50 * 20 / (1 + 19 / 3), t95(50)))
    few, many = (wilson_by_person(np.full(50, k), np.full(50, k))[0] for k in (1, 10**6))
    assert few == pytest.approx(wilson(50, 50, t95(50))[0])
    assert many == pytest.approx(wilson(150, 150, t95(50))[0], abs=1e-6)


def test_a_person_with_most_of_the_pairs_does_not_decide():
    """One of 101 people has 1,770 of 2,070 pairs and misses half of them; the others miss one in thirty."""
    n = np.append(np.full(100, 3), 1770)
    hits = np.append(np.where(np.arange(100) % 10 == 0, 2, 3), 885)
    low, high = wilson_by_person(hits, n)
    assert low <= hits.sum() / n.sum()
    assert high > 0.97  # what the 100 say


def test_variance_worth_a_hundred_pairs():
    found = wilson_of_people(0.9, 0.9, 0.9 * 0.1 / 100, pairs=3000, worth=100, people=1e9)
    assert found == pytest.approx(wilson(90, 100), abs=1e-6)


@given(st.data(), st.sampled_from([(12, 29, 5e-3), (30, 60, 1e-9)]))
def test_fewer_errors_never_lower_the_bound(data, people):
    """One more error, whoever's, never raises the lower bound nor, counted the other way, lowers the upper one.

    Of fewer than 30 people it may, by less than half a point; a list of so few is marked.
    """
    least, most, slack = people
    n = np.array(data.draw(st.lists(st.sampled_from([1, 3, 6, 10, 45]), min_size=least, max_size=most)))
    errors = np.array([data.draw(st.integers(0, min(k, 3))) for k in n]) * (np.arange(len(n)) % 4 == 0)
    whose = data.draw(st.sampled_from(np.flatnonzero(errors < n).tolist()))
    more = errors + (np.arange(len(n)) == whose)
    assert wilson_by_person(n - more, n)[0] <= wilson_by_person(n - errors, n)[0] + slack
    assert wilson_by_person(more, n)[1] >= wilson_by_person(errors, n)[1] - slack
