"""What 'facekd verify --templates' shows: the tables at the terminal, and the report's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from facekd.core.printable import percent
from facekd.evaluation.identification_report import (
    search_figures,
    search_rates_table,
    search_terminal,
    search_thresholds_table,
)
from facekd.evaluation.page import Page, cost_blocks
from facekd.evaluation.report import pair_page
from facekd.evaluation.results import PairReport
from facekd.evaluation.search_results import SearchRates
from facekd.evaluation.template_results import GalleryMean, JudgedTemplates, TemplateReport
from facekd.evaluation.text import counts_text, far_name, said
from facekd.reports.document import Block, Section, Table, Text

FUSIONS = {
    "mean": "the mean of its photos' embeddings, each photo the same",
    "media": "the mean over its media, each the mean of its photos' embeddings",
    "quality": "the mean over its media of its photos' embeddings, each times the photo's stated quality",
}


def template_page(report: TemplateReport, repeat: str) -> Page:
    """The report as a page; `repeat` is the command that does it again."""
    about = report.templates
    sections = [Section("Templates", (_templates_table(about), Text(f"A template is {FUSIONS[about.fusion]}.")))]
    terminal: list[Table] = []
    leads: list[str] = []
    lines: tuple[str, ...] = ()
    if report.verification is not None:
        pairs = pair_page(report.verification, None, repeat)
        sections += pairs.sections
        terminal.append(replace(pairs.terminal[0], caption=_counted_pairs(report.verification)))
        leads.append(pairs.lead)
        lines = pairs.lines
    for name, searched in report.galleries.items():
        models = [one.rates for one in searched]
        counted = _counted(name, models[0])
        terminal.append(search_terminal(counted, models))
        tables: tuple[Block, ...] = (search_rates_table(models), search_thresholds_table(models), Text(counted + "."))
        sections.append(Section(f"Identification in gallery {name}", (*tables, *search_figures(searched))))
        leads.append(_lead(name, models))
    if report.gallery_means:
        means = _means_table(report.gallery_means)
        terminal.append(means)
        sections.append(Section("Identification over all galleries", (means,)))
    if report.verification is None and report.costs:
        sections.append(Section("Cost", cost_blocks(report.costs, [None] * len(report.costs), "")))
    terminal[0] = replace(terminal[0], caption=f"{_counted_templates(about)}; {terminal[0].caption}")
    return Page("Verification", " ".join(leads), tuple(terminal), sections, (repeat,), report.environment, lines)


def _templates_table(about: JudgedTemplates) -> Table:
    rows = [
        ("templates", str(about.templates)),
        ("photos", str(about.photos)),
        ("people", "not known: pairs are taken as independent" if about.people is None else str(about.people)),
        *([("media", str(about.media))] if about.media is not None else []),
        ("photos without crop, left out of their templates", str(about.photos_without_crop)),
        ("templates without any photo, failures to enroll", str(about.templates_without_photo)),
        ("fusion", about.fusion),
    ]
    return Table(f"Templates of {about.name}", ("what", "value"), tuple(rows))


def _counted_templates(about: JudgedTemplates) -> str:
    parts = [f"{about.templates} templates of {about.photos} photos, fused by {about.fusion}"]
    if about.photos_without_crop:
        parts.append(f"{about.photos_without_crop} photos gave no crop and are left out of their templates")
    if about.templates_without_photo:
        parts.append(f"{about.templates_without_photo} templates have no photo left and count as failures to enroll")
    return "; ".join(parts)


def _counted_pairs(report: PairReport) -> str:
    first = report.models[0].rates
    lost = first.failures_to_enroll.pairs
    parts = [counts_text(first.pairs) + (f", {lost} of them with a template that failed: non-matches" if lost else "")]
    return said(parts, report.pairs.left_out)


def _counted(name: str, first: SearchRates) -> str:
    gallery, probes, failures = first.gallery, first.probes, first.failures_to_enroll
    parts = [
        f"Gallery {name}: {probes.mated} probes of enrolled people and {probes.unknown} of others, in "
        f"{gallery.photos} templates of {gallery.people} people"
    ]
    if failures.gallery_photos:
        parts.append(f"{failures.people} of these people could not be enrolled for want of a crop")
    if failures.mated_probes or failures.unknown_probes:
        parts.append(
            f"{failures.mated_probes} probes of enrolled people count as not found and {failures.unknown_probes} of "
            "others as raising no alarm, for want of a crop"
        )
    return "; ".join(parts)


def _lead(name: str, models: Sequence[SearchRates]) -> str:
    best = max(models, key=lambda one: float(one.cmc.found[0]))
    found, low, high = (float(values[0]) for values in (best.cmc.found, best.cmc.low, best.cmc.high))
    return (
        f"In gallery {name} {best.model} ranks the right person first for {percent(found)} of the probes "
        f"({100 * low:.2f} to {100 * high:.2f})."
    )


def _means_table(means: Sequence[GalleryMean]) -> Table:
    first = means[0]
    columns = ("model", *(f"rank-{rank}" for rank in first.ranks), *(f"TPIR@{far_name(fpir)}" for fpir in first.tpir))
    rows = tuple((one.model, *(percent(value) for value in (*one.ranks.values(), *one.tpir.values()))) for one in means)
    note = "Ranks are counted over the mated probes of all galleries; TPIR is the mean of the galleries'."
    return Table("All galleries", columns, rows, note)
