"""One search through N people: which threshold names a stranger in a promised share of searches (FPIR).

A search makes N comparisons, so a stranger is named far more often than one comparison's FAR says. Where comparisons
are independent, FPIR = 1 - (1 - FAR)**N (ISO/IEC 19795-1; P. Grother, P. J. Phillips, "Models of large population
recognition performance", CVPR 2004). They are not quite: a probe that looks like many people does so at once, which
makes the true FPIR lower.

The FAR needed, 1e-5 for a thousand people and 1 %, is beyond what a small gallery's own pairs show. So the tail of the
impostor scores is that of the network, measured elsewhere, moved to fit the gallery's own highest scores; where nothing
is known of the network it is fitted to those alone.

Some photos look like many people: blurred ones, young faces. So each search is judged by how alike the next people are,
its cohort: WEIGHT times the mean of their scores is taken off every score (R. Auckenthaler, M. Carey, H. Lloyd-Thomas,
"Score normalization for text-independent speaker verification systems", Digital Signal Processing 10, 2000; D. Sturim,
D. Reynolds, "Speaker adaptive cohort selection for Tnorm in text-independent speaker verification", ICASSP 2005).
Chosen on CelebA: dividing by the cohort's spread as well, as T-norm does, names fewer of the enrolled people, and the
templates' own cohorts add nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from facekd.core.types import Array

HIGHEST = 10_000  # scores kept
FAR_RANKS = (100, HIGHEST)  # to which a known tail is moved at first: what a few mix-ups, far above, do not change
# And then, without what is as good as impossible for two people, in galleries of thousands the ranks at the FAR that is
# asked for. By the first ranks alone 1.5 % of strangers were named for 1 % among 4,000 of CelebA's people.
NEAR_RANKS = (20, 200)
IMPOSSIBLE = 0.01  # so many scores of different people are expected from where a score is taken for a mix-up
FEWEST = 1_000  # scores that the tail of an unknown network is fitted to
COHORT = 10  # people whose scores tell how alike a photo is to anybody
WEIGHT = 0.5  # of their mean
POINTS = 12  # ranks compared, evenly in their logarithm
MILDEST = 1e-2  # FAR above which a score says nothing of the tail
RESAMPLES = 200
SCORES, ROWS = 1 << 18, 64  # held at once, 1 MiB, and of very many templates so many rows of them
FARS = tuple(10.0**-power for power in range(1, 11))  # at which a fitted tail is written down


@dataclass(frozen=True, slots=True)
class Tail:
    """The high end of impostor scores: the cosine that a share FAR of comparisons reaches.

    Between its points it is straight over z = sqrt(-2 ln FAR), over which a normal tail nearly is; beyond them it goes
    on as from the first point to the last.
    """

    z: Array  # float64[k], rising; k >= 2
    scores: Array  # float64[k], rising

    @staticmethod
    def of(points: Mapping[float, float]) -> Tail | None:
        """The tail through some thresholds, FAR -> cosine; None where two of different height are not there."""
        fars = sorted(points, reverse=True)
        z, scores = _z(np.array(fars)), np.array([points[far] for far in fars], np.float64)
        if len(fars) < 2 or scores[-1] <= scores[0]:
            return None
        return Tail(z, np.maximum.accumulate(scores))

    @property
    def slope(self) -> float:
        """Cosine over z, from the first point to the last."""
        return float((self.scores[-1] - self.scores[0]) / (self.z[-1] - self.z[0]))

    def cosine(self, far: float | Array) -> Array:
        """float64 of the same shape: the cosine reached by that share of comparisons; `far` in (0, 1)."""
        z = _z(np.asarray(far, np.float64))
        beyond = np.where(z > self.z[-1], z - self.z[-1], np.minimum(z - self.z[0], 0.0))
        return np.asarray(np.interp(z, self.z, self.scores) + self.slope * beyond)

    def far(self, cosine: float) -> float:
        """The share of comparisons that reach a cosine, in (0, 1]."""
        if cosine > self.scores[-1]:
            z = self.z[-1] + (cosine - self.scores[-1]) / self.slope
        elif cosine < self.scores[0]:
            z = self.z[0] + (cosine - self.scores[0]) / self.slope
        else:
            z = np.interp(cosine, self.scores, self.z)
        return float(math.exp(-(max(z, 0.0) ** 2) / 2))

    def moved(self, by: float) -> Tail:
        """The same tail, each score higher by so much."""
        return Tail(self.z, self.scores + by)

    def points(self) -> dict[float, float]:
        """FAR -> cosine at FARS, for `of`."""
        return {far: float(self.cosine(far)) for far in FARS}


def fpir_at(tail: Tail, threshold: float, people: int) -> float:
    """The share of strangers named by one search through `people`."""
    return -math.expm1(people * math.log1p(-min(tail.far(threshold), 1 - 1e-12)))


def far_for(fpir: float, people: int) -> float:
    """The FAR of one comparison at which one search through `people` names a stranger in a share `fpir` of searches."""
    return -math.expm1(math.log1p(-fpir) / people)


@dataclass(frozen=True, slots=True)
class Highest:
    """The highest of many impostor scores, falling, and whose they are."""

    scores: Array  # float32[k], k <= HIGHEST
    probes: Array  # int64[k], rows of the probes
    templates: Array  # int64[k], rows of the templates
    comparisons: int  # of different people, all of them
    levels: Array  # float32[P], the mean score of each probe's cohort; empty where it was not asked for


def cohort_levels(scores: Array) -> Array:
    """float32[P]: the mean of each search's scores of ranks 2 to COHORT + 1, of float32[P, N], N > COHORT."""
    best = np.partition(scores, -COHORT - 1, axis=1)[:, -COHORT - 1 :]
    best.sort(axis=1)
    return np.asarray(best[:, :-1].mean(axis=1))


