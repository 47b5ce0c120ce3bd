"""What the quickstart measures, and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facekd.core.printable import percent
from facekd.core.run import read_metrics
from facekd.core.types import Rate
from facekd.crops.cropset import CropSet
from facekd.crops.pairs import all_pairs, write_pairs
from facekd.deploy.embedder import CropEmbedder
from facekd.evaluation.judged import from_crops
from facekd.evaluation.model_rates import judge_scores
from facekd.evaluation.protocols import listed_crops
from facekd.evaluation.report_tables import rates_table
from facekd.evaluation.results import Judged, ModelRates, plain, rate_of
from facekd.evaluation.text import far_name
from facekd.rates.retention import Closed, gap_closed
from facekd.reports import plots
from facekd.reports.document import Figure, Picture, Pictures, Repeat, Section, Table, Text, write_html

GAP_FARS = (1e-2, 1e-1)  # where the share of the gap is stated: the first that the people support
SHOWN_PEOPLE, SHOWN_CROPS = 6, 6
TITLES = {
    "teacher": "teacher",
    "student_alone": "student alone (labels only)",
    "student": "student distilled",
    "student_onnx": "student as ONNX",
}


def judge_all(
    out: Path, models: Mapping[str, CropEmbedder], held: CropSet, fars: Sequence[float], seed: int, quiet: bool
) -> tuple[list[Judged], Closed]:
    """Every pair of the held-out crops, by every model, and the gap closed; the list is left in ``out/pairs.csv``."""
    pairs = all_pairs(held.ids, [str(identity) for identity in held.identities], seed)
    write_pairs(out / "pairs.csv", pairs)
    listed = listed_crops("pairs.csv", held, pairs)
    judged = [from_crops(name, out, model, held, quiet) for name, model in models.items()]
    scores = {one.name: one.scores(listed) for one in judged}
    teacher, alone, student = (scores[name].values for name in ("teacher", "student_alone", "student"))
    assert listed.persons is not None  # a crop without identity is not among the held-out ones
    same = scores["teacher"].same
    (closed,) = gap_closed(teacher, alone, [student], same, *listed.persons, GAP_FARS)
    gap = next((one for one in closed if one.gap is not None), closed[0])
    return [judge_scores(one, scores[one.name], listed, fars) for one in judged], gap


def summary_rows(
    judged: Sequence[Judged], models: Mapping[str, CropEmbedder], seconds: Mapping[str, float]
) -> dict[str, dict[str, Any]]:
    """Each model's rates and cost, as summary.json has them."""
    rows = {}
    for one in judged:
        network = models[one.name].network
        cost = {"parameters": network.parameters, "macs": network.macs, "bytes": network.bytes}
        rows[one.name] = {**plain(one.rates), **cost, "seconds": seconds.get(one.name, 0.0)}
    # An ONNX file's multiply-adds are those of the network it was written from.
    rows["student_onnx"]["macs"] = rows["student"]["macs"]
    return rows


def thresholds_of(rates: ModelRates) -> dict[float, float]:
    """FAR -> cosine, where the pairs show one."""
    found = {rate.far_asked: rate.threshold for rate in rates.tar if rate.tar is not None}
    return {far: threshold for far, threshold in found.items() if threshold is not None}


def headline(rates: Mapping[str, ModelRates], gap: Closed, people: int) -> str:
    """What came out in a sentence, each rate with its 95 % interval over people.

    Args:
        rates: by the model's name.
        people: whom no training saw.
    """
    told = {name: _with_interval(rate_of(one.tar, gap.far_asked)) for name, one in rates.items()}
    lead = (
        f"On {people} people whom no training saw, the distilled student accepts {told['student']} of genuine pairs at "
        f"FAR {far_name(gap.far_asked)}, the same student without a teacher {told['student_alone']}, the teacher "
        f"{told['teacher']}"
    )
    if gap.share is None or gap.low is None or gap.high is None:
        return f"{lead}. These people can't tell the teacher's lead from nothing."
    return f"{lead}: {100 * gap.share:.0f} % of the gap is closed ({100 * gap.low:.0f} to {100 * gap.high:.0f})."


def _with_interval(rate: Rate | None) -> str:
    if rate is None or rate.tar is None:
        return "–"
    low, high = rate.low, rate.high
    return percent(rate.tar, 1) + ("" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})")


