"""Intervals of rates over all pairs of labeled embeddings, of which too many can't be kept.

All genuine scores count. Of more impostor pairs than `MOST` those of some people, drawn at random, tell how people
differ; what they add to the error is scaled to all people. The rates themselves are exact, see allpairs.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from facekd.core.types import Array, Rate
from facekd.rates.deviations import Deviation, GenuinePairs, ImpostorPairs, blocking_of, far_deviation, tar_deviation
from facekd.rates.dyads import COUPLE_CORRELATION, Dyads, evidence, pair_weights
from facekd.rates.intervals import wilson_of_people
from facekd.rates.overall import auc_deviation, auc_ends, eer_deviation, interval_of
from facekd.rates.persons import Difference, difference_of, tar_interval

MOST = 4_000_000  # pairs among the people drawn
ROWS = 512  # of the product made at once
SEEN = 10  # as many comparisons of the sample at least have to be accepted to tell how people differ

Ends = Callable[[float, Deviation, GenuinePairs, float], tuple[float, float]]  # as `overall.interval_of`
Product = Callable[[Array, Array, Array], object]  # (f32[a, D], f32[b, D], out f32[a, b]): out = left @ right.T


@dataclass(frozen=True, slots=True)
class SampledPeople:
    """One model's genuine pairs, and the impostor pairs of the people drawn."""

    genuine: GenuinePairs
    impostor: ImpostorPairs
    n_scored: int  # impostor scores of the sample
    n_pairs: int  # its impostor pairs, those without a score too
    share: float  # of the people drawn

    def deviation(self, far: float, threshold: float) -> Deviation:
        """TAR at a FAR and what people add to its error.

        Args:
            threshold: the highest score that all pairs don't accept at this FAR.
        """
        dyads = self.impostor.dyads
        lowest = min(1.0, SEEN / dyads.impostor_evidence) if self.share < 1 else 0.0
        at = max(far, lowest)  # below it the sample shows no errors; their spread then grows as that of rare counts
        grown = math.sqrt(at / far)
        moved = 0.0
        if self.share < 1 and threshold < np.inf:
            moved = -threshold - float(self.impostor.falling[min(int(at * self.n_pairs), self.n_scored)])
        found = tar_deviation(self.genuine, self.impostor, at, moved)
        return replace(
            found,
            impostor=(grown * found.impostor).astype(np.float32),
            couples=(grown * found.couples).astype(np.float32),
            share=self.share,
        )

    def interval(self, rate: Rate, threshold: float) -> Rate:
        """A rate over all pairs with its interval. `threshold` as in `deviation`."""
        assert rate.tar is not None
        low, high = tar_interval(rate.tar, self.deviation(rate.far_asked, threshold), self.genuine)
        return replace(rate, low=low, high=high)

    def interval_at(self, rate: Rate) -> Rate:
        """A rate over all pairs at a threshold that was given, with its interval."""
        assert rate.tar is not None
        assert rate.threshold is not None
        blocking = blocking_of(rate.threshold, self.genuine.falling)
        nothing = np.zeros(len(self.genuine.pairs))
        deviation = Deviation(self.genuine.tar(blocking), self.genuine.deviations(blocking), nothing, np.zeros(0))
        low, high = tar_interval(rate.tar, deviation, self.genuine)
        return replace(rate, low=low, high=high)

    def far_interval(self, rate: Rate, threshold: float) -> tuple[float, float]:
        """95 % interval of the FAR of all pairs at a threshold that was given."""
        deviation = far_deviation(self.impostor, blocking_of(threshold, self.impostor.falling))
        worth = rate.n_impostor if rate.evidence is None else rate.evidence
        value = deviation.value if self.share == 1 else rate.far
        variance = replace(deviation, share=self.share).variance()
        people = self.impostor.people / self.share
        return wilson_of_people(rate.far, value, variance, pairs=rate.n_impostor, worth=worth, people=people)

    def difference(self, rate: Rate, other: SampledPeople, theirs: Rate) -> Difference:
        """A TAR less that of another network over the same pairs at the same FAR."""
        if rate.tar is None or theirs.tar is None or np.count_nonzero(self.genuine.pairs) < 2:
            return Difference(rate.far_asked, None, None, None, None)
        mine, others = (
            people.deviation(one.far_asked, np.inf if one.threshold is None else one.threshold)
            for people, one in ((self, rate), (other, theirs))
        )
        return difference_of(rate.far_asked, rate.tar - theirs.tar, mine - others, self.genuine.people)

    def eer_interval(self, eer: float) -> tuple[float, float]:
        """95 % interval of the EER of all pairs."""
        return self._share(eer, eer_deviation(self.genuine, self.impostor, eer), interval_of)

    def auc_interval(self, auc: float) -> tuple[float, float]:
        """95 % interval of the AUC of all pairs."""
        return self._share(auc, auc_deviation(self.genuine, self.impostor), auc_ends)

    def _share(self, plain: float, deviation: Deviation, ends: Ends) -> tuple[float, float]:
        value = deviation.value if self.share == 1 else plain
        pairs = float(self.genuine.pairs.sum() + self.n_pairs / self.share**2)
        return ends(plain, replace(deviation, value=value, share=self.share), self.genuine, pairs)


