"""What 'facekd sweep' shows: one table and one plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekd.console import table
from facekd.evaluation.comparison_report import closed_text, points_text
from facekd.evaluation.text import BOUND_NOTE, far_name, mark, p_text, percent, tar_text

if TYPE_CHECKING:
    from facekd.reports.document import Block, Table

NOTE = (
    "In brackets 95 % intervals: the same resampled people for all cells. Gain over the student alone in percentage "
    "points. The time of a step is the median from one step's end to the next; with kept views the teacher is not in "
    "it. The best of many cells looks better on these people than it is: judge the one that you choose with 'facekd "
    "compare' on others."
)


def print_sweep(result: Mapping[str, Any], quiet: bool) -> None:
    """The table at the terminal."""
    columns, rows = _columns(result), _rows(result)
    table(_counted(result), list(columns), [list(row) for row in rows], quiet)
    if not quiet and any(mark(_rate(one["rates"], result)) for one in _judged(result)):
        print(BOUND_NOTE)


def write_sweep(paths: Sequence[Path], markdown: Path, result: Mapping[str, Any], out: Path) -> None:
    """Write the report to each of `paths` as HTML and to `markdown` as Markdown.

    Args:
        result: what sweep.json holds.
        out: the sweep's folder.
    """
    from facekd.core.files import write_text
    from facekd.reports.document import Repeat, Section, Table, Text, to_markdown, write_html

    note = NOTE
    if any(mark(_rate(one["rates"], result)) for one in _judged(result)):
        note = f"{NOTE} {BOUND_NOTE}"
    shown: list[Block] = [Table("Cells", _columns(result), tuple(_rows(result)), note), *_plot(result)]
    sections = [
        Section("What came out", (*shown, Text(_counted(result) + "."))),
        Section("What was asked", (_flags_table(result),)),
    ]
    grid = ("cat > grid.yaml <<'GRID'", *result["grid"].rstrip().splitlines(), "GRID")
    parts: dict[str, Any] = {
        "title": "Sweep",
        "lead": lead(result),
        "sections": sections,
        "repeat": Repeat((*grid, f"facekd sweep grid.yaml --out {out}"), result["environment"]),
    }
    for path in paths:
        write_html(path, **parts)
    write_text(markdown, to_markdown(**parts))


def lead(result: Mapping[str, Any]) -> str:
    """The sentence that says which cell did best, beside the controls."""
    tars = {one["cell"]: _rate(one["rates"], result)["tar"] for one in _judged(result)}
    cells = {one["cell"]: one for one in _judged(result) if not one["control"]}
    if not cells:
        return f"On {result['held_out']} there is no rate to give: no cell was trained, or too few impostor pairs."
    best = max(cells, key=lambda name: float(tars[name]))
    controls = ", ".join(f"{one['cell']} {percent(tars[one['cell']])}" for one in _judged(result) if one["control"])
    teacher = _rate(result["teachers"][0], result)["tar"]
    closed = cells[best]["closed"]
    gap = f" ({closed_text(closed)} of the gap)" if closed is not None and closed["share"] is not None else ""
    return (
        f"On {result['held_out']}, at FAR {far_name(result['lead_far'])}: {best} accepts {percent(tars[best])} of "
        f"genuine pairs{gap}, the best of {len(cells)} cells; the controls: {controls}; the teacher {percent(teacher)}."
    )


def _columns(result: Mapping[str, Any]) -> tuple[str, ...]:
    far = result["lead_far"]
    return (
        "cell",
        "TAR" if far is None else f"TAR at FAR {far_name(far)}",
        "gain over alone",
        "p",
        "gap closed",
        "ms per step",
    )


def _rows(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The teachers, the controls, then the cells, best first; those that failed last."""
    shown: list[tuple[str, ...]] = []
    for one in result["teachers"]:
        rate = _rate(one, result)
        if rate is not None:
            shown.append((f"{Path(one['teacher']).name} (teacher)", tar_text(rate), "", "", "", ""))

    def place(one: Mapping[str, Any]) -> tuple[bool, bool, float]:
        rate = None if one["rates"] is None else _rate(one["rates"], result)
        return one["failed"] is not None, not one["control"], 0.0 if one["control"] or rate is None else -rate["tar"]

    for one in sorted(result["cells"], key=place):
        name = f"{one['cell']} (control)" if one["control"] else one["cell"]
        if one["failed"] is not None:
            shown.append((name, f"failed: {one['failed']}", "–", "–", "–", "–"))
            continue
        rate, closed = _rate(one["rates"], result), one["closed"]
        gain, p, share = "–", "–", "–"
        if closed is not None:
            gain, p = points_text(closed["gain"], closed["gain_low"], closed["gain_high"]), p_text(closed["p_value"])
            share = closed_text(closed)
        seconds = one["seconds_per_step"]
        time = "–" if seconds is None else f"{1e3 * seconds:.0f}"
        shown.append((name, "too few impostor pairs" if rate is None else tar_text(rate), gain, p, share, time))
    return shown


def _plot(result: Mapping[str, Any]) -> list[Block]:
    """The teachers and the controls, then the cells, best first."""
    from facekd.reports.document import Figure
    from facekd.reports.forest import Row, forest

    rows = []
    for one in result["teachers"]:
        rate = _rate(one, result)
        if rate is not None:
            rows.append(Row(f"{Path(one['teacher']).name} (teacher)", rate["tar"], rate["low"], rate["high"], True))
    for one in sorted(_judged(result), key=lambda one: (not one["control"], -_rate(one["rates"], result)["tar"])):
        rate = _rate(one["rates"], result)
        name = f"{one['cell']} (control)" if one["control"] else one["cell"]
        rows.append(Row(name, rate["tar"], rate["low"], rate["high"], one["control"]))
    if not rows:
        return []
    label = f"TAR at FAR {far_name(result['lead_far'])}"
    return [Figure(forest(rows, x_label=label), f"{label} of each cell, with 95 % intervals.")]


def _flags_table(result: Mapping[str, Any]) -> Table:
    from facekd.reports.document import Table

    alone = result["cells"][0]["flags"]
    rows = []
    for one in result["cells"]:
        changed = {key: value for key, value in one["flags"].items() if value != alone[key]}
        said = "; ".join(f"{key.replace('_', '-')} {_value(value)}" for key, value in changed.items())
        rows.append((one["cell"], said or "labels alone"))
    same = {key: value for key, value in alone.items() if all(one["flags"][key] == value for one in result["cells"])}
    note = "The same in all: " + "; ".join(f"{key.replace('_', '-')} {_value(value)}" for key, value in same.items())
    return Table("Flags by which a cell differs from the student alone", ("cell", "flags"), tuple(rows), note)


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def _counted(result: Mapping[str, Any]) -> str:
    pairs = result["teachers"][0]["pairs"]
    parts = [f"{result['held_out']}: {pairs['genuine']} genuine and {pairs['impostor']} impostor pairs"]
    if result["left_out"]:
        parts.append("left out: " + ", ".join(f"{count} {why}" for why, count in result["left_out"].items()))
    return "; ".join(parts)


def _judged(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The cells that have a rate at the FAR that leads."""
    return [one for one in result["cells"] if one["rates"] is not None and _rate(one["rates"], result) is not None]


def _rate(rates: Mapping[str, Any], result: Mapping[str, Any]) -> Any:
    """The rate at the FAR that leads; None where the list shows none."""
    return next((rate for rate in rates["tar"] if rate["far_asked"] == result["lead_far"]), None)
