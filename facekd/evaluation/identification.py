"""Identification for 'facekd verify': who is enrolled, who is looked for, and how often the right person is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekd.console import table
from facekd.errors import UserError
from facekd.evaluation.cost import cost_blocks
from facekd.evaluation.model_rates import BAND_RESAMPLES, RESAMPLES, SEED, band_fars, rate_json
from facekd.evaluation.protocols import everybody, known
from facekd.evaluation.text import BOUND, far_name, percent

if TYPE_CHECKING:
    from facekd.core.types import Array, Rate
    from facekd.crops.cropset import CropSet
    from facekd.crops.gallery_split import GallerySplit
    from facekd.deploy.embeddings import Embedded
    from facekd.evaluation.protocols import Subject
    from facekd.rates.counts import Curve
    from facekd.rates.identification import Ranks
    from facekd.reports.document import Section, Table

SHOWN = (1, 5, 10)  # ranks in the tables
MAX_RANK = 20  # of the CMC plot
FEW = "too few unknown probes"
NOTE = f"{BOUND} Fewer than 30 / FPIR unknown probes: they bound this FPIR but do not estimate it."


@dataclass(frozen=True, slots=True)
class Plan:
    """A gallery and probes in terms of the ids that are embedded; persons stand in the order of their ids."""

    name: str  # the photos', for people
    split: GallerySplit
    rule: dict[str, Any]  # where the split comes from
    gallery: tuple[str, ...]
    gallery_persons: tuple[str, ...]
    probes: tuple[str, ...]
    probe_persons: tuple[str, ...]
    failed_gallery: int  # photos to be enrolled that gave no crop
    missing: tuple[str, ...]  # people none of whose gallery photos gave a crop
    failed_mated: tuple[str, ...]  # persons of the probes that can't be found, see `planned`
    failed_unmated: tuple[str, ...]  # persons of the other probes without crop
    left_out: dict[str, int]  # photos by why they don't count


@dataclass(frozen=True, slots=True)
class Searched:
    """One model on one plan."""

    rates: dict[str, Any]  # the model's part of the JSON
    ranks: Ranks
    curve: Curve | None  # TPIR over FPIR; None where there is no unknown probe
    band: list[Rate]  # intervals at some FPIRs


def planned(source: CropSet | Embedded, crops: Path | None, path: Path, split: Path | None) -> Plan:
    """The gallery and probes of a list, or dealt with a seed among the photos whose person is known.

    A person is enrolled by being in the gallery's list. Probes of enrolled people that gave no crop, and all probes of
    people whose gallery photos gave none, count as not found.

    Args:
        path: what `source` was read from.
        split: a file that `crops.gallery_split.read_gallery_split` reads; None deals.

    Raises:
        UserError: a list that is none, names unknown photos or photos of unknown people, or leaves nobody enrolled.
    """
    from facekd.crops.gallery_split import DEALT, deal_gallery, read_gallery_split

    left_out: dict[str, int] = {}
    if split is not None:
        chosen, left_out["repeated"] = read_gallery_split(split)
        rule: dict[str, Any] = {"seed": None, "rule": f"as listed in {split}"}
    else:
        people = everybody(source, path)
        left_out |= people.left_out
        everyone = (*people.persons, *people.failed_persons)
        chosen = deal_gallery((*people.photos, *people.failed_photos), everyone, SEED)
        rule = {"seed": SEED, "rule": DEALT}
    return _resolved(chosen, rule, known(source, crops), split or path, path, left_out)


def _resolved(
    split: GallerySplit,
    rule: dict[str, Any],
    names: tuple[Mapping[str, str | None], Mapping[str, str | None]],
    about: Path,
    where: Path,
    left_out: dict[str, int],
) -> Plan:
    from facekd.crops.pairs import person_in_name

    ids, labels = names
    unknown = [photo for photo in (*split.gallery, *split.probes) if photo not in ids]
    if unknown:
        raise UserError(
            f"{where}: {len(unknown)} photos of {about} are not in it (first: {unknown[0]!r}); align the photos that "
            "the list names, or correct the list"
        )
    persons = {photo: person_in_name(photo) or labels.get(photo) for photo in (*split.gallery, *split.probes)}
    nameless = [photo for photo, person in persons.items() if person is None]
    if nameless:
        raise UserError(
            f"{about}: who {len(nameless)} of its photos show is not known (first: {nameless[0]!r}); give their "
            "photos identities, or leave them out"
        )
    person = {photo: str(name) for photo, name in persons.items()}
    seen: dict[str, str] = {}  # a crop's id -> its person; photos of the same bytes have one crop
    gallery = [photo for photo in split.gallery if ids[photo] is not None]
    for photo in gallery:
        seen.setdefault(str(ids[photo]), person[photo])
    enrolled = dict(seen)
    if not enrolled:
        raise UserError(
            f"{about}: no photo of the gallery gave a crop, so nobody is enrolled; see the ledger of {where}"
        )
    missing = {person[photo] for photo in split.gallery} - set(enrolled.values())
    probes: dict[str, str] = {}
    lost: list[str] = []
    gone: list[str] = []
    repeats = len(gallery) - len(enrolled)
    intended = missing | set(enrolled.values())
    for photo in split.probes:
        name, crop = person[photo], ids[photo]
        if crop is None:
            (lost if name in intended else gone).append(name)
        elif crop in enrolled or crop in probes:
            repeats += 1
        elif name in missing:
            lost.append(name)
        else:
            probes[crop] = name
    left_out = {**left_out, "same bytes": repeats}
    return Plan(
        name=about.name,
        split=split,
        rule=rule,
        gallery=tuple(enrolled),
        gallery_persons=tuple(enrolled.values()),
        probes=tuple(probes),
        probe_persons=tuple(probes.values()),
        failed_gallery=len(split.gallery) - len(gallery),
        missing=tuple(sorted(missing)),
        failed_mated=tuple(lost),
        failed_unmated=tuple(gone),
        left_out={why: count for why, count in left_out.items() if count},
    )


def search_of(subject: Subject, plan: Plan, fpirs: Sequence[float]) -> Searched:
    """Look for each probe of a plan with one model.

    Raises:
        UserError: no probe of an enrolled person.
    """
    import numpy as np

    from facekd.core.types import Rate
    from facekd.rates.identification import person_tpirs, ranks, search, search_curve

    def names(persons: Sequence[str]) -> Array:
        return np.array(persons, np.str_)

    embedded = subject.embed((*plan.gallery, *plan.probes)).vectors
    probe_persons = names(plan.probe_persons)
    cut = len(plan.gallery)
    searches = search(embedded[:cut], names(plan.gallery_persons), embedded[cut:], probe_persons)
    lost, gone = names(plan.failed_mated), names(plan.failed_unmated)
    people = len(set(plan.gallery_persons))
    found = ranks(searches, probe_persons, min(MAX_RANK, people), lost)
    n_mated = int(searches.mated.sum()) + len(lost)
    n_unmated = len(plan.probes) - int(searches.mated.sum()) + len(gone)
    drawn, tpirs, band = None, [], []
    if n_unmated:
        drawn = search_curve(searches, len(lost), len(gone))
        tell = partial(person_tpirs, searches, probe_persons, failed_mated=lost, failed_unmated=gone, seed=SEED)
        tpirs = tell(fpirs, resamples=RESAMPLES)
        band = tell(band_fars(n_unmated), resamples=BAND_RESAMPLES)
    cmc = {"found": found.found.tolist(), "low": found.low.tolist(), "high": found.high.tolist()}
    rates = {
        "model": subject.name,
        "model_id": subject.model_id,
        "interval": "identities",
        "ranks": [
            {"rank": rank, **{key: values[rank - 1] if rank <= len(values) else None for key, values in cmc.items()}}
            for rank in SHOWN
        ],
        "cmc": cmc,
        "tpir": [
            _tpir_json(rate) for rate in tpirs or [Rate(f, 0.0, None, None, n_mated, 0, None, None) for f in fpirs]
        ],
        "tpir_curve": [_tpir_json(rate) for rate in band],
        "gallery": {"people": people + len(plan.missing), "photos": cut + plan.failed_gallery},
        "probes": {"mated": n_mated, "unknown": n_unmated},
        "failures_to_enrol": {
            "gallery_photos": plan.failed_gallery,
            "people": len(plan.missing),
            "mated_probes": len(lost),
            "unknown_probes": len(gone),
        },
    }
    return Searched(rates, found, drawn, band)


def _tpir_json(rate: Rate) -> dict[str, Any]:
    """One TPIR; ``support`` says what the unknown probes can show of its FPIR, see `rates.rates.support`."""
    row = rate_json(rate)
    row["fpir_asked"], row["fpir"], row["tpir"] = row.pop("far_asked"), row.pop("far"), row.pop("tar")
    return row if row["tpir"] is not None else row | {"fpir": None}


def print_searches(result: Mapping[str, Any], quiet: bool) -> None:
    """The table at the terminal."""
    models = result["models"]
    tpirs = [f"TPIR@{far_name(row['fpir_asked'])}" for row in models[0]["tpir"]]
    rows = []
    for one in models:
        cells = [percent(row["found"]) for row in one["ranks"]]
        cells += [percent(row["tpir"]) + _mark(row) for row in one["tpir"]]
        rows.append([one["model"], *cells])
    table(searched_text(result), ["model", *(f"rank-{rank}" for rank in SHOWN), *tpirs], rows, quiet)
    if not quiet and any(_mark(row) for one in models for row in one["tpir"]):
        print(NOTE)


def searched_text(result: Mapping[str, Any]) -> str:
    """How many probes looked for whom, what counts as not found and what was left out."""
    first = result["models"][0]
    gallery, probes, failures = first["gallery"], first["probes"], first["failures_to_enrol"]
    parts = [
        f"{probes['mated']} probes of enrolled people and {probes['unknown']} of others, in a gallery of "
        f"{gallery['people']} people with {gallery['photos']} photos"
    ]
    if failures["gallery_photos"]:
        parts.append(
            f"{failures['gallery_photos']} gallery photos gave no crop, for which {failures['people']} of these people "
            "could not be enrolled"
        )
    if failures["mated_probes"] or failures["unknown_probes"]:
        parts.append(
            f"{failures['mated_probes']} probes of enrolled people count as not found and {failures['unknown_probes']} "
            "of others as raising no alarm, for want of a crop"
        )
    if result["split"]["left_out"]:
        parts.append("left out: " + ", ".join(f"{count} {why}" for why, count in result["split"]["left_out"].items()))
    return "; ".join(parts)


def search_lead(result: Mapping[str, Any]) -> str:
    """The report's one sentence."""
    models = result["models"]
    first = models[0]
    best = max(models, key=lambda one: float(one["ranks"][0]["found"]))
    row = best["ranks"][0]
    text = (
        f"{len(models)} model{'s' if len(models) > 1 else ''} in a gallery of {first['gallery']['people']} people from "
        f"{result['split']['name']}: {best['model']} ranks the right person first for {percent(row['found'])} of the "
        f"probes ({100 * row['low']:.2f} to {100 * row['high']:.2f})"
    )
    solid = [row for row in best["tpir"] if row["support"] == "estimate" and row["tpir"] is not None]
    if not solid:
        return text + "."
    last = min(solid, key=lambda row: float(row["fpir_asked"]))
    return f"{text}, and names {percent(last['tpir'])} at a FPIR of {far_name(last['fpir_asked'])}."


