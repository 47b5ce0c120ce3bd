"""Accuracy over folds: each fold is judged with the threshold that was best on all the others."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from facekd.core.types import Scores
from facekd.rates.counts import check_scores


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The share of pairs judged right; folds in ascending order of their label."""

    mean: float  # of the folds' accuracies, each fold weighing the same
    std: float  # of the folds' accuracies, sample standard deviation (n - 1)
    folds: tuple[float, ...]
    thresholds: tuple[float | None, ...]  # a score of the other folds; None accepts nothing

    @property
    def standard_error(self) -> float:
        """``std / sqrt(folds)``, the error LFW asks to report beside the mean."""
        return self.std / math.sqrt(len(self.folds))


def accuracy(scores: Scores) -> Accuracy | None:
    """Accuracy over the folds of a list, or None where it has one fold only: there is no other to choose on.

    For each fold every threshold that can matter is tried on the other folds: each of their scores, and accepting
    nothing. Of those with the most pairs right the highest is taken. Failures to enroll (-inf) are never accepted.

    Source: G. B. Huang et al., "Labeled Faces in the Wild", technical report 07-49, 2007, view 2 (mean and
    standard error with n - 1).

    Raises:
        UserError: as `counts.curve`.
    """
    values, same = check_scores(scores.values, scores.same)
    if scores.fold.min() == scores.fold.max():
        return None
    labels, fold = np.unique(scores.fold, return_inverse=True)

    values = values.astype(np.float64, copy=False)
    order = np.argsort(values)[::-1]
    sorted_values = values[order]
    last_of_tie = np.flatnonzero(np.append(sorted_values[1:] != sorted_values[:-1], True))
    if sorted_values[-1] == -np.inf:
        last_of_tie = last_of_tie[:-1]
    # accepting one more genuine pair is one more right, accepting an impostor pair one fewer
    step = np.where(same[order], 1, -1)
    sorted_fold = fold[order]
    gain = np.concatenate([[0], np.cumsum(step)[last_of_tie]])  # [K + 1], first: nothing accepted

    rights, thresholds = [], []
    for index in range(len(labels)):
        mine = sorted_fold == index
        own_gain = np.concatenate([[0], np.cumsum(np.where(mine, step, 0))[last_of_tie]])
        # argmax gives the first, so the highest, of equal ones. A score that only the judged fold has leaves the
        # others' gain as it was, so it never comes first: the judged fold has no say.
        best = int(np.argmax(gain - own_gain))
        n_mine, n_mine_impostor = np.count_nonzero(mine), np.count_nonzero(mine & (step < 0))
        rights.append(float((n_mine_impostor + own_gain[best]) / n_mine))
        thresholds.append(float(sorted_values[last_of_tie[best - 1]]) if best else None)
    return Accuracy(
        mean=float(np.mean(rights)),
        std=float(np.std(rights, ddof=1)),
        folds=tuple(rights),
        thresholds=tuple(thresholds),
    )
