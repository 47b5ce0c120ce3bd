"""How sure a TAR at FAR is when pairs share persons, and whether model A is better than B on the same pairs.

Two pairs that show the same person are not independent, so the person is what is resampled (Poh, Martin and
Bengio, TPAMI 29(3), 2007; Snijders and Borgatti's vertex bootstrap, Connections 22(2), 1999; A. Owen, "The
pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007). A resample draws as many persons as there are,
with replacement. A person drawn w times brings each of its genuine pairs w times; persons drawn w and v times bring
each impostor pair between them w * v times. In each resample the threshold is found anew from its own impostors,
so its uncertainty is in the interval.

The product w * v has three times the variance that the noise of one couple of persons really has, while what couples
with a common person share is reproduced as it is (Owen, theorem 3). On dense lists the couple's own noise is
nothing; on sparse ones such as LFW it is nearly all there is, and the plain bootstrap moves the threshold too far by
up to the square root of 3. So each resample's move, counted in impostor pairs, is shrunk until its variance is the
dyadic-robust one (Aronow, Samii, Assenova, Political Analysis 23(4), 2015), see `_shrinkage`. The interval of a TAR is
Wilson's at the number of pairs that the resamples' variance is worth (Fogliato, Patil and Perona, IJCV 2024,
arXiv:2306.01198): it stays in [0, 1] and does not shrink to nothing at a TAR of 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse, stats

from facekd.core.system import cores
from facekd.core.types import Array, Rate
from facekd.errors import UserError
from facekd.rates.counts import check_scores, curve
from facekd.rates.intervals import Z95, wilson_at_variance
from facekd.rates.rates import far_budget, rate_at, support

CHUNK = 32  # resamples weighed together


@dataclass(frozen=True, slots=True)
class Difference:
    """TAR of model A minus TAR of model B at one asked FAR, each at its own threshold, on the same pairs.

    All None where the list can't show the FAR, or fewer than two persons have genuine pairs.
    """

    far_asked: float
    difference: float | None
    low: float | None  # 95 % interval
    high: float | None
    p_value: float | None  # two-sided, that the difference is zero


def person_rates(
    values: Array,
    same: Array,
    left_person: Array,
    right_person: Array,
    fars: Sequence[float],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Rate]:
    """`rates.rate_at` for each of `fars`, with low and high that hold for pairs that share persons.

    Args:
        values: float[P], higher is more alike; -inf for a pair without a score.
        same: bool[P].
        left_person, right_person: int[P], who is on either side of the pair.

    Raises:
        UserError: as `counts.curve`, or a pair whose label contradicts its persons.
    """
    pairs = _Pairs.of(values, same, left_person, right_person)
    made = curve(pairs.values, pairs.same)
    rates = [rate_at(made, far) for far in fars]
    shown = [far for far in fars if support(far, made.n_impostor) != "none"]
    variances = dict(zip(shown, np.nanvar(_resampled_tars(pairs, shown, resamples, seed), axis=0, ddof=1), strict=True))
    pairs_of_person = np.bincount(pairs.left[pairs.same])
    for index, rate in enumerate(rates):
        if rate.tar is not None:
            low, high = wilson_at_variance(rate.tar, float(variances[rate.far_asked]), pairs_of_person)
            rates[index] = replace(rate, low=low, high=high)
    return rates


def resampled_tars(
    values: Array,
    same: Array,
    left_person: Array,
    right_person: Array,
    fars: Sequence[float],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> Array:
    """float64[resamples, len(fars)]: TAR at each FAR in each resample of the persons.

    The same seed draws the same persons, so the rows of two models on one list are pairs. NaN where a resample has
    no genuine pair.
    """
    return _resampled_tars(_Pairs.of(values, same, left_person, right_person), fars, resamples, seed)


def paired_differences(
    values_a: Array,
    values_b: Array,
    same: Array,
    left_person: Array,
    right_person: Array,
    fars: Sequence[float],
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> list[Difference]:
    """Is A's TAR higher than B's? Both models see the same resampled persons; arguments as `person_rates`.

    The interval is the difference -+ 1.96 standard errors, the p-value that of the normal distribution.
    """
    a, b = (_Pairs.of(values, same, left_person, right_person) for values in (values_a, values_b))
    curve_a, curve_b = curve(a.values, a.same), curve(b.values, b.same)
    shown = [far for far in fars if support(far, curve_a.n_impostor) != "none"]
    if len(np.unique(a.left[a.same])) < 2:
        shown = []
    differences = _resampled_tars(a, shown, resamples, seed) - _resampled_tars(b, shown, resamples, seed)
    found = {}
    for far, replicates in zip(shown, differences.T, strict=True):
        rate_a, rate_b = rate_at(curve_a, far), rate_at(curve_b, far)
        assert rate_a.tar is not None
        assert rate_b.tar is not None
        difference = rate_a.tar - rate_b.tar
        error = float(np.nanstd(replicates, ddof=1))
        p_value = 1.0 if difference == 0 else 2 * float(stats.norm.sf(abs(difference) / error)) if error else 0.0
        low, high = max(-1.0, difference - Z95 * error), min(1.0, difference + Z95 * error)
        found[far] = Difference(far, difference, low, high, p_value)
    return [found.get(far, Difference(far, None, None, None, None)) for far in fars]


@dataclass(frozen=True, slots=True)
class _Pairs:
    values: Array
    same: Array
    left: Array  # int32[P], persons 0 .. n_persons - 1
    right: Array
    n_persons: int

    @classmethod
    def of(cls, values: Array, same: Array, left_person: Array, right_person: Array) -> _Pairs:
        values, same = check_scores(values, same)
        if left_person.shape != same.shape or right_person.shape != same.shape:
            raise UserError(
                f"{len(left_person)} and {len(right_person)} persons for {len(same)} pairs: name both sides"
            )
        wrong = np.flatnonzero((left_person == right_person) != same)
        if len(wrong):
            raise UserError(
                f"{len(wrong)} pairs are labeled against their persons (first: pair {wrong[0]}): a genuine pair shows "
                "one person, an impostor pair two; correct the list"
            )
        persons, number = np.unique(np.concatenate([left_person, right_person]), return_inverse=True)
        number = number.astype(np.int32)
        return cls(values, same, number[: len(same)], number[len(same) :], len(persons))


def _shrinkage(left: Array, right: Array, accepted: Array, n_persons: int) -> list[float]:
    """By what to multiply the moves of the number of false accepts that product weights cause.

    With e the false accepts of a couple of persons less those expected, A the sum of e**2 over couples, R the sum over
    persons of (sum of e over the person's couples)**2: the product weights give the variance R + A, the
    dyadic-robust variance is R - A. It is taken to be at least A, that of independent couples.

    Args:
        left, right: int[impostor pairs], the persons of each, highest score first.
        accepted: int[F], how many of these are accepted at each threshold.
    """
    low, high = np.minimum(left, right).astype(np.int64), np.maximum(left, right)
    _, couple = np.unique(low * n_persons + high, return_inverse=True)
    factors = []
    for k in accepted:
        excess = (np.arange(len(left)) < k) - k / len(left)
        couples = (np.bincount(couple, excess) ** 2).sum()
        rows = ((np.bincount(left, excess, n_persons) + np.bincount(right, excess, n_persons)) ** 2).sum()
        factors.append(math.sqrt(max(rows - couples, couples) / (rows + couples)) if couples > 0 else 1.0)
    return factors


def _resampled_tars(pairs: _Pairs, fars: Sequence[float], resamples: int, seed: int) -> Array:
    if not fars:
        return np.zeros((resamples, 0))
    genuine, impostor = np.flatnonzero(pairs.same), np.flatnonzero(~pairs.same)
    genuine = genuine[np.argsort(pairs.values[genuine])[::-1]]
    impostor = impostor[np.argsort(pairs.values[impostor])[::-1]]
    person, left, right = pairs.left[genuine], pairs.left[impostor], pairs.right[impostor]
    falling_genuine = -pairs.values[genuine]  # ascending, as searchsorted wants them
    falling_impostor = np.append(-pairs.values[impostor], np.inf)  # past the last one every score is accepted
    couples = sparse.coo_array((np.ones(len(left)), (left, right)), shape=(pairs.n_persons, pairs.n_persons)).tocsr()

    def first_of_tie(place: Array) -> Array:
        first: Array = np.searchsorted(falling_impostor, falling_impostor[place], side="left")
        return first

    # The impostor that may not be accepted any more stands at this place: as many before it are.
    blocking = first_of_tie(np.array([far_budget(far, len(impostor)) for far in fars]))
    shrink = np.array(_shrinkage(left, right, blocking, pairs.n_persons))
    enough = min(len(impostor), int(1.3 * max(fars) * len(impostor)) + 100)

    def chunk(start: int) -> Array:
        count = min(CHUNK, resamples - start)
        weights = np.stack([_draw(pairs.n_persons, seed, start + i) for i in range(count)])
        totals = (weights.T * (couples @ weights.T)).sum(axis=0)  # impostor pairs in each resample
        tars = np.full((count, len(fars)), np.nan)
        for i, (weight, total) in enumerate(zip(weights, totals, strict=True)):
            budgets = [far_budget(far, int(total)) for far in fars]
            n = enough
            while True:
                false_accepts = np.cumsum(np.take(weight, left[:n]) * np.take(weight, right[:n]))
                place = np.searchsorted(false_accepts, budgets, side="right")
                if n == len(impostor) or place.max() < n:
                    break
                n = min(len(impostor), 2 * n)
            place = np.rint(blocking + shrink * (first_of_tie(place) - blocking)).astype(np.int64)
            n_accepted = np.searchsorted(falling_genuine, falling_impostor[place], side="left")
            accepted = np.append(0, np.cumsum(np.take(weight, person)))
            if accepted[-1] > 0:
                tars[i] = accepted[n_accepted] / accepted[-1]
        return tars

    with ThreadPoolExecutor(cores()) as pool:
        return np.concatenate(list(pool.map(chunk, range(0, resamples, CHUNK))))


def _draw(n_persons: int, seed: int, resample: int) -> Array:
    """float64[n_persons]: how often each person is drawn; a function of the seed and the resample's number alone."""
    drawn = np.random.default_rng([seed, resample]).integers(0, n_persons, n_persons)
    return np.bincount(drawn, minlength=n_persons).astype(np.float64)
