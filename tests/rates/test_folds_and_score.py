from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekd.core.types import Embeddings, PairList, Scores
from facekd.errors import UserError
from facekd.rates.folds import accuracy
from facekd.rates.score import score, without_failures

INF = math.inf
VALUES = st.one_of(st.sampled_from([-INF, -0.5, 0.0, 0.25, 0.5, 1.0]), st.floats(-1, 1, width=32))


def listed(values, same, fold):
    names = tuple(str(i) for i in range(len(values)))
    return Scores(np.array(values, np.float32), np.array(same), names, names, np.array(fold, np.int16))


@st.composite
def folded_scores(draw):
    n = draw(st.integers(4, 40))
    same = draw(st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda s: 0 < sum(s) < len(s)))
    fold = draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    return listed(draw(st.lists(VALUES, min_size=n, max_size=n)), same, fold)


@given(folded_scores())
def test_folds_agree_with_their_twin(scores):
    made = accuracy(scores)
    if len(set(scores.fold.tolist())) == 1:
        assert made is None
        return
    twin = oracles.fold_accuracy(scores.values.tolist(), scores.same.tolist(), scores.fold.tolist())
    assert made.folds == tuple(right for right, _ in twin)
    assert made.thresholds == tuple(threshold for _, threshold in twin)
    assert made.mean == pytest.approx(np.mean([right for right, _ in twin]))


def test_a_fold_has_no_say_in_its_own_threshold():
    """Fold 0 would like 0.5; the other fold says 0.8, and so fold 0 gets one of its two pairs wrong."""
    made = accuracy(listed([0.5, 0.1, 0.8, 0.6], [True, False, True, False], [0, 0, 1, 1]))
    assert made.thresholds == (pytest.approx(0.8), pytest.approx(0.5))
    assert made.folds == (0.5, 0.5)
    assert (made.mean, made.std) == (0.5, 0.0)


def test_spread_is_the_sample_standard_deviation():
    # threshold 0.5 everywhere; two of three folds are right in both pairs, the third in one
    values = [0.5, 0.1, 0.5, 0.1, 0.5, 0.1, 0.5, 0.7]
    made = accuracy(listed(values, [True, False] * 4, [0, 0, 1, 1, 2, 2, 3, 3]))
    assert made.folds == (1.0, 1.0, 1.0, 0.5)
    assert made.std == pytest.approx(0.25)
    assert made.standard_error == pytest.approx(0.125)


def test_impostors_at_the_top_leave_nothing_worth_accepting():
    made = accuracy(listed([0.9, 0.1, 0.9, 0.1], [False, True, False, True], [0, 0, 1, 1]))
    assert made.thresholds == (None, None)
    assert made.folds == (0.5, 0.5)


def test_one_fold_is_no_protocol():
    assert accuracy(listed([0.9, 0.1], [True, False], [0, 0])) is None


def embeddings(n=6, dim=16, seed=0):
    vectors = np.random.default_rng(seed).normal(size=(n, dim))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(vectors.astype(np.float32), tuple("abcdefghij"[:n]), "model")


def pair_list(*pairs):
    left, right, same = zip(*pairs, strict=True)
    return PairList(left, right, np.array(same), np.zeros(len(same), np.int16))


def test_scores_are_cosines_in_list_order():
    made = embeddings()
    pairs = pair_list(("a", "b", True), ("f", "c", False), ("b", "a", True), ("d", "d", True))
    scores = score(made, pairs)
    rows = {name: made.vectors[i].astype(float) for i, name in enumerate(made.ids)}
    compared = zip(pairs.left, pairs.right, strict=True)
    expected = [sum(x * y for x, y in zip(rows[a], rows[b], strict=True)) for a, b in compared]
    np.testing.assert_allclose(scores.values, expected, atol=1e-6)
    assert scores.values[0] == scores.values[2]
    assert scores.values.max() <= 1
    assert (scores.left, scores.right) == (pairs.left, pairs.right)
    assert scores.same is pairs.same


def test_a_list_longer_than_one_block():
    made = embeddings(10)
    rng = np.random.default_rng(1)
    chosen = rng.integers(0, 10, (40_000, 2))
    names = np.array(made.ids)
    pairs = PairList(
        tuple(names[chosen[:, 0]].tolist()),
        tuple(names[chosen[:, 1]].tolist()),
        chosen[:, 0] == chosen[:, 1],
        np.zeros(40_000, np.int16),
    )
    gram = made.vectors.astype(float) @ made.vectors.T.astype(float)
    np.testing.assert_allclose(score(made, pairs).values, gram[chosen[:, 0], chosen[:, 1]], atol=1e-6)


def test_failures_score_minus_infinity_and_can_be_left_out():
    pairs = pair_list(("a", "x", True), ("a", "b", False), ("x", "y", False))
    scores = score(embeddings(), pairs, failed=frozenset({"x", "y"}))
    assert scores.values[0] == scores.values[2] == -INF
    assert np.isfinite(scores.values[1])
    kept = without_failures(scores)
    assert (kept.left, kept.right) == (("a",), ("b",))
    assert kept.values.tolist() == [scores.values[1]]
    assert (kept.same.tolist(), kept.fold.tolist()) == ([False], [0])


def test_ids_that_nobody_knows_are_refused():
    with pytest.raises(UserError, match=r"2 ids .* \(first: nobody\)"):
        score(embeddings(), pair_list(("a", "nobody", True), ("nobody", "b", False), ("c", "noone", False)))


def test_an_id_in_two_places_is_refused():
    with pytest.raises(UserError, match=r"1 ids are embedded and also listed as failed \(first: a\)"):
        score(embeddings(), pair_list(("a", "b", True)), failed=frozenset({"a"}))
    vectors = embeddings(3).vectors
    with pytest.raises(UserError, match=r"1 ids are embedded more than once \(first: q\)"):
        score(Embeddings(vectors, ("p", "q", "q"), "model"), pair_list(("p", "q", True)))
