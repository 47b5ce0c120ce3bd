from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from itertools import groupby

import numpy as np
import pytest

from facekd.errors import UserError
from facekd.rates.counts import curve
from facekd.rates.deviations import tar_deviation
from facekd.rates.dyads import evidence
from facekd.rates.persons import ListOfPeople, paired_differences, person_rates
from facekd.rates.rates import rate_at, support_of


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


def weighted(values, same, left, right, far, times):
    """TAR and FAR at the threshold of `times` 1, by the definition: each person counts `times`, each couple the product
    of both, and n pairs of one person, or couple, as many as the working correlations say."""
    pairs, couples = Counter(left[same].tolist()), Counter(couple_of(left, right)[~same].tolist())
    weight = np.zeros(len(values))
    for k, (one, a, b) in enumerate(zip(same, left, right, strict=True)):
        n = pairs[a] if one else couples[int(min(a, b) * 1000 + max(a, b))]
        rho = 1 / 3 if one else 1 / 10
        weight[k] = 1 / (1 + rho * (n - 1))
    impostor = sorted(zip(-values[~same], weight[~same], strict=True))
    budget, spent, blocking = far * weight[~same].sum(), 0.0, -np.inf
    for score, group in groupby(impostor, key=lambda pair: pair[0]):
        spent += sum(w for _, w in group)
        if spent > budget * (1 + 1e-9):
            blocking = -score
            break
    moved = weight * np.where(same, times[left], times[left] * times[right])
    accepted = values > blocking
    return [float(moved[kind & accepted].sum() / moved[kind].sum()) for kind in (same, ~same)]


def couple_of(left, right):
    return np.minimum(left, right) * 1000 + np.maximum(left, right)