def search_sections(result: Mapping[str, Any], searched: Sequence[Searched]) -> list[Section]:
    """The report's sections."""
    from facekd.reports import plots
    from facekd.reports.document import Block, Figure, Section, Text

    models = result["models"]
    split = result["split"]
    said = f"The split: {split['rule']}" + ("" if split["seed"] is None else f" (seed {split['seed']})") + "."
    rates: list[Block] = [
        _rates_table(models),
        _thresholds_table(models),
        Text(searched_text(result) + "."),
        Text(said),
    ]
    figures: list[Block] = [
        Figure(plots.cmc({one.rates["model"]: one.ranks for one in searched}), "CMC with 95 % bands by people")
    ]
    curves = {one.rates["model"]: one.curve for one in searched if one.curve is not None}
    if curves:
        axes_of = ("False positive identification rate (FPIR)", "True positive identification rate (TPIR)")
        bands = {one.rates["model"]: one.band for one in searched}
        caption = "TPIR at each FPIR, with 95 % bands by people"
        figures.append(Figure(plots.roc(curves, bands, axes_of=axes_of, few=FEW), caption))
    sections = [Section("Identification", tuple(rates)), Section("Curves", tuple(figures))]
    first = [one["ranks"][0] for one in models]
    costs = cost_blocks(result["costs"], [(row["found"], row["low"], row["high"]) for row in first], "Found at rank 1")
    return [*sections, Section("Cost", costs)] if costs else sections


