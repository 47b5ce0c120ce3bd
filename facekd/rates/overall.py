"""How sure accuracy, EER and AUC are when pairs share people.

Each of them is, up to terms that vanish faster, a mean over pairs of what every pair adds to it (its influence), so
its error is a sum over people as that of a TAR (rates/deviations.py). For the AUC the influences are the placement
values of E. DeLong, D. DeLong and D. Clarke-Pearson (Biometrics 44, 1988), summed over clusters as N. Obuchowski does
(Biometrics 53, 1997).
"""

from __future__ import annotations

import numpy as np

from facekd.core.types import Array, Scores
from facekd.rates.deviations import Deviation, GenuinePairs, ImpostorPairs, ThresholdError
from facekd.rates.folds import Accuracy
from facekd.rates.intervals import t95, wilson, wilson_of_people
from facekd.rates.persons import ListOfPeople

BLOCK = 1 << 20  # scores placed at once
NEAR = 1.5  # without people, the ROC's slope at the EER is taken where a rate is so much lower and higher


def auc_interval(values: Array, same: Array, people: ListOfPeople | None, auc: float) -> tuple[float, float]:
    """95 % interval of an AUC.

    Args:
        values: float[P], -inf of a pair without a score.
        same: bool[P].
        people: of the same pairs; None takes the pairs as independent.
    """
    if people is not None:
        return auc_ends(auc, auc_deviation(people.genuine, people.impostor), people.genuine, len(values))
    genuine, impostor = values[same], values[~same]
    variance = 0.0
    for mine, others in ((genuine, impostor), (impostor, genuine)):
        share = _below(np.sort(others), mine)
        variance += float(share.var()) / len(share)
    return _independent(auc, variance, len(genuine), len(values))


def eer_interval(values: Array, same: Array, people: ListOfPeople | None, eer: float) -> tuple[float, float]:
    """95 % interval of an EER, the threshold moving with the pairs. Arguments as `auc_interval`.

    Where FAR rises by a and FNMR by b at the same threshold, the crossing moves by (g a + f b) / (f + g), with f and g
    the densities of impostor and genuine scores there.
    """
    if people is not None:
        return interval_of(eer, eer_deviation(people.genuine, people.impostor, eer), people.genuine, len(values))
    genuine, impostor = np.sort(values[same]), np.sort(values[~same])[::-1]

    def at(share: float, scores: Array) -> float:
        return float(scores[min(int(share * len(scores)), len(scores) - 1)])

    near = [at(min(1.0, eer * by), scores) for by in (1 / NEAR, NEAR) for scores in (genuine, impostor)]
    f, g = (float(((scores >= min(near)) & (scores <= max(near))).mean()) for scores in (impostor, genuine))
    variance = eer * (1 - eer) * (f * f / len(genuine) + g * g / len(impostor)) / (f + g) ** 2
    ends = _independent(eer, variance, len(genuine), len(values))
    # Few genuine pairs without a miss say little of FNMR, however sure FAR is.
    few = wilson_of_people(eer, eer, variance, pairs=len(values), worth=len(genuine), people=len(genuine))
    return min(ends[0], few[0]), max(ends[1], few[1])


def accuracy_interval(scores: Scores, people: ListOfPeople | None, accuracy: Accuracy) -> tuple[float, float]:
    """95 % interval of an accuracy over folds, each fold's threshold as it was chosen on the others.

    Args:
        scores: of the pairs that are in a fold.
        people: of the same pairs.
    """
    _, fold = np.unique(scores.fold, return_inverse=True)
    thresholds = np.array([np.inf if one is None else one for one in accuracy.thresholds])
    right = ((scores.values >= thresholds[fold]) == scores.same).astype(np.float64)
    share = float(scores.same.mean())
    if people is None:
        found, rejected = float(right[scores.same].mean()), float(right[~scores.same].mean())
        variance = (share * found * (1 - found) + (1 - share) * rejected * (1 - rejected)) / len(right)
        return _independent(accuracy.mean, variance, round(share * len(right)), len(right))
    dyads, genuine, impostor = people.dyads, people.genuine, people.impostor
    hits = np.bincount(dyads.person, right[dyads.genuine], dyads.n_persons) * genuine.weight
    rejects = np.bincount(dyads.couple, right[dyads.impostor], len(dyads.couple_pairs)) * dyads.couple_weight
    kept, turned = float(hits.sum()) / genuine.total, float(rejects.sum()) / impostor.total
    persons = share * (hits - kept * dyads.person_pairs * genuine.weight) / genuine.total
    couples = (1 - share) * (rejects - turned * dyads.couple_pairs * dyads.couple_weight) / impostor.total
    value = share * kept + (1 - share) * turned
    return interval_of(accuracy.mean, Deviation(value, persons, dyads.by_person(couples), couples), genuine, len(right))


