from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from facekd.rates.exact_interval import clopper_pearson
from facekd.rates.intervals import Z95, wilson, wilson_at_variance, wilson_by_person

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


@given(st.lists(st.integers(0, 1), min_size=3, max_size=60), st.integers(2, 9))
def test_pairs_that_only_repeat_each_other_add_nothing(hits, copies):
    hits = np.array(hits)
    once = wilson_by_person(hits, np.ones_like(hits))
    assert wilson_by_person(hits * copies, np.full_like(hits, copies)) == pytest.approx(once, abs=1e-12)
    # one pair from each person: independent, so all but Wilson's own interval (n against n - 1)
    plain = wilson(hits.sum(), len(hits))
    assert once == pytest.approx(plain, abs=0.5 / len(hits))


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30))
def test_never_narrower_than_for_independent_pairs(persons):
    n = np.array([max(pair) for pair in persons])
    hits = np.array([min(pair) for pair in persons])
    if n.sum() == 0:
        return
    low, high = wilson_by_person(hits, n)
    plain = wilson(hits.sum(), n.sum())
    assert low <= plain[0] + 1e-12
    assert high >= plain[1] - 1e-12
    assert 0 <= low <= hits.sum() / n.sum() <= high <= 1


def test_all_accepted_counts_persons_not_pairs():
    n = np.full(50, 20)
    assert wilson_by_person(n, n) == wilson(50, 50)
    assert wilson_at_variance(1.0, 0.0, n) == wilson(50, 50)


def test_variance_worth_a_hundred_pairs():
    assert wilson_at_variance(0.9, 0.9 * 0.1 / 100, np.full(300, 10)) == pytest.approx(wilson(90, 100))