def write_report(out: Path, summary: dict[str, Any], judged: Sequence[Judged], held: CropSet) -> None:
    """``out/report.html``: what came out, with what went in and what it cost."""

    rates = {one.name: one.rates for one in judged}
    fars = [rate.far_asked for rate in rates["teacher"].tar]
    curves = {TITLES[one.name]: one.curve for one in judged if one.name != "student_onnx"}
    bands = {TITLES[one.name]: one.rates.roc for one in judged if TITLES[one.name] in curves}
    runs = {"teacher": "teacher", "student_alone": "student-alone", "student": "student"}
    metrics = {TITLES[name]: read_metrics(out / folder) for name, folder in runs.items()}
    scores = judged[-1].scores
    assert scores is not None
    counts = rates["teacher"].pairs
    note = f"All {counts.genuine + counts.impostor} pairs of the held-out people; the accuracy's folds share no person."
    sections = [
        Section(
            "What came out",
            (
                rates_table({TITLES[name]: one for name, one in rates.items()}, fars, note),
                Figure(
                    plots.roc(curves, bands),
                    "ROC on people whom no training saw, with 95 % bands that take the person as the unit",
                ),
                Figure(plots.histograms(scores), "Scores of the exported student"),
            ),
        ),
        Section("What it cost", (_cost_table(summary),)),
        Section(
            "How it learned",
            (
                Figure(plots.training(metrics, y="labels", y_label="label term of the loss"), "Loss while training"),
                Figure(plots.training(metrics, y="held_out_eer", y_label="EER"), "EER on held-out people"),
            ),
        ),
        Section("Who was named", (Text(_gallery_text(summary["gallery"])),)),
        Section("What went in", (_photos_table(summary), _sample(held))),
    ]
    repeat = Repeat((f"facekd quickstart --config {out / 'run.yaml'}",), summary["environment"])
    write_html(
        out / "report.html", title="facekd quickstart", lead=summary["headline"], sections=sections, repeat=repeat
    )


def _cost_table(summary: dict[str, Any]) -> Table:

    rows = []
    for name, row in summary["rows"].items():
        cost = (f"{row['parameters'] / 1e6:.3f} M", f"{row['macs'] / 1e6:.0f} M", f"{row['bytes'] / 1e6:.2f} MB")
        rows.append((TITLES[name], *cost, f"{row['seconds']:.1f} s"))
    others = ", ".join(
        f"{step} {seconds:.0f} s" for step, seconds in summary["seconds"].items() if step not in summary["rows"]
    )
    note = f"Seconds are of the training, for the ONNX file of its export. The other steps: {others}."
    return Table("Cost", ("model", "parameters", "multiply-adds", "file", "time"), tuple(rows), note)


def _photos_table(summary: dict[str, Any]) -> Table:

    rows = tuple((status, str(count)) for status, count in summary["align"].items())
    people, crops = summary["identities"], summary["crops"]
    note = (
        f"{crops['trained']} crops of {people['trained']} people were trained on, {crops['held_out']} crops of "
        f"{people['held_out']} people held out."
    )
    return Table("Every photo is accounted for", ("status", "photos"), rows, note)


def _gallery_text(named: dict[str, Any]) -> str:
    if "skipped" in named:
        return f"Nobody was named: {named['skipped']}."
    return (
        f"{named['people']} people were enrolled with half of their photos. Of {named['probes_of_enrolled']} other "
        f"photos of them {named['named_right']} were named right and {named['named_wrong']} wrong, the rest came out "
        f"as unknown. Of {named['probes_of_strangers']} photos of people who were not enrolled "
        f"{named['strangers_unknown']} came out as unknown. As in any gallery, the {named['said']}. It is drawn from "
        "the student's rates on the pairs above, so it has seen these people."
    )


def _sample(held: CropSet) -> Pictures:

    names = np.array([str(name) for name in held.identities])
    items = []
    for name in sorted(set(names))[:SHOWN_PEOPLE]:
        items += [Picture(held.encoded(int(i)), name) for i in np.flatnonzero(names == name)[:SHOWN_CROPS]]
    return Pictures("Crops of held-out people", tuple(items))
