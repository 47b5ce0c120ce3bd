"""The exact 95 % interval of a proportion, to compare others with."""

from __future__ import annotations

from scipy import special  # scipy.stats has the same quantiles and takes a second to load


def clopper_pearson(hits: int, n: int) -> tuple[float, float]:
    """95 % exact binomial interval of ``hits / n``: never covers less, mostly covers more.

    Source: C. J. Clopper and E. S. Pearson, Biometrika 26, 1934, by the quantiles of the beta distribution.
    """
    assert 0 <= hits <= n, (hits, n)
    assert n > 0, n
    low = 0.0 if hits == 0 else float(special.betaincinv(hits, n - hits + 1, 0.025))
    high = 1.0 if hits == n else float(special.betaincinv(hits + 1, n - hits, 0.975))
    return low, high
