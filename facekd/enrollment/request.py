"""The gallery that an enrollment works on, and how the faces of its people are looked for."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from facekd.core.choices import DetectorName
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.thresholds import model_thresholds
from facekd.enrollment.calibration import FPIR
from facekd.enrollment.gate import gate_for
from facekd.errors import UserError
from facekd.faces.detect import weights_digest
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.meta import GalleryMeta, exists, read_meta
from facekd.gallery.photos import PhotoTable
from facekd.gallery.place import Place
from facekd.ingest.alignment import detector_of
from facekd.settings.photos import EnrollDecision, EnrolledFaces, FaceSearch, QualityGate


def search_of(gallery: Path, faces: EnrolledFaces) -> FaceSearch:
    """How faces are looked for: as asked, else as for the people who are in the gallery, else by the default.

    Raises:
        UserError: a damaged gallery.
    """
    usual = FaceSearch(detector=faces.detector_name)
    before = search_in(read_meta(gallery)) if exists(gallery) else usual
    own = faces.detector is None  # another detector's weights are none of this one's
    return FaceSearch(
        detector=before.detector if own else faces.detector_name,
        weights=faces.weights or (before.weights if own else None),
        min_face=before.min_face if faces.min_face is None else faces.min_face,
    )


def search_in(meta: GalleryMeta) -> FaceSearch:
    """How the faces of a gallery's people were looked for."""
    weights = None if meta.weights is None else Path(meta.weights)
    return FaceSearch(detector=cast(DetectorName, meta.detector), weights=weights, min_face=meta.min_face)


@dataclass(frozen=True, slots=True)
class Agreed:
    """How an enrollment goes: as the gallery's earlier ones did, unless it was asked to change that."""

    meta: GalleryMeta
    search: FaceSearch
    gate: QualityGate


def agree(
    gallery: Path, embedder: CropEmbedder, faces: EnrolledFaces, quality: QualityGate, decision: EnrollDecision
) -> Agreed:
    """What the gallery keeps, or what a new one begins with.

    Raises:
        UserError: a damaged gallery, or a flag that differs from what it keeps, without --change.
    """
    before = read_meta(gallery) if exists(gallery) else None
    asked = {"threshold": decision.threshold, "fpir": decision.fpir, "min_face": faces.min_face, **_limits(quality)}
    kept = {} if before is None else {**_settings(before), **(before.gate or {})}
    if before is not None and before.threshold is not None and decision.fpir is not None and not decision.change:
        raise UserError(
            f"--fpir {decision.fpir:g}: {gallery} was enrolled with --threshold {before.threshold:g}; leave --fpir "
            "out, or add --change to go over to it"
        )
    for name, value in asked.items():
        had = kept.get(name)
        if value is not None and had is not None and value != had and not decision.change:
            flag = "--" + name.replace("_", "-")
            raise UserError(
                f"{flag} {value:g}: {gallery} was enrolled with {had:g}; leave {flag} out, or add --change to go "
                "on with the new one"
            )
    search = search_of(gallery, faces)
    if search.weights is not None:
        detector_of(search)  # wrong weights are the user's mistake: said before anything is written
    gate = _gate(search, quality, before)
    threshold, fpir = decision.threshold, decision.fpir
    if before is not None and threshold is None and fpir is None:
        threshold = before.threshold
    model = embedder.network.path
    meta = GalleryMeta(
        contract=embedder.contract,
        model=str(model.resolve()),
        detector=search.detector_name,
        min_face=search.min_face,
        weights=None if search.weights is None else str(search.weights.resolve()),
        weights_sha256=weights_digest(search.detector_name, search.weights),
        threshold=threshold,
        calibrated=model_thresholds(model, embedder.contract),
        mapped=None if before is None else before.mapped,
        fpir=fpir or (FPIR if before is None or before.fpir is None else before.fpir),
        own=None if before is None else before.own,
        gallery_id=None if before is None else before.gallery_id,
        gate=_limits(gate),
    )
    return Agreed(meta, search, gate)


def _gate(search: FaceSearch, quality: QualityGate, before: GalleryMeta | None) -> QualityGate:
    """The limits asked for, else those of the gallery, else the usual ones."""
    if before is None:
        return gate_for(search.detector_name, quality)
    gate = gate_for(search.detector_name, replace(quality, **_open(quality, before)))
    if quality.min_detail is None and "min_detail" not in (before.gate or {}):  # begun before there was this limit
        return replace(gate, min_detail=None)
    return gate


def _settings(meta: GalleryMeta) -> dict[str, float | None]:
    return {"threshold": meta.threshold, "fpir": meta.fpir, "min_face": meta.min_face}


def _limits(gate: QualityGate) -> dict[str, float]:
    """The limits that are set, by field."""
    return {name: value for name, value in asdict(gate).items() if value is not None}


def _open(asked: QualityGate, before: GalleryMeta) -> dict[str, float]:
    """The gallery's limits for the fields that were left open."""
    return {name: value for name, value in (before.gate or {}).items() if getattr(asked, name) is None}


@dataclass(frozen=True, slots=True)
class Workplace:
    """What an enrollment reads and writes."""

    home: GalleryTable
    table: PhotoTable  # that photos are written to
    base: PhotoTable | None  # that it starts from, where it is not the same


@contextlib.contextmanager
def workplace(gallery: Path, meta: GalleryMeta, dry_run: bool) -> Iterator[Workplace]:
    """The gallery and its photos, to be written by nobody else meanwhile.

    A dry run writes into a temporary folder, and begins a gallery there where there is none yet.
    """
    dim = meta.contract.dim
    if not dry_run:
        home = GalleryTable.create(gallery, meta)
        with home.writing():
            home.keep(home.meta)  # one of before there were gallery ids gets its own
            yield Workplace(home, PhotoTable(home.place, dim), None)
        return
    with tempfile.TemporaryDirectory(prefix="facekd-") as folder:
        home = GalleryTable.create(gallery if exists(gallery) else Path(folder) / "gallery", meta)
        aside = PhotoTable(Place.of(Path(folder) / "photos"), dim)
        yield Workplace(home, aside, PhotoTable(home.place, dim) if PhotoTable.exists(home.place) else None)
