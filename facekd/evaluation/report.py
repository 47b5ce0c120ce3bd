"""What 'facekd verify' shows: the table at the terminal, and the report as HTML and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekd.console import table
from facekd.evaluation.cost import cost_blocks
from facekd.evaluation.groups import FEW, group_ratios
from facekd.evaluation.model_rates import Drawn, Judged
from facekd.evaluation.pictures import hardest
from facekd.evaluation.text import (
    BANDS,
    BOUND_NOTE,
    accuracy_text,
    eer_text,
    far_name,
    interval_text,
    mark,
    p_text,
    percent,
    tar_text,
    unit_of,
)

if TYPE_CHECKING:
    from facekd.crops.cropset import CropSet
    from facekd.reports.document import Block, Figure, Section, Table


def rates_table(rows_of: Mapping[str, Mapping[str, Any]], fars: Sequence[float], note: str = "") -> Table:
    """The rates of several models, by name, as a table of the report.

    A column that would say nothing of any model is left out; of a FAR the note says why.
    """
    from facekd.reports.document import Table

    first = next(iter(rows_of.values()))
    shown = [k for k in range(len(fars)) if any(rates["tar"][k]["tar"] is not None for rates in rows_of.values())]
    folds = len(first["accuracy"]["folds"]) if first["accuracy"] else 0
    columns = ["model", *([f"{folds}-fold accuracy"] if folds else []), "EER"]
    columns += [f"TAR at FAR {far_name(fars[k])}" for k in shown]
    rows = []
    for name, rates in rows_of.items():
        cells = [name, *([accuracy_text(rates)] if folds else []), eer_text(rates)]
        rows.append((*cells, *(tar_text(rates["tar"][k]) for k in shown)))
    notes = [note] if note else []
    notes.append(interval_text(first))
    if any("–" in eer_text(rates) for rates in rows_of.values() if rates.get("eer_bounds")):
        notes.append("An EER lies between its two numbers.")
    if any(mark(rate) for rates in rows_of.values() for rate in rates["tar"]):
        notes.append(BOUND_NOTE)
    if len(shown) < len(fars):
        missing = ", ".join(far_name(far) for k, far in enumerate(fars) if k not in shown)
        notes.append(f"Of FAR {missing} there is no number: too few impostor pairs.")
    return Table("Rates", tuple(columns), tuple(rows), " ".join(notes))


def print_rates(result: Mapping[str, Any], quiet: bool) -> None:
    """The table at the terminal, and below it what stands for something else than it seems."""
    models = result["models"]
    columns = ["model", "accuracy", "EER", "AUC", *(f"TAR@{far_name(rate['far_asked'])}" for rate in models[0]["tar"])]
    rows = []
    for one in models:
        auc = "–" if one["auc"] is None else f"{one['auc']:.4f}"
        tars = [percent(rate["tar"]) + mark(rate) for rate in one["tar"]]
        rows.append([one["model"], accuracy_text(one), eer_text(one), auc, *tars])
    table(counted(result), columns, rows, quiet)
    if not quiet and any(mark(rate) for one in models for rate in one["tar"]):
        print(BOUND_NOTE)


def counted(result: Mapping[str, Any]) -> str:
    """How many pairs there are, which count as non-matches and which were left out."""
    first, left_out = result["models"][0], result["pairs"]["left_out"]
    pairs, failures = first["pairs"], first["failures_to_enrol"]
    parts = [f"{pairs['genuine']} genuine and {pairs['impostor']} impostor pairs"]
    if failures["photos"]:
        parts.append(f"{failures['photos']} photos gave no crop: {failures['pairs']} pairs count as non-matches")
    if left_out:
        parts.append("left out: " + ", ".join(f"{count} {why}" for why, count in left_out.items()))
    return "; ".join(parts)


def write_report(
    paths: Sequence[Path],
    markdown: Path,
    result: Mapping[str, Any],
    drawn: Mapping[str, Drawn],
    judged: Sequence[Judged],
    crops: CropSet | None,
    repeat: str,
) -> None:
    """Write the report to each of `paths` as HTML and to `markdown` as Markdown.

    Args:
        result: what report.json holds.
        drawn: the models' curves, by name.
        judged: the models with their scores; none of them where all pairs were counted.
        crops: for pictures of the hardest pairs; None shows none.
        repeat: the command that does it again.
    """
    write_pages(paths, markdown, _lead(result), _sections(result, drawn, judged, crops), repeat, result)


def write_pages(
    paths: Sequence[Path],
    markdown: Path,
    lead: str,
    sections: Sequence[Section],
    repeat: str,
    result: Mapping[str, Any],
) -> None:
    """Write a report of any protocol; arguments as `write_report`."""
    from facekd.core.files import write_text
    from facekd.reports.document import Repeat, to_markdown, write_html

    parts: dict[str, Any] = {
        "title": "Verification",
        "lead": lead,
        "sections": sections,
        "repeat": Repeat((repeat,), result["environment"]),
    }
    for path in paths:
        write_html(path, **parts)
    write_text(markdown, to_markdown(**parts))


def _lead(result: Mapping[str, Any]) -> str:
    models, first = result["models"], result["models"][0]
    count = f"{len(models)} model{'s' if len(models) > 1 else ''}"
    pairs = f"{first['pairs']['genuine']} genuine and {first['pairs']['impostor']} impostor pairs"
    start = f"{count} on {pairs} of {result['pairs']['name']}"
    far = _lowest_far(first)
    if far is None:
        return f"{start}: too few impostor pairs for any FAR asked."
    best = max(models, key=lambda one: max(rate["tar"] or 0 for rate in one["tar"] if rate["far_asked"] == far))
    rate = next(rate for rate in best["tar"] if rate["far_asked"] == far)
    return (
        f"{start}: {best['model']} accepts {percent(rate['tar'])} of the genuine pairs "
        f"({100 * rate['low']:.2f} to {100 * rate['high']:.2f}) at a FAR of {far_name(far)}."
    )


def _lowest_far(one: Mapping[str, Any]) -> float | None:
    """The lowest FAR that the list estimates, or else bounds; None where it shows none of those asked."""
    for support in ("estimate", "bound"):
        fars = [rate["far_asked"] for rate in one["tar"] if rate["support"] == support]
        if fars:
            return float(min(fars))
    return None


def _sections(
    result: Mapping[str, Any], drawn: Mapping[str, Drawn], judged: Sequence[Judged], crops: CropSet | None
) -> list[Section]:
    from facekd.reports.document import Section, Text

    models = result["models"]
    fars = [rate["far_asked"] for rate in models[0]["tar"]]
    rates: list[Block] = [rates_table({one["model"]: one for one in models}, fars)]
    if result["requirements"]:
        rates.append(_requirements_table(result["requirements"]))
    if result["differences"]:
        rates.append(_differences_table(result["differences"]))
    rates += [_thresholds_table(models), Text(counted(result) + ".")]
    sections = [Section("Rates", tuple(rates))]
    sections.append(Section("Curves", tuple(_curves(models[0], drawn, judged))))
    groups = [table for one in models for table in _group_tables(one, fars)]
    if groups:
        sections.append(Section("Groups", tuple(groups)))
    rejects = _rejects(models)
    if rejects:
        sections.append(Section("Quality", rejects))
    far = _lowest_far(models[0])
    label = "TAR" if far is None else f"TAR at FAR {far_name(far)}"
    costs = cost_blocks(result["costs"], [_at(one, far) for one in models], label)
    if costs:
        sections.append(Section("Cost", costs))
    if crops is not None and judged:
        best = max(judged, key=lambda one: float(one.rates["auc"]))
        sections.append(Section("The hardest pairs", tuple(hardest(best, crops))))
    return sections


def _at(one: Mapping[str, Any], far: float | None) -> tuple[float, float, float] | None:
    """TAR at a FAR with its interval, where there is one."""
    found = [rate for rate in one["tar"] if rate["far_asked"] == far and rate["tar"] is not None]
    return (found[0]["tar"], found[0]["low"], found[0]["high"]) if found else None


def _curves(first: Mapping[str, Any], drawn: Mapping[str, Drawn], judged: Sequence[Judged]) -> list[Figure]:
    from facekd.reports import plots
    from facekd.reports.document import Figure

    curves = {name: one.curve for name, one in drawn.items()}
    bands = {name: one.band for name, one in drawn.items()}
    unit = BANDS[unit_of(first)]
    return [
        Figure(plots.roc(curves, bands), f"ROC {unit}"),
        Figure(plots.det(curves, bands), f"DET: both error rates, log axes, {unit}"),
        *(Figure(plots.histograms(one.scores, _marks(one)), f"Scores of {one.name}") for one in judged),
    ]


def _marks(one: Judged) -> dict[str, float]:
    """The threshold of the lowest FAR that the list estimates: marks of several would lie on each other."""
    found = [rate for rate in one.rates["tar"] if rate["threshold"] is not None and rate["support"] == "estimate"]
    return {f"FAR {far_name(rate['far_asked'])}": rate["threshold"] for rate in found[-1:]}


def _requirements_table(requirements: Sequence[Mapping[str, Any]]) -> Table:
    from facekd.reports.document import Table

    rows = [
        (one["model"], one["require"], percent(one["low"]), "holds" if one["met"] else "missed") for one in requirements
    ]
    return Table("Requirements", ("model", "required", "lower bound", "result"), tuple(rows))


def _differences_table(differences: Sequence[Mapping[str, Any]]) -> Table:
    from facekd.reports.document import Table

    rows = []
    for one in differences:
        name = f"{one['a']} − {one['b']}"
        if one["difference"] is None:
            rows.append((name, far_name(one["far_asked"]), "–", "–"))
            continue
        points, low, high = (100 * one[key] for key in ("difference", "low", "high"))
        rows.append(
            (name, far_name(one["far_asked"]), f"{points:+.2f} [{low:+.2f}, {high:+.2f}]", p_text(one["p_value"]))
        )
    unit = "people" if differences[0]["interval"] == "identities" else "pairs, taken as independent,"
    note = (
        f"Percentage points with 95 % interval: the same resampled {unit} for both models, each at its own threshold."
    )
    return Table("Differences in TAR on the same pairs", ("models", "FAR", "difference", "p"), tuple(rows), note)


def _thresholds_table(models: Sequence[Mapping[str, Any]]) -> Table:
    from facekd.reports.document import Table

    rows = []
    for one in models:
        for rate in one["tar"]:
            if rate["threshold"] is None:
                continue
            ends = [rate.get(key) for key in ("threshold_low", "threshold_high")]
            interval = "" if None in ends else f" [{ends[0]:.4f}, {ends[1]:.4f}]"
            cells = (far_name(rate["far_asked"]) + mark(rate), f"{rate['far']:.3g}")
            rows.append((one["model"], *cells, f"{rate['threshold']:.4f}{interval}"))
    note = "A score is accepted from the threshold on; thresholds.json holds the same for other commands."
    return Table("Thresholds", ("model", "FAR asked", "FAR reached", "cosine"), tuple(rows), note)


def _group_tables(one: Mapping[str, Any], fars: Sequence[float]) -> list[Table]:
    from facekd.reports.document import Table

    tables = []
    for column, groups in one["groups"].items():
        rows = []
        for name, group in groups.items():
            people = "–" if group["people"] is None else str(group["people"])
            counts = (people, str(group["pairs"]["genuine"]), str(group["pairs"]["impostor"]))
            for rate in group["tar"]:
                cells = (far_name(rate["far_asked"]), _range(rate, "tar"), _range(rate, "far"))
                rows.append((name + (" ‡" if group["few"] else ""), *counts, *cells))
        ratios = [f"at FAR {far_name(row['far_asked'])} {_ratio(row)}" for row in group_ratios(groups, fars)]
        note = f"At the whole list's thresholds. Worst to best group: {'; '.join(ratios)}."
        if any(group["few"] for group in groups.values()):
            note += f" ‡ Fewer than {FEW} people (or genuine pairs): too few to compare, left out of the ratios."
        columns = (column, "people", "genuine", "impostor", "FAR asked", "TAR", "FAR")
        tables.append(Table(f"{one['model']} by {column}", columns, tuple(rows), note))
    return tables


def _rejects(models: Sequence[Mapping[str, Any]]) -> tuple[Block, ...]:
    """FNMR against the share of pairs that is rejected for the quality of their crops."""
    from facekd.reports import plots
    from facekd.reports.document import Figure, Table

    found = {one["model"]: one["rejects"] for one in models if one.get("rejects")}
    if not found:
        return ()
    rows = [
        (name, percent(row["rejected"], 1), percent(row["fnmr"]), str(row["n_genuine"]), str(row["n_impostor"]))
        for name, one in found.items()
        for row in one["rows"]
    ]
    far = far_name(next(iter(found.values()))["far_asked"])
    x, y = "percent of pairs rejected", "FNMR"
    lines = {name: [{x: 100 * row["rejected"], y: row["fnmr"]} for row in one["rows"]] for name, one in found.items()}
    note = "The pairs whose less sharp crop is blurriest are rejected first; the threshold stays."
    return (
        Figure(plots.training(lines, x=x, y=y), f"Error versus reject at the threshold of FAR {far}"),
        Table("Rejecting by quality", ("model", "rejected", "FNMR", "genuine", "impostor"), tuple(rows), note),
    )


def _range(rate: Mapping[str, Any], key: str) -> str:
    if rate[key] is None:
        return "–"
    if key == "tar":
        return f"{percent(rate['tar'])} [{100 * rate['low']:.2f}, {100 * rate['high']:.2f}]"
    return f"{rate['far']:.2g} [{rate['far_low']:.2g}, {rate['far_high']:.2g}]"


def _ratio(row: Mapping[str, Any]) -> str:
    parts = []
    for kind, name in (("fnmr", "missed pairs"), ("far", "false accepts")):
        ratio = row[kind]["ratio"]
        parts.append(f"{name} {'–' if ratio is None else f'× {ratio:.1f}'}")
    return ", ".join(parts)
