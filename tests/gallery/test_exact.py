"""Exact search in memory is sorting, whatever the blocks, and follows what is written."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekd.gallery import exact
from facekd.gallery.exact import Templates, nearest


@given(
    n=st.integers(0, 60),
    asked=st.integers(1, 5),
    k=st.integers(1, 70),
    block=st.integers(1, 64),
    seed=st.integers(0, 99),
)
def test_nearest_is_what_sorting_finds(n: int, asked: int, k: int, block: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    templates = rng.integers(-3, 4, (n, 4)).astype(np.float32)  # small whole numbers: ties are many, products exact
    probes = rng.integers(-3, 4, (asked, 4)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "SCORES", block)
        rows, scores = nearest(templates, probes, k)
    assert rows.shape == scores.shape == (asked, min(k, n))
    for probe, own, values in zip(probes, rows, scores, strict=True):
        assert len(set(own.tolist())) == len(own)
        assert [float(templates[row] @ probe) for row in own] == values.tolist()
        assert sorted(values, reverse=True) == sorted((templates @ probe).tolist(), reverse=True)[:k]


def batch(ids: list[str], vectors: np.ndarray) -> pa.RecordBatch:
    templates = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1])
    return pa.record_batch([pa.array(ids), templates], names=["person_id", "template"])


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 30), st.integers(-9, 9)), max_size=12), max_size=8), st.integers(1, 9)
)
def test_templates_in_memory_are_a_dictionary(steps: list[list[tuple[int, int]]], block: int) -> None:
    """The twin is a dict of ids to vectors."""
    first = {"a": 1.0, "b": 2.0, "c": 3.0}

    def vector(value: float) -> list[float]:
        return [value, -value]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "GROWTH", block)
        halves = [
            batch(["a", "b"], np.array([vector(1), vector(2)], np.float32)),
            batch(["c"], np.float32([vector(3)])),
        ]
        templates = Templates(halves, 3, 2)
        twin = dict(first)
        for step in steps:
            people = {f"p{number}": float(value) for number, value in step}
            vectors = np.array([vector(value) for value in people.values()], np.float32).reshape(-1, 2)
            templates.put(list(people), vectors)
            twin |= people
    assert templates.ids == list(twin)
    np.testing.assert_array_equal(templates.vectors, np.array([vector(value) for value in twin.values()], np.float32))