def uneven_list(seed):
    """All pairs of 20 people of 1 to 7 photos, with ties and two failures."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(20), rng.integers(1, 8, 20))
    vectors = photos_of(rng, 20, 7)[person, np.arange(len(person)) % 7]
    left, right = np.triu_indices(len(person), 1)
    values = np.round((vectors @ vectors.T)[left, right], 2)
    values[[3, 70]] = -math.inf
    return values, person[left] == person[right], person[left], person[right]


@pytest.mark.parametrize("seed", range(3))
def test_what_a_person_adds_is_how_the_rate_moves_with_its_weight(seed):
    values, same, left, right = uneven_list(seed)
    listed = ListOfPeople.of(values, same, left, right)
    blocking = listed.impostor.blocking(0.05)
    ones = np.ones(20)
    tar, far = weighted(values, same, left, right, 0.05, ones)
    assert listed.genuine.tar(blocking) == pytest.approx(tar)
    assert listed.impostor.far(blocking) == pytest.approx(far)
    tars, fars = listed.genuine.deviations(blocking), listed.dyads.by_person(listed.impostor.deviations(blocking))
    for person in range(20):
        step = 1e-6 * (np.arange(20) == person)
        up, down = (weighted(values, same, left, right, 0.05, ones + sign * step) for sign in (1, -1))
        assert tars[person] == pytest.approx((up[0] - down[0]) / 2e-6, abs=1e-8)
        assert fars[person] == pytest.approx((up[1] - down[1]) / 2e-6, abs=1e-8)


def test_the_variance_is_the_sum_over_pairs_that_share_a_person():
    """By its definition: products of the errors of any two pairs with a person in common."""
    values, same, left, right = uneven_list(4)
    listed = ListOfPeople.of(values, same, left, right)
    found = tar_deviation(listed.genuine, listed.impostor, 0.05)
    couples = np.array(listed.dyads.sides).T.tolist()
    parts = [({person}, error) for person, error in enumerate(found.genuine)]
    parts += [(set(couple), error) for couple, error in zip(couples, found.couples, strict=True)]
    slow = sum(a * b for one, a in parts for other, b in parts if one & other)
    assert found.covariance(found) == pytest.approx(slow)
    assert found.variance() >= slow - 1e-12


def test_equal_numbers_of_photos_weigh_alike():
    values, same, left, right = dense_list(np.random.default_rng(0), 20, 4)
    listed = ListOfPeople.of(values, same, left, right)
    for far in (0.2, 0.1, 0.03):
        assert tar_deviation(listed.genuine, listed.impostor, far).value == rate_at(curve(values, same), far).tar


def test_evidence_counts_people():
    """A list of one pair each is worth its pairs; 92 people of 20 photos are no evidence of FAR 1e-5."""
    assert evidence(np.array([0, 1, 2, 10**9]), 0.1) == pytest.approx([0, 1, 2 / 1.1, 10], rel=1e-6)
    values, same, left, right = sparse_list(np.random.default_rng(0), 4000, 200)
    assert person_rates(values, same, left, right, [0.1])[0].evidence == pytest.approx(200, abs=0.5)
    values, same, left, right = dense_list(np.random.default_rng(0), 92, 20)
    rates = person_rates(values, same, left, right, [1e-3, 1e-4, 1e-5])
    assert [support_of(rate) for rate in rates] == ["estimate", "bound", "none"]
    assert rates[2].tar is rates[2].threshold is rates[2].low is None


def test_a_perfect_model_is_surer_than_one_that_misses_a_photo():
    """60 people of 6 photos; the other model takes one photo for nobody."""
    rng = np.random.default_rng(3)
    person = np.repeat(np.arange(60), 6)
    vectors = np.eye(60, 128)[person] + 0.03 * rng.standard_normal((360, 128))
    left, right = np.triu_indices(360, 1)
    sides = person[left] == person[right], person[left], person[right]
    bounds = []
    for bad in ([], [7], [7, 8]):
        seen = vectors.copy()
        seen[bad] *= -1
        (rate,) = person_rates((seen @ seen.T)[left, right], *sides, [0.01])
        assert rate.tar == 1 - (0, 5, 8)[len(bad)] / 900
        bounds.append(rate.low)
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[1] > bounds[2] > 0.9


def test_the_order_of_the_pairs_and_the_sides_change_nothing():
    rng = np.random.default_rng(2)
    values, same, left, right = sparse_list(rng, 60, 200)
    values = np.round(values, 1)
    order, swap = rng.permutation(len(values)), rng.random(len(values)) < 0.5
    one = person_rates(values, same, left, right, [0.05, 0.1])
    left, right = np.where(swap, right, left), np.where(swap, left, right)
    other = person_rates(values[order], same[order], left[order], right[order], [0.05, 0.1])
    for mine, theirs in zip(one, other, strict=True):
        assert replace(mine, low=None, high=None) == replace(theirs, low=None, high=None)
        assert (mine.low, mine.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)  # sums in another order
    assert one[0].low < one[0].tar < one[0].high


def test_only_the_interval_differs_from_the_plain_rate():
    values, same, left, right = sparse_list(np.random.default_rng(4), 60, 200)
    fars = [0.1, 0.05, 1e-3]
    made = curve(values, same)
    for far, rate in zip(fars, person_rates(values, same, left, right, fars), strict=True):
        plain = rate_at(made, far)
        assert (rate.far_asked, rate.far, rate.tar, rate.threshold) == (far, plain.far, plain.tar, plain.threshold)
    assert rate.tar is rate.low is rate.high is None


def pareto_list(rng, n_persons, n_photos):
    """All pairs of people of whom a few have most of the photos: 2 to 40."""
    person = np.repeat(np.arange(n_persons), np.minimum(40, 2 + np.floor(rng.pareto(1.1, n_persons) * 2)).astype(int))
    vectors = photos_of(rng, n_persons, 40)[person, np.concatenate([np.arange(k) for k in np.bincount(person)])]
    left, right = np.triu_indices(len(person), 1)
    return (vectors @ vectors.T)[left, right], person[left] == person[right], person[left], person[right]


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [lambda rng: dense_list(rng, 50, 4), lambda rng: sparse_list(rng, 250, 300), lambda rng: pareto_list(rng, 60, 40)],
)
def test_the_interval_covers_and_the_naive_one_does_not(make):
    """The truth is that of many people; benchmarks/intervals.py does this at full size."""
    rng = np.random.default_rng(10**6)
    people = photos_of(rng, 30_000, 2)
    impostors = (people[:1500, 0] @ people[1500:3500, 0].T).ravel()
    truth = ((people[:, 0] * people[:, 1]).sum(-1) >= np.quantile(impostors, 0.95)).mean()
    covered, naive = [], []
    for seed in range(120):
        listed = make(np.random.default_rng(seed))
        plain, (rate,) = rate_at(curve(*listed[:2]), 0.05), person_rates(*listed, [0.05])
        naive.append(plain.low <= truth <= plain.high)
        covered.append(rate.low <= truth <= rate.high)
    assert 0.89 <= np.mean(covered) <= 0.995
    assert np.mean(naive) < 0.87


def test_a_model_against_itself():
    values, same, left, right = sparse_list(np.random.default_rng(0), 100, 300)
    found = paired_differences(values, values, same, left, right, [0.1, 1e-3])
    assert (found[0].difference, found[0].low, found[0].high, found[0].p_value) == (0.0, 0.0, 0.0, 1.0)
    assert found[1].difference is found[1].low is found[1].high is found[1].p_value is None


def test_a_better_model_is_told_from_a_worse_one():
    rng = np.random.default_rng(0)
    values, same, left, right = sparse_list(rng, 200, 600)
    worse = values + 0.15 * rng.normal(size=len(values))
    found = paired_differences(values, worse, same, left, right, [0.05])[0]
    assert 0 < found.low < found.difference < found.high < 1
    assert found.p_value < 0.01
    other = paired_differences(worse, values, same, left, right, [0.05])[0]
    assert (other.difference, other.low, other.high) == (-found.difference, -found.high, -found.low)
    assert other.p_value == found.p_value


def test_two_equally_good_models_are_rarely_told_apart():
    p_values = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        values, same, left, right = sparse_list(rng, 200, 300)
        a, b = (values + 0.1 * rng.normal(size=len(values)) for _ in range(2))
        p_values.append(paired_differences(a, b, same, left, right, [0.05])[0].p_value)
    assert np.mean(np.array(p_values) < 0.05) <= 0.13
    assert np.mean(np.array(p_values) < 0.5) == pytest.approx(0.5, abs=0.2)


def test_one_person_with_genuine_pairs_gives_no_difference():
    values = np.linspace(0, 1, 40)
    same = np.arange(40) >= 30
    left = np.where(same, 0, np.arange(40) % 5)
    right = np.where(same, 0, left + 1)
    found = paired_differences(values, values**2, same, left, right, [0.1])[0]
    assert found.difference is None


def test_labels_that_contradict_the_persons_are_refused():
    values, same, left, right = sparse_list(np.random.default_rng(0), 20, 30)
    right[40] = left[40]
    with pytest.raises(UserError, match=r"1 pairs .* \(first: pair 40\)"):
        person_rates(values, same, left, right, [0.1])
    with pytest.raises(UserError, match="name both sides"):
        person_rates(values, same, left[:-1], right, [0.1])
