"""What all pairs show of each person, and the intervals of EER, AUC and differences that are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facekd.core.types import Array
from facekd.rates.dyads import COUPLE_CORRELATION, PERSON_CORRELATION, effective, evidence
from facekd.rates.intervals import wilson_of_people
from facekd.rates.overall import NEAR
from facekd.rates.persons import Difference, difference_of
from facekd.rates.sampled import SampledPeople, all_pairs_evidence


@dataclass(frozen=True, slots=True)
class ByPerson:
    """What was counted of each person: pairs of one person depend on each other, so intervals are made of these.

    Persons stand in the order of their sorted names. A pair between two persons counts for both.
    """

    genuine_pairs: Array  # int64[persons]
    impostor_pairs: Array  # int64[persons]
    photos: Array  # int64[persons]
    false_accepts: Mapping[float, Array]  # threshold -> int64[persons], impostor pairs accepted there
    sampled: SampledPeople
    blocking: Mapping[float, float]  # FAR -> the highest score that is not accepted at it
    tars: Mapping[float, float]  # FAR -> TAR

    @property
    def n_genuine(self) -> int:
        return int(self.genuine_pairs.sum())

    @property
    def n_impostor(self) -> int:
        return int(self.impostor_pairs.sum()) // 2

    @property
    def evidence(self) -> float:
        """As how many independent comparisons all impostor pairs count."""
        return all_pairs_evidence(self.photos)

    def interval(self, plain: float, won: Array, lost: Array) -> tuple[float, float]:
        """95 % interval of a share of all pairs, the people weighed by the evidence of their pairs (rates/dyads.py).

        What two persons have of their own is in both their sums and not taken out: no less wide.

        Args:
            plain: the share.
            won: float64[persons], what the genuine pairs of each add to it, summed; 1 or 0 of a pair where they are
                the share alone.
            lost: float64[persons], the same of the impostor pairs of each.
        """
        counted = evidence(self.genuine_pairs, PERSON_CORRELATION)
        couples = _couple_evidence(self.photos)
        mean = np.divide(won, self.genuine_pairs, out=np.zeros(len(won)), where=self.genuine_pairs > 0)
        other = np.divide(lost, self.impostor_pairs, out=np.zeros(len(lost)), where=self.impostor_pairs > 0)
        centers = float(counted @ mean / counted.sum()), float(couples @ other / couples.sum())
        rows = counted * (mean - centers[0]) / counted.sum() + 2 * couples * (other - centers[1]) / couples.sum()
        value = plain + centers[0] - float(won.sum()) / self.n_genuine
        value += centers[1] - float(lost.sum()) / 2 / self.n_impostor
        return wilson_of_people(
            plain,
            min(1.0, max(0.0, value)),
            float(rows @ rows),
            pairs=float(self.n_genuine + self.n_impostor),
            worth=float(counted.sum()),
            people=effective(counted),
        )


def auc_interval_of(auc: float, people: ByPerson, won: Array, beaten: Array) -> tuple[float, float]:
    """95 % interval of the AUC over all pairs, as `overall.auc_interval` of their list.

    Args:
        won: float64[persons], the sum over the genuine pairs of each of the share of impostor pairs that score lower.
        beaten: float64[persons], the sum over its impostor pairs of the share of genuine pairs that score higher.
    """
    return people.interval(auc, won, beaten)


def eer_interval_of(
    eer: float, people: ByPerson, missed: Array, accepted: Array, genuine: Array, falling: tuple[Array, Array]
) -> tuple[float, float]:
    """95 % interval of the EER over all pairs, as `overall.eer_interval` of their list.

    Args:
        missed: int64[persons], genuine pairs of each that score lower than about the EER's threshold,
        accepted: int64[persons], and its impostor pairs that reach it.
        genuine: float32, ascending genuine scores.
        falling: the lowest score of each bin of the impostor scores and how many reach it, by falling score.
    """
    n_genuine, n_impostor = people.n_genuine, people.n_impostor
    scores, reached = falling
    ends = []
    for by in (1 / NEAR, NEAR):
        share = min(1.0, eer * by)
        if len(scores):
            ends.append(float(scores[min(int(np.searchsorted(reached, share * n_impostor)), len(scores) - 1)]))
        if len(genuine):
            lower = int(share * n_genuine) - (n_genuine - len(genuine))  # pairs without a score come first
            ends.append(float(genuine[min(max(0, lower), len(genuine) - 1)]))
    if not ends:
        return 0.0, 1.0
    low, high = np.float32(min(ends)), np.float32(max(ends))
    near = np.searchsorted(genuine, high, side="right") - np.searchsorted(genuine, low)
    places = np.searchsorted(-scores, [-high, -low], side="right")
    counts = np.append(0, reached)[places]
    g, f = near / n_genuine, (counts[1] - counts[0]) / n_impostor
    weight = f / (f + g) if f + g > 0 else 0.5
    return people.interval(eer, weight * missed, (1 - weight) * accepted)


def all_pairs_difference(a: ByPerson, b: ByPerson, far: float) -> Difference:
    """TAR of one network less that of another over the same pairs at a FAR, as `persons.paired_differences`."""
    if far not in a.tars or far not in b.tars or int((a.genuine_pairs > 0).sum()) < 2:
        return Difference(far, None, None, None, None)
    deviation = a.sampled.deviation(far, a.blocking[far]) - b.sampled.deviation(far, b.blocking[far])
    return difference_of(far, a.tars[far] - b.tars[far], deviation, a.sampled.genuine.people)


def _couple_evidence(photos: Array) -> Array:
    """float64[persons]: as how many independent comparisons the impostor pairs of each count."""
    sizes, number, people = np.unique(photos, return_inverse=True, return_counts=True)
    of_two = evidence(np.outer(sizes, sizes), COUPLE_CORRELATION)
    found: Array = (of_two @ people - np.diag(of_two))[number]  # with everybody but oneself
    return found
