from __future__ import annotations

import math

import numpy as np
import oracles
import pytest

from facekd.errors import UserError
from facekd.rates import persons
from facekd.rates.counts import curve
from facekd.rates.persons import paired_differences, person_rates, resampled_tars
from facekd.rates.rates import rate_at


def photos_of(rng, n_persons, n_photos, dim=24):
    """float[persons, photos, dim], unit norm; some persons are harder than others, so their pairs depend."""
    center = rng.normal(size=(n_persons, 1, dim))
    spread = 0.62 * np.exp(0.35 * rng.normal(size=(n_persons, 1, 1)))
    vectors = center + spread * rng.normal(size=(n_persons, n_photos, dim))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def dense_list(rng, n_persons, n_photos):
    """All pairs."""
    vectors = photos_of(rng, n_persons, n_photos).reshape(n_persons * n_photos, -1)
    left, right = np.triu_indices(len(vectors), 1)
    left_person, right_person = left // n_photos, right // n_photos
    return (vectors @ vectors.T)[left, right], left_person == right_person, left_person, right_person


def sparse_list(rng, n_persons, n):
    """Like LFW: n genuine and n impostor pairs of persons drawn at random."""
    vectors = photos_of(rng, n_persons, 4)
    same = np.arange(2 * n) < n
    left = rng.integers(0, n_persons, 2 * n)
    right = np.where(same, left, (left + 1 + rng.integers(0, n_persons - 1, 2 * n)) % n_persons)
    photo = rng.integers(0, 4, 2 * n)
    other = np.where(same, (photo + 1 + rng.integers(0, 3, 2 * n)) % 4, rng.integers(0, 4, 2 * n))
    return (vectors[left, photo] * vectors[right, other]).sum(-1), same, left, right


def test_a_resample_is_the_list_with_its_persons_repeated(monkeypatch):
    monkeypatch.setattr(persons, "_shrinkage", lambda left, right, accepted, n: [1.0] * len(accepted))
    values, same, left, right = sparse_list(np.random.default_rng(1), 20, 60)
    values = np.round(values, 1)  # ties
    values[[3, 70]] = -math.inf
    fars = [0.05, 0.1, 0.5, 1.0]
    tars = resampled_tars(values, same, left * 7, right * 7, fars, resamples=40, seed=5)
    assert len(set(np.concatenate([left, right]))) == 20
    for resample in range(40):
        times = persons._draw(20, 5, resample)
        repeated = oracles.repeat_by_person(values, same, left, right, times)
        expected = [float(oracles.tar_at_far(*repeated, str(far))[0]) for far in fars]
        assert tars[resample].tolist() == expected, resample


def test_persons_are_drawn_with_replacement_and_from_the_seed_alone():
    drawn = persons._draw(1000, 3, 8)
    assert drawn.sum() == 1000
    assert np.mean(drawn == 0) == pytest.approx(math.exp(-1), abs=0.05)
    np.testing.assert_array_equal(drawn, persons._draw(1000, 3, 8))
    assert (drawn != persons._draw(1000, 3, 9)).any()
    assert (drawn != persons._draw(1000, 4, 8)).any()


def test_couples_without_a_common_person_shrink_by_the_square_root_of_three():
    left, right = np.arange(0, 200, 2), np.arange(1, 200, 2)
    assert persons._shrinkage(left, right, np.array([10, 50]), 200) == pytest.approx([3**-0.5] * 2)


def test_a_person_in_every_false_accept_shrinks_nothing():
    """One person is everybody's impostor: the list says as much about FAR as one draw, and keeps all its spread."""
    left, right = np.triu_indices(60, 1)
    first = np.argsort(left != 0, kind="stable")
    assert persons._shrinkage(left[first], right[first], np.array([59]), 60)[0] > 0.95


def test_the_order_of_the_pairs_and_the_sides_change_nothing():
    rng = np.random.default_rng(2)
    values, same, left, right = sparse_list(rng, 60, 200)
    values = np.round(values, 1)
    order, swap = rng.permutation(len(values)), rng.random(len(values)) < 0.5
    one = person_rates(values, same, left, right, [0.05, 0.1], resamples=50)
    left, right = np.where(swap, right, left), np.where(swap, left, right)
    other = person_rates(values[order], same[order], left[order], right[order], [0.05, 0.1], resamples=50)
    assert one == other
    assert one[0].low < one[0].tar < one[0].high