def _rates_table(models: Sequence[Mapping[str, Any]]) -> Table:
    from facekd.reports.document import Table

    first = models[0]
    ranks = [k for k, row in enumerate(first["ranks"]) if row["found"] is not None]  # the gallery has so many people
    shown = [k for k, row in enumerate(first["tpir"]) if row["tpir"] is not None]
    columns = ["model", *(f"rank {first['ranks'][k]['rank']}" for k in ranks)]
    columns += [f"TPIR at FPIR {far_name(first['tpir'][k]['fpir_asked'])}" for k in shown]
    rows = []
    for one in models:
        cells = [_range(one["ranks"][k], "found") for k in ranks]
        cells += [_range(one["tpir"][k], "tpir") + _mark(one["tpir"][k]) for k in shown]
        rows.append((one["model"], *cells))
    note = (
        f"In brackets the 95 % interval with the person as the unit ({RESAMPLES} resamples for TPIR, seed {SEED}), for "
        "this gallery. TPIR counts the probes whose person is ranked first and reaches the threshold."
    )
    if any(_mark(row) for row in first["tpir"]):
        note += f" {NOTE}"
    missing = [far_name(row["fpir_asked"]) for row in first["tpir"] if row["tpir"] is None]
    if missing:
        note += f" Of FPIR {', '.join(missing)} there is no number: {FEW}."
    return Table("Rates", tuple(columns), tuple(rows), note)


def _thresholds_table(models: Sequence[Mapping[str, Any]]) -> Table:
    from facekd.reports.document import Table

    rows = [
        (one["model"], far_name(row["fpir_asked"]) + _mark(row), f"{row['fpir']:.3g}", f"{row['threshold']:.4f}")
        for one in models
        for row in one["tpir"]
        if row["threshold"] is not None
    ]
    note = "They hold for a gallery of this size: a larger one raises more false alarms at the same threshold."
    return Table("Thresholds", ("model", "FPIR asked", "FPIR reached", "cosine"), tuple(rows), note)


def _range(row: Mapping[str, Any], key: str) -> str:
    return "–" if row[key] is None else f"{percent(row[key])} [{100 * row['low']:.2f}, {100 * row['high']:.2f}]"


def _mark(row: Mapping[str, Any]) -> str:
    return f" {BOUND}" if row["tpir"] is not None and row["support"] == "bound" else ""
