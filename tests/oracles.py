"""Slow, obvious twins of the fast functions: written from the definition, sharing no code with facekd."""

from __future__ import annotations

import itertools
from fractions import Fraction

NOTHING = float("inf")  # a threshold that accepts nothing, where no score is +inf


def counts_at(values, same, threshold):
    """(accepted genuine, accepted impostor) at one threshold, by looking at each pair."""
    genuine = impostor = 0
    for value, is_same in zip(values, same, strict=True):
        if value >= threshold and value != float("-inf"):
            if is_same:
                genuine += 1
            else:
                impostor += 1
    return genuine, impostor


def thresholds_of(values):
    return sorted({float(v) for v in values if v != float("-inf")}, reverse=True)


def tar_at_far(values, same, far):
    """(tar, far, threshold or None) as Fractions: every score is tried as threshold. `far` is a decimal string."""
    n_genuine = sum(map(bool, same))
    n_impostor = len(same) - n_genuine
    best = (Fraction(0), Fraction(0), None)
    for threshold in thresholds_of(values):
        genuine, impostor = counts_at(values, same, threshold)
        if Fraction(impostor, n_impostor) <= Fraction(far):
            best = (Fraction(genuine, n_genuine), Fraction(impostor, n_impostor), threshold)
    return best


def auc(values, same):
    """By comparing each genuine pair with each impostor pair."""
    genuine = [v for v, s in zip(values, same, strict=True) if s]
    impostor = [v for v, s in zip(values, same, strict=True) if not s]
    wins = sum(Fraction(1) if g > i else Fraction(1, 2) if g == i else 0 for g in genuine for i in impostor)
    return wins / (len(genuine) * len(impostor))


def eer(values, same):
    """By walking the ROC's lines in exact fractions until FAR reaches FNMR."""
    n_genuine = sum(map(bool, same))
    n_impostor = len(same) - n_genuine
    points = [(Fraction(0), Fraction(1))]  # (FAR, FNMR)
    for threshold in thresholds_of(values):
        genuine, impostor = counts_at(values, same, threshold)
        points.append((Fraction(impostor, n_impostor), 1 - Fraction(genuine, n_genuine)))
    points.append((Fraction(1), Fraction(0)))
    for (far0, fnmr0), (far1, fnmr1) in itertools.pairwise(points):
        if far1 >= fnmr1:
            # far0 + s (far1 - far0) = fnmr0 + s (fnmr1 - fnmr0)
            s = (fnmr0 - far0) / ((far1 - far0) - (fnmr1 - fnmr0))
            return far0 + s * (far1 - far0)
    raise AssertionError("the ROC ends at FAR 1, FNMR 0")


def fold_accuracy(values, same, fold):
    """[(accuracy, threshold)] for each fold, thresholds tried one by one from the highest."""
    results = []
    for label in sorted(set(fold)):
        others = [(v, s) for v, s, f in zip(values, same, fold, strict=True) if f != label]
        mine = [(v, s) for v, s, f in zip(values, same, fold, strict=True) if f == label]
        best_right, best_threshold = sum(not s for _, s in others), None
        for threshold in thresholds_of([v for v, _ in others]):
            right = sum((v >= threshold) == s for v, s in others)
            if right > best_right:
                best_right, best_threshold = right, threshold
        right = sum((best_threshold is not None and v >= best_threshold) == s for v, s in mine)
        results.append((right / len(mine), best_threshold))
    return results


def wilson_by_search(hits, n, z):
    """The proportions p at which |hits / n - p| is z standard errors of p: bisection on the score test itself."""

    def inside(p):
        return (hits / n - p) ** 2 <= z * z * p * (1 - p) / n

    def edge(inner, outer):
        for _ in range(200):
            middle = (inner + outer) / 2
            inner, outer = (middle, outer) if inside(middle) else (inner, middle)
        return inner

    return edge(hits / n, 0.0), edge(hits / n, 1.0)


def repeat_by_person(values, same, left, right, times):
    """The pairs of a list in which person p occurs times[p] times, written out one by one."""
    out = []
    for value, is_same, a, b in zip(values, same, left, right, strict=True):
        copies = times[a] if is_same else times[a] * times[b]
        out += [(value, is_same)] * int(copies)
    return [v for v, _ in out], [s for _, s in out]


def pairs_of(vectors, persons, failed_persons=()):
    """(scores, same) of all unordered pairs; a failed photo scores -inf with each other photo."""
    photos = [(v, p) for v, p in zip(vectors.tolist(), persons, strict=True)] + [(None, p) for p in failed_persons]
    values, same = [], []
    for (v, p), (w, q) in itertools.combinations(photos, 2):
        failed = v is None or w is None
        values.append(float("-inf") if failed else sum(x * y for x, y in zip(v, w, strict=True)))
        same.append(bool(p == q))
    return values, same
