"""What 'facekd verify' shows of pairs: the table at the terminal, and the report as HTML and Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facekd.core.pixels import encode_crop
from facekd.core.printable import percent
from facekd.core.types import Rate, Scores
from facekd.crops.cropset import CropSet
from facekd.evaluation.glossary import PAIRS, glossary
from facekd.evaluation.page import Page, cost_blocks, interval_at
from facekd.evaluation.report_groups import acquisition_text, group_blocks, reject_blocks, texts
from facekd.evaluation.report_tables import (
    completed_table,
    differences_table,
    fixed_table,
    overall_table,
    points_table,
    rates_table,
    requirements_table,
)
from facekd.evaluation.results import Judged, PairReport, estimated_far, lowest_far, rate_of
from facekd.evaluation.text import (
    BANDS,
    BOUND_NOTE,
    accuracy_text,
    counts_text,
    eer_text,
    far_name,
    mark,
    marked,
    said,
    tar_label,
)
from facekd.rates.rates import support_of
from facekd.reports import plots
from facekd.reports.calibration import error_rates
from facekd.reports.document import Block, Figure, Picture, Pictures, Section, Table

HARDEST = 8  # pairs shown of each kind


def _counted(report: PairReport) -> str:
    """How many pairs there are, which count as non-matches and which were left out."""
    first = report.models[0].rates
    failures = first.failures_to_enroll
    parts = [counts_text(first.pairs)]
    if failures.photos:
        parts.append(f"{failures.photos} photos gave no crop: {failures.pairs} pairs count as non-matches")
    elif failures.pairs:
        parts.append(f"{failures.pairs} pairs have no score and count as non-matches")
    if report.pairs.people == "photo names":
        parts.append("people are known by their photos' names only")
    turned = [one.name for one in report.models if (one.rates.auc or 1.0) < 0.5]
    if turned:
        parts.append(f"{', '.join(turned)}: genuine pairs score lower than impostor pairs; are its scores distances?")
    return said(parts, report.pairs.left_out)


def pair_page(report: PairReport, crops: CropSet | None, repeat: str) -> Page:
    """The report as a page.

    Args:
        crops: for pictures of the hardest pairs; None shows none.
        repeat: the command that does it again.
    """
    lines = tuple(one.line for one in report.requirements)
    sections = _sections(report, crops)
    shown = [_terminal(report)]
    fixed = {one.rates.model: one.rates.fixed for one in report.models}
    if any(fixed.values()):
        shown.append(fixed_table(fixed, "FMR", "FNMR"))
    return Page("Verification", _lead(report), tuple(shown), sections, (repeat,), report.environment, lines)


def _terminal(report: PairReport) -> Table:
    models = [one.rates for one in report.models]
    folds = any(one.accuracy is not None for one in models)  # else the column would say nothing
    tar = (f"TAR@{far_name(rate.far_asked)}" for rate in models[0].tar)
    columns = ("model", *(("accuracy",) if folds else ()), "EER", "AUC", *tar)
    rows = []
    for one in models:
        auc = "–" if one.auc is None else f"{one.auc:.4f}"
        tars = [percent(rate.tar) + mark(rate) for rate in one.tar]
        rows.append((one.model, *((accuracy_text(one),) if folds else ()), eer_text(one), auc, *tars))
    return Table(_counted(report), columns, tuple(rows), BOUND_NOTE if marked(models) else "")


def _lead(report: PairReport) -> str:
    models = [one.rates for one in report.models]
    start = f"{len(models)} model{'s' if len(models) > 1 else ''} on {counts_text(models[0].pairs)} of "
    far = estimated_far(models[0].tar)
    found = {one.model: rate for one in models if (rate := rate_of(one.tar, far)) is not None}
    if not found:
        few = "too few impostor pairs to estimate any FAR asked"
        best = min(models, key=lambda one: 1.0 if one.eer is None else one.eer)
        ends = best.intervals.get("eer")
        if best.eer is None or ends is None:
            return f"{start}{report.pairs.name}: {few}."
        interval = f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f}"
        return f"{start}{report.pairs.name}: {few}; the EER of {best.model} is {percent(best.eer)} ({interval})."
    best_of = max(found, key=lambda name: found[name].tar or 0)
    rate = found[best_of]
    assert rate.low is not None
    assert rate.high is not None
    return (
        f"{start}{report.pairs.name}: {best_of} accepts {percent(rate.tar)} of the genuine pairs "
        f"({100 * rate.low:.2f} to {100 * rate.high:.2f}) at a FAR of {far_name(rate.far_asked)}."
    )


def _sections(report: PairReport, crops: CropSet | None) -> list[Section]:
    models = [one.rates for one in report.models]
    fars = [rate.far_asked for rate in models[0].tar]
    rates: list[Block] = [rates_table({one.model: one for one in models}, fars, apart=True), overall_table(models)]
    if report.requirements:
        rates.append(requirements_table(report.requirements))
    if report.differences:
        rates.append(differences_table(report.differences))
    rates += texts(_counted(report) + ".", acquisition_text(models[0].acquisition))
    if any(one.failures_to_enroll.pairs and one.tar_without_failures for one in models):
        rates.append(completed_table(models))
    sections = [Section("Rates", tuple(rates)), Section("Curves", tuple(_curves(report.models)))]
    thresholds: list[Block] = [points_table(models)]
    if any(one.fixed for one in models):
        thresholds.append(fixed_table({one.model: one.fixed for one in models}, "FMR", "FNMR"))
    drawn = Figure(error_rates({one.name: one.curve for one in report.models}), "Both error rates at each threshold")
    sections.append(Section("Thresholds", (*thresholds, drawn)))
    far = lowest_far(models[0].tar)
    groups = [block for one in models for block in group_blocks(one, far)]
    more = (*groups, *reject_blocks(report.models))
    if more:
        sections.append(Section("Groups and quality" if groups else "Quality", more))
    costs = cost_blocks(report.costs, [interval_at(one.tar, far) for one in models], tar_label(far))
    if costs:
        sections.append(Section("Cost", costs))
    with_scores = [(one, one.scores) for one in report.models if one.scores is not None]
    if crops is not None and with_scores:
        best, scores = max(with_scores, key=lambda one: one[0].rates.auc or 0.0)
        sections.append(Section("The hardest pairs", tuple(_hardest(best.name, scores, crops))))
    return [*sections, glossary(PAIRS)]


def _curves(models: Sequence[Judged]) -> list[Figure]:
    curves = {one.name: one.curve for one in models}
    bands = {one.name: one.rates.roc for one in models}
    unit = BANDS[models[0].rates.interval]
    return [
        Figure(plots.roc(curves, bands), f"ROC {unit}"),
        Figure(plots.det(curves, bands), f"DET: both error rates, log axes, {unit}"),
        *(
            Figure(plots.histograms(drawn, _marks(one.rates.tar)), f"Scores of {one.name}")
            for one in models
            if (drawn := one.scores if one.histogram is None else one.histogram) is not None
        ),
    ]


def _marks(rates: Sequence[Rate]) -> dict[str, float]:
    """The threshold of the lowest FAR that the list estimates: marks of several would lie on each other."""
    solid = [rate for rate in rates if support_of(rate) == "estimate"]
    found = [(rate.far_asked, rate.threshold) for rate in solid if rate.threshold is not None]
    return {f"FAR {far_name(far)}": threshold for far, threshold in found[-1:]}


def _hardest(name: str, scores: Scores, crops: CropSet) -> list[Pictures]:
    """The least alike genuine and the most alike impostor pairs, as pictures."""
    place = {crop_id: i for i, crop_id in enumerate(crops.ids)}
    found = []
    for same, caption in ((True, "Genuine pairs that score lowest"), (False, "Impostor pairs that score highest")):
        of_kind = np.flatnonzero((scores.same == same) & np.isfinite(scores.values))
        order = np.argsort(scores.values[of_kind], kind="stable")
        chosen = of_kind[order if same else order[::-1]][:HARDEST]
        items = [
            Picture(encode_crop(crops.pixels(crop)), f"{scores.values[pair]:.3f} {crops.sources[crop]}")
            for pair in chosen
            for crop in (place[scores.left[pair]], place[scores.right[pair]])
        ]
        found.append(Pictures(f"{caption}, by {name}; two neighbors are one pair", tuple(items)))
    return found
