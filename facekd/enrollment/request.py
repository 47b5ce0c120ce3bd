"""What an enrollment is asked to do, and the gallery that it works on."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from facekd.core.choices import DetectorName
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.thresholds import model_thresholds
from facekd.faces.detect import weights_digest
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.meta import GalleryMeta, exists, read_meta
from facekd.gallery.photos import PhotoTable
from facekd.gallery.place import Place
from facekd.settings.group import flat
from facekd.settings.photos import EnrollDecision, EnrollReport, FaceSearch, ModelFile, QualityGate


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollRequest:
    """Who is to be enrolled where, and how, whoever asks."""

    people: Path
    gallery: Path
    network: ModelFile  # with a model
    root: Path | None = None
    search: FaceSearch  # of `search_of`
    gate: QualityGate  # of `gate_for`
    decision: EnrollDecision
    output: EnrollReport
    quiet: bool = False

    def settings(self) -> dict[str, Any]:
        """As run.yaml has them."""
        places = {"people": self.people, "gallery": self.gallery, "root": self.root}
        groups = flat(self.network, self.search, self.gate, self.decision, self.output, quiet=self.quiet)
        return {**places, **groups}

    def meta(self, embedder: CropEmbedder) -> GalleryMeta:
        """What the gallery is to be bound to."""
        search, model = self.search, cast(Path, self.network.model)
        return GalleryMeta(
            contract=embedder.contract,
            model=str(model.resolve()),
            detector=search.detector_name,
            min_face=search.min_face,
            weights=None if search.weights is None else str(search.weights.resolve()),
            weights_sha256=weights_digest(search.detector_name, search.weights),
            threshold=self.decision.threshold,
            calibrated=model_thresholds(model, embedder.contract),
        )


@dataclass(frozen=True, slots=True)
class Workplace:
    """What an enrollment reads and writes."""

    home: GalleryTable
    table: PhotoTable  # that photos are written to
    base: PhotoTable | None  # that it starts from, where it is not the same


@contextlib.contextmanager
def workplace(request: EnrollRequest, meta: GalleryMeta) -> Iterator[Workplace]:
    """The gallery and its photos, to be written by nobody else meanwhile.

    A dry run writes into a temporary folder, and begins a gallery there where there is none yet.
    """
    dim = meta.contract.dim
    if not request.decision.dry_run:
        home = GalleryTable.create(request.gallery, meta)
        with home.writing():
            yield Workplace(home, PhotoTable(home.place, dim), None)
        return
    with tempfile.TemporaryDirectory(prefix="facekd-") as folder:
        home = GalleryTable.create(request.gallery if exists(request.gallery) else Path(folder) / "gallery", meta)
        aside = PhotoTable(Place.of(Path(folder) / "photos"), dim)
        yield Workplace(home, aside, PhotoTable(home.place, dim) if PhotoTable.exists(home.place) else None)


def search_of(gallery: Path, faces: FaceSearch) -> FaceSearch:
    """How faces are looked for: as asked, else as for the people who are in the gallery, else by the default.

    Raises:
        UserError: a damaged gallery.
    """
    if faces.detector is None and exists(gallery):
        meta = read_meta(gallery)
        weights = faces.weights or (None if meta.weights is None else Path(meta.weights))
        return replace(faces, detector=cast(DetectorName, meta.detector), weights=weights)
    return replace(faces, detector=faces.detector_name)


def search_in(meta: GalleryMeta) -> FaceSearch:
    """How the faces of a gallery's people were looked for."""
    weights = None if meta.weights is None else Path(meta.weights)
    return FaceSearch(detector=cast(DetectorName, meta.detector), weights=weights, min_face=meta.min_face)
