"""Pairwise and BCubed rates against their definitions, and against the figures of a published example."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekd.errors import UserError
from facekd.rates.clusters import ClusterAgreement, cluster_rates

labels = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=24)


def as_floats(values: tuple[object, ...]) -> tuple[float | None, ...]:
    return tuple(None if value is None else float(value) for value in values)  # type: ignore[arg-type]


def fields(one: ClusterAgreement) -> tuple[float | None, ...]:
    return one.precision, one.recall, one.f


@given(labels)
def test_the_rates_are_those_of_the_definitions(rows: list[tuple[int, int]]) -> None:
    clusters, persons = (np.array(column) for column in zip(*rows, strict=True))
    found = cluster_rates(clusters, persons)
    for mine, slow in (
        (found.pairwise, oracles.pairwise_agreement(clusters, persons)),
        (found.bcubed, oracles.bcubed_agreement(clusters, persons)),
    ):
        for value, expected in zip(fields(mine), as_floats(slow), strict=True):
            assert (value is None) == (expected is None)
            assert value is None or value == pytest.approx(expected, abs=1e-12)


@given(labels)
def test_names_and_order_do_not_matter(rows: list[tuple[int, int]]) -> None:
    clusters, persons = (np.array(column) for column in zip(*rows, strict=True))
    found = cluster_rates(clusters, persons)
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    renamed = cluster_rates(np.array([f"c{9 - one}" for one in clusters[order]]), persons[order])
    for mine, other in ((found.pairwise, renamed.pairwise), (found.bcubed, renamed.bcubed)):
        for value, expected in zip(fields(mine), fields(other), strict=True):
            assert value == (None if expected is None else pytest.approx(expected, abs=1e-12))


def test_an_example_by_hand() -> None:
    """Two people of three photos each; one photo of the second lies with the first's."""
    found = cluster_rates(np.array([0, 0, 0, 0, 1, 1]), np.array(["a", "a", "a", "b", "b", "b"]))
    assert fields(found.pairwise) == (4 / 7, 4 / 6, 8 / 13)
    precision, recall = (3 * 3 / 4 + 1 / 4 + 2) / 6, (3 + 1 / 3 + 2 * 2 / 3) / 6
    expected = (precision, recall, 2 * precision * recall / (precision + recall))
    assert fields(found.bcubed) == pytest.approx(expected)
    assert (found.photos, found.clusters, found.people) == (6, 2, 2)


def test_what_is_perfect_and_what_is_not_there() -> None:
    alone = cluster_rates(np.arange(4), np.arange(4))
    assert fields(alone.pairwise) == (None, None, None)
    assert fields(alone.bcubed) == (1, 1, 1)
    right = cluster_rates(np.array([5, 5, 1, 2]), np.array(["x", "x", "y", "z"]))
    assert fields(right.pairwise) == fields(right.bcubed) == (1, 1, 1)


def test_large_counts_do_not_overflow() -> None:
    n = 200_000  # its square has more than 32 bits
    found = cluster_rates(np.zeros(n, np.int32), np.arange(n) % 2)
    assert found.pairwise.recall == 1
    assert found.pairwise.precision == pytest.approx(0.5, abs=1e-5)
    assert found.bcubed.precision == 0.5


@pytest.mark.parametrize(("clusters", "persons"), [([], []), ([1, 2], [1]), ([[1, 2]], [[1, 2]])])
def test_labels_that_do_not_fit_are_refused(clusters: list[int], persons: list[int]) -> None:
    with pytest.raises(UserError, match="one of each for every photo"):
        cluster_rates(np.array(clusters), np.array(persons))
