from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import oracles
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from facekd.errors import UserError
from facekd.rates.counts import curve
from facekd.rates.rates import auc, d_prime, eer, far_budget, rate_at, roc_points, support

INF = math.inf
# few distinct values, so ties are the rule; both infinities
TIED = st.sampled_from([-INF, -1.0, -0.25, -0.0, 0.0, 0.25, np.nextafter(0.25, 1), 1.0, INF])
FREE = st.floats(-1, 1, width=32)


@st.composite
def score_lists(draw, min_size=2):
    same = draw(st.lists(st.booleans(), min_size=min_size, max_size=60).filter(lambda s: 0 < sum(s) < len(s)))
    kind = draw(st.sampled_from([TIED, FREE, st.one_of(TIED, FREE)]))
    scores = draw(st.lists(kind, min_size=len(same), max_size=len(same)))
    return np.array(scores, dtype=draw(st.sampled_from([np.float32, np.float64]))), np.array(same)


@given(score_lists())
def test_counts_at_every_threshold_are_those_of_the_definition(listed):
    values, same = listed
    made = curve(values, same)
    assert made.thresholds.tolist() == oracles.thresholds_of(values)
    for threshold, genuine, impostor in zip(made.thresholds, made.genuine, made.impostor, strict=True):
        assert (genuine, impostor) == oracles.counts_at(values, same, threshold)
    assert (made.n_genuine, made.n_impostor) == (same.sum(), (~same).sum())
    assert made.thresholds.dtype == np.float64
    assert made.genuine.dtype == made.impostor.dtype == np.int64


@given(score_lists())
def test_agrees_with_scikit_learn(listed):
    values, same = listed
    # scikit-learn refuses infinities: ranks keep the order and the ties
    ranks = np.unique(values, return_inverse=True)[1]
    far, tar, _ = roc_curve(same, ranks, drop_intermediate=False)
    made = curve(values, same)
    kept = len(made.thresholds)  # scikit-learn also accepts at -inf, as its last point
    np.testing.assert_array_equal(made.impostor / made.n_impostor, far[1 : kept + 1])
    np.testing.assert_array_equal(made.genuine / made.n_genuine, tar[1 : kept + 1])
    assert len(far) - 1 - kept == int((values == -INF).any())
    assert auc(made) == pytest.approx(roc_auc_score(same, ranks), abs=1e-12)


@given(score_lists())
def test_auc_and_eer_are_those_of_the_definition(listed):
    values, same = listed
    made = curve(values, same)
    assert auc(made) == float(oracles.auc(values, same))
    assert eer(made) == pytest.approx(float(oracles.eer(values, same)), abs=1e-12)


@given(score_lists(), st.sampled_from(["0.05", "0.1", "0.29", "1e-1", "0.3", "0.5", "0.9", "1.0"]))
def test_tar_is_the_one_found_by_trying_every_threshold(listed, far):
    values, same = listed
    rate = rate_at(curve(values, same), float(far))
    if Fraction(far) * int((~same).sum()) < 3:
        assert rate.tar is rate.threshold is rate.low is rate.high is None
        return
    tar, achieved, threshold = oracles.tar_at_far(values, same, far)
    assert (rate.tar, rate.far, rate.threshold) == (float(tar), float(achieved), threshold)
    assert 0 <= rate.low <= rate.tar <= rate.high <= 1


@given(score_lists(min_size=20), st.floats(0.3, 1.0))
def test_far_keeps_its_promise_and_the_next_lower_threshold_would_not(listed, far):
    values, same = listed
    made = curve(values, same)
    rate = rate_at(made, far)
    if rate.tar is None:
        return
    assert Fraction(round(rate.far * made.n_impostor), made.n_impostor) <= Fraction(str(far))
    lower = made.thresholds[made.thresholds < (INF if rate.threshold is None else rate.threshold)]
    if rate.threshold is None:
        lower = made.thresholds
    if len(lower):
        _, impostor = oracles.counts_at(values, same, lower[0])
        assert Fraction(impostor, made.n_impostor) > Fraction(str(far))


