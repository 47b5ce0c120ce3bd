"""What 'facekd verify --templates' compares: templates of several photos, 1:1 by pairs and 1:N in galleries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from facekd.core.files import no_stream, sha256_file
from facekd.core.names import NameColumn
from facekd.core.run import environment
from facekd.core.types import Array, PairList
from facekd.crops.cropset import CropSet
from facekd.crops.gallery_split import GallerySplit
from facekd.crops.ijb import ijb_faces, read_ijb
from facekd.crops.templates import TemplatePairs, TemplateSet, person_numbers, read_template_list
from facekd.deploy.embeddings import Embedded, read_embeddings
from facekd.errors import UserError
from facekd.evaluation.cost import costs_of
from facekd.evaluation.fixed import fixed_thresholds
from facekd.evaluation.fusion import Fusion, fused, fusion_weights
from facekd.evaluation.identification import GalleryPlan, search_of
from facekd.evaluation.judged import JudgedModel, from_embeddings
from facekd.evaluation.protocols import ListedPairs, named, with_groups
from facekd.evaluation.results import Failures, Judged, PairReport
from facekd.evaluation.search_results import Searched, SearchRates
from facekd.evaluation.template_results import GalleryMean, JudgedTemplates, TemplateReport
from facekd.evaluation.verification import list_report
from facekd.settings.evaluation import AskedRates

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # as papers report them on IJB
FPIRS = (1e-1, 1e-2)


@dataclass(frozen=True, slots=True)
class PhotoTemplates:
    """Templates in terms of the ids that are embedded."""

    listed: TemplateSet
    fusion: Fusion
    crop_ids: tuple[str, ...]  # each once
    crop: Array  # int64[R], place in `crop_ids` of each row's photo; -1 where there is none
    failed: Array  # bool[T], no photo of it gave a crop
    pairs: ListedPairs | None  # of templates, under their names


def read_templates(path: Path, pairs: Path | None) -> TemplateSet:
    """A benchmark's folder or list of faces, or templates in a CSV or Parquet with the pairs of them.

    Raises:
        UserError: as `crops.ijb.read_ijb` and `crops.templates.read_template_list`, or pairs where the benchmark
            brings its own, or none where nobody brings them.
    """
    if not path.exists():
        raise UserError(f"{path}: no such folder or list of templates; check the path")
    no_stream(path)
    faces = ijb_faces(path)
    if faces is not None:
        if pairs is not None:
            raise UserError(f"--pairs {pairs}: {faces.parent} brings its own pairs of templates; leave the list out")
        return read_ijb(faces)
    if path.is_dir():
        raise UserError(
            f"{path}: holds no list such as ijbc_face_tid_mid.txt, nor does its folder meta; give the folder of IJB-B "
            "or IJB-C, or a CSV with the columns template and photo"
        )
    if pairs is None:
        raise UserError(f"--templates {path}: says which photos belong together; add --pairs LIST with pairs of them")
    return read_template_list(path, pairs)


def photo_templates(
    listed: TemplateSet,
    source: CropSet | Embedded,
    crops: Path | None,
    fusion: Fusion,
    groups: Sequence[str] = (),
    others: Sequence[Path] = (),
) -> PhotoTemplates:
    """Templates with the crops of their photos. What a photo may be called is as in a pair list.

    Of a crop store a photo without crop is left out of its template, of files of embeddings one that no file has.

    Args:
        groups: columns of the pairs by which they are judged too.
        others: further files of embeddings of the same photos.

    Raises:
        UserError: photos that a crop store has never seen, half of them or more without embedding, a fusion that needs
            what the list does not state, or pairs without one of the columns `groups`.
    """
    about = listed.files[0]
    if fusion == "media" and listed.media is None:
        raise UserError(f"--fuse media: {about} has no column media; add it, or fuse by mean")
    if fusion == "quality" and listed.quality is None:
        raise UserError(
            f"--fuse quality: {about} comes without the photos' quality; add a column quality (of IJB its file of 5 "
            "points and scores), or fuse by mean"
        )
    names = named(source, crops)
    for other in others:
        names = {**named(read_embeddings(other, quiet=True), None), **names}
    photos = listed.photos.used()
    unknown = [photo for photo in photos if photo not in names]
    if crops is not None and unknown:
        raise UserError(
            f"{crops}: {len(unknown)} photos of {about} are not in it (first: {unknown[0]!r}); align the photos that "
            "the list names, or correct the list"
        )
    if unknown and 2 * len(unknown) >= len(photos):
        raise UserError(
            f"the embeddings: {len(unknown)} of the {len(photos)} photos that {about} names are not in them (first: "
            f"{unknown[0]!r}), so list and file do not belong together; embed those photos, or name them alike in both"
        )
    number: dict[str, int] = {}
    found = (names.get(photo) for photo in listed.photos.distinct)
    places = [-1 if crop_id is None else number.setdefault(crop_id, len(number)) for crop_id in found]
    crop = np.array(places, np.int64)[listed.photos.codes]
    failed = np.bincount(listed.template, crop >= 0, len(listed.ids)) == 0
    if failed.all():
        raise UserError(f"{about}: none of its photos gave a crop; see the ledger of {crops}")
    pairs = None if listed.pairs is None else _listed_pairs(listed, listed.pairs, failed, groups)
    return PhotoTemplates(listed, fusion, tuple(number), crop, failed, pairs)


def template_report(
    templates: PhotoTemplates, models: Sequence[JudgedModel], asked: AskedRates, quiet: bool
) -> TemplateReport:
    """The models on templates: TAR at `FARS` and what else is asked for on their pairs, ranks and TPIR in galleries.

    Raises:
        UserError: as `fusion.fused`.
    """
    listed = templates.listed
    pairs = listed.pairs
    fusing = [_fused_model(one, templates, quiet) for one in models]
    costs = costs_of(models)
    verification = None
    if pairs is not None:
        assert templates.pairs is not None
        fars = list(dict.fromkeys([*FARS, *asked.far]))
        verification = list_report(templates.pairs, fusing, replace(asked, far=fars), None, pairs.file)
        verification = _with_photos(replace(verification, costs=costs), templates, pairs)
    galleries = {name: tuple(_searched(one, templates, name, asked) for one in fusing) for name in listed.galleries}
    return TemplateReport(
        templates=_judged(templates),
        verification=verification,
        galleries=galleries,
        gallery_means=_means(galleries) if len(galleries) > 1 else (),
        costs=costs,
        environment=environment(),
    )


def _searched(model: JudgedModel, templates: PhotoTemplates, gallery: str, asked: AskedRates) -> Searched:
    fixed = fixed_thresholds(asked.threshold, model.ids, "fpir")
    return search_of(model, _gallery_plan(templates, gallery, model.has), FPIRS, fixed)


def _fused_model(model: JudgedModel, templates: PhotoTemplates, quiet: bool) -> JudgedModel:
    """The model, as if it embedded templates. A photo that its file lacks, where others have it, is left out."""
    listed, crop, ids = templates.listed, templates.crop, templates.crop_ids
    if model.has is not None and not model.has.issuperset(ids):
        there = np.array([crop_id in model.has for crop_id in ids])
        if 2 * there.sum() <= len(ids):
            raise UserError(
                f"{model.file}: lacks {len(ids) - there.sum()} of the {len(ids)} photos of the list that other files "
                "have; embed the same photos with each model"
            )
        place = np.append(np.where(there, np.cumsum(there) - 1, -1), -1)  # the last is for a photo without any
        crop, ids = place[crop], tuple(crop_id for crop_id, has in zip(ids, there, strict=True) if has)
    weights = fusion_weights(listed.template, listed.media, listed.quality, crop >= 0, templates.fusion)
    found = fused(model, ids, crop, listed.template, weights, listed.ids, quiet)
    unnamed: tuple[None, ...] = (None,) * len(found.ids)
    # What it costs is told once, of one photo: a template costs nothing more.
    return from_embeddings(model.name, model.file, Embedded(found, unnamed, found.ids), None)


def _listed_pairs(listed: TemplateSet, pairs: TemplatePairs, failed: Array, groups: Sequence[str]) -> ListedPairs:
    """The pairs, in which templates stand for photos."""
    left, right = (NameColumn(listed.ids, side) for side in (pairs.left, pairs.right))
    listed_pairs = PairList(left, right, pairs.same, np.full(len(left), -1, np.int16), pairs.groups)
    number = person_numbers(listed.persons)
    persons = number[pairs.left], number[pairs.right]
    known = all((side >= 0).all() for side in persons)
    return ListedPairs(
        name=f"{listed.name} templates",
        pairs=with_groups(listed_pairs, groups, pairs.file),
        failed=frozenset(listed.ids[k] for k in np.flatnonzero(failed & _compared(pairs, len(failed)))),
        persons=persons if known else None,
        left_out=dict(pairs.left_out),
        people="stated" if known else None,
    )


def _compared(pairs: TemplatePairs, templates: int) -> Array:
    """bool[T]: the templates that are in a pair."""
    found = np.zeros(templates, bool)
    found[pairs.left] = found[pairs.right] = True
    return found


def _with_photos(report: PairReport, templates: PhotoTemplates, pairs: TemplatePairs) -> PairReport:
    """The report, in whose failures photos are counted, not templates: those of the templates that are compared."""
    listed, there = templates.listed, _compared(pairs, len(templates.failed))
    rows = there[listed.template]
    photos = int((templates.failed & there)[listed.template].sum())
    lost = int((rows & (templates.crop < 0)).sum())

    def counted(one: Judged) -> Judged:
        failures = Failures(one.rates.failures_to_enroll.pairs, photos)
        acquired = one.rates.acquisition
        if acquired is not None:
            acquired = replace(acquired, photos=int(rows.sum()), failed_photos=lost)
        return replace(one, rates=replace(one.rates, failures_to_enroll=failures, acquisition=acquired))

    return replace(report, models=tuple(map(counted, report.models)))


def _gallery_plan(templates: PhotoTemplates, name: str, has: frozenset[str] | None) -> GalleryPlan:
    """Who is enrolled in a gallery, and who is looked for; photos in it are templates.

    Args:
        has: the templates that there are.
    """
    listed = templates.listed
    failed = np.array([has is not None and template not in has for template in listed.ids])
    asked, probed = listed.galleries[name].tolist(), listed.probes.tolist()
    person = {place: str(listed.persons[place]) for place in (*asked, *probed)}
    gallery = [place for place in asked if not failed[place]]
    if not gallery:
        raise UserError(f"{listed.files[0]}: no template of gallery {name} has a photo with a crop; see the ledger")
    intended = {person[place] for place in asked}
    missing = intended - {person[place] for place in gallery}
    probes, lost, gone = [], [], []
    for place in probed:
        own = person[place]
        if own in missing or (failed[place] and own in intended):
            lost.append(own)
        elif failed[place]:
            gone.append(own)
        else:
            probes.append(place)
    ids = listed.ids
    return GalleryPlan(
        name=name,
        split=GallerySplit(tuple(ids[k] for k in asked), tuple(ids[k] for k in probed)),
        seed=None,
        rule="as the benchmark has it",
        gallery=tuple(ids[k] for k in gallery),
        gallery_persons=tuple(person[k] for k in gallery),
        probes=tuple(ids[k] for k in probes),
        probe_persons=tuple(person[k] for k in probes),
        failed_gallery=len(asked) - len(gallery),
        missing=tuple(sorted(missing)),
        failed_mated=tuple(lost),
        failed_unmated=tuple(gone),
        left_out={},
    )


def _judged(templates: PhotoTemplates) -> JudgedTemplates:
    listed, usable = templates.listed, templates.crop >= 0
    persons = set(listed.persons)
    media = None
    if templates.fusion != "mean" and listed.media is not None:
        media = len({*zip(listed.template[usable].tolist(), listed.media[usable].tolist(), strict=True)})
    return JudgedTemplates(
        name=listed.name,
        files={str(path): sha256_file(path) for path in listed.files},
        fusion=templates.fusion,
        templates=len(listed.ids),
        people=None if None in persons else len(persons),
        photos=len(listed.photos),
        media=media,
        photos_without_crop=int((~usable).sum()),
        templates_without_photo=int(templates.failed.sum()),
    )


def _means(galleries: Mapping[str, tuple[Searched, ...]]) -> tuple[GalleryMean, ...]:
    return tuple(_mean([one.rates for one in row]) for row in zip(*galleries.values(), strict=True))


def _mean(galleries: Sequence[SearchRates]) -> GalleryMean:
    ranks: dict[int, float | None] = {}
    for rows in zip(*(one.ranks for one in galleries), strict=True):
        found = [(row.found, one.probes.mated) for row, one in zip(rows, galleries, strict=True)]
        hits = [round(share * mated) for share, mated in found if share is not None]
        ranks[rows[0].rank] = sum(hits) / sum(mated for _, mated in found) if len(hits) == len(found) else None
    tpir: dict[float, float | None] = {}
    for rates in zip(*(one.tpir for one in galleries), strict=True):
        tars = [rate.tar for rate in rates if rate.tar is not None]
        tpir[rates[0].far_asked] = sum(tars) / len(tars) if len(tars) == len(rates) else None
    return GalleryMean(galleries[0].model, ranks, tpir)
