"""What 'facekd verify' reports of models: on a pair list, over all pairs, or in a gallery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from facekd.core.files import sha256_file
from facekd.core.run import environment
from facekd.evaluation.blufr import FAR, FPIR, BlufrReport, Trials, blufr_rates
from facekd.evaluation.cost import costs_of
from facekd.evaluation.distractors import Distractors, crowd_of
from facekd.evaluation.fixed import fixed_thresholds
from facekd.evaluation.identification import GalleryPlan, search_of
from facekd.evaluation.judged import JudgedModel
from facekd.evaluation.model_rates import differences, judge_everybody, judge_scores
from facekd.evaluation.protocols import Everybody, ListedPairs, qualities
from facekd.evaluation.requirements import check_groups, checks
from facekd.evaluation.results import Judged, JudgedPairs, PairReport
from facekd.evaluation.search_results import JudgedSplit, SearchReport
from facekd.rates.tiles import Count
from facekd.settings.evaluation import AskedRates


def list_report(
    listed: ListedPairs, models: Sequence[JudgedModel], asked: AskedRates, crops: Path | None, about: Path
) -> PairReport:
    """The models on a list.

    Args:
        crops: the store, for its crops' quality.
        about: the list's file.
    """
    check_groups(asked.requirements, {name: set(values) - {""} for name, values in listed.pairs.groups.items()})
    quality = qualities(crops)
    fixed = [
        fixed_thresholds(asked.threshold, one.ids, "thresholds", None if one.given is None else one.name)
        for one in models
    ]
    judged = [
        judge_scores(one, one.scores(listed), listed, asked.fars, quality, at)
        for one, at in zip(models, fixed, strict=True)
    ]
    which = JudgedPairs(*_file(about), listed.name, listed.left_out, listed.people)
    return _report(which, judged, listed, models, asked)


def everybody_report(
    people: Everybody,
    models: Sequence[JudgedModel],
    asked: AskedRates,
    about: Path,
    counting: AbstractContextManager[Count | None],
    groups: Mapping[str, Sequence[str]] | None = None,
) -> PairReport:
    """The models over all pairs, which `counting` counts.

    Args:
        groups: by attribute the value of each photo, see `attributes.of_everybody`.
    """
    check_groups(asked.requirements, {name: set(values) for name, values in (groups or {}).items()})
    fixed = [fixed_thresholds(asked.threshold, one.ids, "thresholds") for one in models]
    with counting as count:
        judged = [
            judge_everybody(one, people, asked.fars, count, at, groups or {})
            for one, at in zip(models, fixed, strict=True)
        ]
    which = JudgedPairs(*_file(about), f"all pairs of {people.name}", people.left_out, "stated")
    return _report(which, judged, None, models, asked)


def search_report(
    plan: GalleryPlan,
    models: Sequence[JudgedModel],
    asked: AskedRates,
    about: Path,
    distractors: Distractors | None = None,
    quiet: bool = True,
) -> SearchReport:
    """The models in a gallery, which grows by the distractors."""
    fixed = [fixed_thresholds(asked.threshold, one.ids, "fpir") for one in models]
    crowds = [None if distractors is None else crowd_of(distractors, one, quiet) for one in models]
    searched = tuple(
        search_of(one, plan, asked.fars, at, crowd) for one, at, crowd in zip(models, fixed, crowds, strict=True)
    )
    left_out = plan.left_out | (distractors.left_out if distractors else {})
    which = JudgedSplit(*_file(about), plan.seed, plan.rule, plan.name, left_out)
    held = tuple(one for model in searched for asks in asked.requirements for one in checks(asks, model.rates))
    return SearchReport(which, searched, (), costs_of(models), held, environment())


def blufr_report(found: Trials, people: Everybody, models: Sequence[JudgedModel], about: Path) -> BlufrReport:
    """The models in BLUFR's trials."""
    which = JudgedPairs(*_file(about), people.name, found.left_out)
    rates = tuple(blufr_rates(one, people, found.trials) for one in models)
    return BlufrReport(which, found.rule, FAR, FPIR, rates, costs_of(models), (), environment())


def _report(
    which: JudgedPairs,
    judged: Sequence[Judged],
    listed: ListedPairs | None,
    models: Sequence[JudgedModel],
    asked: AskedRates,
) -> PairReport:
    return PairReport(
        pairs=which,
        models=tuple(judged),
        differences=differences(judged, listed.persons if listed else None, asked.fars),
        costs=costs_of(models),
        requirements=tuple(held for model in judged for one in asked.requirements for held in checks(one, model.rates)),
        environment=environment(),
    )


def _file(path: Path) -> tuple[str, str | None]:
    return str(path), sha256_file(path) if path.is_file() else None
