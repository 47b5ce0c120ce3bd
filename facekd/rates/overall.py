"""How sure accuracy, EER and AUC are when pairs share people.

Each of them is, up to terms that vanish faster, a mean over pairs of what every pair adds to it (its influence), so
its error is a sum over people as that of a TAR (rates/deviations.py). For the AUC the influences are the placement
values of E. DeLong, D. DeLong and D. Clarke-Pearson (Biometrics 44, 1988), summed over clusters as N. Obuchowski does
(Biometrics 53, 1997).
"""

from __future__ import annotations

import numpy as np

from facekd.core.types import Array, Scores
from facekd.rates.deviations import Deviation, GenuinePairs, ImpostorPairs, roc_slope, tar_deviation
from facekd.rates.dyads import Dyads, effective
from facekd.rates.folds import Accuracy
from facekd.rates.intervals import wilson_of_people
from facekd.rates.persons import ListOfPeople

Persons = tuple[Array, Array]


def auc_interval(values: Array, same: Array, persons: Persons | None, auc: float) -> tuple[float, float]:
    """95 % interval of an AUC.

    Args:
        values: float[P], -inf of a pair without a score.
        same: bool[P].
        persons: [P] twice, who is on either side; None takes the pairs as independent.
    """
    listed = _listed(values, same, persons)
    return interval_of(auc, auc_deviation(listed.genuine, listed.impostor), listed.genuine, len(values))


def eer_interval(values: Array, same: Array, persons: Persons | None, eer: float) -> tuple[float, float]:
    """95 % interval of an EER, the threshold moving with the pairs. Arguments as `auc_interval`."""
    listed = _listed(values, same, persons)
    return interval_of(eer, eer_deviation(listed.genuine, listed.impostor, eer), listed.genuine, len(values))


def accuracy_interval(scores: Scores, persons: Persons | None, accuracy: Accuracy) -> tuple[float, float]:
    """95 % interval of an accuracy over folds, each fold's threshold as it was chosen on the others.

    Args:
        scores: of the pairs that are in a fold.
        persons: of the same pairs.
    """
    _, fold = np.unique(scores.fold, return_inverse=True)
    thresholds = np.array([np.inf if one is None else one for one in accuracy.thresholds])
    right = ((scores.values >= thresholds[fold]) == scores.same).astype(np.float64)
    listed = _listed(scores.values, scores.same, persons)
    dyads = listed.dyads
    share = np.count_nonzero(scores.same) / len(right)
    genuine, impostor = right[dyads.genuine], right[dyads.impostor]
    found = np.bincount(dyads.person, genuine, dyads.n_persons) * listed.genuine.weight
    rejected = np.bincount(dyads.couple, impostor, len(dyads.couple_pairs)) * dyads.couple_weight
    hits, rejects = found.sum() / listed.genuine.total, rejected.sum() / listed.impostor.total
    persons_part = (found - hits * dyads.person_pairs * listed.genuine.weight) / listed.genuine.total
    couples = (rejected - rejects * dyads.couple_pairs * dyads.couple_weight) / listed.impostor.total
    value = float(share * hits + (1 - share) * rejects)
    deviation = Deviation(value, share * persons_part, (1 - share) * dyads.by_person(couples), (1 - share) * couples)
    return interval_of(accuracy.mean, deviation, listed.genuine, len(right))


def auc_deviation(genuine: GenuinePairs, impostor: ImpostorPairs) -> Deviation:
    """The AUC by the people's weights, and what people add to its error; ties count half."""
    n = len(impostor.falling) - 1
    sides = [np.searchsorted(impostor.falling[:-1], genuine.falling, side=side) for side in ("left", "right")]
    above = (impostor.sums[sides[0]] + impostor.sums[sides[1]]) / 2 / impostor.total
    # of pairs without a score, which need not be listed, all impostor scores lie above but those without one
    lost = (impostor.sums[n] + impostor.total) / 2 / impostor.total
    above = np.where(np.isfinite(genuine.falling), above, lost)
    scored = np.bincount(genuine.person, minlength=len(genuine.pairs))
    won = np.bincount(genuine.person, 1 - above, len(genuine.pairs)) + (genuine.pairs - scored) * (1 - lost)
    auc = float(genuine.weight @ won / genuine.total)
    persons = genuine.weight * (won - auc * genuine.pairs) / genuine.total

    dyads = impostor.dyads
    sides = [np.searchsorted(genuine.falling, impostor.falling[:-1], side=side) for side in ("left", "right")]
    beaten = (genuine.sums[sides[0]] + genuine.sums[sides[1]]) / 2 / genuine.total
    listed = int(np.searchsorted(genuine.falling, np.inf))
    unscored = (genuine.sums[listed] + genuine.total) / 2 / genuine.total
    beaten = np.where(np.isfinite(impostor.falling[:-1]), beaten, unscored)
    there = np.bincount(impostor.couple, minlength=len(dyads.couple_pairs))
    lower = np.bincount(impostor.couple, beaten, len(dyads.couple_pairs)) + (dyads.couple_pairs - there) * unscored
    couples = dyads.couple_weight * (lower - auc * dyads.couple_pairs) / impostor.total
    return Deviation(auc, persons, dyads.by_person(couples), couples)


def eer_deviation(genuine: GenuinePairs, impostor: ImpostorPairs, eer: float) -> Deviation:
    """The EER by the people's weights, about `eer`, and what people add to its error.

    The EER e is where FNMR(e) = e along the ROC; a miss more there moves it by 1 / (1 + slope).
    """
    far = min(max(eer, 1e-9), 1.0)
    tar, slope = tar_deviation(genuine, impostor, far), roc_slope(genuine, impostor, far)
    by = -1 / (1 + slope)
    value = min(1.0, max(0.0, eer + by * (tar.value - (1 - eer))))
    return Deviation(value, by * tar.genuine, by * tar.impostor, by * tar.couples)


def interval_of(plain: float, deviation: Deviation, genuine: GenuinePairs, pairs: float) -> tuple[float, float]:
    """95 % interval of a share of all pairs, `plain` over the pairs alike."""
    return wilson_of_people(
        plain,
        deviation.value,
        deviation.variance(),
        pairs=pairs,
        worth=genuine.evidence,
        people=genuine.people,
    )


def far_deviation(impostor: ImpostorPairs, blocking: float) -> Deviation:
    """The share of impostor pairs that score above ``-blocking``, and what people add to its error."""
    couples = impostor.deviations(blocking)
    by_person = impostor.dyads.by_person(couples)
    return Deviation(impostor.far(blocking), np.zeros(len(by_person)), by_person, couples)


def people_of(dyads: Dyads) -> float:
    """As how many people with equally many impostor pairs those of a list count."""
    return effective(dyads.by_person(dyads.couple_pairs * dyads.couple_weight))


def _listed(values: Array, same: Array, persons: Persons | None) -> ListOfPeople:
    if persons is None:
        alone = np.arange(len(same))
        persons = alone, np.where(same, alone, alone + len(same))
    return ListOfPeople.of(values, same, *persons)
