"""The rates of one model: on a list of pairs and its groups, or over all pairs; and what they are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations

import numpy as np

from facekd.core.types import Array, Rate, Scores
from facekd.evaluation.protocols import Everybody, JudgedModel, ListedPairs, Persons
from facekd.evaluation.results import (
    Failures,
    GroupRate,
    GroupRates,
    Judged,
    ModelDifference,
    ModelRates,
    PairCounts,
    Rejects,
    RequirementCheck,
    ThresholdRate,
    Unit,
    rate_of,
)
from facekd.rates.allpairs import Count, measure_all_pairs
from facekd.rates.counts import curve
from facekd.rates.folds import accuracy
from facekd.rates.intervals import wilson
from facekd.rates.persons import ListOfPeople, paired_differences, person_rates
from facekd.rates.rates import auc, d_prime, eer, rate_at, support, support_of
from facekd.rates.rejects import error_vs_reject
from facekd.rates.thresholds import far_interval, threshold_interval
from facekd.settings.evaluation import Requirement

REJECTED = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)  # shares of the pairs, by quality
MOST_INDEPENDENT = 200_000  # pairs of unknown people that are still resampled for a difference
BAND_POINTS = 4  # of the curves' bands, in each decade of FAR
FEW = 30  # a group of fewer people with genuine pairs, or pairs where people are not known, is marked: the rule of 30


def judge_scores(
    model: JudgedModel,
    scores: Scores,
    listed: ListedPairs,
    fars: Sequence[float],
    quality: Mapping[str, float] | None = None,
) -> Judged:
    """One model's rates on a pair list; groups are judged at the whole list's thresholds.

    Args:
        scores: of the list's pairs by the model, see `JudgedModel.scores`.
        quality: of crops by their ids; None rejects none by it.
    """
    values, same, persons = scores.values, scores.same, listed.persons
    counts = curve(values, same)
    tars = _tars(values, same, fars, persons)
    ends = [threshold_interval(values, same, rate, persons) for rate in tars]
    people = ListOfPeople.of(values, same, *persons) if persons is not None and listed.pairs.groups else None
    d = d_prime(values, same)
    enrolled = values != -np.inf
    rates = ModelRates(
        model=model.name,
        model_id=model.model_id,
        accuracy=accuracy(_in_folds(scores)),
        eer=eer(counts),
        eer_bounds=None,
        auc=auc(counts),
        d_prime=None if d is None or not np.isfinite(d) else d,
        interval=_unit(persons),
        tar=tuple(
            ThresholdRate(**asdict(one), threshold_low=low, threshold_high=high)
            for one, (low, high) in zip(tars, ends, strict=True)
        ),
        tar_without_failures=tuple(_without_failures(scores, enrolled, fars, persons, tars)),
        pairs=PairCounts(counts.n_genuine, counts.n_impostor),
        failures_to_enroll=Failures(int((~enrolled).sum()), len(listed.failed)),
        groups={column: _by_group(scores, of, tars, persons, people) for column, of in listed.pairs.groups.items()},
        roc=tuple(one for one in _tars(values, same, band_fars(counts.n_impostor), persons) if one.tar is not None),
    )
    return Judged(model.file, rates, counts, scores, None if quality is None else _rejects(scores, tars, quality))


def judge_everybody(model: JudgedModel, people: Everybody, fars: Sequence[float], count: Count | None = None) -> Judged:
    """One model's rates over all pairs, whose scores are never kept.

    Args:
        count: counts the tiles elsewhere, see `rates.allpairs.measure_all_pairs`.
    """
    failed = np.array(people.failed_persons, np.str_)
    persons = np.array(people.persons, np.str_)
    embeddings = model.embed(people.ids)
    found = measure_all_pairs(embeddings.vectors, persons, fars, failed_persons=failed, count=count)
    photos, n = len(people.ids) + len(failed), len(people.ids)
    rates = ModelRates(
        model=model.name,
        model_id=model.model_id,
        accuracy=None,
        eer=None,
        eer_bounds=found.eer,
        auc=None,
        d_prime=found.d_prime,
        interval="identities",
        tar=tuple(found.rates),
        tar_without_failures=(),
        pairs=PairCounts(found.curve.n_genuine, found.curve.n_impostor),
        failures_to_enroll=Failures((photos * (photos - 1) - n * (n - 1)) // 2, len(failed)),
        groups={},
        roc=tuple(found.band),
    )
    return Judged(model.file, rates, found.curve, None)


def band_fars(n_impostor: int) -> list[float]:
    """FARs evenly on a log axis, from the lowest that so many impostor pairs show upwards; none of too few pairs."""
    low, high = 3.001 / max(n_impostor, 1), 1.0
    if low >= high:
        return []
    return [float(f"{far:.6g}") for far in np.geomspace(low, high, 2 + int(BAND_POINTS * np.log10(high / low)))]


def differences(
    judged: Sequence[Judged], persons: Persons | None, fars: Sequence[float]
) -> tuple[ModelDifference, ...]:
    """TAR of each model minus that of each later one on the same pairs, with interval and p-value.

    Where people are not known the pairs are resampled as independent ones; none of a longer list than that allows.
    """
    kept = [(one.name, one.scores) for one in judged if one.scores is not None]
    interval = _unit(persons)
    if persons is None and kept:
        same = kept[0][1].same
        if len(same) > MOST_INDEPENDENT:
            return ()
        persons = as_strangers(same)
    rows = []
    for (a, ours), (b, theirs) in combinations(kept, 2):
        assert persons is not None
        found = paired_differences(ours.values, theirs.values, ours.same, *persons, fars)
        for one in found:
            values = one.difference, one.low, one.high, one.p_value
            rows.append(ModelDifference(a, b, one.far_asked, *values, interval))
    return tuple(rows)


def as_strangers(same: Array) -> Persons:
    """Persons for pairs of people who are not known: each pair has its own."""
    alone = np.arange(len(same))
    return alone, np.where(same, alone, alone + len(same))


def check(requirement: Requirement, rates: ModelRates) -> RequirementCheck:
    """Whether a model's lower bound holds what is required, with the line that says so."""
    rate = rate_of(rates.tar, requirement.far)
    low = None if rate is None else rate.low
    met = low is not None and low >= requirement.least
    if rate is None or low is None:
        n = rates.pairs.impostor
        shown = f"not shown: {n} impostor pairs are too few for FAR {requirement.far:g}"
    else:
        # Rounded down: a bound that misses must not be shown as the bound required.
        shown = f"{'holds' if met else 'missed'}: TAR {rate.tar:.4f}, lower bound {int(low * 1e6) / 1e6:.6f}"
    return RequirementCheck(requirement.text, rates.model, met, low, f"{rates.model}: {requirement.text} {shown}")


