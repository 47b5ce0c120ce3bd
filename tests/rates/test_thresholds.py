"""The interval of a threshold: by hand, and how often it holds the truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from facekd.core.types import Rate
from facekd.rates.counts import curve
from facekd.rates.dyads import evidence
from facekd.rates.intervals import t95, wilson
from facekd.rates.rates import rate_at
from facekd.rates.thresholds import far_interval, far_interval_by_person, threshold_interval


def test_by_hand():
    values = np.append(np.arange(1000) / 1000, 2.0)  # impostors 0.000 … 0.999 and a genuine pair
    same = values == 2.0
    rate = rate_at(curve(values, same), 0.05)
    assert rate.threshold == 0.95
    low, high = wilson(50, 1000)
    ends = threshold_interval(values, same, rate)
    assert ends == (pytest.approx(1 - np.ceil(high * 1000) / 1000), pytest.approx(1 - np.ceil(low * 1000) / 1000))
    assert ends[0] < 0.95 < ends[1]


def test_no_threshold_no_interval():
    values, same = np.array([0.1, 0.9]), np.array([False, True])
    assert threshold_interval(values, same, Rate(0.1, 0.0, None, None, 1, 1, None, None)) == (None, None)


def test_an_end_without_a_score_is_none():
    values = np.concatenate([np.full(40, -np.inf), [0.3, 0.2, 0.1], [0.9]])
    rate = rate_at(curve(values, np.arange(44) == 43), 0.07)
    low, high = threshold_interval(values, np.arange(44) == 43, rate)
    assert low is None
    assert high == pytest.approx(0.2)  # three of 43, at least 1.03 of them: the second score


def test_independent_pairs_are_covered():
    truth, hits, rounds = stats.norm.isf(0.05), 0, 400
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        values = np.concatenate([rng.normal(size=800), [9.0]])
        same = np.arange(801) == 800
        low, high = threshold_interval(values, same, rate_at(curve(values, same), 0.05))
        hits += low <= truth <= high
    assert 0.92 <= hits / rounds <= 0.98


def test_pairs_that_share_people_need_the_people():
    """Scores a person's own share in: taken as independent the interval is far too short, by people it holds."""
    people, truth, rounds = 60, stats.norm.isf(0.05, scale=np.sqrt(3)), 200
    left, right = np.triu_indices(people, 1)
    left, right = np.append(left, 0), np.append(right, 0)
    hits = {"people": 0, "pairs": 0}
    for seed in range(rounds):
        rng = np.random.default_rng(seed)
        own = rng.normal(size=people)
        values = own[left] + own[right] + rng.normal(size=len(left))
        values[-1] = 99.0
        same = left == right
        rate = rate_at(curve(values, same), 0.05)
        for kind, persons in (("people", (left, right)), ("pairs", None)):
            low, high = threshold_interval(values, same, rate, persons)
            hits[kind] += low <= truth <= high
    assert hits["people"] / rounds > 0.88  # sixty people: close to, not at, 95 %
    assert hits["pairs"] / rounds < 0.5


@pytest.mark.parametrize("photos", [1, 3])
def test_counts_of_each_person_give_the_interval_that_the_pairs_give(photos: int):
    rng = np.random.default_rng(photos)
    person = np.repeat(np.arange(40), photos)
    left, right = np.triu_indices(len(person), 1)
    left, right = person[left], person[right]
    left, right = left[left != right], right[left != right]
    own = rng.normal(size=40)
    accepted = own[left] + own[right] + rng.normal(size=len(left)) > 2
    table = np.zeros((2, 40, 40))
    np.add.at(table, (0, left, right), accepted)
    np.add.at(table, (1, left, right), 1)
    table += table.transpose(0, 2, 1)
    hits, pairs = table.sum(axis=2)
    couples = (np.triu(table[0] - accepted.mean() * table[1]) ** 2).sum()
    wanted = far_interval(accepted, (left, right))
    worth = float(evidence(np.triu(table[1]), 0.1).sum())
    assert far_interval_by_person(hits, pairs, couples, worth) == pytest.approx(wanted, rel=1e-9)
    if photos == 1:
        assert far_interval_by_person(hits, pairs) == pytest.approx(wanted, rel=1e-9)


def test_without_an_accepted_pair_the_interval_is_that_of_independent_pairs():
    assert far_interval_by_person(np.zeros(30), np.full(30, 29.0)) == pytest.approx(wilson(0, 435, t95(30)))
    left, right = np.triu_indices(30, 1)
    assert far_interval(np.zeros(435, bool), (left, right)) == pytest.approx(wilson(0, 435, t95(30)))
