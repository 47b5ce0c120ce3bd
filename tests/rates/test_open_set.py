"""One search through many people: tails, thresholds for an FPIR, and intervals, against slow definitions and truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from facekd.rates import open_set
from facekd.rates.open_set import Fit, Tail, far_for, fit_tail, fpir_at, fpir_interval, highest_scores

POINTS = {1e-2: 0.25, 1e-3: 0.34, 1e-4: 0.41, 1e-6: 0.52}


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_tail_goes_through_its_points_and_on() -> None:
    tail = Tail.of(POINTS)
    assert tail is not None
    for far, cosine in POINTS.items():
        assert float(tail.cosine(far)) == pytest.approx(cosine)
        assert tail.far(cosine) == pytest.approx(far)
    z = [math.sqrt(-2 * math.log(far)) for far in (1e-2, 1e-6, 1e-8)]
    assert float(tail.cosine(1e-8)) == pytest.approx(0.52 + 0.27 / (z[1] - z[0]) * (z[2] - z[1]))
    assert Tail.of(tail.points()).cosine(3e-5) == pytest.approx(float(tail.cosine(3e-5)), abs=2e-3)
    assert Tail.of({1e-3: 0.3}) is None
    assert Tail.of({1e-2: 0.3, 1e-3: 0.3}) is None
    assert Tail.of({}) is None


@settings(deadline=None, max_examples=60)
@given(st.floats(1e-12, 0.9), st.floats(-0.2, 0.2), st.integers(1, 10**6), st.floats(1e-4, 0.5))
def test_what_is_asked_for_comes_back(far: float, by: float, people: int, fpir: float) -> None:
    tail = Tail.of(POINTS).moved(by)
    assert tail.far(float(tail.cosine(far))) == pytest.approx(far, rel=1e-6)
    assert fpir_at(tail, float(tail.cosine(far_for(fpir, people))), people) == pytest.approx(fpir, rel=1e-6)
    # (1 - FAR) ** N, by the slow definition where it is exact enough.
    if far_for(fpir, people) > 1e-7:
        assert 1 - (1 - far_for(fpir, people)) ** people == pytest.approx(fpir, rel=1e-4)


def test_more_people_and_fewer_strangers_named_ask_for_more() -> None:
    tail = Tail.of(POINTS)
    thresholds = [float(tail.cosine(far_for(0.01, people))) for people in (1, 10, 1000, 10**6)]
    assert thresholds == sorted(thresholds)
    assert float(tail.cosine(far_for(0.001, 100))) > float(tail.cosine(far_for(0.01, 100)))


@pytest.mark.parametrize(("rows", "people"), [(5, 5), (300, 40), (2500, 70)])
def test_the_highest_scores_are_those_of_all(rows: int, people: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_set, "HIGHEST", 500)
    monkeypatch.setattr(open_set, "SCORES", 640)
    probes, templates = unit(rows, 8, 1), unit(people, 8, 2)
    owners = np.arange(rows) % people
    found = highest_scores(probes, owners, templates)
    slow = sorted(
        ((float(probes[i] @ templates[j]), i, j) for i in range(rows) for j in range(people) if owners[i] != j),
        key=lambda one: -one[0],
    )
    assert found.comparisons == len(slow) == rows * (people - 1)
    assert len(found.scores) == min(500, len(slow))
    assert np.allclose(found.scores, [score for score, _, _ in slow[:500]], atol=1e-6)
    assert all(
        probes[i] @ templates[j] == pytest.approx(score, abs=1e-6) and owners[i] != j
        for score, i, j in zip(found.scores, found.probes, found.templates, strict=True)
    )


def test_scores_are_centered_on_each_search_and_its_cohort() -> None:
    probes, templates = unit(300, 8, 1), unit(40, 8, 2)
    owners = np.arange(300) % 40
    found = highest_scores(probes, owners, templates, centered=True)
    slow, levels = [], []
    for probe, owner in zip(probes, owners, strict=True):
        scores = {j: float(probe @ templates[j]) for j in range(40) if j != owner}
        levels.append(sum(sorted(scores.values(), reverse=True)[1:11]) / 10)
        slow += [score - 0.5 * levels[-1] for score in scores.values()]
    assert np.allclose(found.levels, levels, atol=1e-6)
    assert np.allclose(found.scores, sorted(slow, reverse=True)[: len(found.scores)], atol=1e-6)
    assert found.comparisons == len(slow)
    assert len(highest_scores(probes, owners, templates).levels) == 0


def fitted(people: int, known: Tail | None, dim: int = 64, seed: int = 0) -> Fit | None:
    templates, own = unit(people, dim, seed), np.arange(people)
    return fit_tail(highest_scores(templates, own, templates), own, known, people, near=True)


@pytest.mark.parametrize("people", [100, 400, 1500])
def test_the_promise_is_kept_on_directions_without_people(people: int) -> None:
    """Random directions: the cosine's law is known, so the FPIR at the fitted threshold is, too."""
    dim = 64
    law = stats.beta((dim - 1) / 2, (dim - 1) / 2, -1, 2)  # of the cosine of two random directions
    known = Tail.of({far: float(law.isf(far)) + 0.07 for far in (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)})  # measured elsewhere
    truths, intervals = [], []
    for seed in range(12):
        fit = fitted(people, known, dim, seed)
        assert fit is not None
        threshold = float(fit.tail.cosine(far_for(0.01, people)))
        truths.append(1 - (1 - law.sf(threshold)) ** people)
        intervals.append(fpir_interval(fit, threshold, people))
    assert 0.008 < np.mean(truths) < 0.0125
    assert sum(low <= truth <= high for truth, (low, high) in zip(truths, intervals, strict=True)) >= 10
    assert all(low <= 0.01 <= high for low, high in intervals)


def test_a_network_of_which_nothing_is_known() -> None:
    assert fitted(100, None) is None  # its tail can't be drawn from so few
    law, truths = stats.beta(31.5, 31.5, -1, 2), []
    for seed in range(12):
        fit = fitted(500, None, seed=seed)
        assert fit is not None
        truths.append(1 - (1 - law.sf(float(fit.tail.cosine(far_for(0.01, 500))))) ** 500)
    assert 0.006 < np.mean(truths) < 0.013
    assert max(truths) < 0.016


def test_a_few_mix_ups_do_not_move_the_tail() -> None:
    known = Tail.of({far: float(stats.beta(31.5, 31.5, -1, 2).isf(far)) for far in (1e-2, 1e-4, 1e-6)})
    vectors, own = unit(800, 64, 3), np.arange(800)
    clean = [fit_tail(highest_scores(vectors, own, vectors), own, known, 800, near) for near in (False, True)]
    vectors[:40] = vectors[40:80] + 0.01  # forty people under two ids
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    mixed = [fit_tail(highest_scores(vectors, own, vectors), own, known, 800, near) for near in (False, True)]
    for before, after in zip(clean, mixed, strict=True):
        assert before is not None
        assert after is not None
        assert abs(float(after.tail.cosine(1e-5)) - float(before.tail.cosine(1e-5))) < 0.01


def test_the_same_scores_give_the_same_fit() -> None:
    known = Tail.of(POINTS)
    assert fitted(120, known).sd == fitted(120, known).sd > 0