@given(score_lists(), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_the_order_of_the_pairs_changes_no_rate(listed, random):
    values, same = listed
    order = list(range(len(same)))
    random.shuffle(order)
    one, other = curve(values, same), curve(values[order], same[order])
    assert [rate_at(one, f) for f in (0.1, 0.5, 1.0)] == [rate_at(other, f) for f in (0.1, 0.5, 1.0)]
    assert (eer(one), auc(one)) == (eer(other), auc(other))


@pytest.mark.parametrize(
    ("far", "n", "budget"),
    [
        (1e-3, 3000, 3),
        (0.29, 100, 29),  # 28.999999999999996 in floats
        (1e-6, 84_000_000, 84),
        (1e-5, 300_000, 3),
        (0.07, 100, 7),  # 7.000000000000001
        (1.0, 7, 7),
        (1e-4, 29_999, 2),
        (1e-10, 10**11 + 1, 10),
    ],
)
def test_the_budget_has_no_float_error(far, n, budget):
    assert far_budget(far, n) == budget
    assert far_budget(np.float64(far), n) == budget


def test_the_floor_of_lfw():
    """3,000 impostors support nothing below 1e-3 as a bound and 1e-2 as an estimate (rules of 3 and of 30)."""
    assert support(1e-2, 3000) == "estimate"
    assert support(9.9e-3, 3000) == "bound"
    assert support(1e-3, 3000) == "bound"
    assert support(1e-3, 2999) == "none"
    assert support(1e-4, 3000) == "none"


def test_known_answer():
    """Ten impostors at 0.0 .. 0.9, five genuine at 0.65 .. 1.05: at FAR 0.3 the three highest impostors pass."""
    values = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.65, 0.75, 0.85, 0.95, 1.05])
    same = np.arange(15) >= 10
    made = curve(values, same)
    rate = rate_at(made, 0.3)
    # threshold 0.65: above impostor 0.6, the first that would exceed the budget
    assert (rate.tar, rate.far, rate.threshold) == (1.0, 0.3, 0.65)
    assert (rate.n_genuine, rate.n_impostor, rate.far_asked) == (5, 10, 0.3)
    assert rate_at(made, 0.35) == rate.__class__(0.35, 0.3, 1.0, 0.65, 5, 10, rate.low, rate.high)
    assert rate_at(made, 0.2).tar is None
    assert auc(made) == (7 + 8 + 9 + 10 + 10) / 50
    # accepting at 0.75: FAR 2/10, FNMR 1/5
    assert eer(made) == pytest.approx(0.2)


def test_perfect_and_hopeless_scores():
    same = np.array([True] * 4 + [False] * 4)
    good = curve(np.array([0.9, 0.8, 0.9, 0.7, 0.1, 0.2, 0.1, 0.3]), same)
    assert (auc(good), eer(good), rate_at(good, 0.75).tar) == (1.0, 0.0, 1.0)
    bad = curve(np.array([0.1, 0.2, 0.1, 0.3, 0.9, 0.8, 0.9, 0.7]), same)
    assert (auc(bad), eer(bad), rate_at(bad, 0.75).tar) == (0.0, 1.0, 0.0)
    constant = curve(np.full(8, 0.5), same)
    assert (auc(constant), eer(constant)) == (0.5, 0.5)
    assert (rate_at(constant, 1.0).tar, rate_at(constant, 1.0).threshold) == (1.0, 0.5)
    # all four impostors tie at the top, the budget is three: nothing may be accepted
    assert (rate_at(constant, 0.75).tar, rate_at(constant, 0.75).threshold) == (0.0, None)


def test_failures_to_enrol_are_never_accepted_and_always_counted():
    values = np.array([-INF, 0.9, 0.8, -INF, 0.1, 0.2, 0.3])
    same = np.array([True, True, True, False, False, False, False])
    rate = rate_at(curve(values, same), 1.0)
    assert (rate.tar, rate.far, rate.threshold) == (2 / 3, 3 / 4, 0.1)
    nobody = curve(np.full(7, -INF), same)
    assert len(nobody.thresholds) == 0
    rate = rate_at(nobody, 1.0)
    assert (rate.tar, rate.far, rate.threshold) == (0.0, 0.0, None)
    assert (auc(nobody), eer(nobody)) == (0.5, 0.5)
    assert len(roc_points(nobody).far) == 0


