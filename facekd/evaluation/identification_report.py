"""What 'facekd verify --identification' shows: the table at the terminal, and the report's page."""

from __future__ import annotations

from collections.abc import Sequence

from facekd.core.printable import percent, percent_small
from facekd.core.types import Rate
from facekd.evaluation.glossary import SEARCH, glossary
from facekd.evaluation.identification import SHOWN
from facekd.evaluation.page import Page, cost_blocks
from facekd.evaluation.report_groups import acquisition_text, texts
from facekd.evaluation.report_tables import fixed_table, requirements_table
from facekd.evaluation.search_results import Searched, SearchRates, SearchReport
from facekd.evaluation.text import BOUND, far_name, mark, range_text, said
from facekd.rates.rates import support_of
from facekd.reports import plots
from facekd.reports.document import Block, Figure, Section, Table

FEW = "too few unknown probes"
NOTE = f"{BOUND} Fewer than 30 / FPIR unknown probes: they bound this FPIR but do not estimate it."


def search_page(report: SearchReport, repeat: str) -> Page:
    """The report as a page; `repeat` is the command that does it again."""
    models = [one.rates for one in report.models]
    split = report.split
    rule = f"The split: {split.rule}" + ("" if split.seed is None else f" (seed {split.seed})") + "."
    rates: list[Block] = [search_rates_table(models)]
    if report.requirements:
        rates.append(requirements_table(report.requirements))
    if any(one.distractors for one in models):
        rates.append(_distractors_table(models))
    rates += texts(_counted(report) + ".", acquisition_text(models[0].acquisition), rule)
    thresholds: list[Block] = [search_thresholds_table(models)]
    fixed = {one.model: one.fixed for one in models}
    if any(fixed.values()):
        thresholds.append(fixed_table(fixed, "FPIR", "FNIR"))
    sections = [Section("Identification", tuple(rates)), Section("Curves", search_figures(report.models))]
    sections.append(Section("Thresholds", tuple(thresholds)))
    costs = cost_blocks(report.costs, [_first(one) for one in models], "Found at rank 1")
    if costs:
        sections.append(Section("Cost", costs))
    sections.append(glossary(SEARCH))
    lines = tuple(one.line for one in report.requirements)
    shown = (search_terminal(_counted(report), models), *thresholds[1:2])
    tables = tuple(one for one in shown if isinstance(one, Table))
    return Page("Verification", _lead(report), tables, sections, (repeat,), report.environment, lines)


def search_figures(models: Sequence[Searched]) -> tuple[Block, ...]:
    """CMC, and TPIR over FPIR where there are unknown probes."""
    figures: list[Block] = [
        Figure(plots.cmc({one.name: one.rates.cmc for one in models}), "CMC with 95 % bands by people")
    ]
    curves = {one.name: one.curve for one in models if one.curve is not None}
    if curves:
        axes_of = ("False positive identification rate (FPIR)", "True positive identification rate (TPIR)")
        bands = {one.name: one.rates.tpir_curve for one in models}
        caption = "TPIR at each FPIR, with 95 % bands by people"
        figures.append(Figure(plots.roc(curves, bands, axes_of=axes_of, few=FEW, to_one=False), caption))
    return tuple(figures)


def search_terminal(caption: str, models: Sequence[SearchRates]) -> Table:
    """What the terminal shows of several models in one gallery."""
    tpirs = [f"TPIR@{far_name(rate.far_asked)}" for rate in models[0].tpir]
    rows = []
    for one in models:
        cells = [percent(rate.tar) + mark(rate) for rate in one.tpir]
        rows.append((one.model, *(percent(row.found) for row in one.ranks), *cells))
    bounded = any(mark(rate) for one in models for rate in one.tpir)
    columns = ("model", *(f"rank-{rank}" for rank in SHOWN), *tpirs)
    return Table(caption, columns, tuple(rows), NOTE if bounded else "")


def _counted(report: SearchReport) -> str:
    """How many probes looked for whom, what counts as not found and what was left out."""
    first = report.models[0].rates
    gallery, probes, failures = first.gallery, first.probes, first.failures_to_enroll
    parts = [
        f"{probes.mated} probes of enrolled people and {probes.unknown} of others, in a gallery of "
        f"{gallery.people} people with {gallery.photos} photos"
    ]
    if failures.gallery_photos:
        parts.append(
            f"{failures.gallery_photos} gallery photos gave no crop, for which {failures.people} of these people "
            "could not be enrolled"
        )
    if failures.mated_probes or failures.unknown_probes:
        parts.append(
            f"{failures.mated_probes} probes of enrolled people count as not found and {failures.unknown_probes} "
            "of others as raising no alarm, for want of a crop"
        )
    return said(parts, report.split.left_out)


