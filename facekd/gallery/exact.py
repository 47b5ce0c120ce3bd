"""Exact search: every template is compared, by the matrix product of the machine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa

from facekd.core.types import Array

SCORES = 1 << 23  # held at once, 32 MiB; large blocks, because threads meet at the end of each product
GROWTH = 8192  # people for whom there is room beside a quarter more


def nearest(templates: Array, probes: Array, k: int) -> tuple[Array, Array]:
    """The `k` templates with the highest dot product with each probe, in no order.

    Args:
        templates: float32[N, D].
        probes: float32[P, D].
        k: at most N are found.

    Returns:
        int64[P, min(k, N)] rows of `templates`, and float32 of the same shape, their dot products.
    """
    wanted = min(k, len(templates))
    rows = np.zeros((len(probes), 0), np.int64)
    scores = np.zeros((len(probes), 0), np.float32)
    size = max(1, SCORES // max(1, len(probes)))
    for start in range(0, len(templates), size):
        # In this order one probe is a product of matrix and vector: as quick as memory.
        block = (templates[start : start + size] @ probes.T).T
        here = _best(block, wanted)
        rows = np.concatenate([rows, here + start], axis=1)
        scores = np.concatenate([scores, np.take_along_axis(block, here, axis=1)], axis=1)
        if scores.shape[1] > wanted:
            kept = _best(scores, wanted)
            rows, scores = np.take_along_axis(rows, kept, axis=1), np.take_along_axis(scores, kept, axis=1)
    return rows, scores


def _best(scores: Array, k: int) -> Array:
    """int64[P, min(k, n)]: places of the highest of float32[P, n]."""
    if k >= scores.shape[1]:
        return np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    if k == 1:
        best: Array = scores.argmax(axis=1)[:, None]
        return best
    return np.argpartition(scores, -k, axis=1)[:, -k:]


class Templates:
    """The templates of one version of a gallery in memory: 4 D bytes for each person, and their ids."""

    def __init__(self, batches: Iterable[pa.RecordBatch], people: int, dim: int) -> None:
        self.ids: list[str] = []
        self._rows: dict[str, int] | None = None  # of each id, made when somebody is replaced
        self._vectors = np.empty((people, dim), np.float32)
        for batch in batches:
            self._append(batch["person_id"].to_pylist(), batch["template"].flatten().to_numpy().reshape(-1, dim))

    @property
    def vectors(self) -> Array:
        """float32[N, D], a row for each id."""
        return self._vectors[: len(self.ids)]

    def put(self, ids: Sequence[str], vectors: Array) -> None:
        """Take in people as an upsert does: float32[n, D] replace or add one row each."""
        if self._rows is None:
            self._rows = {person_id: row for row, person_id in enumerate(self.ids)}
        known = np.array([person_id in self._rows for person_id in ids], bool)
        for place in np.flatnonzero(known).tolist():
            self._vectors[self._rows[ids[place]]] = vectors[place]
        new = [ids[place] for place in np.flatnonzero(~known).tolist()]
        self._rows.update(zip(new, range(len(self.ids), len(self.ids) + len(new)), strict=True))
        self._append(new, vectors[~known])

    def _append(self, ids: Sequence[str], vectors: Array) -> None:
        start, end = len(self.ids), len(self.ids) + len(ids)
        if end > len(self._vectors):
            grown = np.empty((end + end // 4 + GROWTH, self._vectors.shape[1]), np.float32)
            grown[:start] = self._vectors[:start]
            self._vectors = grown
        self._vectors[start:end] = vectors
        self.ids.extend(ids)
