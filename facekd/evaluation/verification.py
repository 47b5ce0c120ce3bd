"""What 'facekd verify' reports of models: on a pair list, over all pairs, or in a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from facekd.core.files import sha256_file
from facekd.core.run import environment
from facekd.evaluation.cost import costs_of
from facekd.evaluation.identification import GalleryPlan, JudgedSplit, SearchReport, search_of
from facekd.evaluation.model_rates import check, differences, judge_everybody, judge_scores
from facekd.evaluation.protocols import Everybody, JudgedModel, ListedPairs, qualities
from facekd.evaluation.results import Judged, JudgedPairs, PairReport, ThresholdRate, plain
from facekd.evaluation.text import far_name
from facekd.rates.allpairs import Count
from facekd.rates.rates import support_of
from facekd.settings.evaluation import AskedRates


def list_report(
    listed: ListedPairs, models: Sequence[JudgedModel], asked: AskedRates, crops: Path | None, about: Path
) -> PairReport:
    """The models on a list.

    Args:
        crops: the store, for its crops' quality.
        about: the list's file.
    """
    quality = qualities(crops)
    judged = [judge_scores(one, one.scores(listed), listed, asked.fars, quality) for one in models]
    which = JudgedPairs(*_file(about), listed.name, listed.left_out)
    return _report(which, judged, listed, models, asked)


def everybody_report(
    people: Everybody,
    models: Sequence[JudgedModel],
    asked: AskedRates,
    about: Path,
    counting: AbstractContextManager[Count | None],
) -> PairReport:
    """The models over all pairs, which `counting` counts."""
    with counting as count:
        judged = [judge_everybody(one, people, asked.fars, count) for one in models]
    which = JudgedPairs(*_file(about), f"all pairs of {people.name}", people.left_out)
    return _report(which, judged, None, models, asked)


def search_report(
    plan: GalleryPlan, models: Sequence[JudgedModel], fpirs: Sequence[float], about: Path
) -> SearchReport:
    """The models in a gallery."""
    searched = tuple(search_of(one, plan, fpirs) for one in models)
    which = JudgedSplit(*_file(about), plan.seed, plan.rule, plan.name, plan.left_out)
    return SearchReport(which, searched, (), costs_of(models), (), environment())


def thresholds_json(report: PairReport) -> dict[str, Any]:
    """``{"pairs": …, "models": {model_id: {"name": …, "thresholds": {far: {threshold, low, high, …}}}}}``."""
    models = {}
    for one in (judged.rates for judged in report.models):
        found = {}
        for rate in one.tar:
            ends = (rate.threshold_low, rate.threshold_high) if isinstance(rate, ThresholdRate) else (None, None)
            if rate.threshold is not None:
                found[far_name(rate.far_asked)] = {
                    "threshold": rate.threshold,
                    "low": ends[0],
                    "high": ends[1],
                    "far": rate.far,
                    "support": support_of(rate),
                }
        models[one.model_id] = {"name": one.model, "thresholds": found}
    return {"pairs": plain(report.pairs), "models": models}


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
        requirements=tuple(check(one, model.rates) for model in judged for one in asked.requirements),
        environment=environment(),
    )


def _file(path: Path) -> tuple[str, str | None]:
    return str(path), sha256_file(path) if path.is_file() else None
