"""How sure a FAR is, and the threshold for it."""

from __future__ import annotations

import math

import numpy as np

from facekd.core.types import Array, Rate
from facekd.rates.counts import check_scores
from facekd.rates.intervals import wilson_at_variance


def threshold_interval(
    values: Array, same: Array, rate: Rate, persons: tuple[Array, Array] | None = None
) -> tuple[float | None, float | None]:
    """95 % interval of ``rate.threshold``: the scores at the ends of the interval of its FAR.

    Where the FAR at this threshold may truly be as low as `l` and as high as `h`, the threshold sought lies between
    the scores that a share `h` and a share `l` of the list's impostor pairs reach.

    Source: R. S. Woodruff, "Confidence intervals for medians and other position measures", JASA 47, 1952.

    Args:
        values: float[P], the scores that `rate` was taken from.
        same: bool[P].
        persons: int[P] twice, who is on either side; the variance of FAR is then the dyadic-robust one (Aronow, Samii,
            Assenova, Political Analysis 23(4), 2015). None takes the pairs as independent.

    Returns:
        (low, high); None for an end that no score of the list marks, and twice where there is no threshold.
    """
    if rate.threshold is None:
        return None, None
    values, same = check_scores(values, same)
    scores = values[~same].astype(np.float64)
    n = len(scores)
    accepted = scores >= rate.threshold
    low, high = far_interval(accepted, None if persons is None else (persons[0][~same], persons[1][~same]))
    falling = -np.sort(-scores)
    lowest = float(falling[min(math.ceil(high * n), n) - 1])
    highest = max(rate.threshold, float(falling[max(math.ceil(low * n), 1) - 1]))
    return (lowest if np.isfinite(lowest) else None), (highest if np.isfinite(highest) else None)


def far_interval(accepted: Array, persons: tuple[Array, Array] | None = None) -> tuple[float, float]:
    """95 % interval of the share of impostor pairs accepted at a given threshold.

    Args:
        accepted: bool[n], of each impostor pair.
        persons: int[n] twice, who is on either side, as in `threshold_interval`.
    """
    share = float(accepted.mean())
    variance = share * (1 - share) / len(accepted) if persons is None else _dyadic_variance(accepted, *persons)
    return wilson_at_variance(share, variance, np.ones(len(accepted)))


def far_interval_by_person(hits: Array, pairs: Array, couples: float | None = None) -> tuple[float, float]:
    """`far_interval` with persons, from each person's counts alone: for more pairs than can be kept.

    Args:
        hits: float[persons], how many of the impostor pairs of each are accepted.
        pairs: float[persons], all impostor pairs of each. Both count a pair twice, once for each of its persons.
        couples: the sum, over couples of persons, of (their accepted pairs less those expected)**2; None where every
            couple has one pair at most.

    Where no pair is accepted, those of one person are taken to agree always: as many as there are persons count.
    """
    n, accepted = float(pairs.sum()) / 2, float(hits.sum()) / 2
    share = accepted / n
    couples = accepted * (1 - share) if couples is None else couples
    rows = float(((hits - share * pairs) ** 2).sum())
    return wilson_at_variance(share, max(rows - couples, couples) / n**2, pairs / 2)


def _dyadic_variance(accepted: Array, left: Array, right: Array) -> float:
    """Of the share of impostor pairs accepted, when pairs that share a person depend on each other."""
    persons, number = np.unique(np.concatenate([left, right]), return_inverse=True)
    left, right = number[: len(accepted)].astype(np.int64), number[len(accepted) :].astype(np.int64)
    low, high = np.minimum(left, right), np.maximum(left, right)
    _, couple = np.unique(low * len(persons) + high, return_inverse=True)
    excess = accepted - accepted.mean()
    couples = float((np.bincount(couple, excess) ** 2).sum())
    rows = float(((np.bincount(left, excess, len(persons)) + np.bincount(right, excess, len(persons))) ** 2).sum())
    return max(rows - couples, couples) / len(accepted) ** 2
