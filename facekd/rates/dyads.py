"""Who is on either side of each pair of a list, and how much evidence pairs of the same people are.

Pairs that show the same person err together: at thresholds for FAR 1e-1 to 1e-4 two genuine pairs of one person of
CelebA correlate by about a third, two impostor pairs of one couple of people by 0.1 to 0.2 (two networks;
benchmarks/intervals.py --correlations). So n genuine pairs of a person count as ``n / (1 + (n - 1) / 3)`` independent
ones, three at most, and n impostor pairs of a couple as ``n / (1 + (n - 1) / 10)``, ten at most (Kish's design effect).

These counts are a *working* correlation: they weigh people when the error of a rate is estimated, so that a few people
with most of the photos don't decide it, and they are what a list is worth as evidence of a low FAR. How far the rates
really vary is then measured from person to person, whatever the correlation is (K.-Y. Liang, S. L. Zeger,
"Longitudinal data analysis using generalized linear models", Biometrika 73(1), 1986).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facekd.core.types import Array
from facekd.errors import UserError

PERSON_CORRELATION = 1 / 3  # of the genuine pairs of a person
COUPLE_CORRELATION = 0.1  # of the impostor pairs of two people
DENSE = 4  # couples are numbered without sorting where people squared are at most so many times the pairs


def evidence(n: Array, correlation: float) -> Array:
    """float64: as how many independent pairs `n` pairs count that correlate so; 0 for none."""
    n = np.asarray(n, np.float64)
    return np.asarray(n / (1 + correlation * np.maximum(n - 1, 0)))


def effective(amounts: Array) -> float:
    """As how many equal amounts these count: ``(sum x)**2 / sum x**2``; 0 where all are 0 but for rounding."""
    amounts = np.where(amounts > 1e-9, amounts, 0.0)
    squares = float(amounts @ amounts)
    return float(amounts.sum()) ** 2 / squares if squares else 0.0


@dataclass(frozen=True, slots=True)
class Dyads:
    """The people of a list of pairs.

    Weights are relative: all 1 where each couple has equally many pairs.
    """

    genuine: Array  # int64[G], which pairs of the list are genuine
    impostor: Array  # int64[I]
    person: Array  # int32[G], who is on a genuine pair
    couple: Array  # int64[I], which two people are on an impostor pair
    sides: tuple[Array, Array]  # int64[C] twice, the people of each couple
    n_persons: int
    person_pairs: Array  # int64[persons], genuine pairs of each
    couple_pairs: Array  # int64[C], impostor pairs of each
    couple_weight: Array  # float64[C], of each of a couple's impostor pairs
    impostor_evidence: float  # as how many independent comparisons the impostor pairs count

    @classmethod
    def of(cls, same: Array, left_person: Array, right_person: Array, correlation: float = COUPLE_CORRELATION) -> Dyads:
        """The people of a list.

        Args:
            same: bool[P].
            left_person, right_person: [P], names or numbers of who is on either side of each pair.
            correlation: of the impostor pairs of one couple.

        Raises:
            UserError: not one person for each side, or a pair whose label contradicts its people.
        """
        if left_person.shape != same.shape or right_person.shape != same.shape:
            raise UserError(
                f"{len(left_person)} and {len(right_person)} persons for {len(same)} pairs: name both sides"
            )
        wrong = np.flatnonzero((left_person == right_person) != same)
        if len(wrong):
            raise UserError(
                f"{len(wrong)} pairs are labeled against their persons (first: pair {wrong[0]}): a genuine pair shows "
                "one person, an impostor pair two; correct the list"
            )
        persons, number = np.unique(np.concatenate([left_person, right_person]), return_inverse=True)
        left, right = number[: len(same)], number[len(same) :]
        genuine, impostor = np.flatnonzero(same), np.flatnonzero(~same)
        person = left[genuine].astype(np.int32)
        low, high = np.minimum(left, right)[impostor], np.maximum(left, right)[impostor]
        couple, couples = _numbered(low * len(persons) + high, len(persons) ** 2)
        person_pairs = np.bincount(person, minlength=len(persons))
        couple_pairs = np.bincount(couple, minlength=len(couples))
        return cls(
            genuine=genuine,
            impostor=impostor,
            person=person,
            couple=couple,
            sides=(couples // len(persons), couples % len(persons)),
            n_persons=len(persons),
            person_pairs=person_pairs,
            couple_pairs=couple_pairs,
            couple_weight=pair_weights(couple_pairs, correlation),
            impostor_evidence=float(evidence(couple_pairs, correlation).sum()),
        )

    @property
    def people(self) -> int:
        """How many people have a genuine pair."""
        return int(np.count_nonzero(self.person_pairs))

    def by_person(self, couples: Array) -> Array:
        """float64[persons]: for each person the sum over its couples of a value of each couple."""
        left, right = (np.bincount(side, couples, self.n_persons) for side in self.sides)
        return np.asarray(left + right)


def _numbered(codes: Array, n_codes: int) -> tuple[Array, Array]:
    """int64[I] and int64[C]: the number of each code among the distinct ones, and these, ascending."""
    if n_codes > DENSE * len(codes) + 1_000_000:
        couples, couple = np.unique(codes, return_inverse=True)
        return couple, couples
    there = np.bincount(codes, minlength=n_codes) > 0
    return (np.cumsum(there) - 1)[codes], np.flatnonzero(there)


def pair_weights(pairs: Array, correlation: float) -> Array:
    """float64: how much each pair of a person or couple counts beside those of the others."""
    weights = np.divide(evidence(pairs, correlation), pairs, out=np.zeros(len(pairs)), where=pairs > 0)
    return np.asarray(weights / weights.max(initial=0.0)) if len(pairs) else weights
