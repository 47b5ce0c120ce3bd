"""The highest scores between different people over all pairs of a set, who they are, and the thresholds they give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facekd.rates.intervals import wilson_by_person
from facekd.rates.rates import far_budget, support
from facekd.rates.thresholds import far_interval_by_person

ROWS = 512  # of the scores that are looked at together
SAMPLE = 2048  # photos from which it is guessed which scores are among the highest


@dataclass(frozen=True, slots=True)
class Scores:
    """Of all pairs of the photos of one set: the genuine ones, and the impostor ones of the highest scores."""

    genuine: np.ndarray  # float64, ascending
    person: np.ndarray  # int64, whose each genuine score is
    impostor: np.ndarray  # float64, falling: the highest ones
    left: np.ndarray  # int64, one person of each of these
    right: np.ndarray  # and the other
    photos: np.ndarray  # float64[P], of each person, those that gave no face too
    genuine_pairs: np.ndarray  # float64[P], of each person; a photo without a face matches nothing
    impostor_pairs: np.ndarray  # float64[P], of each person: of two persons each counts the pair
    squares: float  # sum over couples of persons of the square of their pairs
    couples: int  # of persons

    @property
    def n(self) -> int:
        """Impostor pairs."""
        return int(self.impostor_pairs.sum()) // 2


def all_pairs_of(
    vectors: np.ndarray,
    persons: Sequence[str],
    failed: Sequence[str],
    share: float,
    left_out: Sequence[tuple[str, str]] = (),
) -> Scores:
    """The scores of all pairs of a set.

    Args:
        vectors: float32[N, D], unit norm.
        persons: of each row.
        failed: the persons of photos that gave no face: their pairs count, and none is accepted.
        share: of the impostor pairs, at least so many of the highest are kept.
        left_out: couples of persons whose pairs do not count, neither as genuine nor as impostor.
    """
    names, number = np.unique([*persons, *failed], return_inverse=True)
    number, photos = number[: len(vectors)], np.bincount(number).astype(np.float64)
    chosen = np.random.default_rng(0).permutation(len(vectors))[:SAMPLE]
    sample = (vectors[chosen] @ vectors[chosen].T)[number[chosen][:, None] != number[chosen]]
    lowest = np.float32(np.quantile(sample, 1 - 1.3 * share))  # a third more than asked for, to be sure
    genuine, person, impostor, left, right = [], [], [], [], []
    for start in range(0, len(vectors), ROWS):
        block = vectors[start : start + ROWS] @ vectors[start:].T
        later = np.arange(len(vectors) - start) > np.arange(len(block))[:, None]  # each pair once
        same = number[start : start + ROWS, None] == number[start:]
        row, column = np.nonzero(same & later)
        genuine.append(block[row, column])
        person.append(number[start + row])
        row, column = np.nonzero((block >= lowest) & ~same & later)
        impostor.append(block[row, column])
        left.append(number[start + row])
        right.append(number[start + column])
    rising, falling = np.concatenate(genuine), np.concatenate(impostor)
    up, down = np.argsort(rising, kind="stable"), np.argsort(-falling, kind="stable")
    pairs = photos * (photos.sum() - photos)
    squares = float(((photos**2).sum() ** 2 - (photos**4).sum()) / 2)
    people, a, b = len(photos), np.concatenate(left)[down], np.concatenate(right)[down]
    place = {str(name): at for at, name in enumerate(names)}
    kept = np.ones(len(down), bool)
    for one, other in left_out:
        i, j = place[one], place[other]
        both = photos[i] * photos[j]
        pairs[[i, j]] -= both
        squares -= both**2
        kept &= ~(((a == i) & (b == j)) | ((a == j) & (b == i)))
    return Scores(
        genuine=rising[up].astype(np.float64),
        person=np.concatenate(person)[up],
        impostor=falling[down][kept].astype(np.float64),
        left=a[kept],
        right=b[kept],
        photos=photos,
        genuine_pairs=photos * (photos - 1) / 2,
        impostor_pairs=pairs,
        squares=squares,
        couples=people * (people - 1) // 2 - len(left_out),
    )


def pooled(sets: Sequence[Scores]) -> Scores:
    """The pairs of several sets together; no pair has its two photos in two sets."""
    first = np.cumsum([0, *(len(one.photos) for one in sets)])[:-1]
    genuine, impostor = (np.concatenate([getattr(one, name) for one in sets]) for name in ("genuine", "impostor"))
    up, down = np.argsort(genuine, kind="stable"), np.argsort(-impostor, kind="stable")

    def people(name: str) -> np.ndarray:
        return np.concatenate([getattr(one, name) + offset for one, offset in zip(sets, first, strict=True)])

    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(one, name) for one in sets])

    lowest = max(one.impostor[-1] for one in sets)  # below it a set has kept none
    down = down[impostor[down] >= lowest]
    return Scores(
        genuine=genuine[up],
        person=people("person")[up],
        impostor=impostor[down],
        left=people("left")[down],
        right=people("right")[down],
        photos=joined("photos"),
        genuine_pairs=joined("genuine_pairs"),
        impostor_pairs=joined("impostor_pairs"),
        squares=sum(one.squares for one in sets),
        couples=sum(one.couples for one in sets),
    )


def threshold_at(scores: Scores, far: float) -> dict[str, float | str] | None:
    """The lowest threshold that at most a share `far` of the impostor pairs reaches, and its 95 % interval.

    The interval holds the scores at the ends of the interval of that share (Woodruff, JASA 47, 1952), with the person
    as the unit: see `facekd.rates.thresholds`. What the set can say about the FAR goes by the couples of persons, of
    whom it may have many pairs: those of one couple are nearly one draw. None where it has fewer than 3 / far couples.
    """
    stands = support(far, scores.couples)
    if stands == "none":
        return None
    falling = scores.impostor
    blocking = falling[far_budget(far, scores.n)]  # one accepted pair too many
    threshold = float(falling[falling > blocking].min(initial=np.inf))
    low, high = far_interval(scores, threshold)
    return {
        "threshold": threshold,
        "low": float(falling[math.ceil(high * scores.n) - 1]),
        "high": max(threshold, float(falling[max(math.ceil(low * scores.n), 1) - 1])),
        "accepted": int((falling >= threshold).sum()),
        "couples": len(np.unique(_couple(scores, falling >= threshold))),
        "support": stands,
    }


def far_interval(scores: Scores, threshold: float) -> tuple[float, float]:
    """95 % interval of the share of impostor pairs that reach a threshold, over people."""
    reached = scores.impostor >= threshold
    people = len(scores.photos)
    hits = np.bincount(scores.left[reached], minlength=people) + np.bincount(scores.right[reached], minlength=people)
    couples, accepted = np.unique(_couple(scores, reached), return_counts=True)
    pairs = scores.photos[couples // people] * scores.photos[couples % people]
    share = float(reached.sum()) / scores.n
    excess = float((accepted**2).sum() - 2 * share * (accepted * pairs).sum() + share**2 * scores.squares)
    return far_interval_by_person(hits, scores.impostor_pairs, excess)


def rates_at(scores: Scores, threshold: float) -> dict[str, float]:
    """TAR and FAR at a threshold, with their 95 % intervals over people, the threshold taken as given."""
    accepted = scores.person[np.searchsorted(scores.genuine, threshold) :]
    low, high = wilson_by_person(np.bincount(accepted, minlength=len(scores.photos)), scores.genuine_pairs)
    far_low, far_high = far_interval(scores, threshold)
    return {
        "tar": len(accepted) / float(scores.genuine_pairs.sum()),
        "tar_low": low,
        "tar_high": high,
        "far": float((scores.impostor >= threshold).sum()) / scores.n,
        "far_low": far_low,
        "far_high": far_high,
    }


def _couple(scores: Scores, chosen: np.ndarray) -> np.ndarray:
    """int64: a number for the two persons of each chosen pair, whichever stands first."""
    left, right = scores.left[chosen], scores.right[chosen]
    return np.minimum(left, right) * len(scores.photos) + np.maximum(left, right)
