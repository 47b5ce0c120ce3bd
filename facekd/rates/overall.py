"""How sure accuracy, EER and AUC are when pairs share persons.

Each of them is, up to terms that vanish faster, a mean over pairs: of what every pair adds to it (its influence). For
the AUC that is the placement values of E. DeLong, D. DeLong and D. Clarke-Pearson (Biometrics 44, 1988), summed over
people as N. Obuchowski sums them over clusters (Biometrics 53, 1997). The people are weighed and their sums turned into
a variance as those of a TAR are (rates/deviations.py).
"""

from __future__ import annotations

import numpy as np

from facekd.core.types import Array, Scores
from facekd.rates.counts import Curve
from facekd.rates.deviations import Deviation
from facekd.rates.dyads import PERSON_CORRELATION, Dyads, effective, evidence
from facekd.rates.folds import Accuracy
from facekd.rates.intervals import wilson, wilson_of_people

BLOCK = 1 << 20  # scores placed at once
NEAR = 1.5  # the slope of the ROC at the EER is taken between the scores where a rate is so much lower and higher


def auc_interval(values: Array, same: Array, persons: tuple[Array, Array] | None, auc: float) -> tuple[float, float]:
    """95 % interval of an AUC.

    Args:
        values: float[P], -inf of a pair without a score.
        same: bool[P].
        persons: [P] twice, who is on either side; None takes the pairs as independent.
    """
    genuine, impostor = np.sort(values[same]), np.sort(values[~same])

    def below(sorted_values: Array, at: Array) -> Array:
        found = np.empty(len(at))
        for start in range(0, len(at), BLOCK):
            part = slice(start, start + BLOCK)
            left, right = (np.searchsorted(sorted_values, at[part], side=side) for side in ("left", "right"))
            found[part] = (left + right) / 2 / len(sorted_values)
        return found

    adds = np.empty(len(values))
    adds[same] = below(impostor, values[same])
    adds[~same] = 1 - below(genuine, values[~same])
    del genuine, impostor  # of ten million pairs each array takes 80 MB
    return _interval(auc, adds, same, persons)


def eer_interval(
    values: Array, same: Array, persons: tuple[Array, Array] | None, counts: Curve, eer: float
) -> tuple[float, float]:
    """95 % interval of an EER, the threshold moving with the pairs.

    Where FAR rises by a and FNMR by b at the same threshold, the crossing moves by (g a + f b) / (f + g), with f and g
    the densities of impostor and genuine scores there. Arguments as `auc_interval`.
    """
    far = counts.impostor / counts.n_impostor
    misses = 1 - counts.genuine / counts.n_genuine
    place = min(int(np.searchsorted(far - misses, 0.0)), len(far) - 1) if len(far) else 0
    accepted = values >= (counts.thresholds[place] if len(far) else np.inf)
    del far, misses
    genuine, impostor = np.sort(values[same]), np.sort(values[~same])[::-1]

    def at(share: float, scores: Array) -> float:
        return float(scores[min(int(share * len(scores)), len(scores) - 1)])

    ends = [at(min(1.0, eer * by), scores) for by in (1 / NEAR, NEAR) for scores in (genuine, impostor)]
    f, g = (float(((scores >= min(ends)) & (scores <= max(ends))).mean()) for scores in (impostor, genuine))
    del genuine, impostor
    adds = np.zeros(len(values))
    adds[same & ~accepted] = f / (f + g)
    adds[~same & accepted] = g / (f + g)
    return _interval(eer, adds, same, persons)


def accuracy_interval(scores: Scores, persons: tuple[Array, Array] | None, accuracy: Accuracy) -> tuple[float, float]:
    """95 % interval of an accuracy over folds, each fold's threshold as it was chosen on the others.

    Args:
        scores: of the pairs that are in a fold.
        persons: of the same pairs.
    """
    _, fold = np.unique(scores.fold, return_inverse=True)
    thresholds = np.array([np.inf if one is None else one for one in accuracy.thresholds])
    right = (scores.values >= thresholds[fold]) == scores.same
    share = float(scores.same.mean())
    adds = np.where(scores.same, share * right, (1 - share) * right)
    return _interval(accuracy.mean, adds, scores.same, persons)


def _interval(plain: float, adds: Array, same: Array, persons: tuple[Array, Array] | None) -> tuple[float, float]:
    """95 % interval of a share; all intervals of this file pass here.

    Args:
        plain: the share.
        adds: float[P], what each pair adds to it: it moves as the mean of the genuine ones and that of the others do.
    """
    if persons is None:
        variance = 0.0
        for of in (same, ~same):
            part = adds[of]
            part -= part.mean()
            variance += float(np.square(part, out=part).sum()) / len(part) ** 2
        certain = variance == 0 or not 0 < plain < 1
        n = float(same.sum()) if certain else min(plain * (1 - plain) / variance, float(len(adds)))
        return wilson(plain * n, n)
    dyads = Dyads.of(same, *persons)
    counted = evidence(dyads.person_pairs, PERSON_CORRELATION)
    weight = np.divide(counted, dyads.person_pairs, out=np.zeros(dyads.n_persons), where=dyads.person_pairs > 0)
    genuine, impostor = adds[dyads.genuine], adds[dyads.impostor]
    own = weight[dyads.person]
    center = float(own @ genuine / own.sum())
    people = np.bincount(dyads.person, own * (genuine - center), dyads.n_persons) / own.sum()
    each = dyads.couple_weight[dyads.couple]
    middle = float(each @ impostor / each.sum())
    couples = np.bincount(dyads.couple, each * (impostor - middle), len(dyads.couple_pairs)) / each.sum()
    value = plain + center - float(genuine.mean()) + middle - float(impostor.mean())
    deviation = Deviation(value, people, dyads.by_person(couples), couples)
    return wilson_of_people(
        plain,
        min(1.0, max(0.0, value)),
        deviation.variance(),
        pairs=float(len(adds)),
        worth=float(counted.sum()),
        people=effective(counted),
    )
