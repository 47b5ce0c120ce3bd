"""What 'facekd verify --identification' shows: the table at the terminal, and the report's page."""

from __future__ import annotations

from collections.abc import Sequence

from facekd.core.types import Rate
from facekd.evaluation.identification import SHOWN, SearchRates, SearchReport
from facekd.evaluation.page import Page, cost_blocks
from facekd.evaluation.text import BOUND, far_name, mark, percent, range_text, said
from facekd.rates.rates import support_of
from facekd.reports import plots
from facekd.reports.document import Block, Figure, Section, Table, Text

FEW = "too few unknown probes"
NOTE = f"{BOUND} Fewer than 30 / FPIR unknown probes: they bound this FPIR but do not estimate it."


def search_page(report: SearchReport, repeat: str) -> Page:
    """The report as a page; `repeat` is the command that does it again."""
    models = [one.rates for one in report.models]
    split = report.split
    rule = f"The split: {split.rule}" + ("" if split.seed is None else f" (seed {split.seed})") + "."
    rates = (_rates_table(models), _thresholds_table(models), Text(_counted(report) + "."), Text(rule))
    figures: list[Block] = [Figure(plots.cmc({one.model: one.cmc for one in models}), "CMC with 95 % bands by people")]
    curves = {one.name: one.curve for one in report.models if one.curve is not None}
    if curves:
        axes_of = ("False positive identification rate (FPIR)", "True positive identification rate (TPIR)")
        bands = {one.model: one.tpir_curve for one in models}
        caption = "TPIR at each FPIR, with 95 % bands by people"
        figures.append(Figure(plots.roc(curves, bands, axes_of=axes_of, few=FEW), caption))
    sections = [Section("Identification", rates), Section("Curves", tuple(figures))]
    costs = cost_blocks(report.costs, [_first(one) for one in models], "Found at rank 1")
    if costs:
        sections.append(Section("Cost", costs))
    return Page("Verification", _lead(report), (_terminal(report),), sections, (repeat,), report.environment)


def _terminal(report: SearchReport) -> Table:
    models = [one.rates for one in report.models]
    tpirs = [f"TPIR@{far_name(rate.far_asked)}" for rate in models[0].tpir]
    rows = []
    for one in models:
        cells = [percent(rate.tar) + mark(rate) for rate in one.tpir]
        rows.append((one.model, *(percent(row.found) for row in one.ranks), *cells))
    bounded = any(mark(rate) for one in models for rate in one.tpir)
    columns = ("model", *(f"rank-{rank}" for rank in SHOWN), *tpirs)
    return Table(_counted(report), columns, tuple(rows), NOTE if bounded else "")


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
    return f"{text}, and names {percent(last.tar)} at a FPIR of {far_name(last.far_asked)}."


def _rates_table(models: Sequence[SearchRates]) -> Table:
    first = models[0]
    ranks = [k for k, row in enumerate(first.ranks) if row.found is not None]  # the gallery has so many people
    shown = [k for k, rate in enumerate(first.tpir) if rate.tar is not None]
    columns = ["model", *(f"rank {first.ranks[k].rank}" for k in ranks)]
    columns += [f"TPIR at FPIR {far_name(first.tpir[k].far_asked)}" for k in shown]
    rows = []
    for one in models:
        cells = [range_text(row.found, row.low, row.high) for row in (one.ranks[k] for k in ranks)]
        cells += [_tpir_text(one.tpir[k]) for k in shown]
        rows.append((one.model, *cells))
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


def _thresholds_table(models: Sequence[SearchRates]) -> Table:
    rows = [
        (one.model, far_name(rate.far_asked) + mark(rate), f"{rate.far:.3g}", f"{rate.threshold:.4f}")
        for one in models
        for rate in one.tpir
        if rate.threshold is not None
    ]
    note = "They hold for a gallery of this size: a larger one raises more false alarms at the same threshold."
    return Table("Thresholds", ("model", "FPIR asked", "FPIR reached", "cosine"), tuple(rows), note)


def _first(one: SearchRates) -> tuple[float, float, float]:
    """The share of probes found at rank 1, with its interval."""
    found, low, high = (float(values[0]) for values in (one.cmc.found, one.cmc.low, one.cmc.high))
    return found, low, high


def _tpir_text(rate: Rate) -> str:
    return range_text(rate.tar, rate.low, rate.high) + mark(rate)
