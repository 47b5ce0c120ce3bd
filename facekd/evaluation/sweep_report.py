"""What 'facekd sweep' finds, and shows: one table and one plot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facekd.core.printable import percent
from facekd.core.types import Rate
from facekd.evaluation.comparison_report import closed_text
from facekd.evaluation.gap import GapRow
from facekd.evaluation.page import Page
from facekd.evaluation.results import ListRates, plain, rate_of
from facekd.evaluation.text import (
    BOUND_NOTE,
    counts_text,
    far_name,
    mark,
    p_text,
    points_text,
    said,
    tar_label,
    tar_text,
)
from facekd.reports.document import Block, Figure, Section, Table, Text
from facekd.reports.forest import Row, forest

NOTE = (
    "In brackets 95 % intervals; what a person adds to the error of two cells cancels in their difference. Gain over "
    "the student alone in percentage points. The time of a step is the median from one step's end to the next; with "
    "kept views the teacher is not in it. The best of many cells looks better on these people than it is: judge the "
    "one that you choose with 'facekd compare' on others."
)


@dataclass(frozen=True, slots=True)
class SweptCell:
    """One cell of a sweep."""

    cell: str
    control: bool
    failed: str | None  # why
    teacher: str | None
    flags: Mapping[str, Any]
    seconds_per_step: float | None
    rates: ListRates | None
    closed: GapRow | None

    @property
    def name(self) -> str:
        return f"{self.cell} (control)" if self.control else self.cell


@dataclass(frozen=True, slots=True)
class SweptTeacher:
    """A teacher, or the first of several."""

    teacher: str
    rates: ListRates

    def as_json(self) -> dict[str, Any]:
        return {"teacher": self.teacher, **plain(self.rates)}


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What 'facekd sweep' says."""

    grid: str
    held_out: str
    left_out: Mapping[str, int]
    lead_far: float | None
    teachers: tuple[SweptTeacher, ...]
    cells: tuple[SweptCell, ...]
    environment: Mapping[str, Any]

    def rate(self, rates: ListRates | None) -> Rate | None:
        """The rate at the FAR that leads; None where the list shows none."""
        return None if rates is None else rate_of(rates.tar, self.lead_far)


def sweep_page(report: SweepReport, out: Path) -> Page:
    """The report as a page; `out` is the sweep's folder."""
    columns, rows = _columns(report), tuple(_rows(report))
    bound = BOUND_NOTE if any(mark(rate) for _, rate in _judged(report)) else ""
    shown: list[Block] = [Table("Cells", columns, rows, f"{NOTE} {bound}".rstrip()), *_plot(report)]
    sections = [
        Section("What came out", (*shown, Text(_counted(report) + "."))),
        Section("What was asked", (_flags_table(report),)),
    ]
    grid = ("cat > grid.yaml <<'GRID'", *report.grid.rstrip().splitlines(), "GRID")
    commands = (*grid, f"facekd sweep grid.yaml --out {out}")
    tables = (Table(_counted(report), columns, rows, bound),)
    return Page("Sweep", lead(report), tables, sections, commands, report.environment)


def lead(report: SweepReport) -> str:
    """The sentence that says which cell did best, beside the controls."""
    judged = _judged(report)
    tars = {one.cell: rate.tar or 0.0 for one, rate in judged}
    cells = {one.cell: one for one, _ in judged if not one.control}
    if not cells:
        return f"On {report.held_out} there is no rate to give: no cell was trained, or too few impostor pairs."
    assert report.lead_far is not None
    best = max(cells, key=lambda name: tars[name])
    controls = ", ".join(f"{one.cell} {percent(tars[one.cell])}" for one, _ in judged if one.control)
    teacher = report.rate(report.teachers[0].rates)
    closed = cells[best].closed
    gap = f" ({closed_text(closed)} of the gap)" if closed is not None and closed.share is not None else ""
    return (
        f"On {report.held_out}, at FAR {far_name(report.lead_far)}: {best} accepts {percent(tars[best])} of genuine "
        f"pairs{gap}, the best of {len(cells)} cells; the controls: {controls}; the teacher "
        f"{percent(None if teacher is None else teacher.tar)}."
    )


def _columns(report: SweepReport) -> tuple[str, ...]:
    return ("cell", tar_label(report.lead_far), "gain over alone", "p", "gap closed", "ms per step")


def _rows(report: SweepReport) -> list[tuple[str, ...]]:
    """The teachers, the controls, then the cells, best first; those that failed last."""
    shown: list[tuple[str, ...]] = [(name, tar_text(rate), "", "", "", "") for name, rate in _teachers(report)]

    def place(one: SweptCell) -> tuple[bool, bool, float]:
        rate = report.rate(one.rates)
        return one.failed is not None, not one.control, 0.0 if one.control or rate is None else -(rate.tar or 0.0)

    for one in sorted(report.cells, key=place):
        if one.failed is not None:
            shown.append((one.name, f"failed: {one.failed}", "–", "–", "–", "–"))
            continue
        rate, closed = report.rate(one.rates), one.closed
        gain, p, share = "–", "–", "–"
        if closed is not None:
            gain, p = points_text(closed.gain, closed.gain_low, closed.gain_high), p_text(closed.p_value)
            share = closed_text(closed)
        time = "–" if one.seconds_per_step is None else f"{1e3 * one.seconds_per_step:.0f}"
        tar = "too few impostor pairs" if rate is None else tar_text(rate)
        shown.append((one.name, tar, gain, p, share, time))
    return shown


def _plot(report: SweepReport) -> list[Block]:
    """The teachers and the controls, then the cells, best first."""
    rows = [_row(name, rate, True) for name, rate in _teachers(report)]
    for one, rate in sorted(_judged(report), key=lambda found: (not found[0].control, -(found[1].tar or 0.0))):
        rows.append(_row(one.name, rate, one.control))
    if not rows:
        return []
    label = tar_label(report.lead_far)
    return [Figure(forest(rows, x_label=label), f"{label} of each cell, with 95 % intervals.")]


def _row(name: str, rate: Rate, measure: bool) -> Row:
    assert rate.tar is not None
    return Row(name, rate.tar, rate.low, rate.high, measure)


def _flags_table(report: SweepReport) -> Table:
    alone = report.cells[0].flags
    rows = []
    for one in report.cells:
        changed = {key: value for key, value in one.flags.items() if value != alone[key]}
        rows.append((one.cell, _flags_text(changed) or "labels alone"))
    same = {key: value for key, value in alone.items() if all(one.flags[key] == value for one in report.cells)}
    note = f"The same in all: {_flags_text(same)}"
    return Table("Flags by which a cell differs from the student alone", ("cell", "flags"), tuple(rows), note)


def _flags_text(flags: Mapping[str, Any]) -> str:
    return "; ".join(f"{key.replace('_', '-')} {_value(value)}" for key, value in flags.items())


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def _counted(report: SweepReport) -> str:
    pairs = report.teachers[0].rates.pairs
    return said([f"{report.held_out}: {counts_text(pairs)}"], report.left_out)


def _judged(report: SweepReport) -> list[tuple[SweptCell, Rate]]:
    """The cells that have a rate at the FAR that leads."""
    return [(one, rate) for one in report.cells if (rate := report.rate(one.rates)) is not None]


def _teachers(report: SweepReport) -> list[tuple[str, Rate]]:
    """The same of the teachers, by what they are called."""
    found = [(f"{Path(one.teacher).name} (teacher)", report.rate(one.rates)) for one in report.teachers]
    return [(name, rate) for name, rate in found if rate is not None]
