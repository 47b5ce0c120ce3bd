"""95 % intervals of a proportion.

`wilson` holds for independent pairs. Pairs that share a person are not independent; for those see rates/persons.py.
"""

from __future__ import annotations

import math

import numpy as np

from facekd.core.types import Array

Z95 = 1.959963984540054  # the normal quantile at 0.975; SciPy, which gives it, takes a second to load


def wilson(hits: float, n: float) -> tuple[float, float]:
    """95 % score interval of ``hits / n``; both may be fractional (an effective sample size).

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22, 1927.
    """
    assert 0 <= hits <= n, (hits, n)
    assert n > 0, n
    p, z2 = hits / n, Z95 * Z95
    center = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # at 0 and n hits the bound is 0 or 1 exactly; the formula reaches it only up to rounding
    return (0.0 if hits == 0 else max(0.0, center - half)), (1.0 if hits == n else min(1.0, center + half))


def wilson_by_person(hits: Array, n: Array) -> tuple[float, float]:
    """95 % interval of ``hits.sum() / n.sum()`` where the pairs of one person depend on each other.

    Each person's pairs count as one draw: see `wilson_at_variance`.

    Args:
        hits: [persons], accepted genuine pairs of each.
        n: [persons], all genuine pairs of each; persons with none are left out.
    """
    hits, n = hits[n > 0].astype(np.float64), n[n > 0].astype(np.float64)
    total, persons = n.sum(), len(n)
    p = float(hits.sum() / total)
    variance = float(((hits - p * n) ** 2).sum() / total**2) * persons / max(1, persons - 1)
    return wilson_at_variance(p, variance, n)


def wilson_at_variance(p: float, variance: float, pairs_of_person: Array) -> tuple[float, float]:
    """Wilson's 95 % interval at the number of independent pairs, ``p (1 - p) / variance``, that `variance` is worth.

    Never narrower than if all pairs were independent. Where all pairs or none are accepted there is no spread to
    see; then the pairs of one person are taken to agree always (Kish's ``n.sum()**2 / (n**2).sum()`` pairs), which
    is the most careful reading.

    Source: R. Fogliato, P. Patil, P. Perona, "Confidence intervals for error rates in 1:1 matching tasks",
    IJCV 2024, arXiv:2306.01198 (Wilson with a variance adjusted for dependence); L. Kish, Survey Sampling, 1965.
    """
    total = float(pairs_of_person.sum())
    effective = p * (1 - p) / variance if variance > 0 and 0 < p < 1 else total**2 / float((pairs_of_person**2).sum())
    effective = min(effective, total)
    return wilson(p * effective, effective)
