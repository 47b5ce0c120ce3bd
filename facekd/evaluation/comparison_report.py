"""What 'facekd compare' shows: tables at the terminal, and the retention report as HTML and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekd.console import table
from facekd.evaluation.cost import cost_blocks
from facekd.evaluation.report import rates_table
from facekd.evaluation.text import BOUND_NOTE, eer_text, far_name, mark, p_text, percent, tar_text

if TYPE_CHECKING:
    from facekd.rates.counts import Curve
    from facekd.reports.document import Section, Table

CLOSED = "gap closed = (student − alone) / (teacher − alone), of TAR"


def closed_text(row: Mapping[str, Any]) -> str:
    """The share of the gap with its interval, or why there is none."""
    if row["share"] is None:
        return f"– ({row['why']})"
    return f"{100 * row['share']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}]"


def points_text(value: float | None, low: float | None, high: float | None) -> str:
    """A difference of rates in percentage points, with its interval."""
    if value is None or low is None or high is None:
        return "–"
    return f"{100 * value:+.2f} [{100 * low:+.2f}, {100 * high:+.2f}]"


def print_comparison(result: Mapping[str, Any], quiet: bool) -> None:
    """One table for each list."""
    for one in result["lists"]:
        far = one["lead_far"]
        closed = {row["model"]: row for row in one["closed"] if row["far_asked"] == far}
        columns = ["network", "EER", *(f"TAR@{far_name(rate['far_asked'])}" for rate in one["models"][0]["tar"])]
        columns += ["gap closed" if far is None else f"gap closed @{far_name(far)}", "p, unlike alone"]
        rows = []
        for rates in one["models"]:
            row = closed.get(rates["model"])
            share, p = ("", "") if row is None else (closed_text(row), p_text(row["p_value"]))
            tars = [percent(rate["tar"]) + mark(rate) for rate in rates["tar"]]
            rows.append([rates["model"], eer_text(rates), *tars, share, p])
        table(_counted(one), columns, rows, quiet)
        if not quiet and any(mark(rate) for rates in one["models"] for rate in rates["tar"]):
            print(BOUND_NOTE)


def write_comparison(
    paths: Sequence[Path],
    markdown: Path,
    result: Mapping[str, Any],
    curves: Sequence[Mapping[str, Curve]],
    repeat: str,
) -> None:
    """Write the report to each of `paths` as HTML and to `markdown` as Markdown.

    Args:
        result: what report.json holds.
        curves: of each list the networks' ROCs, by name.
        repeat: the command that does it again.
    """
    from facekd.core.files import write_text
    from facekd.reports.document import Repeat, Section, to_markdown, write_html

    sections = [_section(one, drawn) for one, drawn in zip(result["lists"], curves, strict=True)]
    first = result["lists"][0]
    far = first["lead_far"]
    label = "TAR" if far is None else f"TAR at FAR {far_name(far)}"
    costs = cost_blocks(result["costs"], [_shown(rates, far) for rates in first["models"]], label)
    sections.append(Section("Cost", costs))
    sections.append(Section("What was compared", (_networks(result["networks"]),)))
    parts: dict[str, Any] = {
        "title": "How much of the teacher is kept",
        "lead": lead(first),
        "sections": sections,
        "repeat": Repeat((repeat,), result["environment"]),
    }
    for path in paths:
        write_html(path, **parts)
    write_text(markdown, to_markdown(**parts))


def lead(one: Mapping[str, Any]) -> str:
    """The sentence that says how the first list came out, at the lowest FAR that it supports."""
    far = one["lead_far"]
    if far is None:
        return f"On {one['about']}: too few impostor pairs for any FAR asked."
    tars = {rates["model"]: _shown(rates, far) for rates in one["models"]}
    teacher, alone = ((shown or (None,))[0] for shown in list(tars.values())[:2])
    rows = [row for row in one["closed"] if row["far_asked"] == far]
    best = max(rows, key=lambda row: (tars[row["model"]] or (0.0,))[0])
    student = (tars[best["model"]] or (None,))[0]
    rates = (
        f"the teacher accepts {percent(teacher)} of genuine pairs at FAR {far_name(far)}, the student alone "
        f"{percent(alone)}, {best['model']} {percent(student)}"
    )
    if best["share"] is None:
        return f"On {one['about']} {rates}; no share of the gap is given: {best['why']}."
    share, low, high = (100 * best[key] for key in ("share", "low", "high"))
    return f"On {one['about']} {rates}: {share:.0f} % of the gap is closed ({low:.0f} to {high:.0f})."


def _section(one: Mapping[str, Any], curves: Mapping[str, Curve]) -> Section:
    from facekd.reports import plots
    from facekd.reports.document import Figure, Section, Text

    fars = [rate["far_asked"] for rate in one["models"][0]["tar"]]
    rates = rates_table({rates["model"]: rates for rates in one["models"]}, fars)
    blocks = (
        _closed_table(one),
        rates,
        Figure(plots.roc(curves), f"ROC on {one['about']}"),
        _agreement_table(one),
        Text(_counted(one) + "."),
    )
    return Section(one["heading"], blocks)


def _closed_table(one: Mapping[str, Any]) -> Table:
    from facekd.reports.document import Table

    shown = {rate["far_asked"]: far_name(rate["far_asked"]) + mark(rate) for rate in one["models"][0]["tar"]}
    rows = []
    for row in sorted(one["closed"], key=lambda row: (row["far_asked"] != one["lead_far"], row["far_asked"])):
        if row["gap"] is None:
            continue
        gap = points_text(row["gap"], row["gap_low"], row["gap_high"])
        gain = points_text(row["gain"], row["gain_low"], row["gain_high"])
        rows.append((row["model"], shown[row["far_asked"]], closed_text(row), gap, gain, p_text(row["p_value"])))
    unit = "people" if one["models"][0]["interval"] == "identities" else "pairs, taken as independent,"
    note = (
        f"{CLOSED}. In brackets 95 % intervals: the same resampled {unit} for all networks, each at its own threshold; "
        "that of the share is Fieller's. p: two-sided, that the student is as good as alone. Gap and gain in "
        "percentage points. First the lowest FAR that the list estimates."
    )
    columns = ("student", "FAR", "gap closed", "teacher − alone", "student − alone", "p")
    return Table("Gap closed", columns, tuple(rows), note)


def _agreement_table(one: Mapping[str, Any]) -> Table:
    from facekd.reports.document import Table

    fars = [rate["far_asked"] for rate in one["models"][0]["tar"] if rate["tar"] is not None]
    rows = []
    for row in one["agreement"]:
        cosines = ["–" if row[key] is None else f"{row[key]:.3f}" for key in ("cosine", "cosine_of_others")]
        if row["cross"] is None:
            cells = [row["why"], *("–" for _ in fars[1:])] if fars else []
        else:
            cells = [tar_text(rate) for rate in row["cross"]["tar"] if rate["far_asked"] in fars]
        rows.append((row["model"], *cosines, *cells))
    columns = ("student", "cosine of one crop", "of two people", *(f"TAR at FAR {far_name(far)}" for far in fars))
    note = (
        "Cosines of the student's embedding to the teacher's. The TAR is of the student's probes (each pair's first "
        "photo) against the teacher's gallery (its second)."
    )
    return Table("Agreement with the teacher", columns, tuple(rows), note)


def _networks(networks: Sequence[Mapping[str, Any]]) -> Table:
    from facekd.reports.document import Table

    rows = tuple(
        (one["model"], one["role"], one["file"], ", ".join(one["trained_on"] or ["not known here"]), one["model_id"])
        for one in networks
    )
    return Table("Networks", ("network", "role", "file", "trained on", "model id"), rows)


def _counted(one: Mapping[str, Any]) -> str:
    pairs = one["models"][0]["pairs"]
    parts = [f"{one['about']}: {pairs['genuine']} genuine and {pairs['impostor']} impostor pairs"]
    if one["left_out"]:
        parts.append("left out: " + ", ".join(f"{count} {why}" for why, count in one["left_out"].items()))
    return "; ".join(parts)


def _shown(rates: Mapping[str, Any], far: float | None) -> tuple[float, float, float] | None:
    """TAR at a FAR with its interval, where there is one."""
    found = [rate for rate in rates["tar"] if rate["far_asked"] == far and rate["tar"] is not None]
    return (found[0]["tar"], found[0]["low"], found[0]["high"]) if found else None
