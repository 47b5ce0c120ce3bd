"""The rivals of `facekd cluster`: Chinese whispers as dlib has it, written slowly, and scikit-learn's DBSCAN."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array
from sklearn.cluster import DBSCAN

from facekd.core.types import Array

VISITS = 100  # of each face on average, as in dlib
BLOCK = 1000


def neighbors(vectors: Array, threshold: float) -> csr_array:
    """float32[N, N], sparse: the cosine of each pair that reaches `threshold`, both ways, each face with itself too."""
    rows, columns, values = [], [], []
    for start in range(0, len(vectors), BLOCK):
        scores = vectors[start : start + BLOCK] @ vectors.T
        row, column = np.nonzero(scores >= threshold)
        rows.append(row + start)
        columns.append(column)
        values.append(scores[row, column])
    places = (np.concatenate(rows), np.concatenate(columns))
    return csr_array((np.concatenate(values), places), shape=(len(vectors), len(vectors)))


def chinese_whispers(graph: csr_array, weighted: bool, seed: int = 0) -> Array:
    """int64[N]: the labels that dlib's ``chinese_whispers`` ends with, drawn by another generator.

    dlib's face clustering makes an edge of weight 1 of each pair under a distance, each face with itself among them;
    100 N times a random face takes the label that weighs most among its neighbors, of equal ones the lowest. It ends
    early only where no face would take another, as nothing can change then.

    Args:
        weighted: the edges' weights are cosines, and no face is its own neighbor: it would outweigh all others.
    """
    count = graph.shape[0]
    ends, columns = graph.indptr.tolist(), graph.indices.tolist()
    weights = graph.data.tolist() if weighted else [1.0] * graph.nnz
    labels = list(range(count))

    def heaviest(face: int) -> int:
        found: dict[int, float] = {}
        for edge in range(ends[face], ends[face + 1]):
            if not weighted or columns[edge] != face:
                label = labels[columns[edge]]
                found[label] = found.get(label, 0.0) + weights[edge]
        if not found:
            return labels[face]
        most = max(found.values())
        return min(label for label, weight in found.items() if weight == most)

    random = np.random.default_rng(seed)
    for _ in range(VISITS):
        changed = False
        for face in random.integers(0, count, count).tolist():
            label = heaviest(face)
            changed |= label != labels[face]
            labels[face] = label
        if not changed and all(heaviest(face) == labels[face] for face in range(count)):
            break
    return np.array(labels)


def dbscan(graph: csr_array, least: int) -> Array:
    """int64[N]: scikit-learn's DBSCAN over an exact graph; what it calls noise lies alone.

    Args:
        least: ``min_samples``, the face itself among them.
    """
    distances = csr_array((1 - np.minimum(graph.data, 1), graph.indices, graph.indptr), shape=graph.shape)
    labels = np.asarray(DBSCAN(eps=2.0, min_samples=least, metric="precomputed").fit(distances).labels_)
    noise = labels < 0
    return np.where(noise, len(labels) + np.arange(len(labels)), labels)


def settings(
    vectors: Array, thresholds: Array, samples: tuple[int, ...]
) -> Iterator[tuple[str, dict[str, float], Array]]:
    """Each rival at each of its settings: its name, the setting, int64[N] labels."""
    for threshold in thresholds.tolist():
        graph = neighbors(vectors, threshold)
        at = {"cosine": round(threshold, 4)}
        for least in samples:
            yield "DBSCAN", {**at, "min_samples": least}, dbscan(graph, least)
        for name, weighted in (("Chinese whispers", False), ("Chinese whispers, weighted", True)):
            yield name, at, chinese_whispers(graph, weighted)
