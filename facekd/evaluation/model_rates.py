"""The rates of one model: on a list of pairs and its groups, or over all pairs; and what they are held against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations

import numpy as np

from facekd.core.names import NameColumn
from facekd.core.types import Array, Rate, Scores
from facekd.evaluation.fixed import Fixed, fixed_rate, judge_fixed
from facekd.evaluation.groups import across_of, groups_of_all
from facekd.evaluation.judged import JudgedModel
from facekd.evaluation.protocols import Everybody, ListedPairs, Persons
from facekd.evaluation.results import (
    FEW,
    Acquisition,
    Across,
    Failures,
    FixedRate,
    GroupRate,
    GroupRates,
    Judged,
    ModelDifference,
    ModelRates,
    PairCounts,
    Rejects,
    ThresholdRate,
    Unit,
)
from facekd.rates.allpairs import measure_all_pairs
from facekd.rates.counts import Curve, curve
from facekd.rates.folds import accuracy
from facekd.rates.intervals import wilson
from facekd.rates.overall import accuracy_interval, auc_interval, eer_interval
from facekd.rates.persons import ListOfPeople, paired_differences, person_rates
from facekd.rates.rates import auc, d_prime, eer, rate_at, support, support_of
from facekd.rates.rejects import error_vs_reject
from facekd.rates.sampled import SampledPeople
from facekd.rates.thresholds import far_interval, threshold_interval
from facekd.rates.tiles import Count

REJECTED = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)  # shares of the pairs, by quality
MOST_INDEPENDENT = 200_000  # pairs of unknown people that a difference is still told of
BAND_POINTS = 4  # of the curves' bands, in each decade of FAR


def judge_scores(
    model: JudgedModel,
    scores: Scores,
    listed: ListedPairs,
    fars: Sequence[float],
    quality: Mapping[str, float] | None = None,
    fixed: Sequence[Fixed] = (),
) -> Judged:
    """One model's rates on a pair list; groups are judged at the whole list's thresholds.

    Args:
        scores: of the list's pairs by the model, see `JudgedModel.scores`.
        quality: of crops by their ids; None rejects none by it.
        fixed: thresholds at which FMR and FNMR are judged too.
    """
    values, same, persons = scores.values, scores.same, listed.persons
    people = None if persons is None else ListOfPeople.of(values, same, *persons)
    counts = curve(values, same) if people is None else people.curve
    in_folds, kept = _in_folds(scores)
    folded, error, area = accuracy(in_folds), eer(counts), auc(counts)
    intervals = {
        "eer": eer_interval(values, same, people, error),
        "auc": auc_interval(values, same, people, area),
    }
    if folded is not None:
        judged = people
        if persons is not None and len(kept) < len(values):
            judged = ListOfPeople.of(in_folds.values, in_folds.same, persons[0][kept], persons[1][kept])
        intervals["accuracy"] = accuracy_interval(in_folds, judged, folded)
    tars = _tars(counts, people, fars)
    d = d_prime(values, same)
    fars_of = [_far_ends(counts, people, rate) for rate in tars]
    ends = [threshold_interval(values, same, rate, ends=of) for rate, of in zip(tars, fars_of, strict=True)]
    enrolled = values != -np.inf
    at = judge_fixed(fixed, values, same, persons)
    groups = {column: _by_group(scores, of, tars, persons, people, fixed) for column, of in listed.pairs.groups.items()}
    rates = ModelRates(
        model=model.name,
        model_id=model.model_id,
        accuracy=folded,
        eer=error,
        auc=area,
        d_prime=None if d is None or not np.isfinite(d) else d,
        interval=_unit(persons),
        tar=tuple(
            replace(
                ThresholdRate(**asdict(one), threshold_low=low, threshold_high=high),
                far_low=None if one.threshold is None else least,
                far_high=None if one.threshold is None else most,
            )
            for one, (low, high), (least, most) in zip(tars, ends, fars_of, strict=True)
        ),
        tar_without_failures=tuple(_without_failures(scores, enrolled, fars, persons, tars)),
        pairs=PairCounts(counts.n_genuine, counts.n_impostor),
        failures_to_enroll=Failures(int((~enrolled).sum()), len(listed.failed) + len(model.lost(listed))),
        groups=groups,
        roc=tuple(one for one in _tars(counts, people, band_fars(counts.n_impostor)) if one.tar is not None),
        intervals=intervals,
        fixed=at,
        acquisition=None if model.given is not None else _acquisition(listed),  # of scores nobody counted photos
        across=_across(groups, tars, at),
    )
    return Judged(model.file, rates, counts, scores, None if quality is None else _rejects(scores, tars, quality))


def judge_everybody(
    model: JudgedModel,
    people: Everybody,
    fars: Sequence[float],
    count: Count | None = None,
    fixed: Sequence[Fixed] = (),
    groups: Mapping[str, Sequence[str]] | None = None,
) -> Judged:
    """One model's rates over all pairs, whose scores are never kept.

    Args:
        count: counts the tiles elsewhere, see `rates.allpairs.measure_all_pairs`.
        fixed: thresholds at which FMR and FNMR are judged too.
        groups: by attribute the value of each photo, those without a crop last.
    """
    failed = np.array(people.failed_persons, np.str_)
    persons = np.array(people.persons, np.str_)
    embeddings = model.embed(people.ids)
    thresholds = [one.threshold for one in fixed]
    found = measure_all_pairs(embeddings.vectors, persons, fars, failed_persons=failed, fixed=thresholds, count=count)
    photos, n = len(people.ids) + len(failed), len(people.ids)
    everyone = {*people.persons, *people.failed_persons}
    at = tuple(_fixed_of_all(one, rate, found.people) for one, rate in zip(fixed, found.fixed, strict=True))
    by_group = {
        column: groups_of_all(embeddings.vectors, persons, failed, values, found.rates, fixed)
        for column, values in (groups or {}).items()
    }
    rates = ModelRates(
        model=model.name,
        model_id=model.model_id,
        accuracy=None,
        eer=found.eer,
        auc=found.auc,
        d_prime=found.d_prime,
        interval="identities",
        tar=tuple(found.rates),
        tar_without_failures=(),
        pairs=PairCounts(found.curve.n_genuine, found.curve.n_impostor),
        failures_to_enroll=Failures((photos * (photos - 1) - n * (n - 1)) // 2, len(failed)),
        groups=by_group,
        roc=tuple(found.band),
        intervals={"eer": found.eer_interval, "auc": found.auc_interval},
        fixed=at,
        acquisition=Acquisition(photos, len(failed), len(everyone), len(everyone - set(people.persons))),
        across=_across(by_group, found.rates, at),
    )
    return Judged(model.file, rates, found.curve, None, None, found.histogram, found.people)


def _across(
    groups: Mapping[str, Mapping[str, GroupRates]], rates: Sequence[Rate], fixed: Sequence[FixedRate]
) -> dict[str, Across]:
    found = {column: across_of(of, rates, fixed) for column, of in groups.items()}
    return {column: across for column, across in found.items() if across is not None}


def _fixed_of_all(one: Fixed, rate: Rate, people: SampledPeople) -> FixedRate:
    """FMR and FNMR of all pairs at a threshold given."""
    assert rate.tar is not None
    assert rate.low is not None
    assert rate.high is not None
    low, high = people.far_interval(rate, one.threshold)
    return fixed_rate(one, (rate.far, low, high), (1 - rate.tar, 1 - rate.high, 1 - rate.low))


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

    Where people are not known the pairs count as independent; none of a longer list than that allows.
    """
    kept = [(one.name, one.scores) for one in judged if one.scores is not None]
    counted = [(one.name, one.people, one.rates.tar) for one in judged if one.people is not None]
    interval: Unit = "identities" if counted else _unit(persons)
    rows = []
    if counted:
        for (a, mine, tars), (b, others, of_other) in combinations(counted, 2):
            for rate, other in zip(tars, of_other, strict=True):
                tested = mine.difference(rate, others, other)
                ends = tested.difference, tested.low, tested.high, tested.p_value
                rows.append(ModelDifference(a, b, rate.far_asked, *ends, interval))
        return tuple(rows)
    if persons is None and kept:
        same = kept[0][1].same
        if len(same) > MOST_INDEPENDENT:
            return ()
        persons = as_strangers(same)
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


