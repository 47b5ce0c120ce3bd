"""The intervals of EER, AUC and accuracy: they cover the truth, and agree with leaving one person out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from facekd.core.types import Array, Scores
from facekd.rates.counts import curve
from facekd.rates.folds import accuracy
from facekd.rates.overall import accuracy_interval, auc_deviation, auc_interval, eer_interval
from facekd.rates.persons import ListOfPeople
from facekd.rates.rates import auc, eer

Pairs = tuple[Array, Array, Array, Array]


def world(seed: int, people: int, photos: int = 4) -> Pairs:
    """Scores, labels and persons of all pairs of noisy photos of random people."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), photos)
    vectors = rng.normal(size=(people, 12))[person] + 1.6 * rng.normal(size=(len(person), 12))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    left, right = np.triu_indices(len(person), 1)
    return (vectors @ vectors.T)[left, right], person[left] == person[right], person[left], person[right]


def test_the_spread_is_that_of_leaving_one_person_out() -> None:
    values, same, left, right = world(0, 60)
    counts = curve(values, same)

    def without(k: int) -> tuple[float, float]:
        kept = (left != k) & (right != k)
        made = curve(values[kept], same[kept])
        return auc(made), eer(made)

    areas, errors = np.array([without(k) for k in range(60)]).T
    people = ListOfPeople.of(values, same, left, right)
    for low, high, found in (
        (*auc_interval(values, same, people, auc(counts)), areas),
        (*eer_interval(values, same, people, eer(counts)), errors),
    ):
        spread = np.sqrt(59 / 60 * ((found - found.mean()) ** 2).sum())  # the jackknife's
        assert high - low == pytest.approx(2 * 1.96 * spread, rel=0.15)


def test_an_auc_of_independent_pairs_has_the_textbook_spread() -> None:
    rng = np.random.default_rng(1)
    same = np.arange(2000) < 1000
    values = rng.normal(same * 1.0, 1.0)
    area = auc(curve(values, same))
    low, high = auc_interval(values, same, None, area)
    # Hanley and McNeil, Radiology 143, 1982
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    variance = (area * (1 - area) + 999 * (one - area**2) + 999 * (two - area**2)) / 1000**2
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.1)
    assert low < area < high


@pytest.mark.parametrize("seed", range(20))
def test_the_weighted_auc_counts_every_couple_of_pairs(seed: int) -> None:
    """With pairs without a score, with ties, and with scores that are always accepted."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(8), rng.integers(1, 6, 8))
    left, right = (person[side] for side in np.triu_indices(len(person), 1))
    same = left == right
    values = np.round(rng.normal(same * 1.0, 1.0), 1)
    values[rng.random(len(values)) < 0.2] = -np.inf
    values[rng.random(len(values)) < 0.1] = np.inf
    people = ListOfPeople.of(values, same, left, right)
    found = auc_deviation(people.genuine, people.impostor)

    genuine, impostor = values[same][:, None], values[~same][None]
    won = (genuine > impostor) + 0.5 * (genuine == impostor)
    weight = np.outer(people.genuine.weight[left[same]], people.dyads.couple_weight[people.dyads.couple])
    assert found.value == pytest.approx((won * weight).sum() / weight.sum())
    assert (found.genuine.sum(), found.couples.sum()) == pytest.approx((0, 0), abs=1e-12)


@pytest.mark.parametrize("persons", [True, False])
def test_without_an_error_the_interval_still_says_how_few_there_are(persons: bool) -> None:
    same = np.arange(40) < 20
    values = np.where(same, 0.9, 0.1)
    sides = (np.arange(40) // 2, np.where(same, np.arange(40) // 2, 100 + np.arange(40))) if persons else None
    counts = curve(values, same)
    people = None if sides is None else ListOfPeople.of(values, same, *sides)
    low, high = auc_interval(values, same, people, auc(counts))
    assert (low < 0.9, high) == (True, 1.0)
    low, high = eer_interval(values, same, people, eer(counts))
    assert (low, high > 0.1) == (0.0, True)


def test_few_genuine_pairs_without_a_miss_leave_the_eer_open() -> None:
    """40 pairs of which none is missed: the rule of three allows 8 %, though two of 1,560 impostors score higher."""
    rng = np.random.default_rng(0)
    same = np.arange(1600) < 40
    values = np.where(same, rng.uniform(0.7, 0.9, 1600), rng.uniform(0.0, 0.69, 1600))
    values[[100, 200]] = 0.8
    error = eer(curve(values, same))
    assert error < 0.002
    low, high = eer_interval(values, same, None, error)
    assert low <= error
    assert high > 0.08


def test_an_accuracy_of_independent_pairs_is_a_share() -> None:
    rng = np.random.default_rng(2)
    same = np.arange(3000) % 2 == 0
    values = rng.normal(same * 2.0, 1.0)
    names = ("x",) * 3000
    scores = Scores(values, same, names, names, (np.arange(3000) // 300).astype(np.int16))
    found = accuracy(scores)
    assert found is not None
    low, high = accuracy_interval(scores, None, found)
    assert low < found.mean < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(found.mean * (1 - found.mean) / 3000), rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("sparse", [False, True])
def test_they_cover_the_truth(sparse: bool) -> None:
    large = [curve(*world(10**6 + k, 400)[:2]) for k in range(3)]
    truth = np.mean([auc(one) for one in large]), np.mean([eer(one) for one in large])
    inside, lists = np.zeros(2), 300
    for seed in range(lists):
        values, same, left, right = world(seed, 200 if sparse else 60)
        if sparse:
            rng = np.random.default_rng(seed)
            kept = np.concatenate([rng.choice(np.flatnonzero(of), 300, replace=False) for of in (same, ~same)])
            values, same, left, right = values[kept], same[kept], left[kept], right[kept]
        counts = curve(values, same)
        people = ListOfPeople.of(values, same, left, right)
        ends = (
            auc_interval(values, same, people, auc(counts)),
            eer_interval(values, same, people, eer(counts)),
        )
        inside += [low <= true <= high for (low, high), true in zip(ends, truth, strict=True)]
    assert ((inside / lists > 0.92) & (inside / lists < 0.98)).all(), inside / lists


@pytest.mark.parametrize("people", [60, 200])
def test_they_cover_the_truth_of_a_good_system(people: int) -> None:
    """Near AUC 1 a pair adds far less than an error to it: an interval made for hits and misses ends too low."""
    rng = np.random.default_rng(0)
    mean, between, within = 3.2, 0.6, 0.8  # genuine scores; those of impostor pairs are standard normal
    spread = np.hypot(between, within)
    truth = norm.cdf(mean / np.hypot(1, spread)), norm.sf(mean / (1 + spread))
    one, other = np.triu_indices(people, 1)
    who = np.repeat(np.arange(people), 5)
    same = np.arange(len(who) + len(one)) < len(who)
    left, right = np.concatenate([who, one]), np.concatenate([who, other])
    inside, lists = np.zeros(2), 100
    for _ in range(lists):
        genuine = mean + between * rng.standard_normal(people)[who] + within * rng.standard_normal(len(who))
        values = np.concatenate([genuine, rng.standard_normal(len(one))])
        counts, of = curve(values, same), ListOfPeople.of(values, same, left, right)
        ends = auc_interval(values, same, of, auc(counts)), eer_interval(values, same, of, eer(counts))
        inside += [low <= true <= high for (low, high), true in zip(ends, truth, strict=True)]
    assert (inside >= 90).all(), inside
