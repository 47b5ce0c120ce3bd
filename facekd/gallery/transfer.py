"""From one model's embeddings to another's: a linear map, and what it loses."""

from __future__ import annotations

import numpy as np

from facekd.core.types import Array


def fit_map(old: Array, new: Array, ridge: float = 1e-2) -> Array:
    """The linear map that takes one model's embeddings of some crops nearest to another model's of the same crops.

    Where both have the same dimension it is the rotation (with reflection) of least squares, which keeps every score
    among mapped embeddings as it was: the orthogonal Procrustes problem (Schönemann, Psychometrika 31, 1966). Else it
    is the least-squares map with a small ridge.

    Args:
        old: float32[N, D1], unit norm.
        new: float32[N, D2], unit norm, of the same crops.
        ridge: added to the diagonal of the covariance, in units of its mean.

    Returns:
        float64[D1, D2]; apply it as ``old @ map``.
    """
    a, b = old.astype(np.float64), new.astype(np.float64)
    cross = a.T @ b
    if old.shape[1] == new.shape[1]:
        u, _, v = np.linalg.svd(cross)
        rotation: Array = u @ v
        return rotation
    covariance = a.T @ a
    covariance += ridge * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    return np.linalg.solve(covariance, cross)


def apply_map(vectors: Array, by: Array) -> Array:
    """float32[N, D2] of unit norm: unit embeddings float32[N, D1] after the map float64[D1, D2]."""
    mapped = vectors.astype(np.float64) @ by
    unit: Array = (mapped / np.linalg.norm(mapped, axis=1, keepdims=True)).astype(np.float32)
    return unit