def test_float32_thresholds_accept_the_score_they_came_from():
    values = np.array([0.1, 0.2, 0.3, 0.7], np.float32)
    rate = rate_at(curve(values, np.array([False, False, False, True])), 1.0)
    assert np.float32(rate.threshold) == values[0]
    assert (values >= rate.threshold).all()


@pytest.mark.parametrize(
    ("values", "same", "says"),
    [
        ([], [], "no pairs"),
        ([0.1, math.nan], [True, False], "1 of 2 scores are NaN"),
        ([0.1, 0.2], [True, True], "all 2 pairs are genuine"),
        ([0.1, 0.2, 0.3], [False] * 3, "all 3 pairs are impostor"),
        ([0.1, 0.2], [True], "one score and one"),
        ([0.1, 0.2], [1, 0], "True or False"),
    ],
)
def test_what_cannot_be_judged_is_refused(values, same, says):
    same = np.array(same, dtype=bool if not same else None)
    with pytest.raises(UserError, match=says):
        curve(np.array(values), same)


@pytest.mark.parametrize("far", [0, -0.1, 1.5, math.nan, math.inf])
def test_a_far_that_no_list_can_have_is_refused(far):
    made = curve(np.arange(8.0), np.arange(8) % 2 == 0)
    with pytest.raises(UserError, match="FAR"):
        rate_at(made, far)


def test_d_prime_of_known_normals():
    rng = np.random.default_rng(3)
    values = np.concatenate([rng.normal(0.6, 0.1, 200_000), rng.normal(0.1, 0.05, 200_000), [-INF, -INF, -INF]])
    same = np.concatenate([np.ones(200_000, bool), np.zeros(200_000, bool), [True, False, True]])
    assert d_prime(values, same) == pytest.approx(0.5 / math.sqrt((0.01 + 0.0025) / 2), rel=0.01)
    assert d_prime(-values[:400_000], same[:400_000]) < 0


def test_d_prime_is_none_where_undefined():
    assert d_prime(np.array([0.5, 0.5, 0.1, 0.1]), np.array([True, True, False, False])) is None
    assert d_prime(np.array([0.5, 0.4, 0.1]), np.array([True, True, False])) is None
    assert d_prime(np.array([1e300, -1e300, 1e300, 0.2]), np.array([True, True, False, False])) is None
    assert d_prime(np.array([0.5, -INF, 0.1, 0.2]), np.array([True, True, False, False])) is None


@given(score_lists(), st.integers(4, 30))
@example((np.arange(60.0), np.arange(60) % 7 == 0), 4)
def test_plot_points_are_points_of_the_curve(listed, max_points):
    values, same = listed
    made = curve(values, same)
    points = roc_points(made, max_points)
    assert len(points.far) <= max_points
    if len(made.thresholds) <= max_points:
        assert len(points.far) == len(made.thresholds)
    for threshold, far, tar, fnmr in zip(points.thresholds, points.far, points.tar, points.fnmr, strict=True):
        genuine, impostor = oracles.counts_at(values, same, threshold)
        assert (far, tar) == (impostor / made.n_impostor, genuine / made.n_genuine)
        assert fnmr == (made.n_genuine - genuine) / made.n_genuine
    if len(made.thresholds):
        assert (points.thresholds[0], points.thresholds[-1]) == (made.thresholds[0], made.thresholds[-1])
    assert (np.diff(points.far) >= 0).all()
    assert (np.diff(points.thresholds) < 0).all()


def test_plot_points_are_dense_on_logarithmic_axes():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(3, 1, 50_000), rng.normal(0, 1, 50_000)])
    made = curve(values, np.arange(100_000) < 50_000)
    points = roc_points(made, 200)
    for decade in (1e-4, 1e-3, 1e-2, 1e-1):
        assert ((points.far >= decade) & (points.far < 10.1 * decade)).sum() >= 10, decade
    at = np.searchsorted(points.far, 1e-3, side="right") - 1
    assert points.tar[at] == pytest.approx(rate_at(made, 1e-3).tar, abs=0.01)
