"""All pairs of labeled embeddings by groups: what is accepted within each group and across each two, at thresholds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from facekd.core.system import cores
from facekd.core.types import Array
from facekd.rates.tiles import SIDE, Product, numpy_product


@dataclass(frozen=True, slots=True)
class GroupCell:
    """The pairs of one photo of group `a` and one of group `b`, by person; a pair of two persons counts for both."""

    a: int
    b: int
    genuine_pairs: Array  # int64[persons]
    impostor_pairs: Array  # int64[persons]
    accepted: Array  # int64[T, persons], genuine pairs that reach each threshold
    false_accepts: Array  # int64[T, persons]


def cells(
    vectors: Array,
    persons: Array,
    groups: Array,
    thresholds: Array,
    *,
    failed: tuple[Array, Array] | None = None,
    product: Product = numpy_product,
) -> Iterator[GroupCell]:
    """Each cell a <= b of the groups' matrix, one after the other: nothing of the size of all pairs is kept.

    Args:
        vectors: float32[N, D], unit norm.
        persons: int[N], from 0.
        groups: int[N], from 0.
        thresholds: float32[T].
        failed: int[F] twice, persons and groups of photos without an embedding; their pairs count, none is accepted.
        product: as of `allpairs.measure_all_pairs`.
    """
    lost = failed or (persons[:0], groups[:0])
    n_persons, n_groups = (int(max(of.max(initial=-1), more.max(initial=-1))) + 1
                           for of, more in zip((persons, groups), lost, strict=True))  # fmt: skip
    photos = np.zeros((n_groups, n_persons), np.int64)
    for who, which in ((persons, groups), lost):
        np.add.at(photos, (which, who), 1)
    places = [np.flatnonzero(groups == k) for k in range(n_groups)]
    for a in range(n_groups):
        for b in range(a, n_groups):
            if a == b:
                genuine = photos[a] * (photos[a] - 1) // 2
                impostor = photos[a] * (photos[a].sum() - photos[a])
            else:
                genuine = photos[a] * photos[b]
                impostor = photos[a] * (photos[b].sum() - photos[b]) + photos[b] * (photos[a].sum() - photos[a])
            hits = _count(vectors, persons, places[a], places[b], thresholds, n_persons, product)
            yield GroupCell(a, b, genuine, impostor, hits[0], hits[1])


def _count(
    vectors: Array, persons: Array, left: Array, right: Array, thresholds: Array, n_persons: int, product: Product
) -> Array:
    """int64[2, T, persons]: genuine, then impostor pairs of the cell that reach each threshold."""
    same = len(left) == len(right) and bool((left == right).all())

    def of(tile: tuple[int, int]) -> Array:
        rows, columns = left[tile[0] : tile[0] + SIDE], right[tile[1] : tile[1] + SIDE]
        scores = np.empty((len(rows), len(columns)), np.float32)
        product(vectors[rows], vectors[columns], scores)
        if same and tile[0] == tile[1]:
            scores[np.tril_indices(len(rows))] = -np.inf  # each pair once, and no photo with itself
        found = np.zeros((2, len(thresholds), n_persons), np.int64)
        for k, threshold in enumerate(thresholds):
            row, column = np.divmod(np.flatnonzero(scores >= threshold), len(columns))
            one, two = persons[rows[row]], persons[columns[column]]
            genuine = one == two
            found[0, k] = np.bincount(one[genuine], minlength=n_persons)
            for side in (one[~genuine], two[~genuine]):
                found[1, k] += np.bincount(side, minlength=n_persons)
        return found

    starts = [(r, c) for r in range(0, len(left), SIDE) for c in range(r if same else 0, len(right), SIDE)]
    total = np.zeros((2, len(thresholds), n_persons), np.int64)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(cores()) as pool:
        for found in pool.map(of, starts):
            total += found
    return total