def all_pairs_evidence(photos: Array) -> float:
    """As how many independent comparisons all impostor pairs of people count that have so many photos, int[persons]."""
    sizes, people = np.unique(photos, return_counts=True)
    of_two = evidence(np.outer(sizes, sizes), COUPLE_CORRELATION)
    same = evidence(sizes * sizes, COUPLE_CORRELATION)
    return float((people @ of_two @ people - people @ same) / 2)


def sampled_people(
    vectors: Array,
    order: Array,
    number: Array,
    photos: Array,
    genuine: tuple[Array, Array],
    product: Product,
) -> SampledPeople:
    """The people of embeddings.

    Args:
        vectors: float32[N, D].
        order: int64[N], their rows, those of a person side by side.
        number: int[N], whose each is in that order, from 0, ascending.
        photos: int64[persons], how many each has, those without an embedding too.
        genuine: float32[G] and int[G], the genuine scores and whose they are.
    """
    drawn = np.random.default_rng(0).permutation(len(photos))
    total = np.cumsum(photos[drawn])
    fit = len(photos) if _pairs(len(number)) <= MOST else int(np.searchsorted(_pairs(total), MOST, side="right"))
    people = np.sort(drawn[: max(2, fit)])
    chosen = np.flatnonzero(np.isin(number, people))
    place = np.searchsorted(people, number[chosen])  # of each photo's person among the people drawn
    left, right = np.triu_indices(len(people), 1)
    pairs = photos[people[left]] * photos[people[right]]
    dyads = Dyads(
        genuine=np.zeros(0, np.int64),
        impostor=np.zeros(0, np.int64),
        person=genuine[1],
        couple=np.zeros(0, np.int64),
        sides=(people[left], people[right]),
        n_persons=len(photos),
        person_pairs=_pairs(photos),
        couple_pairs=pairs,
        couple_weight=pair_weights(pairs, COUPLE_CORRELATION),
        impostor_evidence=float(evidence(pairs, COUPLE_CORRELATION).sum()),
    )
    scores, couple = _impostors(vectors[order[chosen]], place, len(people), product)
    return SampledPeople(
        genuine=GenuinePairs.of(genuine[0], genuine[1], dyads.person_pairs),
        impostor=ImpostorPairs.of(scores, couple, dyads),
        n_scored=len(scores),
        n_pairs=int(pairs.sum()),
        share=len(people) / len(photos),
    )


def _pairs(n: Array | int) -> Array:
    return np.asarray(n, np.int64) * (np.asarray(n, np.int64) - 1) // 2


def _impostors(vectors: Array, place: Array, people: int, product: Product) -> tuple[Array, Array]:
    """float32[I] and int64[I]: the impostor scores, and the couple of each, numbered as by `np.triu_indices`."""
    scores, couples = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)]
    first = place * people - place * (place + 1) // 2 - place - 1  # the couple's number, less the other's place
    for start in range(0, len(place), ROWS):
        rows = slice(start, min(start + ROWS, len(place)))
        tile = np.empty((rows.stop - start, len(place) - start), np.float32)
        product(np.ascontiguousarray(vectors[rows]), np.ascontiguousarray(vectors[start:]), tile)
        impostor = place[rows, None] < place[None, start:]
        scores.append(tile[impostor])
        couples.append((first[rows, None] + place[None, start:])[impostor])
    return np.concatenate(scores), np.concatenate(couples)
