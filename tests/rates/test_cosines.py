"""The cosines of listed pairs are the same by either way."""

from __future__ import annotations

import numpy as np
import pytest

from facekd.rates import cosines
from facekd.rates.cosines import pair_cosines


@pytest.mark.parametrize(("n", "pairs"), [(40, 900), (40, 60), (700, 90_000), (1300, 120_000)])
@pytest.mark.parametrize("many", [1, 10**9])
def test_each_pair_scores_its_two_rows(n: int, pairs: int, many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cosines, "MANY", many)
    rng = np.random.default_rng([n, pairs])
    vectors = rng.normal(size=(n, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    left, right = (rng.integers(-1, n, pairs).astype(np.int32) for _ in range(2))
    left[left % 3 == 1] = n - 1  # rows that no pair names, and one that many name
    right[0] = left[0] = 5
    found = pair_cosines(vectors, left, right)
    wide = vectors.astype(np.float64)
    expected = (wide[left] * wide[right]).sum(axis=1)
    expected[(left < 0) | (right < 0)] = -np.inf
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=3e-7)
    assert found.max() <= 1


def test_pairs_without_a_row_or_none_at_all() -> None:
    vectors = np.eye(3, dtype=np.float32)
    nobody = np.full(2, -1)
    assert np.array_equal(pair_cosines(vectors, nobody, nobody), [-np.inf, -np.inf])
    assert pair_cosines(vectors, nobody[:0], nobody[:0]).shape == (0,)
