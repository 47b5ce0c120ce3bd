"""What all pairs show of each person, and the intervals of EER and AUC that are made of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from facekd.core.types import Array
from facekd.rates.intervals import Z95
from facekd.rates.overall import NEAR, spread_interval


@dataclass(frozen=True, slots=True)
class ByPerson:
    """What was counted of each person: pairs of one person depend on each other, so intervals are made of these.

    Persons stand in the order of their sorted names. A pair between two persons counts for both.
    """

    genuine_pairs: Array  # int64[persons]
    impostor_pairs: Array  # int64[persons]
    accepted: Mapping[float, Array]  # FAR asked -> int64[persons], genuine pairs accepted at its threshold
    false_accepts: Mapping[float, Array]  # threshold -> int64[persons], impostor pairs accepted there

    @property
    def n_genuine(self) -> int:
        return int(self.genuine_pairs.sum())

    @property
    def n_impostor(self) -> int:
        return int(self.impostor_pairs.sum()) // 2


def auc_interval_of(auc: float, people: ByPerson, won: Array, beaten: Array) -> tuple[float, float]:
    """95 % interval of the AUC over all pairs, as `overall.auc_interval` of their list.

    Args:
        won: float64[persons], the sum over the genuine pairs of each of the share of impostor pairs that score lower.
        beaten: float64[persons], the sum over its impostor pairs of the share of genuine pairs that score higher.
    """
    genuine, impostor = people.genuine_pairs, people.impostor_pairs
    rows = (won - won.sum() / people.n_genuine * genuine) / people.n_genuine
    rows = rows + (beaten - beaten.sum() / 2 / people.n_impostor * impostor) / people.n_impostor
    return spread_interval(auc, rows, genuine, people.n_genuine + people.n_impostor)


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
            ends.append(
                float(genuine[min(max(0, int(share * n_genuine) - (n_genuine - len(genuine))), len(genuine) - 1)])
            )
    if not ends:
        return 0.0, 1.0
    low, high = np.float32(min(ends)), np.float32(max(ends))
    near = np.searchsorted(genuine, high, side="right") - np.searchsorted(genuine, low)
    places = np.searchsorted(-scores, [-high, -low], side="right")
    counts = np.append(0, reached)[places]
    g, f = near / n_genuine, (counts[1] - counts[0]) / n_impostor
    weight = f / (f + g) if f + g > 0 else 0.5
    rows = weight * (missed - missed.sum() / n_genuine * people.genuine_pairs) / n_genuine
    rows = rows + (1 - weight) * (accepted - accepted.sum() / 2 / n_impostor * people.impostor_pairs) / n_impostor
    return spread_interval(eer, rows, people.genuine_pairs, n_genuine + n_impostor)


def difference_of(
    a: ByPerson, b: ByPerson, far: float
) -> tuple[float, float, float, float] | tuple[None, None, None, None]:
    """TAR of one network less that of another over the same pairs at a FAR, its 95 % interval, and a p-value.

    Each person's difference counts as one draw, and both thresholds are taken as given. None where either can't show
    the FAR.
    """
    if far not in a.accepted or far not in b.accepted:
        return None, None, None, None
    moved = (a.accepted[far] - b.accepted[far]).astype(np.float64)
    n, persons = a.n_genuine, int((a.genuine_pairs > 0).sum())
    difference = float(moved.sum()) / n
    rows = (moved - difference * a.genuine_pairs) / n
    spread = math.sqrt(float((rows**2).sum()) * persons / max(1, persons - 1))
    p_value = math.erfc(abs(difference) / spread / math.sqrt(2)) if spread > 0 else 1.0 if difference == 0 else 0.0
    half = Z95 * spread
    return difference, max(-1.0, difference - half), min(1.0, difference + half), p_value
