"""The cosines of listed pairs, by gathering two rows for each, or by blocks of the whole product where that is less."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from facekd.core.types import Array

BLOCK = 1 << 14  # pairs whose vectors are gathered at once
ROWS = 512  # of the left side in one block of the product
MANY = 1_000_000  # fewer pairs are gathered: a product may round the last bit otherwise
DEARER = 16  # to gather a pair than to multiply one


def pair_cosines(vectors: Array, left: Array, right: Array) -> Array:
    """float32[P] in [-1, 1]: the cosine of each pair; -inf where a side is -1.

    IJB-C's 16 million pairs are of 3,500 templates with 20,000 others: gathering reads each vector a thousand times.

    Args:
        vectors: float32[N, D], unit norm.
        left, right: int[P], rows of `vectors`, or -1.
    """
    values = np.full(len(left), -np.inf, np.float32)
    if len(left) < MANY or not _blockwise(vectors, left, right, values):
        _gathered(vectors, left, right, values)
    return values


def _gathered(vectors: Array, left: Array, right: Array, values: Array) -> None:
    for start in range(0, len(left), BLOCK):
        a, b = left[start : start + BLOCK], right[start : start + BLOCK]
        at = np.flatnonzero((a >= 0) & (b >= 0))
        cosines = np.einsum("pd,pd->p", vectors[a[at]], vectors[b[at]])
        values[start + at] = np.clip(cosines, -1, 1)  # rounding leaves a photo and itself at 1.0000001


def _blockwise(vectors: Array, left: Array, right: Array, values: Array) -> bool:
    """Fill `values` from the product of all left with all right rows; False where that is more work than gathering."""
    rows, row = _used(left, len(vectors))
    columns, column = _used(right, len(vectors))
    if len(rows) * len(columns) > DEARER * len(left):
        return False
    block = np.where((left >= 0) & (right >= 0), row[left] // ROWS, -1)
    order = np.argsort(block.astype(np.int16 if len(rows) < ROWS << 15 else np.int64), kind="stable")
    ends = np.searchsorted(block[order], np.arange(-(-len(rows) // ROWS) + 1))
    others = np.ascontiguousarray(vectors[columns].T)
    for k, (start, end) in enumerate(pairwise(ends)):
        product = vectors[rows[k * ROWS : (k + 1) * ROWS]] @ others
        for here in np.array_split(order[start:end], max(1, (end - start) // (1 << 20))):
            values[here] = np.clip(product[row[left[here]] - k * ROWS, column[right[here]]], -1, 1)
    return True


def _used(side: Array, n: int) -> tuple[Array, Array]:
    """The rows that a side names, and the place among them of each of the `n` rows."""
    there = np.zeros(n + 1, bool)
    there[side] = True  # -1 marks the last, which is no row
    used = np.flatnonzero(there[:n])
    place = np.zeros(n + 1, np.int64)
    place[used] = np.arange(len(used))
    return used, place