def highest_scores(probes: Array, owners: Array, templates: Array, centered: bool = False) -> Highest:
    """The highest scores between probes and the templates of other people; never all of them in memory.

    Args:
        probes: float32[P, D], unit norm.
        owners: int64[P], the row of each probe's own template.
        templates: float32[N, D], unit norm, N >= 2.
        centered: take WEIGHT times the level of the probe's cohort off its scores; N > COHORT + 1.
    """
    levels = []
    found = [(np.zeros(0, np.float32), np.zeros(0, np.int64), np.zeros(0, np.int64))]
    least, size = -np.inf, max(ROWS, SCORES // len(templates))
    for start in range(0, len(probes), size):
        scores = probes[start : start + size] @ templates.T
        scores[np.arange(len(scores)), owners[start : start + size]] = -np.inf
        if centered:
            levels.append(cohort_levels(scores))
            scores -= WEIGHT * levels[-1][:, None]
        if np.count_nonzero(scores >= least) > HIGHEST:  # of this block alone
            best = np.argpartition(scores, -HIGHEST, axis=None)[-HIGHEST:]
            rows, columns = np.unravel_index(best, scores.shape)
        else:
            rows, columns = np.nonzero(scores >= least)
        found.append((scores[rows, columns], rows + start, columns))
        if sum(len(part[0]) for part in found) >= 2 * HIGHEST or start + size >= len(probes):
            joined = [np.concatenate(part) for part in zip(*found, strict=True)]
            order = np.lexsort((joined[2], joined[1], -joined[0]))[:HIGHEST]
            found = [(joined[0][order], joined[1][order], joined[2][order])]
            least = found[0][0][-1] if len(order) == HIGHEST else -np.inf
    values, left, right = found[0]
    real = np.isfinite(values)
    comparisons = len(probes) * (len(templates) - 1)
    level = np.concatenate(levels) if centered else np.zeros(0, np.float32)
    return Highest(values[real], left[real], right[real], comparisons, level)


@dataclass(frozen=True, slots=True)
class Fit:
    """A tail fitted to a gallery, and how sure its height is."""

    tail: Tail
    sd: float  # of its cosines, over people drawn anew


def fit_tail(
    highest: Highest, owners: Array, known: Tail | None, people: int, near: bool = False, seed: int = 0
) -> Fit | None:
    """The tail of a gallery's own impostor scores.

    A known tail is moved by the median difference to the gallery's scores of FAR_RANKS, as far as their FAR is MILDEST
    at most; an unknown one is the straight line over z through them. Its standard deviation is over RESAMPLES draws of
    the people, with whom all of their comparisons come and go (bootstrap).

    Args:
        owners: int64[P], the row of each probe's own template.
        known: of the network, measured on others.
        people: rows of the templates.
        near: fit it to NEAR_RANKS then, without scores that it makes IMPOSSIBLE; an unknown one still up to HIGHEST.

    Returns:
        None where there are too few scores to say anything.
    """
    rough = _fit(highest, owners, known, people, FAR_RANKS, seed)
    if rough is None or not near:
        return rough
    kept = highest.scores < rough.tail.cosine(IMPOSSIBLE / highest.comparisons)
    few = replace(highest, scores=highest.scores[kept], probes=highest.probes[kept], templates=highest.templates[kept])
    return _fit(few, owners, known, people, NEAR_RANKS if known is not None else (NEAR_RANKS[0], HIGHEST), seed)


def _fit(
    highest: Highest, owners: Array, known: Tail | None, people: int, ranked: tuple[int, int], seed: int
) -> Fit | None:
    size = highest.comparisons
    last = min(len(highest.scores), ranked[1], math.floor(MILDEST * size))
    first = min(ranked[0], last)
    if first < 1 or (known is None and last < FEWEST):
        return None
    ranks = np.unique(np.rint(np.geomspace(first, last, POINTS)).astype(np.int64))
    fitted = _fitted(ranks / size, highest.scores[ranks - 1], known)
    if fitted is None:
        return None
    generator = np.random.default_rng(seed)
    left, right = owners[highest.probes], highest.templates
    middle, moved = ranks[len(ranks) // 2] / size, []
    for _ in range(RESAMPLES):
        times = np.bincount(generator.integers(0, people, people), minlength=people)
        # A draw has as many comparisons, to a share 1 / people: the same ranks mark the same FAR.
        places = np.minimum(np.searchsorted(np.cumsum(times[left] * times[right]), ranks), len(left) - 1)
        drawn = _fitted(ranks / size, highest.scores[places], known)
        if drawn is not None:
            moved.append(float(drawn.cosine(middle)))
    return Fit(fitted, float(np.std(moved)))


def _fitted(fars: Array, scores: Array, known: Tail | None) -> Tail | None:
    scores = scores.astype(np.float64)
    if known is not None:
        return known.moved(float(np.median(scores - known.cosine(fars))))
    slope, height = np.polyfit(_z(fars), scores, 1)
    return Tail.of({far: float(height + slope * _z(np.array(far))) for far in FARS}) if slope > 0 else None


def fpir_interval(fit: Fit, threshold: float, people: int) -> tuple[float, float]:
    """95 % interval of the FPIR at a threshold, from how sure the tail's height is; its shape is taken as known."""
    ends = [fpir_at(fit.tail.moved(by * fit.sd), threshold, people) for by in (-1.96, 1.96)]
    return ends[0], ends[1]


def _z(far: Array) -> Array:
    return np.asarray(np.sqrt(-2 * np.log(far)))
