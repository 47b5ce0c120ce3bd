"""The gallery that an enrollment works on, and how the faces of its people are looked for."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from facekd.core.choices import DetectorName
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.thresholds import model_thresholds
from facekd.faces.detect import weights_digest
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.meta import GalleryMeta, exists, read_meta
from facekd.gallery.photos import PhotoTable
from facekd.gallery.place import Place
from facekd.settings.photos import FaceSearch


def search_of(gallery: Path, faces: FaceSearch) -> FaceSearch:
    """How faces are looked for: as asked, else as for the people who are in the gallery, else by the default.

    Raises:
        UserError: a damaged gallery.
    """
    if faces.detector is None and exists(gallery):
        before = search_in(read_meta(gallery))
        return replace(faces, detector=before.detector, weights=faces.weights or before.weights)
    return replace(faces, detector=faces.detector_name)


def search_in(meta: GalleryMeta) -> FaceSearch:
    """How the faces of a gallery's people were looked for."""
    weights = None if meta.weights is None else Path(meta.weights)
    return FaceSearch(detector=cast(DetectorName, meta.detector), weights=weights, min_face=meta.min_face)


def meta_of(embedder: CropEmbedder, model: Path, search: FaceSearch, threshold: float | None) -> GalleryMeta:
    """What a gallery is bound to, and the settings of this enrollment."""
    return GalleryMeta(
        contract=embedder.contract,
        model=str(model.resolve()),
        detector=search.detector_name,
        min_face=search.min_face,
        weights=None if search.weights is None else str(search.weights.resolve()),
        weights_sha256=weights_digest(search.detector_name, search.weights),
        threshold=threshold,
        calibrated=model_thresholds(model, embedder.contract),
    )


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
            yield Workplace(home, PhotoTable(home.place, dim), None)
        return
    with tempfile.TemporaryDirectory(prefix="facekd-") as folder:
        home = GalleryTable.create(gallery if exists(gallery) else Path(folder) / "gallery", meta)
        aside = PhotoTable(Place.of(Path(folder) / "photos"), dim)
        yield Workplace(home, aside, PhotoTable(home.place, dim) if PhotoTable.exists(home.place) else None)
