"""One sorted pass over scores gives exact integer counts; every rate is derived from them.

A pair is accepted when ``score >= threshold``. A photo without an embedding scores -inf (core.types.Scores):
its pairs are counted in the totals and accepted at no threshold, which is what NIST asks for (a failed
template behaves "as if the template had been produced but it always produces a low similarity score").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facekd.core.types import Array
from facekd.errors import UserError


@dataclass(frozen=True, slots=True)
class Curve:
    """How many pairs each threshold accepts; equal scores are accepted together, so they share one entry."""

    thresholds: Array  # float64[K], the distinct scores above -inf, descending; K is 0 where every score is -inf
    genuine: Array  # int64[K], genuine pairs with score >= thresholds[k], never decreasing
    impostor: Array  # int64[K], the same for impostor pairs
    n_genuine: int  # all genuine pairs, those that scored -inf included
    n_impostor: int


def curve(values: Array, same: Array) -> Curve:
    """Accepted pairs at each distinct score.

    Args:
        values: float32 or float64[P], higher is more alike. -inf is never accepted, +inf always.
        same: bool[P], True for a genuine pair.

    Raises:
        UserError: no pairs, a NaN, or pairs of one class only.
    """
    values, same = check_scores(values, same)
    order = np.argsort(values)[::-1]
    sorted_values = values[order]
    n = int(np.searchsorted(-sorted_values, np.inf))  # -inf sorts last; the pairs before it can be accepted
    sorted_values, sorted_same = sorted_values[:n], same[order[:n]]
    del order  # of ten million pairs each of these takes 80 MB

    # `!=` and not a difference: inf - inf is NaN, and near is not equal
    last_of_tie = np.flatnonzero(np.append(sorted_values[1:] != sorted_values[:-1], True)) if n else np.zeros(0, int)
    genuine = np.cumsum(sorted_same, dtype=np.int64)[last_of_tie]
    n_genuine = int(np.count_nonzero(same))
    thresholds = sorted_values[last_of_tie].astype(np.float64)
    impostor = last_of_tie  # of all accepted pairs those that are not genuine
    impostor += 1
    impostor -= genuine
    return Curve(
        thresholds=thresholds,
        genuine=genuine,
        impostor=impostor,
        n_genuine=n_genuine,
        n_impostor=len(same) - n_genuine,
    )


def check_scores(values: Array, same: Array) -> tuple[Array, Array]:
    """`values` as float32 or float64[P] and `same` as bool[P], or a UserError that says what is wrong with them."""
    values, same = np.asarray(values), np.asarray(same)
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    if values.ndim != 1 or same.shape != values.shape or same.dtype != bool:
        raise UserError(
            f"scores of shape {values.shape} with labels {same.dtype}{list(same.shape)}: "
            "give one score and one True or False for each pair"
        )
    if len(values) == 0:
        raise UserError("no pairs to judge: the list of scores is empty; check the pair list")
    n_nan = int(np.count_nonzero(np.isnan(values)))
    if n_nan:
        raise UserError(f"{n_nan} of {len(values)} scores are NaN: the embeddings are damaged; embed the photos again")
    n_genuine = int(np.count_nonzero(same))
    if n_genuine in (0, len(same)):
        missing, has = ("genuine", "impostor") if n_genuine == 0 else ("impostor", "genuine")
        raise UserError(f"all {len(same)} pairs are {has}: rates need {missing} pairs too; check the pair list")
    return values, same
