"""Maps between two models' embeddings, on answers known by construction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekd.core.types import Array
from facekd.gallery.transfer import apply_map, fit_map


def unit(n: int, dim: int, seed: int) -> Array:
    vectors = np.random.default_rng(seed).normal(size=(n, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(2, 12), st.integers(0, 99))
def test_a_rotation_is_found_again(dim: int, seed: int) -> None:
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(dim, dim)))[0]
    old = unit(60, dim, seed)
    found = fit_map(old, (old @ rotation).astype(np.float32))
    np.testing.assert_allclose(found, rotation, atol=1e-4)
    np.testing.assert_allclose(apply_map(old, found), old @ rotation, atol=1e-4)


def test_between_equal_dimensions_scores_stay_whatever_is_learned() -> None:
    old, other = unit(50, 8, 0), unit(50, 8, 1)
    mapped = apply_map(old, fit_map(old, other))
    np.testing.assert_allclose(mapped @ mapped.T, old @ old.T, atol=1e-5)


def test_no_other_rotation_is_nearer() -> None:
    old, new = unit(40, 4, 0), unit(40, 4, 1)
    best = np.linalg.norm(old @ fit_map(old, new) - new)
    rng = np.random.default_rng(2)
    others = [np.linalg.qr(rng.normal(size=(4, 4)))[0] for _ in range(500)]
    assert best <= min(np.linalg.norm(old @ other - new) for other in others)


@pytest.mark.parametrize(("before", "after"), [(6, 10), (10, 6)])
def test_between_other_dimensions_it_is_least_squares(before: int, after: int) -> None:
    matrix = np.random.default_rng(0).normal(size=(before, after))
    old = unit(400, before, 1)
    new = old @ matrix
    found = fit_map(old, new.astype(np.float32), ridge=1e-9)
    np.testing.assert_allclose(found, np.linalg.lstsq(old.astype(float), new, rcond=None)[0], atol=1e-4)
    mapped = apply_map(old, found)
    np.testing.assert_allclose(np.linalg.norm(mapped, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(mapped, new / np.linalg.norm(new, axis=1, keepdims=True), atol=1e-4)
