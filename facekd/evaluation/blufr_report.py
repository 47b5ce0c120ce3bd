"""What 'facekd verify --blufr' shows: the table at the terminal, and the report's page."""

from __future__ import annotations

from facekd.core.printable import percent
from facekd.evaluation.blufr import BlufrRates, BlufrReport, Spread
from facekd.evaluation.page import Page, cost_blocks
from facekd.evaluation.text import far_name, said
from facekd.reports.document import Section, Table, Text


def blufr_page(report: BlufrReport, repeat: str) -> Page:
    """The report as a page; `repeat` is the command that does it again."""
    note = (
        "Mean of the trials less their standard deviation, as BLUFR reports it, and in brackets both. Verification is "
        "over all pairs of each test set; identification is the share of genuine probes found at rank 1 at the "
        "threshold of the FPIR (DIR at FAR in the paper's terms)."
    )
    rates = Table("Rates", _columns(report), tuple(_row(one) for one in report.models), note)
    first = report.models[0].trials
    genuine, impostor = ([getattr(row, f"{kind}_probes") for row in first] for kind in ("genuine", "impostor"))
    of = (
        f"In a trial {_range([row.people for row in first])} people with {_range([row.photos for row in first])} "
        f"photos test; {_range([row.enrolled for row in first])} are enrolled, for {_range(genuine)} genuine and "
        f"{_range(impostor)} impostor probes. The trials: {report.rule}."
    )
    sections = [
        Section("BLUFR", (rates, Text(said([of], report.photos.left_out)))),
        Section("Trials", tuple(_trials(one) for one in report.models)),
    ]
    points = [None if one.tar is None else (max(0.0, one.tar.reported), None, None) for one in report.models]
    costs = cost_blocks(report.costs, points, f"BLUFR, TAR at FAR {far_name(report.far)}")
    if costs:
        sections.append(Section("Cost", costs))
    return Page("BLUFR", _lead(report), (rates,), sections, (repeat,), report.environment)


def _lead(report: BlufrReport) -> str:
    shown = [one for one in report.models if one.tar is not None]
    if not shown:
        return f"On {report.photos.name}: too few impostor pairs for a FAR of {far_name(report.far)}."
    best = max(shown, key=lambda one: one.tar.reported if one.tar else 0.0)
    text = f"On {report.photos.name} in {len(best.trials)} trials: {best.model} has {_spread(best.tar)} at a FAR of "
    text += far_name(report.far)
    if best.dir is not None:
        text += f" and finds {_spread(best.dir)} at rank 1 at a FPIR of {far_name(report.fpir)}"
    return text + "."


def _columns(report: BlufrReport) -> tuple[str, ...]:
    return "model", f"TAR at FAR {far_name(report.far)}", f"rank 1 at FPIR {far_name(report.fpir)}"


def _row(one: BlufrRates) -> tuple[str, ...]:
    return one.model, _spread(one.tar), _spread(one.dir)


def _spread(found: Spread | None) -> str:
    if found is None:
        return "–"
    return f"{percent(found.reported)} ({100 * found.mean:.2f} − {100 * found.std:.2f})"


def _trials(one: BlufrRates) -> Table:
    rows = [
        (str(number), percent(row.tar), percent(row.dir), *map(str, (row.people, row.photos, row.enrolled)))
        for number, row in enumerate(one.trials, 1)
    ]
    columns = ("trial", "TAR", "rank 1 at FPIR", "people", "photos", "enrolled")
    return Table(one.model, columns, tuple(rows))


def _range(values: list[int]) -> str:
    low, high = min(values), max(values)
    return str(low) if low == high else f"{low} to {high}"
