"""How sure accuracy, EER and AUC are when pairs share persons.

Each of them is, up to terms that vanish faster, a mean over pairs: of what every pair adds to it (its influence). The
variance of such a mean with persons on both sides of a pair is the dyadic-robust one (Aronow, Samii, Assenova,
Political Analysis 23(4), 2015). For the AUC the influences are the placement values of E. DeLong, D. DeLong and
D. Clarke-Pearson (Biometrics 44, 1988), summed over clusters as N. Obuchowski does (Biometrics 53, 1997).
"""

from __future__ import annotations

import numpy as np

from facekd.core.types import Array, Scores
from facekd.rates.counts import Curve
from facekd.rates.folds import Accuracy
from facekd.rates.intervals import wilson

NEAR = 1.5  # the slope of the ROC at the EER is taken between the scores where a rate is so much lower and higher


def auc_interval(values: Array, same: Array, persons: tuple[Array, Array] | None, auc: float) -> tuple[float, float]:
    """95 % interval of an AUC.

    Args:
        values: float[P], -inf of a pair without a score.
        same: bool[P].
        persons: int[P] twice, who is on either side; None takes the pairs as independent.
    """
    genuine, impostor = np.sort(values[same]), np.sort(values[~same])

    def below(sorted_values: Array, at: Array) -> Array:
        sides = [np.searchsorted(sorted_values, at, side=side) for side in ("left", "right")]
        return np.asarray((sides[0] + sides[1]) / 2 / len(sorted_values))

    moves = np.empty(len(values))
    moves[same] = (below(impostor, values[same]) - auc) / len(genuine)
    moves[~same] = (1 - below(genuine, values[~same]) - auc) / len(impostor)
    return _interval(auc, moves, same, persons)


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
    genuine, impostor = np.sort(values[same]), np.sort(values[~same])[::-1]

    def at(share: float, scores: Array) -> float:
        return float(scores[min(int(share * len(scores)), len(scores) - 1)])

    ends = [at(min(1.0, eer * by), scores) for by in (1 / NEAR, NEAR) for scores in (genuine, impostor)]
    f, g = (float(((scores >= min(ends)) & (scores <= max(ends))).mean()) for scores in (impostor, genuine))
    moves = np.empty(len(values))
    moves[same] = f / (f + g) * (~accepted[same] - (~accepted[same]).mean()) / len(genuine)
    moves[~same] = g / (f + g) * (accepted[~same] - accepted[~same].mean()) / len(impostor)
    return _interval(eer, moves, same, persons)


def accuracy_interval(scores: Scores, persons: tuple[Array, Array] | None, accuracy: Accuracy) -> tuple[float, float]:
    """95 % interval of an accuracy over folds, each fold's threshold as it was chosen on the others.

    Args:
        scores: of the pairs that are in a fold.
        persons: of the same pairs.
    """
    _, fold = np.unique(scores.fold, return_inverse=True)
    thresholds = np.array([np.inf if one is None else one for one in accuracy.thresholds])
    right = (scores.values >= thresholds[fold]) == scores.same
    moves = (right - np.array(accuracy.folds)[fold]) / (np.bincount(fold)[fold] * len(accuracy.folds))
    return _interval(accuracy.mean, moves, scores.same, persons)


def spread_interval(share: float, rows: Array, evidence: Array, pairs: int) -> tuple[float, float]:
    """95 % interval of a share of all pairs, of which only each person's sum is known.

    What two persons have of their own is counted twice, as by the product weights of rates/persons.py: no less wide.

    Args:
        rows: float64[persons], the sum of what the pairs of each move the share by.
        evidence: [persons], genuine pairs of each.
        pairs: all pairs.
    """
    variance = float((rows**2).sum()) * len(rows) / max(1, len(rows) - 1)
    return _wilson(share, variance, evidence.astype(np.float64), float(pairs))


def _interval(share: float, moves: Array, same: Array, persons: tuple[Array, Array] | None) -> tuple[float, float]:
    """95 % interval of a share to which each pair adds its own move; all intervals of this file pass here.

    Wilson's at the number of independent pairs that the variance is worth. Where there is no spread to see, the
    pairs of one person are taken to agree always.

    Args:
        moves: float[P], of sum about 0.
    """
    if persons is None:
        variance, evidence = float((moves**2).sum()), np.ones(int(same.sum()))
    else:
        _, number = np.unique(np.concatenate(persons), return_inverse=True)
        left, right = number[: len(same)].astype(np.int64), number[len(same) :].astype(np.int64)
        n = int(number.max()) + 1
        _, couple = np.unique(np.minimum(left, right) * n + np.maximum(left, right), return_inverse=True)
        by_couple = np.bincount(couple, moves)
        alone = np.bincount(couple, same) > 0  # of a person with itself
        rows = np.bincount(left, moves, n) + np.bincount(right, np.where(same, 0.0, moves), n)
        couples = float((by_couple**2).sum())
        robust = float((rows**2).sum()) - float((by_couple[~alone] ** 2).sum())
        variance = max(robust, couples) * n / max(1, n - 1)
        evidence = np.bincount(left[same]).astype(np.float64)
    return _wilson(share, variance, evidence, float(len(moves)))


def _wilson(share: float, variance: float, evidence: Array, total: float) -> tuple[float, float]:
    if variance > 0 and 0 < share < 1:
        effective = min(share * (1 - share) / variance, total)
    else:
        effective = float(evidence.sum()) ** 2 / float((evidence**2).sum())
    return wilson(share * effective, effective)
