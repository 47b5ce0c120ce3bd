"""Whether two photos show the same person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facekd.core.types import Array
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.thresholds import model_thresholds, threshold_at
from facekd.errors import UserError
from facekd.gallery.meta import exists
from facekd.ingest.alignment import detector_of
from facekd.ingest.photos import embed_batch
from facekd.photos.find import PhotoFile, one_photo
from facekd.settings.photos import FaceSearch, PairDecision


@dataclass(frozen=True, slots=True)
class Side:
    """What was compared on one side: the face taken from a photo, or an enrolled person."""

    name: str  # the photo as it was given, or the person
    faces: int | None  # found in the photo; None of a person
    box: tuple[float, ...] | None  # x1 y1 x2 y2, px, of the face taken; None of a person
    sha256: str | None  # of the photo's bytes; None of a person


@dataclass(frozen=True, slots=True)
class Same:
    """Whether both sides show the same person."""

    same: bool  # score >= threshold
    score: float  # cosine, [-1, 1]
    threshold: float
    far: float | None  # to which the threshold is calibrated; None where it was given
    model: str  # path of the network
    model_id: str
    a: Side
    b: Side

    @property
    def exit_code(self) -> int:
        return 0 if self.same else 1

    def __str__(self) -> str:
        verdict = "the same person" if self.same else "different people"
        lines = [f"{verdict}: score {self.score:.4f}, threshold {self.threshold:.4f}"]
        if self.far is not None:
            lines.append(
                f"where it was measured, at most {one_in(self.far)} pairs of strangers reach this threshold (adults; "
                "children far more often)"
            )
        return "\n".join(lines)


def one_in(far: float) -> str:
    """A FAR in words: ``1 in 1,000``."""
    return f"1 in {round(1 / far):,}" if far <= 0.5 else f"{100 * far:.0f} in 100"


def is_gallery(path: Path) -> bool:
    """Whether it is one; a folder that is none is left to `_file`, which says so."""
    remote = str(path).startswith("s3:")
    return remote or (path.is_dir() and exists(path))


def compare_photos(
    photo: Path, other: Path, embedder: CropEmbedder, search: FaceSearch, choose: str, decision: PairDecision
) -> Same:
    """Two photos, by one face of each.

    Raises:
        UserError: no photo at a path, no face in one, or no threshold is known.
    """
    path = embedder.network.path
    threshold, far = threshold_for(decision, model_thresholds(path, embedder.contract), path)
    (a, vector_a), (b, vector_b) = faces_of([photo, other], embedder, search, choose)
    return answer(a, b, vector_a, vector_b, threshold, far, embedder)


def threshold_for(decision: PairDecision, known: Mapping[float, float], whose: Path) -> tuple[float, float | None]:
    """The threshold asked for, or one of those `known`, and the FAR that it is calibrated to.

    Raises:
        UserError: none is known.
    """
    given = decision.threshold
    return (given, None) if given is not None else threshold_at(known, decision.far, whose, "--threshold")


def faces_of(
    photos: Sequence[Path], embedder: CropEmbedder, search: FaceSearch, choose: str
) -> list[tuple[Side, Array]]:
    """The face taken from each photo, and its embedding, float32[D].

    Raises:
        UserError: a path that is no photo, or one that gives no embedding.
    """
    detector_of(search)  # wrong weights are the user's mistake: said before a photo is
    found = []
    embedded = embed_batch([_file(path) for path in photos], lambda: embedder, search, choose)
    for path, photo in zip(photos, embedded, strict=True):
        if not photo.ok:
            remedy = "; give another photo, or another --model if all end so"
            if photo.status != "no_embedding":
                remedy = "" if ";" in photo.reason else "; give a photo that shows a face"
            raise UserError(f"{path}: {photo.status}, {photo.reason}{remedy}")
        record = photo.record
        side = Side(str(path), len(record.boxes), record.crops[0].box, record.sha256)
        found.append((side, photo.vectors[0]))
    return found


def _file(path: Path) -> PhotoFile:
    if path.is_dir():
        raise UserError(
            f"{path}: a folder, where a photo is wanted; give a photo, and after it another or a gallery and --person"
        )
    (found,) = one_photo(path).photos
    return found


def answer(a: Side, b: Side, left: Array, right: Array, threshold: float, far: float | None, by: CropEmbedder) -> Same:
    """What is said of two sides with these embeddings, float32[D] of unit norm."""
    score = max(-1.0, min(1.0, float(left @ right)))
    return Same(score >= threshold, score, threshold, far, str(by.network.path), by.model_id, a, b)
