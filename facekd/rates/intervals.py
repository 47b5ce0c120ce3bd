"""95 % intervals of a proportion, of independent pairs and of pairs that share people."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import stdtrit

from facekd.core.types import Array
from facekd.rates.dyads import PERSON_CORRELATION, effective, evidence

Z95 = 1.959963984540054  # the normal quantile at 0.975


def t95(people: float) -> float:
    """Student's quantile at 0.975 for a variance seen over so many people; that of two for fewer."""
    return float(stdtrit(max(1.0, people - 1), 0.975))


def wilson(hits: float, n: float, z: float = Z95) -> tuple[float, float]:
    """95 % score interval of ``hits / n``; both may be fractional (an effective sample size).

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    assert 0 <= hits <= n, (hits, n)
    assert n > 0, n
    p, z2 = hits / n, z * z
    center = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # at 0 and n hits the bound is 0 or 1 exactly; the formula reaches it only up to rounding
    return (0.0 if hits == 0 else max(0.0, center - half)), (1.0 if hits == n else min(1.0, center + half))


def wilson_of_people(
    plain: float, value: float, variance: float, *, pairs: float, worth: float, people: float
) -> tuple[float, float]:
    """95 % interval of a rate whose pairs share people.

    Wilson's interval of so many independent pairs as the list counts, with the variance from person to person in the
    place of ``p (1 - p) / n``. It is Wilson's own where nobody errs or everybody, so a list without an error is worth
    its people. At a given threshold an error less never lowers the bound of 30 people or more, of fewer hardly ever and
    by less than 0.5 points. It always holds the list's own rate.

    Source: R. Fogliato, P. Patil, P. Perona, "Confidence intervals for error rates in 1:1 matching tasks", IJCV 2024,
    arXiv:2306.01198 (Wilson with a variance adjusted for dependence).

    Args:
        plain: the rate over all pairs alike.
        value, variance: the rate by the people's weights (`dyads`), and its variance.
        pairs: of the list. It is never surer than if these were independent.
        worth: as how many independent pairs they count, `dyads.evidence`.
        people: as how many people of equal weight.
    """
    z = t95(people)
    z2 = z * z
    spread = max(variance * people / max(people - 1, 1), value * (1 - value) / pairs)
    center, half = value + z2 / (2 * worth), z * math.sqrt(spread + z2 / (4 * worth * worth))
    low, high = ((center + end) / (1 + z2 / worth) for end in (-half, half))
    return float(max(0.0, min(low, plain))), float(min(1.0, max(high, plain)))  # JSON knows no bool of numpy's


def wilson_by_person(hits: Array, n: Array) -> tuple[float, float]:
    """95 % interval of ``hits.sum() / n.sum()`` where the pairs of one person depend on each other.

    Args:
        hits: [persons], accepted genuine pairs of each.
        n: [persons], all genuine pairs of each; persons with none are left out.
    """
    hits, n = hits[n > 0].astype(np.float64), n[n > 0].astype(np.float64)
    counted = evidence(n, PERSON_CORRELATION)
    share = hits / n
    value = float(counted @ share / counted.sum())
    variance = float(((counted * (share - value)) ** 2).sum() / counted.sum() ** 2)
    return wilson_of_people(
        float(hits.sum() / n.sum()),
        value,
        variance,
        pairs=float(n.sum()),
        worth=float(counted.sum()),
        people=effective(counted),
    )
