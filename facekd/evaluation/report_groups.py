"""What a report of pairs shows of groups and of quality: who is missed, who is taken for whom, who gave no crop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from facekd.core.printable import percent
from facekd.evaluation.results import (
    CROSS,
    FEW,
    Acquisition,
    Across,
    GroupRate,
    GroupRates,
    Judged,
    ModelRates,
    WorstToBest,
    group_ratios,
)
from facekd.evaluation.text import far_name, range_text, small_text
from facekd.reports import plots
from facekd.reports.calibration import matrix
from facekd.reports.document import Block, Figure, Table, Text
from facekd.reports.forest import Row, forest

COUNTS = ("people", "genuine", "impostor")
FEW_NOTE = f"‡ Fewer than {FEW} people (or genuine pairs): too few to compare"
MOST_CELLS = 15  # of the matrix in the table: those with the highest FMR


def group_blocks(one: ModelRates, far: float | None) -> list[Block]:
    """Tables and plots of one model's groups.

    Args:
        far: at whose threshold; None takes the first FAR asked.
    """
    blocks: list[Block] = []
    for column, everything in one.groups.items():
        groups = {name: group for name, group in everything.items() if CROSS not in name}
        if groups:
            at = _shown_far(groups, far)
            shown = {name: _at(group, at) for name, group in groups.items()}
            blocks += [_table(one, column, groups, shown), *_plots(one.model, column, shown)]
            blocks += [_fixed_table(one.model, column, groups, k) for k in range(len(one.fixed))]
        if column in one.across:
            blocks += _across(one.model, column, one.across[column])
    return blocks


def acquisition_text(found: Acquisition | None) -> str:
    """Failures to acquire and to enroll, in a sentence; empty where nobody counted."""
    if found is None:
        return ""
    text = f"Failure to acquire (FTA): {found.failed_photos} of {found.photos} photos, {percent(found.fta)}"
    if found.people is not None and found.failed_people is not None:
        text += f". Failure to enroll (FTE): {found.failed_people} of {found.people} people, {percent(found.fte)}"
    return text + "."


def reject_blocks(models: Sequence[Judged]) -> tuple[Block, ...]:
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


def _shown_far(groups: Mapping[str, GroupRates], far: float | None) -> float | None:
    """The lowest FAR, from `far` upwards, of which most groups have impostor pairs enough; else `far` itself."""
    for one in sorted(rate.far_asked for rate in next(iter(groups.values())).tar):
        known = sum(_at(group, one).far is not None for group in groups.values())
        if one >= (far or 0.0) and 2 * known > len(groups):
            return one
    return far


def _at(group: GroupRates, far: float | None) -> GroupRate:
    return next((rate for rate in group.tar if rate.far_asked == far), group.tar[0])


def _table(one: ModelRates, column: str, groups: Mapping[str, GroupRates], shown: Mapping[str, GroupRate]) -> Table:
    rows = []
    for name, rate in shown.items():
        group = groups[name]
        missed: tuple[float | None, float | None, float | None] = (None, None, None)
        if rate.tar is not None and rate.low is not None and rate.high is not None:
            missed = 1 - rate.tar, 1 - rate.high, 1 - rate.low
        rows.append((_group_name(name, group), range_text(*missed), _far_text(rate), *_counts(group)))
    far = next(iter(shown.values())).far_asked
    ratios = [
        f"at FAR {far_name(row.far_asked)} missed pairs {_ratio(row.fnmr)}, false accepts {_ratio(row.far)}"
        for row in group_ratios(groups)
        if row.fnmr.ratio is not None or row.far.ratio is not None
    ]
    note = f"At the threshold of the whole list's FAR {far_name(far)}; report.json has the other FARs."
    if ratios:
        note += f" Worst to best group: {'; '.join(ratios)}."
    if any(group.few for group in groups.values()):
        note += f" {FEW_NOTE}, left out of the ratios."
    everything = one.groups[column].values()
    none = one.pairs.genuine + one.pairs.impostor - sum(of.pairs.genuine + of.pairs.impostor for of in everything)
    if none:
        note += f" {none} pairs have no {column} and are of no group."
    return Table(f"{one.model} by {column}", (column, "FNMR", "FMR", *COUNTS), tuple(rows), note)


def _fixed_table(model: str, column: str, groups: Mapping[str, GroupRates], place: int) -> Table:
    """The groups at a threshold that was fixed before: what ``--require fmr@T:…`` is held against."""
    rows = []
    for name, group in groups.items():
        rate = group.fixed[place]
        rates = ("–" if found is None else small_text(*found) for found in (rate.missed, rate.false))
        rows.append((_group_name(name, group), *rates, *_counts(group)))
    first = next(iter(groups.values())).fixed[place]
    of = "" if first.asked is None else f", calibrated to FAR {far_name(first.asked)}"
    note = f"{FEW_NOTE}." if any(group.few for group in groups.values()) else ""
    title = f"{model} by {column} at the fixed threshold {first.threshold:.4f}{of}"
    return Table(title, (column, "FNMR", "FMR", *COUNTS), tuple(rows), note)


def _group_name(name: str, group: GroupRates) -> str:
    return name + (" ‡" if group.few else "")


def _counts(group: GroupRates) -> tuple[str, str, str]:
    people = "–" if group.people is None else str(group.people)
    return people, str(group.pairs.genuine), str(group.pairs.impostor)


def _plots(model: str, column: str, shown: Mapping[str, GroupRate]) -> list[Figure]:
    missed = [
        Row(name, 1 - one.tar, None if one.high is None else 1 - one.high, None if one.low is None else 1 - one.low)
        for name, one in shown.items()
        if one.tar is not None
    ]
    accepted = [Row(name, one.far, one.far_low, one.far_high) for name, one in shown.items() if one.far is not None]
    return [
        Figure(forest(rows, x_label=label), f"{label} of {model} by {column}, with 95 % intervals")
        for label, rows in (("FNMR", missed), ("FMR", accepted))
        if len(rows) > 1
    ]


def _across(model: str, column: str, across: Across) -> list[Block]:
    names = sorted({side for cell in across.cells for side in (cell.a, cell.b)})
    place = {name: k for k, name in enumerate(names)}
    known = [(cell, cell.fmr) for cell in across.cells if cell.fmr is not None]
    if not known:
        return []
    at = "" if across.asked is None else f", of FAR {far_name(across.asked)}"
    values = {}
    for cell, fmr in known:
        row, column_of = sorted((place[cell.a], place[cell.b]))
        values[row, column_of] = fmr[0]
    caption = (
        f"FMR of {model} within and across {column}, at the threshold {across.threshold:.4f}{at}; darker is higher"
    )
    most = sorted(known, key=lambda one: -one[1][0])[:MOST_CELLS]
    rows = tuple((f"{cell.a} and {cell.b}", small_text(*fmr), str(cell.impostor)) for cell, fmr in most)
    note = f"The {len(most)} highest of {len(across.cells)} cells; report.json has all."
    return [
        Figure(matrix(names, values, label="FMR"), caption),
        Table(f"Who is taken for whom by {model}: {column}", (column, "FMR", "impostor pairs"), rows, note),
    ]


def _far_text(rate: GroupRate) -> str:
    if rate.far is None or rate.far_low is None or rate.far_high is None:
        return "–"
    return small_text(rate.far, rate.far_low, rate.far_high)


def _ratio(found: WorstToBest) -> str:
    return "–" if found.ratio is None else f"× {found.ratio:.1f}"


def texts(*parts: str) -> list[Block]:
    """A paragraph for each part that says something."""
    return [Text(part) for part in parts if part]
