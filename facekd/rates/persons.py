"""How sure a rate is when pairs share people, and whether model A is better than B on the same pairs.

Two pairs that show the same person are not independent. The rate itself counts every pair alike; its interval is taken
from what each person adds to the error (rates/deviations.py), so it holds whatever the numbers of photos are, and it
counts the error of the threshold, which the same people's impostor pairs decide. Nothing is resampled.
benchmarks/intervals.py shows how often the intervals hold the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr

from facekd.core.types import Array, Rate
from facekd.rates.counts import Curve, check_scores, curve
from facekd.rates.deviations import Deviation, GenuinePairs, ImpostorPairs, blocking_of, far_deviation, tar_deviation
from facekd.rates.dyads import Dyads
from facekd.rates.intervals import t95, wilson_of_people
from facekd.rates.rates import rate_at, support


@dataclass(frozen=True, slots=True)
class Difference:
    """TAR of model A minus TAR of model B at one asked FAR, each at its own threshold, on the same pairs.

    All None where the list can't show the FAR, or fewer than two persons have genuine pairs.
    """

    far_asked: float
    difference: float | None
    low: float | None  # 95 % interval
    high: float | None
    p_value: float | None  # two-sided, that the difference is zero


@dataclass(frozen=True, slots=True)
class ListOfPeople:
    """One model's scores of a list whose people are known."""

    dyads: Dyads
    values: Array  # float[P]
    curve: Curve
    genuine: GenuinePairs
    impostor: ImpostorPairs

    @classmethod
    def of(cls, values: Array, same: Array, left_person: Array, right_person: Array) -> ListOfPeople:
        """Arguments and errors as `person_rates`."""
        values, same = check_scores(values, same)
        return cls.on(Dyads.of(same, left_person, right_person), values, same)

    @classmethod
    def on(cls, dyads: Dyads, values: Array, same: Array) -> ListOfPeople:
        """The same of people that are counted already."""
        values, same = check_scores(values, same)
        genuine = GenuinePairs.of(values[dyads.genuine], dyads.person, dyads.person_pairs)
        return cls(
            dyads, values, curve(values, same), genuine, ImpostorPairs.of(values[dyads.impostor], dyads.couple, dyads)
        )

    def shows(self, far: float) -> bool:
        """Whether the list's people are evidence enough to say anything of a FAR."""
        return support(far, self.dyads.impostor_evidence) != "none"

    def rate(self, far: float) -> Rate:
        """TAR at a FAR with its interval."""
        worth = self.dyads.impostor_evidence
        rate = replace(rate_at(self.curve, far), evidence=worth)
        if rate.tar is None or not self.shows(far):
            return Rate(far, 0.0, None, None, rate.n_genuine, rate.n_impostor, None, None, evidence=worth)
        low, high = tar_interval(rate.tar, tar_deviation(self.genuine, self.impostor, far), self.genuine)
        return replace(rate, low=low, high=high)

    def far_interval(self, threshold: float) -> tuple[float, float]:
        """95 % interval of the FAR at a threshold, which is taken as given."""
        blocking = blocking_of(threshold, self.impostor.falling)
        deviation = far_deviation(self.impostor, blocking)
        return wilson_of_people(
            self.impostor.accepted(blocking) / self.curve.n_impostor,
            deviation.value,
            deviation.variance(),
            pairs=self.curve.n_impostor,
            worth=self.dyads.impostor_evidence,
            people=self.impostor.people,
        )

    def group_interval(self, plain: float, group: Array, far: float) -> tuple[float, float]:
        """95 % interval of the TAR of a group at the whole list's threshold for a FAR, whose error counts.

        Args:
            plain: the group's TAR over its pairs alike.
            group: bool[P], the pairs of the group.
        """
        here = np.flatnonzero(group[self.dyads.genuine])
        person = self.dyads.person[here]
        pairs = np.bincount(person, minlength=self.dyads.n_persons)
        genuine = GenuinePairs.of(self.values[self.dyads.genuine[here]], person, pairs)
        return tar_interval(plain, tar_deviation(genuine, self.impostor, far), genuine)


def tar_interval(plain: float, deviation: Deviation, genuine: GenuinePairs) -> tuple[float, float]:
    """95 % interval of a TAR; `plain` is it over all pairs alike."""
    return wilson_of_people(
        plain,
        deviation.value,
        deviation.variance(),
        pairs=float(genuine.pairs.sum()),
        worth=genuine.evidence,
        people=genuine.people,
    )


def person_rates(
    values: Array, same: Array, left_person: Array, right_person: Array, fars: Sequence[float]
) -> list[Rate]:
    """`rates.rate_at` for each of `fars`, with low and high that hold for pairs that share persons.

    tar is None where the people are too little evidence of a FAR, see `dyads`.

    Args:
        values: float[P], higher is more alike; -inf for a pair without a score.
        same: bool[P].
        left_person, right_person: [P], who is on either side of the pair.

    Raises:
        UserError: as `counts.curve`, or a pair whose label contradicts its persons.
    """
    listed = ListOfPeople.of(values, same, left_person, right_person)
    return [listed.rate(far) for far in fars]


def paired_differences(
    values_a: Array,
    values_b: Array,
    same: Array,
    left_person: Array,
    right_person: Array,
    fars: Sequence[float],
) -> list[Difference]:
    """Is A's TAR higher than B's? Arguments as `person_rates`.

    What a person adds to the error of both cancels. The interval and the p-value are Student's, with as many degrees of
    freedom as people have genuine pairs, less one.
    """
    values_a, same = check_scores(values_a, same)
    dyads = Dyads.of(same, left_person, right_person)
    a, b = (ListOfPeople.on(dyads, values, same) for values in (values_a, values_b))
    return [_difference(a, b, far) for far in fars]


def _difference(a: ListOfPeople, b: ListOfPeople, far: float) -> Difference:
    rate_a, rate_b = rate_at(a.curve, far), rate_at(b.curve, far)
    if rate_a.tar is None or rate_b.tar is None or a.dyads.people < 2 or not a.shows(far):
        return Difference(far, None, None, None, None)
    deviation = tar_deviation(a.genuine, a.impostor, far) - tar_deviation(b.genuine, b.impostor, far)
    return difference_of(far, rate_a.tar - rate_b.tar, deviation, a.genuine.people)


def difference_of(far: float, plain: float, deviation: Deviation, people: float) -> Difference:
    """A difference of rates with its interval and p-value; the interval holds the difference over all pairs alike."""
    error = deviation.variance() ** 0.5 * (people / max(people - 1, 1)) ** 0.5
    if error == 0:
        same = plain == deviation.value == 0
        return Difference(far, plain, plain, plain, 1.0 if same else 0.0)
    half = t95(people) * error
    p_value = 2 * float(stdtr(max(1.0, people - 1), -abs(deviation.value) / error))
    low, high = min(plain, deviation.value - half), max(plain, deviation.value + half)
    return Difference(far, plain, max(-1.0, low), min(1.0, high), p_value)
