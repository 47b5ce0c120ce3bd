"""Within and across groups: each cell of the matrix is that of looking at each pair; differences over all pairs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from facekd.rates.allpairs import measure_all_pairs
from facekd.rates.cross_groups import cells
from facekd.rates.persons import paired_differences


def crowd(n: int = 90, seed: int = 0):
    rng = np.random.default_rng(seed)
    persons = rng.integers(0, n // 5, n)
    vectors = rng.normal(size=(n // 5, 8))[persons] + 0.8 * rng.normal(size=(n, 8))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return vectors, persons, rng.integers(0, 3, n)  # a person's photos may lie in several groups, as with age


def test_each_cell_is_that_of_looking_at_each_pair(monkeypatch) -> None:
    from facekd.rates import cross_groups

    monkeypatch.setattr(cross_groups, "SIDE", 7)  # several tiles in each cell
    vectors, persons, groups = crowd()
    failed = np.array([0, 0, 3]), np.array([1, 1, 2])
    thresholds = np.array([0.2, 0.6], np.float32)
    everyone, where = np.concatenate([persons, failed[0]]), np.concatenate([groups, failed[1]])
    shape = (3, 3, int(everyone.max()) + 1)
    pairs, hits = np.zeros((2, *shape), int), np.zeros((2, 2, *shape), int)
    for i, j in itertools.combinations(range(len(everyone)), 2):
        a, b = sorted((where[i], where[j]))
        kind = int(everyone[i] != everyone[j])
        sides = {everyone[i]} if kind == 0 else {everyone[i], everyone[j]}
        for person in sides:
            pairs[kind, a, b, person] += 1
            if i < len(vectors) and j < len(vectors):
                hits[kind, :, a, b, person] += vectors[i] @ vectors[j] >= thresholds
    seen = list(cells(vectors, persons, groups, thresholds, failed=failed))
    assert [(cell.a, cell.b) for cell in seen] == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    for cell in seen:
        at = cell.a, cell.b
        np.testing.assert_array_equal(cell.genuine_pairs, pairs[0][at])
        np.testing.assert_array_equal(cell.impostor_pairs, pairs[1][at])
        np.testing.assert_array_equal(cell.accepted, hits[0][:, *at])
        np.testing.assert_array_equal(cell.false_accepts, hits[1][:, *at])


def test_all_cells_together_are_all_pairs() -> None:
    vectors, persons, groups = crowd(400, 1)
    _, persons = np.unique(persons, return_inverse=True)  # nobody without a photo
    whole = measure_all_pairs(vectors, persons, [0.05], fixed=[0.35])
    seen = list(cells(vectors, persons, groups, np.array([0.35], np.float32)))
    np.testing.assert_array_equal(sum(cell.genuine_pairs for cell in seen), whole.people.genuine.pairs)
    (rate,) = whole.fixed
    assert sum(cell.impostor_pairs for cell in seen).sum() == 2 * rate.n_impostor
    assert rate.far == sum(cell.false_accepts[0] for cell in seen).sum() / 2 / rate.n_impostor
    assert rate.tar == sum(cell.accepted[0] for cell in seen).sum() / rate.n_genuine


def test_a_threshold_between_two_float32_numbers_accepts_no_less() -> None:
    vectors = np.eye(4, dtype=np.float32)
    vectors[1] = [0.6, 0.8, 0, 0]
    persons = np.array([0, 0, 1, 2])
    score = float(np.float32(vectors[0] @ vectors[1]))
    above = score + 1e-9  # no float32 number lies between
    at, over = measure_all_pairs(vectors, persons, [0.5], fixed=[score, above]).fixed
    assert (at.tar, over.tar) == (1.0, 0.0)


def test_the_difference_of_two_networks_over_all_pairs() -> None:
    """The same as of the list; and of a network with itself none."""
    vectors, persons, _ = crowd(600, 2)
    worse = vectors + 0.25 * np.random.default_rng(3).normal(size=vectors.shape).astype(np.float32)
    worse /= np.linalg.norm(worse, axis=1, keepdims=True)
    a, b = (measure_all_pairs(of, persons, [0.05]) for of in (vectors, worse))
    found = a.people.difference(a.rates[0], b.people, b.rates[0])
    left, right = np.triu_indices(len(vectors), 1)
    scores = [(of @ of.T)[left, right] for of in (vectors, worse)]
    sides = persons[left], persons[right]
    (wanted,) = paired_differences(*scores, sides[0] == sides[1], *sides, [0.05])
    for name in ("difference", "low", "high", "p_value"):
        assert getattr(found, name) == pytest.approx(getattr(wanted, name), rel=1e-4), name
    assert found.low < found.difference < found.high
    assert found.p_value < 0.01
    same = a.people.difference(a.rates[0], a.people, a.rates[0])
    assert (same.difference, same.low, same.high, same.p_value) == (0.0, 0.0, 0.0, 1.0)
    (nothing,) = measure_all_pairs(vectors, persons, [1e-9]).rates
    assert a.people.difference(nothing, b.people, nothing).difference is None


@pytest.mark.parametrize(("n", "spread"), [(700, 0.9), (700, 4.0), (1500, 0.5), (2600, 2.0)])
def test_auc_eer_and_histogram_count_each_score(n: int, spread: float) -> None:
    """Strong and useless networks: also where genuine scores lie among all impostor scores."""
    from facekd.rates.counts import curve
    from facekd.rates.rates import auc, eer

    rng = np.random.default_rng(n)
    persons = rng.integers(0, n // 6, n)
    vectors = rng.normal(size=(n // 6, 32))[persons] + spread * rng.normal(size=(n, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    vectors[: n // 10] = vectors[n // 10 : 2 * (n // 10)]  # ties of genuine and impostor scores
    left, right = np.triu_indices(n, 1)
    values = (vectors @ vectors.copy().T)[left, right]
    same = persons[left] == persons[right]
    made = curve(values, same)
    found = measure_all_pairs(vectors, persons, [0.01])
    assert found.auc == auc(made)
    assert found.eer == eer(made)
    shown = found.histogram
    assert shown is not None
    assert (shown.genuine.sum(), shown.impostor.sum(), shown.missing) == (same.sum(), (~same).sum(), 0)
    assert shown.edges[0] <= values.min() + 1e-4
    assert values.max() <= shown.edges[-1] + 1e-4
    for k in range(0, 60, 7):  # the edges are those of bins; a score at one may be rounded into its neighbor
        inside = (values >= shown.edges[k]) & (values < shown.edges[k + 1])
        near = np.minimum(np.abs(values - shown.edges[k]), np.abs(values - shown.edges[k + 1])) < 1e-6
        assert abs(int((inside & ~same).sum()) - shown.impostor[k]) <= int(near.sum())
