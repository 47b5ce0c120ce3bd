"""Identification: who is enrolled, who is looked for, and how often the right person is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from facekd.core.types import Array, Rate
from facekd.crops.cropset import CropSet
from facekd.crops.gallery_split import DEALT, GallerySplit, deal_gallery, read_gallery_split
from facekd.crops.pairs import person_in_name
from facekd.deploy.embeddings import Embedded
from facekd.errors import UserError
from facekd.evaluation.model_rates import band_fars
from facekd.evaluation.protocols import JudgedModel, everybody, known
from facekd.evaluation.results import Cost, ModelDifference, RequirementCheck, Unit, plain
from facekd.rates.counts import Curve
from facekd.rates.identification import Ranks, person_tpirs, ranks, search, search_curve

SHOWN = (1, 5, 10)  # ranks in the tables
MAX_RANK = 20  # of the CMC plot

SEED = 0  # of who is enrolled


@dataclass(frozen=True, slots=True)
class GalleryPlan:
    """A gallery and probes in terms of the ids that are embedded; persons stand in the order of their ids."""

    name: str  # the photos', for people
    split: GallerySplit
    seed: int | None  # None where a list says it
    rule: str  # where the split comes from
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
class RankRate:
    """The share of mated probes whose person is among the first `rank`; None where the gallery has fewer people."""

    rank: int
    found: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class GalleryCounts:
    """What is enrolled."""

    people: int
    photos: int


@dataclass(frozen=True, slots=True)
class ProbeCounts:
    """What is looked for."""

    mated: int
    unknown: int


@dataclass(frozen=True, slots=True)
class SearchFailures:
    """Photos that gave no crop, and the people who could not be enrolled for it."""

    gallery_photos: int
    people: int
    mated_probes: int
    unknown_probes: int


@dataclass(frozen=True, slots=True)
class SearchRates:
    """One model in one gallery. In a rate of `tpir`, far is FPIR and tar TPIR."""

    model: str
    model_id: str
    interval: Unit
    ranks: tuple[RankRate, ...]
    cmc: Ranks
    tpir: tuple[Rate, ...]  # at each FPIR asked
    tpir_curve: tuple[Rate, ...]
    gallery: GalleryCounts
    probes: ProbeCounts
    failures_to_enroll: SearchFailures


@dataclass(frozen=True, slots=True)
class Searched:
    """One model in one gallery, with what is drawn of it."""

    file: Path
    rates: SearchRates
    curve: Curve | None  # TPIR over FPIR; None where there is no unknown probe

    @property
    def name(self) -> str:
        return self.rates.model

    def as_json(self) -> dict[str, Any]:
        tpirs = {key: [_tpir(rate) for rate in getattr(self.rates, key)] for key in ("tpir", "tpir_curve")}
        return {"file": str(self.file), **plain(self.rates), **tpirs}


@dataclass(frozen=True, slots=True)
class JudgedSplit:
    """Which photos were enrolled and which looked for."""

    file: str
    sha256: str | None
    seed: int | None  # None where a list says it
    rule: str
    name: str
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class SearchReport:
    """What 'facekd verify --identification' says of a gallery."""

    split: JudgedSplit
    models: tuple[Searched, ...]
    differences: tuple[ModelDifference, ...]
    costs: tuple[Cost, ...]
    requirements: tuple[RequirementCheck, ...]
    environment: Mapping[str, Any]


def planned(source: CropSet | Embedded, crops: Path | None, path: Path, split: Path | None) -> GalleryPlan:
    """The gallery and probes of a list, or dealt with a seed among the photos whose person is known.

    A person is enrolled by being in the gallery's list. Probes of enrolled people that gave no crop, and all probes of
    people whose gallery photos gave none, count as not found.

    Args:
        path: what `source` was read from.
        split: a file that `crops.gallery_split.read_gallery_split` reads; None deals.

    Raises:
        UserError: a list that is none, names unknown photos or photos of unknown people, or leaves nobody enrolled.
    """

    left_out: dict[str, int] = {}
    seed, rule = None, f"as listed in {split}"
    if split is not None:
        chosen, left_out["repeated"] = read_gallery_split(split)
    else:
        people = everybody(source, path)
        left_out |= people.left_out
        everyone = (*people.persons, *people.failed_persons)
        chosen = deal_gallery((*people.photos, *people.failed_photos), everyone, SEED)
        seed, rule = SEED, DEALT
    found = _resolved(chosen, known(source, crops), split or path, path, left_out)
    return replace(found, seed=seed, rule=rule)


def _resolved(
    split: GallerySplit,
    names: tuple[Mapping[str, str | None], Mapping[str, str | None]],
    about: Path,
    where: Path,
    left_out: dict[str, int],
) -> GalleryPlan:

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
    return GalleryPlan(
        name=about.name,
        split=split,
        seed=None,
        rule="",
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


def search_of(model: JudgedModel, plan: GalleryPlan, fpirs: Sequence[float]) -> Searched:
    """Look for each probe of a plan with one model.

    Raises:
        UserError: no probe of an enrolled person.
    """

    def names(persons: Sequence[str]) -> Array:
        return np.array(persons, np.str_)

    embedded = model.embed((*plan.gallery, *plan.probes)).vectors
    probe_persons = names(plan.probe_persons)
    cut = len(plan.gallery)
    searches = search(embedded[:cut], names(plan.gallery_persons), embedded[cut:], probe_persons)
    lost, gone = names(plan.failed_mated), names(plan.failed_unmated)
    people = len(set(plan.gallery_persons))
    found = ranks(searches, probe_persons, min(MAX_RANK, people), lost)
    n_mated = int(searches.mated.sum()) + len(lost)
    n_unmated = len(plan.probes) - int(searches.mated.sum()) + len(gone)
    drawn, band = None, []
    tpirs = [Rate(far, 0.0, None, None, n_mated, 0, None, None) for far in fpirs]
    if n_unmated:
        drawn = search_curve(searches, len(lost), len(gone))
        tell = partial(person_tpirs, searches, probe_persons, failed_mated=lost, failed_unmated=gone)
        tpirs = tell(fpirs)
        band = [rate for rate in tell(band_fars(n_unmated)) if rate.tar is not None]
    rates = SearchRates(
        model=model.name,
        model_id=model.model_id,
        interval="identities",
        ranks=tuple(_rank_rate(found, rank) for rank in SHOWN),
        cmc=found,
        tpir=tuple(tpirs),
        tpir_curve=tuple(band),
        gallery=GalleryCounts(people + len(plan.missing), cut + plan.failed_gallery),
        probes=ProbeCounts(n_mated, n_unmated),
        failures_to_enroll=SearchFailures(plan.failed_gallery, len(plan.missing), len(lost), len(gone)),
    )
    return Searched(model.file, rates, drawn)


def _rank_rate(found: Ranks, rank: int) -> RankRate:
    if rank > len(found.found):
        return RankRate(rank, None, None, None)
    return RankRate(rank, *(float(values[rank - 1]) for values in (found.found, found.low, found.high)))


def _tpir(rate: Rate) -> dict[str, Any]:
    row: dict[str, Any] = plain(rate)
    row["fpir_asked"], row["fpir"], row["tpir"] = row.pop("far_asked"), row.pop("far"), row.pop("tar")
    return row if row["tpir"] is not None else row | {"fpir": None}