def test_only_the_interval_differs_from_the_plain_rate():
    values, same, left, right = sparse_list(np.random.default_rng(4), 60, 200)
    fars = [0.1, 0.05, 1e-3]
    made = curve(values, same)
    for far, rate in zip(fars, person_rates(values, same, left, right, fars, resamples=50), strict=True):
        plain = rate_at(made, far)
        assert (rate.far_asked, rate.far, rate.tar, rate.threshold) == (far, plain.far, plain.tar, plain.threshold)
    assert rate.tar is rate.low is rate.high is None


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda rng: dense_list(rng, 50, 4), lambda rng: sparse_list(rng, 250, 300)])
def test_the_interval_covers_and_the_naive_one_does_not(make):
    """The truth is the mean over many lists; benchmarks/intervals.py does this at full size."""
    covered, naive, estimates, spreads = [], [], [], []
    rates = []
    for seed in range(120):
        listed = make(np.random.default_rng(seed))
        rates.append((rate_at(curve(*listed[:2]), 0.05), person_rates(*listed, [0.05], resamples=100, seed=seed)[0]))
        spreads.append(resampled_tars(*listed, [0.05], resamples=100, seed=seed).std())
        estimates.append(rates[-1][0].tar)
    truth = np.mean(estimates)
    for plain, rate in rates:
        naive.append(plain.low <= truth <= plain.high)
        covered.append(rate.low <= truth <= rate.high)
    assert 0.89 <= np.mean(covered) <= 0.99
    assert np.mean(naive) < 0.87
    assert np.sqrt(np.mean(np.square(spreads))) == pytest.approx(np.std(estimates), rel=0.15)


def test_a_model_against_itself():
    values, same, left, right = sparse_list(np.random.default_rng(0), 100, 300)
    found = paired_differences(values, values, same, left, right, [0.1, 1e-3], resamples=50)
    assert (found[0].difference, found[0].low, found[0].high, found[0].p_value) == (0.0, 0.0, 0.0, 1.0)
    assert found[1].difference is found[1].low is found[1].high is found[1].p_value is None


def test_a_better_model_is_told_from_a_worse_one():
    rng = np.random.default_rng(0)
    values, same, left, right = sparse_list(rng, 200, 600)
    worse = values + 0.15 * rng.normal(size=len(values))
    found = paired_differences(values, worse, same, left, right, [0.05], resamples=200)[0]
    assert 0 < found.low < found.difference < found.high < 1
    assert found.p_value < 0.01
    other = paired_differences(worse, values, same, left, right, [0.05], resamples=200)[0]
    assert (other.difference, other.low, other.high) == (-found.difference, -found.high, -found.low)
    assert other.p_value == found.p_value


def test_two_equally_good_models_are_rarely_told_apart():
    p_values = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        values, same, left, right = sparse_list(rng, 200, 300)
        a, b = (values + 0.1 * rng.normal(size=len(values)) for _ in range(2))
        p_values.append(paired_differences(a, b, same, left, right, [0.05], resamples=100)[0].p_value)
    assert np.mean(np.array(p_values) < 0.05) <= 0.13
    assert np.mean(np.array(p_values) < 0.5) == pytest.approx(0.5, abs=0.2)


def test_one_person_with_genuine_pairs_gives_no_difference():
    values = np.linspace(0, 1, 40)
    same = np.arange(40) >= 30
    left = np.where(same, 0, np.arange(40) % 5)
    right = np.where(same, 0, left + 1)
    found = paired_differences(values, values**2, same, left, right, [0.1], resamples=20)[0]
    assert found.difference is None


def test_labels_that_contradict_the_persons_are_refused():
    values, same, left, right = sparse_list(np.random.default_rng(0), 20, 30)
    right[40] = left[40]
    with pytest.raises(UserError, match=r"1 pairs .* \(first: pair 40\)"):
        person_rates(values, same, left, right, [0.1])
    with pytest.raises(UserError, match="name both sides"):
        person_rates(values, same, left[:-1], right, [0.1])