def _unit(persons: Persons | None) -> Unit:
    return "pairs" if persons is None else "identities"


def _tars(values: Array, same: Array, fars: Sequence[float], persons: Persons | None) -> list[Rate]:
    if persons is not None and fars:
        return person_rates(values, same, *persons, fars)
    counts = curve(values, same)
    return [rate_at(counts, asked) for asked in fars]


def _without_failures(
    scores: Scores, enrolled: Array, fars: Sequence[float], persons: Persons | None, rates: list[Rate]
) -> list[Rate]:
    """The rates of the pairs of which both photos gave an embedding, for the comparison; none where a class is gone."""
    if enrolled.all():
        return rates
    values, same = scores.values[enrolled], scores.same[enrolled]
    if not same.any() or same.all():
        return []
    return _tars(values, same, fars, None if persons is None else (persons[0][enrolled], persons[1][enrolled]))


def _in_folds(scores: Scores) -> Scores:
    """Only the pairs that are in a fold; all of them, as one fold, where none is."""
    kept = np.flatnonzero(scores.fold >= 0)
    if len(kept) == 0:
        return scores
    left, right = (tuple(side[i] for i in kept) for side in (scores.left, scores.right))
    return Scores(scores.values[kept], scores.same[kept], left, right, scores.fold[kept])


def _rejects(scores: Scores, rates: Sequence[Rate], quality: Mapping[str, float]) -> Rejects | None:
    """FNMR when the pairs with the blurriest crops are rejected, at the threshold of the lowest FAR shown.

    None without a threshold, or where the qualities reject no pair.
    """
    solid = [rate for rate in rates if support_of(rate) == "estimate"]
    shown = [(rate.far_asked, rate.threshold) for rate in solid if rate.threshold is not None]
    if not shown:
        return None
    far, threshold = shown[-1]
    left, right = (np.array([quality.get(name, -np.inf) for name in side]) for side in (scores.left, scores.right))
    kept = error_vs_reject(scores.values, scores.same, np.minimum(left, right), threshold, REJECTED)
    return Rejects(far, threshold, tuple(kept)) if any(one.rejected for one in kept) else None


def _by_group(
    scores: Scores,
    values: Sequence[str],
    rates: Sequence[Rate],
    persons: Persons | None,
    people: ListOfPeople | None,
) -> dict[str, GroupRates]:
    """For each value of a group column its pairs, and TAR and FAR at the whole list's thresholds with intervals."""
    column = np.array(values)
    groups = {}
    for value in sorted(set(values)):
        here = column == value
        genuine, impostor = here & scores.same, here & ~scores.same
        n_people = None if persons is None else len(np.unique(persons[0][genuine]))
        pairs = PairCounts(int(genuine.sum()), int(impostor.sum()))
        few = (pairs.genuine if n_people is None else n_people) < FEW
        tar = tuple(_group_rate(scores, rate, genuine, impostor, persons, people) for rate in rates)
        groups[value] = GroupRates(pairs, n_people, few, tar)
    return groups


def _group_rate(
    scores: Scores, rate: Rate, genuine: Array, impostor: Array, persons: Persons | None, people: ListOfPeople | None
) -> GroupRate:
    """TAR and FAR of one group; None where the list, or for FAR the group, has too few pairs."""
    found = GroupRate(rate.far_asked, rate.threshold)
    if rate.tar is None:
        return found
    accepted = scores.values >= (np.inf if rate.threshold is None else rate.threshold)
    n = int(genuine.sum())
    if n:
        hits = int((accepted & genuine).sum())
        low, high = wilson(hits, n) if people is None else people.group_interval(hits / n, genuine, rate.far_asked)
        found = replace(found, tar=hits / n, low=low, high=high)
    n = int(impostor.sum())
    if n and support(rate.far_asked, n) != "none":
        hits = int((accepted & impostor).sum())
        sides = None if persons is None else (persons[0][impostor], persons[1][impostor])
        low, high = far_interval(accepted[impostor], sides)
        found = replace(found, far=hits / n, far_low=low, far_high=high)
    return found
