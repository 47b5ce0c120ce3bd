"""What 'facekd compare' shows: tables at the terminal, and the retention report's page."""

from __future__ import annotations

from collections.abc import Sequence

from facekd.core.printable import percent
from facekd.core.types import Rate
from facekd.evaluation.gap import ComparedNetwork, GapReport, GapRow, ListComparison
from facekd.evaluation.page import Page, cost_blocks, interval_at
from facekd.evaluation.report_tables import rates_table
from facekd.evaluation.results import rate_of
from facekd.evaluation.text import (
    BOUND_NOTE,
    counts_text,
    eer_text,
    far_name,
    mark,
    marked,
    p_text,
    points_text,
    said,
    tar_label,
    tar_text,
)
from facekd.reports import plots
from facekd.reports.document import Figure, Section, Table, Text

CLOSED = "gap closed = (student − alone) / (teacher − alone), of TAR"


def closed_text(row: GapRow) -> str:
    """The share of the gap with its interval, or why there is none."""
    if row.share is None or row.low is None or row.high is None:
        return f"– ({row.why})"
    return f"{100 * row.share:.0f} % [{100 * row.low:.0f}, {100 * row.high:.0f}]"


def comparison_page(report: GapReport, repeat: str) -> Page:
    """The report as a page; `repeat` is the command that does it again."""
    sections = [_section(one) for one in report.lists]
    first = report.lists[0]
    shown = [interval_at(rates.tar, first.lead_far) for rates in first.models.values()]
    sections.append(Section("Cost", cost_blocks(report.costs, shown, tar_label(first.lead_far))))
    sections.append(Section("What was compared", (_networks(report.networks),)))
    tables = tuple(_terminal(one) for one in report.lists)
    return Page("How much of the teacher is kept", lead(first), tables, sections, (repeat,), report.environment)


def _terminal(one: ListComparison) -> Table:
    far, models = one.lead_far, list(one.models.values())
    closed = {row.model: row for row in one.closed if row.far_asked == far}
    columns = ["network", "EER", *(f"TAR@{far_name(rate.far_asked)}" for rate in models[0].tar)]
    columns += ["gap closed" if far is None else f"gap closed @{far_name(far)}", "p, unlike alone"]
    rows = []
    for name, rates in one.models.items():
        row = closed.get(name)
        share, p = ("", "") if row is None else (closed_text(row), p_text(row.p_value))
        rows.append((name, eer_text(rates), *(percent(rate.tar) + mark(rate) for rate in rates.tar), share, p))
    return Table(_counted(one), tuple(columns), tuple(rows), BOUND_NOTE if marked(models) else "")


def lead(one: ListComparison) -> str:
    """The sentence that says how the first list came out, at the lowest FAR that it supports."""
    far = one.lead_far
    if far is None:
        return f"On {one.about}: too few impostor pairs for any FAR asked."
    found = {name: rate_of(rates.tar, far) for name, rates in one.models.items()}
    tars = {name: None if rate is None else rate.tar for name, rate in found.items()}
    shown = {name: "–" if rate is None else _with_interval(rate) for name, rate in found.items()}
    teacher, alone = list(shown.values())[:2]
    best = max((row for row in one.closed if row.far_asked == far), key=lambda row: tars[row.model] or 0.0)
    if any(rate is not None and mark(rate) for rate in found.values()):
        return (
            f"On {one.about}: too few impostor pairs to estimate any FAR asked; the table has what they bound, at FAR "
            f"{far_name(far)}."
        )
    rates = (
        f"the teacher accepts {teacher} of genuine pairs at FAR {far_name(far)}, the student alone {alone}, "
        f"{best.model} {shown[best.model]}"
    )
    if best.share is None or best.low is None or best.high is None:
        return f"On {one.about} {rates}; no share of the gap is given: {best.why}."
    share, low, high = (100 * value for value in (best.share, best.low, best.high))
    return f"On {one.about} {rates}: {share:.0f} % of the gap is closed ({low:.0f} to {high:.0f})."


def _with_interval(rate: Rate) -> str:
    if rate.low is None or rate.high is None:
        return percent(rate.tar)
    return f"{percent(rate.tar)} ({100 * rate.low:.2f} to {100 * rate.high:.2f})"


def _section(one: ListComparison) -> Section:
    fars = [rate.far_asked for rate in next(iter(one.models.values())).tar]
    roc = Figure(plots.roc(one.curves), f"ROC on {one.about}")
    counted = Text(_counted(one) + ".")
    return Section(
        one.heading, (_closed_table(one), rates_table(one.models, fars), roc, _agreement_table(one), counted)
    )


def _closed_table(one: ListComparison) -> Table:
    first = next(iter(one.models.values()))
    shown = {rate.far_asked: far_name(rate.far_asked) + mark(rate) for rate in first.tar}
    rows = []
    for row in sorted(one.closed, key=lambda row: (row.far_asked != one.lead_far, row.far_asked)):
        if row.gap is None:
            continue
        gap = points_text(row.gap, row.gap_low, row.gap_high)
        gain = points_text(row.gain, row.gain_low, row.gain_high)
        rows.append((row.model, shown[row.far_asked], closed_text(row), gap, gain, p_text(row.p_value)))
    unit = "person" if first.interval == "identities" else "pair"
    note = (
        f"{CLOSED}. In brackets 95 % intervals, each network at its own threshold: what a {unit} adds to the error of "
        "all cancels; that of the share is Fieller's. p: two-sided, that the student is as good as alone. Gap and gain "
        "in percentage points. First the lowest FAR that the list estimates."
    )
    columns = ("student", "FAR", "gap closed", "teacher − alone", "student − alone", "p")
    return Table("Gap closed", columns, tuple(rows), note)


def _agreement_table(one: ListComparison) -> Table:
    fars = [rate.far_asked for rate in next(iter(one.models.values())).tar if rate.tar is not None]
    rows = []
    for row in one.agreement:
        cosines = ["–" if cosine is None else f"{cosine:.3f}" for cosine in (row.cosine, row.cosine_of_others)]
        if row.cross is None:
            cells = [str(row.why), *("–" for _ in fars[1:])] if fars else []
        else:
            cells = [tar_text(rate) for rate in row.cross.tar if rate.far_asked in fars]
        rows.append((row.model, *cosines, *cells))
    columns = ("student", "cosine of one crop", "of two people", *(tar_label(far) for far in fars))
    note = (
        "Cosines of the student's embedding to the teacher's. The TAR is of the student's probes (each pair's first "
        "photo) against the teacher's gallery (its second)."
    )
    return Table("Agreement with the teacher", columns, tuple(rows), note)


def _networks(networks: Sequence[ComparedNetwork]) -> Table:
    rows = tuple(
        (one.model, one.role, one.file, ", ".join(one.trained_on or ["not known here"]), one.model_id)
        for one in networks
    )
    return Table("Networks", ("network", "role", "file", "trained on", "model id"), rows)


def _counted(one: ListComparison) -> str:
    pairs = next(iter(one.models.values())).pairs
    return said([f"{one.about}: {counts_text(pairs)}"], one.left_out)