def _unit(persons: Persons | None) -> Unit:
    return "pairs" if persons is None else "identities"


def _tars(counts: Curve, people: ListOfPeople | None, fars: Sequence[float]) -> list[Rate]:
    return [rate_at(counts, far) if people is None else people.rate(far) for far in fars]


def _without_failures(
    scores: Scores, enrolled: Array, fars: Sequence[float], persons: Persons | None, rates: list[Rate]
) -> list[Rate]:
    """The rates of the pairs of which both photos gave an embedding, for the comparison; none where a class is gone."""
    if enrolled.all():
        return rates
    values, same = scores.values[enrolled], scores.same[enrolled]
    if not same.any() or same.all():
        return []
    if persons is None:
        return _tars(curve(values, same), None, fars)
    return person_rates(values, same, persons[0][enrolled], persons[1][enrolled], fars)


def _in_folds(scores: Scores) -> tuple[Scores, Array]:
    """Only the pairs that are in a fold, and their places; all of them, as one fold, where none is."""
    kept = np.flatnonzero(scores.fold >= 0)
    if len(kept) in (0, len(scores.fold)):
        return scores, np.arange(len(scores.fold))
    left, right = (side.take(kept) for side in (scores.left, scores.right))
    return Scores(scores.values[kept], scores.same[kept], left, right, scores.fold[kept]), kept


