"""The partition of faces: its properties, known answers, and the evidence against the densities it comes from."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from facekd.core.types import Array
from facekd.enrollment.clusters import (
    BETWEEN,
    Merging,
    Survey,
    cluster_faces,
    distinct,
    evidence,
    levels_of,
    numbered,
    own_scores,
    threshold_by_chance,
)
from facekd.rates.clusters import cluster_rates

KNOWN = {1e-2: 0.24, 1e-3: 0.34, 1e-4: 0.43, 1e-5: 0.5}


def faces(seed: int, photos: list[int], dim: int = 96, noise: float = 0.6) -> tuple[Array, Array]:
    """float32[N, D] of unit norm: people in random directions, `photos` of each; and who is in each."""
    rng = np.random.default_rng(seed)
    who = np.repeat(np.arange(len(photos)), photos)
    centers = rng.normal(size=(len(photos), dim)) / np.sqrt(dim)
    vectors = centers[who] + noise * rng.normal(size=(len(who), dim)) / np.sqrt(dim)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), who


def parts(clusters: Array) -> set[frozenset[int]]:
    return {frozenset(np.flatnonzero(clusters == one).tolist()) for one in np.unique(clusters)}


def log_factor(vectors: Array, groups: list[list[int]], between: float) -> float:
    """By the densities: the log ratio that the faces of all groups are one person, a dimension at a time.

    Faces of one person are normal with variance 1 and covariance `between`; each dimension has variance 1 / D.
    """

    def density(rows: list[int]) -> float:
        count, dim = len(rows), vectors.shape[1]
        cov = (1 - between) * np.eye(count) + between * np.ones((count, count))
        normal = multivariate_normal(np.zeros(count), cov)
        return float(np.sum(normal.logpdf(vectors[rows].T * np.sqrt(dim))))

    return (density([row for group in groups for row in group]) - sum(map(density, groups))) / vectors.shape[1]


@given(st.floats(-1, 1), st.floats(0.05, 0.8))
def test_the_evidence_of_a_pair_is_that_of_the_densities(score: float, between: float) -> None:
    pair = np.array([[1, 0], [score, np.sqrt(1 - score * score)]])
    assert evidence(score, between) == pytest.approx(log_factor(pair, [[0], [1]], between), abs=1e-9)


def test_the_evidence_of_groups_is_that_of_the_densities() -> None:
    vectors, _ = faces(1, [3, 2, 4])
    merging = Merging(vectors, np.ones(9, np.int64), 0.4, survey_of(vectors), BETWEEN)
    for rows in ([0, 1], [0, 2], [3, 4], [5, 6], [5, 7], [5, 8]):  # merged as `Merging` does it
        kept, joined = (np.array([row]) for row in rows)
        merging._sums[kept] += merging._sums[joined]
        merging._sizes[kept] += merging._sizes[joined]
        merging._squares[kept] = (merging._sums[kept].astype(float) ** 2).sum(axis=1)
    groups = {0: [0, 1, 2], 3: [3, 4], 5: [5, 6, 7, 8]}
    found = {
        int(row): scores[n] for rows, scores in merging._against(np.array([0, 3, 5])) for n, row in enumerate(rows)
    }
    for one, other in itertools.permutations(groups, 2):
        expected = log_factor(vectors, [groups[one], groups[other]], BETWEEN * 0.4)
        assert found[one][other] == pytest.approx(expected, abs=1e-5)


def survey_of(vectors: Array, levels: Array | None = None) -> Survey:
    survey = Survey(vectors, np.zeros(0) if levels is None else levels)
    for _ in survey:
        pass
    return survey


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_the_survey_is_exact(block: int) -> None:
    vectors, _ = faces(2, [2, 3, 1, 1, 4])
    levels = np.linspace(0.0, 0.9, 7)
    survey = Survey(vectors, levels)
    survey.block = block
    assert len(list(survey)) == -(-11 // block)
    scores = (vectors.astype(float) @ vectors.T).astype(np.float32)
    np.fill_diagonal(scores, -np.inf)
    assert survey.nearest.tolist() == scores.argmax(axis=1).tolist()
    np.testing.assert_allclose(survey.scores, scores.max(axis=1), atol=1e-6)
    upper = scores[np.triu_indices(11, 1)]
    assert survey.above.tolist() == [int((upper >= level).sum()) for level in levels]


def test_people_are_found() -> None:
    vectors, who = faces(3, [1] * 30 + [2] * 10 + [5] * 10 + [40, 90])
    found = cluster_faces(vectors, KNOWN)
    assert parts(found.clusters) == parts(who)
    assert found.clusters[who == 51].tolist() == [1] * 90  # the largest is the first
    assert found.clusters[0] == found.clusters.max() - 29  # of those alone the first comes first
    assert np.isnan(found.scores).sum() == 30


@pytest.mark.parametrize("noise", [0.6, 1.2])
def test_the_order_of_the_faces_does_not_matter(noise: float) -> None:
    vectors, _ = faces(4, [1, 2, 3, 4, 5, 6, 20, 30], noise=noise)
    found = cluster_faces(vectors, KNOWN)
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(len(vectors))
        other = cluster_faces(vectors[order], KNOWN)
        assert other.threshold == found.threshold
        back = np.empty(len(order), np.int64)
        back[order] = other.clusters
        assert parts(back) == parts(found.clusters)


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.floats(0.01, 1))
def test_identical_faces_land_together(rows: list[int], threshold: float) -> None:
    vectors = faces(5, [1] * 10, dim=8)[0][rows]
    clusters = cluster_faces(vectors, {}, threshold).clusters
    for one, other in itertools.combinations(range(len(rows)), 2):
        assert rows[one] != rows[other] or clusters[one] == clusters[other]


@pytest.mark.parametrize(("score", "together"), [(0.401, True), (0.399, False)])
def test_two_faces_that_are_alone_are_one_from_the_threshold_on(score: float, together: bool) -> None:
    vectors = np.array([[1, 0, 0], [score, np.sqrt(1 - score**2), 0], [0, 0, 1]], np.float32)
    clusters = cluster_faces(vectors, {}, 0.4).clusters
    assert bool(clusters[0] == clusters[1]) is together
    assert clusters[2] not in clusters[:2]


def test_one_strong_score_does_not_chain_two_people_and_many_weak_ones_hold_a_photo() -> None:
    """What Chinese whispers and DBSCAN get wrong: a bridge between two groups, and a poor photo of a large one."""
    dim, many = 64, 8
    axes = np.eye(dim)
    first = [np.sqrt(0.45) * axes[0] + np.sqrt(0.55) * axes[2 + n] for n in range(many)]
    second = [np.sqrt(0.45) * axes[1] + np.sqrt(0.55) * axes[20 + n] for n in range(many)]
    bridge = (
        np.sqrt(0.7) * axes[1] + 0.0 * axes[0] + np.sqrt(0.3) * axes[2]
    )  # of the second, much like one of the first
    weak = 0.38 * np.sqrt(1 / 0.45) * axes[0]  # 0.38 with each of the first: under the threshold
    weak += np.sqrt(1 - weak @ weak) * axes[50]
    vectors = np.array([*first, *second, bridge, weak], np.float32)
    clusters = cluster_faces(vectors, {}, 0.4).clusters
    assert len(set(clusters[:many])) == len(set(clusters[many : 2 * many + 1])) == 1
    assert clusters[0] != clusters[many]
    assert clusters[-1] == clusters[0]
    alone = cluster_faces(vectors[[0, len(vectors) - 1]], {}, 0.4).clusters
    assert alone[0] != alone[1]


def test_two_faces_and_one() -> None:
    vectors, _ = faces(6, [2])
    assert cluster_faces(vectors, KNOWN).clusters.tolist() == [1, 1]
    assert cluster_faces(vectors[:1], {}, 0.4).clusters.tolist() == [1]
    assert cluster_faces(np.repeat(vectors[:1], 5, axis=0), KNOWN).clusters.tolist() == [1] * 5


def test_more_strangers_make_the_threshold_stricter() -> None:
    few, _ = faces(7, [5] * 20, noise=0.9)
    many = np.concatenate([few, faces(8, [1] * 800)[0]])
    assert KNOWN[1e-3] <= cluster_faces(few, KNOWN).threshold < cluster_faces(many, KNOWN).threshold <= KNOWN[1e-5]


def test_the_threshold_is_where_the_promised_share_is_of_chance() -> None:
    levels = levels_of(KNOWN)
    assert (levels[0], levels[-1]) == (KNOWN[1e-3], KNOWN[1e-5])
    observed = np.full(len(levels), 1000)
    found = threshold_by_chance(KNOWN, levels, observed, 2001, 0.1)
    # 2,001,000 pairs at FAR 5e-5 make 100 strangers, a tenth of the 1000 seen; log FAR is a line between 1e-4 and 1e-5.
    exact = np.interp(np.log10(1e3 * 0.1 / 2_001_000), [-5, -4], [0.5, 0.43])
    assert exact <= found < exact + (levels[1] - levels[0]) + 1e-9
    assert threshold_by_chance(KNOWN, levels, np.zeros(len(levels), int), 2001, 0.1) == KNOWN[1e-5]
    assert levels_of({1e-2: 0.3}).tolist() == [0.3]


def test_a_person_of_many_photos_takes_no_long_time() -> None:
    vectors, who = faces(9, [600] + [1] * 300, noise=0.9)
    found = cluster_faces(vectors, KNOWN)
    rates = cluster_rates(found.clusters, who)
    assert rates.pairwise.f is not None
    assert rates.pairwise.f > 0.99


def test_each_vector_once_and_zero_has_no_sign() -> None:
    rows, counts, of = distinct(np.array([[0, 1], [1, 0], [-0.0, 1], [1, 0]], np.float32))
    assert counts.tolist() == [2, 2]
    assert np.array_equal(rows[of], np.array([[0, 1], [1, 0], [0, 1], [1, 0]], np.float32))


def test_numbers_go_by_size_and_then_by_the_first_face() -> None:
    assert numbered(np.array([7, 7, 3, 9, 9, 9, 1])).tolist() == [2, 2, 3, 1, 1, 1, 4]


def test_a_score_leaves_its_own_face_out() -> None:
    vectors = np.array([[1, 0], [0.6, 0.8], [0.6, 0.8], [0, 1]], np.float32)
    scores, means = own_scores(vectors, np.array([1, 1, 1, 2]))
    center = np.array([1.6, 0.8]) / np.hypot(1.6, 0.8)
    np.testing.assert_allclose(scores, [0.6, center @ [0.6, 0.8], center @ [0.6, 0.8], np.nan], rtol=1e-6)
    np.testing.assert_allclose(means, [0.6, 0.8, 0.8, np.nan], rtol=1e-6)
