"""How sure a FAR is, and the threshold for it."""

from __future__ import annotations

import math

import numpy as np

from facekd.core.types import Array, Rate
from facekd.rates.counts import check_scores
from facekd.rates.deviations import ImpostorPairs, far_deviation
from facekd.rates.dyads import Dyads, effective
from facekd.rates.intervals import wilson, wilson_of_people


def threshold_interval(
    values: Array,
    same: Array,
    rate: Rate,
    persons: tuple[Array, Array] | None = None,
    *,
    ends: tuple[float, float] | None = None,
) -> tuple[float | None, float | None]:
    """95 % interval of ``rate.threshold``: the scores at the ends of the interval of its FAR.

    Where the FAR at this threshold may truly be as low as `l` and as high as `h`, the threshold sought lies between
    the scores that a share `h` and a share `l` of the list's impostor pairs reach.

    Source: R. S. Woodruff, "Confidence intervals for medians and other position measures", JASA 47, 1952.

    Args:
        values: float[P], the scores that `rate` was taken from.
        same: bool[P].
        persons: [P] twice, who is on either side, as in `far_interval`.
        ends: the 95 % interval of the FAR there, where it is known already.

    Returns:
        (low, high); None for an end that no score of the list marks, and twice where there is no threshold.
    """
    if rate.threshold is None:
        return None, None
    values, same = check_scores(values, same)
    scores = values[~same].astype(np.float64)
    n = len(scores)
    if ends is None:
        sides = None if persons is None else (persons[0][~same], persons[1][~same])
        ends = far_interval(scores >= rate.threshold, sides)
    low, high = ends
    falling = -np.sort(-scores)
    lowest = float(falling[min(math.ceil(high * n), n) - 1])
    highest = max(rate.threshold, float(falling[max(math.ceil(low * n), 1) - 1]))
    return (lowest if np.isfinite(lowest) else None), (highest if np.isfinite(highest) else None)


def far_interval(accepted: Array, persons: tuple[Array, Array] | None = None) -> tuple[float, float]:
    """95 % interval of the share of impostor pairs accepted at a given threshold.

    Args:
        accepted: bool[n], of each impostor pair.
        persons: [n] twice, who is on either side, see rates/dyads.py. None takes the pairs as independent.
    """
    if persons is None:
        return wilson(float(np.count_nonzero(accepted)), len(accepted))
    dyads = Dyads.of(np.zeros(len(accepted), bool), *persons)
    impostor = ImpostorPairs.of(accepted.astype(np.float32), dyads.couple, dyads)
    deviation = far_deviation(impostor, -0.5)  # what is accepted scores 1
    return wilson_of_people(
        float(accepted.mean()),
        deviation.value,
        deviation.variance(),
        pairs=len(accepted),
        worth=dyads.impostor_evidence,
        people=impostor.people,
    )


def far_interval_by_person(
    hits: Array, pairs: Array, couples: float | None = None, worth: float | None = None
) -> tuple[float, float]:
    """`far_interval` with persons, from each person's counts alone: for more pairs than can be kept.

    Each pair counts alike, so it is for people with much the same number of photos.

    Args:
        hits: float[persons], how many of the impostor pairs of each are accepted.
        pairs: float[persons], all impostor pairs of each. Both count a pair twice, once for each of its persons.
        couples: the sum, over couples of persons, of (their accepted pairs less those expected)**2; None where every
            couple has one pair at most.
        worth: as how many independent pairs they count, see rates/dyads.py; None: each is one.
    """
    n, accepted = float(pairs.sum()) / 2, float(hits.sum()) / 2
    share = accepted / n
    couples = accepted * (1 - share) if couples is None else couples
    rows = float(((hits - share * pairs) ** 2).sum())
    return wilson_of_people(
        share,
        share,
        max(rows - couples, couples) / n**2,
        pairs=n,
        worth=n if worth is None else worth,
        people=effective(pairs),
    )