def _with_ends(rate: Rate, threshold: tuple[float | None, float | None], far: tuple[float, float]) -> ThresholdRate:
    """A rate with the intervals of its threshold and of its FAR there."""
    (low, high), (least, most) = threshold, far if rate.threshold is not None else (None, None)
    ends = ThresholdRate(**asdict(rate), threshold_low=low, threshold_high=high)
    return replace(ends, far_low=least, far_high=most)


def _far_ends(counts: Curve, people: ListOfPeople | None, rate: Rate) -> tuple[float, float]:
    """The 95 % interval of the FAR at a rate's threshold; all there is without one."""
    if rate.threshold is None:
        return 0.0, 1.0
    if people is not None:
        return people.far_interval(rate.threshold)
    return wilson(round(rate.far * counts.n_impostor), counts.n_impostor)


def _acquisition(listed: ListedPairs) -> Acquisition:
    """Photos and people of a list that gave no crop."""
    left, right = listed.pairs.left, listed.pairs.right
    photos = len(listed.pairs.photos())
    if listed.persons is None:
        return Acquisition(photos, len(listed.failed), None, None)
    there = np.array([photo not in listed.failed for photo in left.distinct])
    number = np.concatenate(listed.persons)
    crops = np.bincount(number, np.concatenate([there[left.codes], there[right.codes]]))
    people = np.bincount(number) > 0
    return Acquisition(photos, len(listed.failed), int(people.sum()), int((people & (crops == 0)).sum()))


def _rejects(scores: Scores, rates: Sequence[Rate], quality: Mapping[str, float]) -> Rejects | None:
    """FNMR when the pairs with the blurriest crops are rejected, at the threshold of the lowest FAR shown.

    None without a threshold, or where the qualities reject no pair.
    """
    solid = [rate for rate in rates if support_of(rate) == "estimate"]
    shown = [(rate.far_asked, rate.threshold) for rate in solid if rate.threshold is not None]
    if not shown:
        return None
    far, threshold = shown[-1]
    left, right = (
        np.array([quality.get(name, -np.inf) for name in side.distinct])[side.codes]
        for side in (scores.left, scores.right)
    )
    kept = error_vs_reject(scores.values, scores.same, np.minimum(left, right), threshold, REJECTED)
    return Rejects(far, threshold, tuple(kept)) if any(one.rejected for one in kept) else None


def _by_group(
    scores: Scores,
    values: NameColumn,
    rates: Sequence[Rate],
    persons: Persons | None,
    people: ListOfPeople | None,
    fixed: Sequence[Fixed],
) -> dict[str, GroupRates]:
    """For each value of a group column its pairs, and TAR and FAR at the whole list's thresholds with intervals.

    A pair whose value is empty is of no group: nobody asks a rate of it.
    """
    code = {value: number for number, value in enumerate(values.distinct)}
    groups = {}
    for value in sorted({*values.used()} - {""}):
        here = values.codes == code[value]
        genuine, impostor = here & scores.same, here & ~scores.same
        n_people = None if persons is None else len(np.unique(persons[0][genuine]))
        pairs = PairCounts(int(genuine.sum()), int(impostor.sum()))
        few = (pairs.genuine if n_people is None else n_people) < FEW
        tar = tuple(_group_rate(scores, rate, genuine, impostor, persons, people) for rate in rates)
        inside = None if persons is None else (persons[0][here], persons[1][here])
        at = judge_fixed(fixed, scores.values[here], scores.same[here], inside)
        groups[value] = GroupRates(pairs, n_people, few, tar, at)
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
