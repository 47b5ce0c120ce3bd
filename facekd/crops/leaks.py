"""Who of a training set is also in a pair list, and which crops are filed under the wrong person: on embeddings."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from facekd.core.types import Array

BLOCK = 2048  # rows compared together


def spelling(name: str) -> str:
    """A name as it is compared: without case, and with one sign for spaces, hyphens and underscores."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(plain.replace("_", " ").replace("-", " ").split())


def most_alike(vectors: Array, others: Array) -> tuple[Array, Array]:
    """For each vector the highest cosine to any of `others`, float32[N], and where that is, int64[N].

    Args:
        vectors, others: float32[N, D] and float32[M, D], M > 0, unit norm.
    """
    score, place = np.empty(len(vectors), np.float32), np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), BLOCK):
        here = slice(start, start + BLOCK)
        scores = vectors[here] @ others.T
        place[here] = scores.argmax(axis=1)
        score[here] = scores[np.arange(len(scores)), place[here]]
    return score, place


def nearer_to_others(vectors: Array, identities: Sequence[str]) -> tuple[Array, Array, tuple[str, ...]]:
    """How alike each crop is to its own person's other crops and to the nearest other person.

    A person is the mean of the person's unit embeddings, scaled to unit norm; for a crop's own person without that
    crop. Where the crop is the only one there is no own person: -1.

    Args:
        vectors: float32[N, D], unit norm.
        identities: N names, of at least two people.

    Returns:
        float32[N] cosine to the own person, float32[N] cosine to the nearest other one, and that one's name.
    """
    names, number, photos = np.unique(np.array(identities), return_inverse=True, return_counts=True)
    assert len(names) > 1
    sums = np.zeros((len(names), vectors.shape[1]))
    np.add.at(sums, number, vectors)
    centers = _unit(sums).astype(np.float32)
    own = (_unit(sums[number] - vectors) * vectors).sum(axis=1).astype(np.float32)
    own[photos[number] == 1] = -1
    other, nearest = np.empty(len(vectors), np.float32), np.empty(len(vectors), np.int64)
    for start in range(0, len(vectors), BLOCK):
        here = slice(start, start + BLOCK)
        scores = vectors[here] @ centers.T
        rows = np.arange(len(scores))
        scores[rows, number[here]] = -np.inf
        nearest[here] = scores.argmax(axis=1)
        other[here] = scores[rows, nearest[here]]
    return own, other, tuple(str(names[i]) for i in nearest)


def _unit(vectors: Array) -> Array:
    """Rows at unit norm; rows that canceled out stay near zero, alike to nobody."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6))
