"""What 'facekd verify' shows of pairs: the table at the terminal, and the report as HTML and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from facekd.core.pixels import encode_crop
from facekd.core.types import Rate, Scores
from facekd.crops.cropset import CropSet
from facekd.evaluation.model_rates import FEW
from facekd.evaluation.page import Page, cost_blocks, interval_at
from facekd.evaluation.results import (
    GroupRate,
    Judged,
    ListRates,
    ModelDifference,
    ModelRates,
    PairReport,
    RequirementCheck,
    ThresholdRate,
    WorstToBest,
    group_ratios,
    lowest_far,
    rate_of,
)
from facekd.evaluation.text import (
    BANDS,
    BOUND_NOTE,
    INTERVALS,
    RESAMPLED,
    accuracy_text,
    counts_text,
    eer_text,
    far_name,
    mark,
    marked,
    p_text,
    percent,
    points_text,
    range_text,
    said,
    tar_label,
    tar_text,
)
from facekd.rates.rates import support_of
from facekd.reports import plots
from facekd.reports.document import (
    Block,
    Figure,
    Picture,
    Pictures,
    Section,
    Table,
    Text,
)

HARDEST = 8  # pairs shown of each kind


def rates_table(
    rows_of: Mapping[str, ListRates] | Mapping[str, ModelRates], fars: Sequence[float], note: str = ""
) -> Table:
    """The rates of several models, by name, as a table of the report.

    A column that would say nothing of any model is left out; of a FAR the note says why.
    """
    found: list[ListRates | ModelRates] = [*rows_of.values()]
    first = found[0]
    shown = [k for k in range(len(fars)) if any(rates.tar[k].tar is not None for rates in found)]
    folds = len(first.accuracy.folds) if first.accuracy else 0
    columns = ["model", *([f"{folds}-fold accuracy"] if folds else []), "EER"]
    columns += [tar_label(fars[k]) for k in shown]
    rows = []
    for name, rates in zip(rows_of, found, strict=True):
        cells = [name, *([accuracy_text(rates)] if folds else []), eer_text(rates)]
        rows.append((*cells, *(tar_text(rates.tar[k]) for k in shown)))
    notes = [note] if note else []
    notes.append(INTERVALS[first.interval])
    if any(rates.eer is None and "–" in eer_text(rates) for rates in found):
        notes.append("An EER lies between its two numbers.")
    if marked(found):
        notes.append(BOUND_NOTE)
    if len(shown) < len(fars):
        missing = ", ".join(far_name(far) for k, far in enumerate(fars) if k not in shown)
        notes.append(f"Of FAR {missing} there is no number: too few impostor pairs.")
    return Table("Rates", tuple(columns), tuple(rows), " ".join(notes))


def _counted(report: PairReport) -> str:
    """How many pairs there are, which count as non-matches and which were left out."""
    first = report.models[0].rates
    failures = first.failures_to_enroll
    parts = [counts_text(first.pairs)]
    if failures.photos:
        parts.append(f"{failures.photos} photos gave no crop: {failures.pairs} pairs count as non-matches")
    return said(parts, report.pairs.left_out)


def pair_page(report: PairReport, crops: CropSet | None, repeat: str) -> Page:
    """The report as a page.

    Args:
        crops: for pictures of the hardest pairs; None shows none.
        repeat: the command that does it again.
    """
    lines = tuple(one.line for one in report.requirements)
    sections = _sections(report, crops)
    return Page("Verification", _lead(report), (_terminal(report),), sections, (repeat,), report.environment, lines)


def _terminal(report: PairReport) -> Table:
    models = [one.rates for one in report.models]
    columns = ("model", "accuracy", "EER", "AUC", *(f"TAR@{far_name(rate.far_asked)}" for rate in models[0].tar))
    rows = []
    for one in models:
        auc = "–" if one.auc is None else f"{one.auc:.4f}"
        tars = [percent(rate.tar) + mark(rate) for rate in one.tar]
        rows.append((one.model, accuracy_text(one), eer_text(one), auc, *tars))
    return Table(_counted(report), columns, tuple(rows), BOUND_NOTE if marked(models) else "")


def _lead(report: PairReport) -> str:
    models = [one.rates for one in report.models]
    start = f"{len(models)} model{'s' if len(models) > 1 else ''} on {counts_text(models[0].pairs)} of "
    far = lowest_far(models[0].tar)
    found = {one.model: rate for one in models if (rate := rate_of(one.tar, far)) is not None}
    if not found:
        return f"{start}{report.pairs.name}: too few impostor pairs for any FAR asked."
    best = max(found, key=lambda name: found[name].tar or 0)
    rate = found[best]
    assert rate.low is not None
    assert rate.high is not None
    return (
        f"{start}{report.pairs.name}: {best} accepts {percent(rate.tar)} of the genuine pairs "
        f"({100 * rate.low:.2f} to {100 * rate.high:.2f}) at a FAR of {far_name(rate.far_asked)}."
    )


def _sections(report: PairReport, crops: CropSet | None) -> list[Section]:
    models = [one.rates for one in report.models]
    fars = [rate.far_asked for rate in models[0].tar]
    rates: list[Block] = [rates_table({one.model: one for one in models}, fars)]
    if report.requirements:
        rates.append(_requirements_table(report.requirements))
    if report.differences:
        rates.append(_differences_table(report.differences))
    rates += [_thresholds_table(models), Text(_counted(report) + ".")]
    sections = [Section("Rates", tuple(rates)), Section("Curves", tuple(_curves(report.models)))]
    groups = [table for one in models for table in _group_tables(one)]
    if groups:
        sections.append(Section("Groups", tuple(groups)))
    rejects = _rejects(report.models)
    if rejects:
        sections.append(Section("Quality", rejects))
    far = lowest_far(models[0].tar)
    costs = cost_blocks(report.costs, [interval_at(one.tar, far) for one in models], tar_label(far))
    if costs:
        sections.append(Section("Cost", costs))
    with_scores = [(one, one.scores) for one in report.models if one.scores is not None]
    if crops is not None and with_scores:
        best, scores = max(with_scores, key=lambda one: one[0].rates.auc or 0.0)
        sections.append(Section("The hardest pairs", tuple(_hardest(best.name, scores, crops))))
    return sections


def _curves(models: Sequence[Judged]) -> list[Figure]:
    curves = {one.name: one.curve for one in models}
    bands = {one.name: one.rates.roc for one in models}
    unit = BANDS[models[0].rates.interval]
    return [
        Figure(plots.roc(curves, bands), f"ROC {unit}"),
        Figure(plots.det(curves, bands), f"DET: both error rates, log axes, {unit}"),
        *(
            Figure(plots.histograms(one.scores, _marks(one.rates.tar)), f"Scores of {one.name}")
            for one in models
            if one.scores is not None
        ),
    ]


def _marks(rates: Sequence[Rate]) -> dict[str, float]:
    """The threshold of the lowest FAR that the list estimates: marks of several would lie on each other."""
    solid = [rate for rate in rates if support_of(rate) == "estimate"]
    found = [(rate.far_asked, rate.threshold) for rate in solid if rate.threshold is not None]
    return {f"FAR {far_name(far)}": threshold for far, threshold in found[-1:]}


def _requirements_table(requirements: Sequence[RequirementCheck]) -> Table:
    rows = [(one.model, one.require, percent(one.low), "holds" if one.met else "missed") for one in requirements]
    return Table("Requirements", ("model", "required", "lower bound", "result"), tuple(rows))


def _differences_table(differences: Sequence[ModelDifference]) -> Table:
    rows = [
        (
            f"{one.a} − {one.b}",
            far_name(one.far_asked),
            points_text(one.difference, one.low, one.high),
            p_text(one.p_value),
        )
        for one in differences
    ]
    note = (
        f"Percentage points with 95 % interval: the same resampled {RESAMPLED[differences[0].interval]} for both "
        "models, each at its own threshold."
    )
    return Table("Differences in TAR on the same pairs", ("models", "FAR", "difference", "p"), tuple(rows), note)


def _thresholds_table(models: Sequence[ModelRates]) -> Table:
    rows = []
    for one in models:
        for rate in one.tar:
            if rate.threshold is None:
                continue
            interval = ""
            if isinstance(rate, ThresholdRate) and None not in (rate.threshold_low, rate.threshold_high):
                interval = f" [{rate.threshold_low:.4f}, {rate.threshold_high:.4f}]"
            cells = (far_name(rate.far_asked) + mark(rate), f"{rate.far:.3g}")
            rows.append((one.model, *cells, f"{rate.threshold:.4f}{interval}"))
    note = "A score is accepted from the threshold on; thresholds.json holds the same for other commands."
    return Table("Thresholds", ("model", "FAR asked", "FAR reached", "cosine"), tuple(rows), note)


def _group_tables(one: ModelRates) -> list[Table]:
    tables = []
    for column, groups in one.groups.items():
        rows = []
        for name, group in groups.items():
            people = "–" if group.people is None else str(group.people)
            counts = (people, str(group.pairs.genuine), str(group.pairs.impostor))
            for rate in group.tar:
                cells = (far_name(rate.far_asked), range_text(rate.tar, rate.low, rate.high), _far_text(rate))
                rows.append((name + (" ‡" if group.few else ""), *counts, *cells))
        ratios = [
            f"at FAR {far_name(row.far_asked)} missed pairs {_ratio(row.fnmr)}, false accepts {_ratio(row.far)}"
            for row in group_ratios(groups)
        ]
        note = f"At the whole list's thresholds. Worst to best group: {'; '.join(ratios)}."
        if any(group.few for group in groups.values()):
            note += f" ‡ Fewer than {FEW} people (or genuine pairs): too few to compare, left out of the ratios."
        columns = (column, "people", "genuine", "impostor", "FAR asked", "TAR", "FAR")
        tables.append(Table(f"{one.model} by {column}", columns, tuple(rows), note))
    return tables


def _far_text(rate: GroupRate) -> str:
    return "–" if rate.far is None else f"{rate.far:.2g} [{rate.far_low:.2g}, {rate.far_high:.2g}]"


def _ratio(found: WorstToBest) -> str:
    return "–" if found.ratio is None else f"× {found.ratio:.1f}"


def _rejects(models: Sequence[Judged]) -> tuple[Block, ...]:
    """FNMR against the share of pairs that is rejected for the quality of their crops."""
    found = {one.name: one.rejects for one in models if one.rejects is not None}
    if not found:
        return ()
    rows = [
        (name, percent(row.rejected, 1), percent(row.fnmr), str(row.n_genuine), str(row.n_impostor))
        for name, one in found.items()
        for row in one.rows
    ]
    far = far_name(next(iter(found.values())).far_asked)
    x, y = "percent of pairs rejected", "FNMR"
    lines = {name: [{x: 100 * row.rejected, y: row.fnmr} for row in one.rows] for name, one in found.items()}
    note = "The pairs whose less sharp crop is blurriest are rejected first; the threshold stays."
    return (
        Figure(plots.training(lines, x=x, y=y), f"Error versus reject at the threshold of FAR {far}"),
        Table("Rejecting by quality", ("model", "rejected", "FNMR", "genuine", "impostor"), tuple(rows), note),
    )


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