def _lead(report: SearchReport) -> str:
    models = [one.rates for one in report.models]
    best = max(models, key=lambda one: _first(one)[0])
    found, low, high = _first(best)
    text = (
        f"{len(models)} model{'s' if len(models) > 1 else ''} in a gallery of {models[0].gallery.people} people from "
        f"{report.split.name}: {best.model} ranks the right person first for {percent(found)} of the "
        f"probes ({100 * low:.2f} to {100 * high:.2f})"
    )
    solid = [rate for rate in best.tpir if support_of(rate) == "estimate"]
    if not solid:
        return text + "."
    last = min(solid, key=lambda rate: rate.far_asked)
    interval = "" if last.low is None or last.high is None else f" ({100 * last.low:.2f} to {100 * last.high:.2f})"
    return f"{text}, and names {percent(last.tar)}{interval} at a FPIR of {far_name(last.far_asked)}."


def search_rates_table(models: Sequence[SearchRates]) -> Table:
    """Ranks and TPIR of several models in one gallery."""
    first = models[0]
    ranks = [k for k, row in enumerate(first.ranks) if row.found is not None]  # the gallery has so many people
    shown = [k for k, rate in enumerate(first.tpir) if rate.tar is not None]
    columns = ["model", *(f"rank {first.ranks[k].rank}" for k in ranks[:1])]
    columns += [f"TPIR at FPIR {far_name(first.tpir[k].far_asked)}" for k in shown]
    columns += [f"rank {first.ranks[k].rank}" for k in ranks[1:]]
    rows = []
    for one in models:
        found = [range_text(row.found, row.low, row.high) for row in (one.ranks[k] for k in ranks)]
        rows.append((one.model, *found[:1], *(_tpir_text(one.tpir[k]) for k in shown), *found[1:]))
    note = (
        "In brackets the 95 % interval with the person as the unit for this gallery; that of TPIR counts its threshold "
        "too. TPIR counts the probes whose person is ranked first and reaches the threshold."
    )
    if any(mark(rate) for rate in first.tpir):
        note += f" {NOTE}"
    missing = [far_name(rate.far_asked) for rate in first.tpir if rate.tar is None]
    if missing:
        note += f" Of FPIR {', '.join(missing)} there is no number: {FEW}."
    return Table("Rates", tuple(columns), tuple(rows), note)


def _distractors_table(models: Sequence[SearchRates]) -> Table:
    """Rank 1 and TPIR as the gallery grows."""
    shown = [k for k, rate in enumerate(models[0].tpir) if rate.tar is not None]
    columns = (
        "model",
        "distractors",
        "rank 1",
        *(f"TPIR at FPIR {far_name(models[0].tpir[k].far_asked)}" for k in shown),
    )
    rows = [
        (
            one.model,
            f"{step.distractors:,}",
            range_text(step.found, step.low, step.high),
            *(_tpir_text(step.tpir[k]) for k in shown),
        )
        for one in models
        for step in one.distractors
    ]
    note = (
        "Photos of people whom no probe shows, enrolled beside the gallery; all other tables are with all of them. A "
        "distractor who is among the probes under another name raises alarms that are none."
    )
    return Table("As the gallery grows", columns, tuple(rows), note)


def search_thresholds_table(models: Sequence[SearchRates]) -> Table:
    """The score from which a probe is named, at each FPIR, and who is then missed."""
    rows = []
    for one in models:
        for rate in one.tpir:
            if rate.threshold is None or rate.tar is None or rate.low is None or rate.high is None:
                continue
            cells = (far_name(rate.far_asked) + mark(rate), f"{rate.threshold:.4f}", percent_small(rate.far))
            rows.append((one.model, *cells, range_text(1 - rate.tar, 1 - rate.high, 1 - rate.low)))
    note = "They hold for a gallery of this size: a larger one raises more false alarms at the same threshold."
    return Table("Operating points", ("model", "FPIR asked", "threshold", "FPIR reached", "FNIR"), tuple(rows), note)


def _first(one: SearchRates) -> tuple[float, float, float]:
    """The share of probes found at rank 1, with its interval."""
    found, low, high = (float(values[0]) for values in (one.cmc.found, one.cmc.low, one.cmc.high))
    return found, low, high


def _tpir_text(rate: Rate) -> str:
    return range_text(rate.tar, rate.low, rate.high) + mark(rate)
