"""Identification: who is enrolled, who is looked for, and how often the right person is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from facekd.core.types import Array, Rate
from facekd.crops.cropset import CropSet
from facekd.crops.gallery_split import DEALT, GallerySplit, deal_gallery, read_gallery_split
from facekd.crops.pairs import person_in_name
from facekd.deploy.embeddings import Embedded
from facekd.errors import UserError
from facekd.evaluation.fixed import Fixed, fixed_rate
from facekd.evaluation.judged import JudgedModel
from facekd.evaluation.model_rates import band_fars
from facekd.evaluation.protocols import everybody, known, refuse_kinds
from facekd.evaluation.results import Acquisition
from facekd.evaluation.search_results import (
    Crowd,
    GalleryCounts,
    GalleryStep,
    ProbeCounts,
    RankRate,
    Searched,
    SearchFailures,
    SearchRates,
)
from facekd.rates.identification import Ranks, Searches, at_threshold, person_tpirs, ranks, search, search_curve

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

    refuse_kinds(source, path)
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
    names = known(source, crops)
    found = _resolved(chosen, names, split or path, path, left_out)
    if not any(names[1].values()):
        rule += "; people are known by their photos' names only"
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
    persons = {photo: labels.get(photo) for photo in (*split.gallery, *split.probes)}
    if not any(persons.values()):  # nothing states it: only then do names
        persons = {photo: person_in_name(photo) for photo in persons}
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


def search_of(
    model: JudgedModel,
    plan: GalleryPlan,
    fpirs: Sequence[float],
    fixed: Sequence[Fixed] = (),
    crowd: Crowd | None = None,
) -> Searched:
    """Look for each probe of a plan with one model.

    Args:
        fixed: thresholds at which FPIR and FNIR are judged too.
        crowd: distractors, by whom the gallery grows.

    Raises:
        UserError: no probe of an enrolled person.
    """

    def names(persons: Sequence[str]) -> Array:
        return np.array(persons, np.str_)

    embedded = model.embed((*plan.gallery, *plan.probes)).vectors
    probe_persons = names(plan.probe_persons)
    cut = len(plan.gallery)
    lost, gone = names(plan.failed_mated), names(plan.failed_unmated)

    def searched(more: int) -> Searches:
        """With so many distractors; their names are none of a probe's."""
        enrolled, persons = embedded[:cut], plan.gallery_persons
        if crowd is not None and more:
            enrolled = np.concatenate([enrolled, crowd.vectors[:more]])
            persons = (*persons, *(f"\0{name}" for name in crowd.persons[:more]))
        return search(enrolled, names(persons), embedded[cut:], probe_persons)

    searches = searched(0 if crowd is None else len(crowd.vectors))
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
    at = [at_threshold(searches, probe_persons, one.threshold, lost, gone) for one in fixed if n_unmated]
    photos = len(plan.gallery) + len(plan.probes) + plan.failed_gallery + len(lost) + len(gone)
    everyone = {*plan.gallery_persons, *plan.probe_persons, *plan.missing, *plan.failed_mated, *plan.failed_unmated}
    seen = {*plan.gallery_persons, *plan.probe_persons}
    grown = [] if crowd is None else [(more, searched(more)) for more in gallery_steps(len(crowd.vectors))]
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
        fixed=tuple(fixed_rate(one, *rates) for one, rates in zip(fixed, at, strict=False)),
        acquisition=Acquisition(
            photos, photos - len(plan.gallery) - len(plan.probes), len(everyone), len(everyone - seen)
        ),
        distractors=tuple(
            _step(more, one, probe_persons, lost, gone, fpirs if n_unmated else ()) for more, one in grown
        ),
    )
    return Searched(model.file, rates, drawn)


def gallery_steps(n: int) -> list[int]:
    """How many distractors are enrolled when the gallery is judged: none, the powers of ten, all."""
    return [0, *(10**k for k in range(1, 12) if 10**k < n), n]


def _step(
    more: int, searches: Searches, persons: Array, lost: Array, gone: Array, fpirs: Sequence[float]
) -> GalleryStep:
    found = ranks(searches, persons, 1, lost)
    tpirs = person_tpirs(searches, persons, fpirs, lost, gone) if fpirs else ()
    return GalleryStep(more, float(found.found[0]), float(found.low[0]), float(found.high[0]), tuple(tpirs))


def _rank_rate(found: Ranks, rank: int) -> RankRate:
    if rank > len(found.found):
        return RankRate(rank, None, None, None)
    return RankRate(rank, *(float(values[rank - 1]) for values in (found.found, found.low, found.high)))