def auc_deviation(genuine: GenuinePairs, impostor: ImpostorPairs) -> Deviation:
    """The AUC by the people's weights, and what people add to its error; ties count half."""
    n = int(np.searchsorted(impostor.falling, np.inf))  # those with a score
    sides = [np.searchsorted(impostor.falling[:-1], genuine.falling, side=side) for side in ("left", "right")]
    above = (impostor.sums[sides[0]] + impostor.sums[sides[1]]) / 2 / impostor.total
    # of pairs without a score, which need not be listed, all impostor scores lie above but those without one
    lost = (impostor.sums[n] + impostor.total) / 2 / impostor.total
    above = np.where(genuine.falling < np.inf, above, lost)
    scored = np.bincount(genuine.person, minlength=len(genuine.pairs))
    won = np.bincount(genuine.person, 1 - above, len(genuine.pairs)) + (genuine.pairs - scored) * (1 - lost)
    auc = float(genuine.weight @ won / genuine.total)
    persons = genuine.weight * (won - auc * genuine.pairs) / genuine.total

    dyads = impostor.dyads
    sides = [np.searchsorted(genuine.falling, impostor.falling[:-1], side=side) for side in ("left", "right")]
    beaten = (genuine.sums[sides[0]] + genuine.sums[sides[1]]) / 2 / genuine.total
    listed = int(np.searchsorted(genuine.falling, np.inf))
    unscored = (genuine.sums[listed] + genuine.total) / 2 / genuine.total
    beaten = np.where(impostor.falling[:-1] < np.inf, beaten, unscored)
    there = np.bincount(impostor.couple, minlength=len(dyads.couple_pairs))
    lower = np.bincount(impostor.couple, beaten, len(dyads.couple_pairs)) + (dyads.couple_pairs - there) * unscored
    couples = dyads.couple_weight * (lower - auc * dyads.couple_pairs) / impostor.total
    return Deviation(auc, persons, dyads.by_person(couples), couples)


def eer_deviation(genuine: GenuinePairs, impostor: ImpostorPairs, eer: float) -> Deviation:
    """The EER by the people's weights, about `eer`, and what people add to its error.

    The EER e is where FNMR(e) = e along the ROC; a miss more there moves it by 1 / (1 + slope).
    """
    far = min(max(eer, 1e-9), 1.0)
    error = ThresholdError.at(genuine, impostor, far)
    by = 1 / (1 + error.slope)
    value = min(1.0, max(0.0, eer + by * (1 - eer - genuine.tar(error.blocking))))
    moved = by * error.slope
    misses = -by * genuine.deviations(error.blocking)
    return Deviation(value, misses, moved * error.persons, moved * error.couples)


def interval_of(plain: float, deviation: Deviation, genuine: GenuinePairs, pairs: float) -> tuple[float, float]:
    """95 % interval of a share of all pairs, `plain` over the pairs alike.

    What a pair adds to an AUC or EER is mostly far less than a whole error, so Wilson's shift towards 1/2, which is
    made for hits and misses, leaves no room on the other side. Wilson's own at the number of pairs that the variance
    is worth does; the wider end of the two counts, so a requirement is still held against the safer bound.
    """
    value, variance, people = deviation.value, deviation.variance(), genuine.people
    low, high = wilson_of_people(plain, value, variance, pairs=pairs, worth=genuine.evidence, people=people)
    if not 0 < value < 1:
        return low, high
    even = value * (1 - value)
    n = even / max(variance * people / max(people - 1, 1), even / pairs)
    least, most = wilson(value * n, n)
    return min(low, least), max(high, most)


def auc_ends(plain: float, deviation: Deviation, genuine: GenuinePairs, pairs: float) -> tuple[float, float]:
    """95 % interval of an AUC, `plain` over the pairs alike: Wilson's at the number of pairs its variance is worth.

    What a pair adds to an AUC is far less than a whole error, so the people's evidence is not what it is worth.
    """
    value, people = deviation.value, genuine.people
    variance = deviation.variance() * people / max(people - 1, 1)
    if variance == 0 or not 0 < value < 1:
        return interval_of(plain, deviation, genuine, pairs)
    n = min(value * (1 - value) / variance, pairs)
    low, high = wilson(value * n, n, t95(people))
    return min(low, plain), max(high, plain)


def _below(ascending: Array, scores: Array) -> Array:
    """float64: the share of some scores below each of others; ties count half."""
    share = np.empty(len(scores))
    for start in range(0, len(scores), BLOCK):
        part = slice(start, start + BLOCK)
        left, right = (np.searchsorted(ascending, scores[part], side=side) for side in ("left", "right"))
        share[part] = (left + right) / 2 / len(ascending)
    return share


def _independent(share: float, variance: float, n_genuine: int, pairs: int) -> tuple[float, float]:
    """Wilson's at the number of pairs that the variance is worth; without any as for the genuine pairs alone."""
    certain = variance == 0 or not 0 < share < 1
    n = float(n_genuine) if certain else min(share * (1 - share) / variance, float(pairs))
    return wilson(share * n, n)
