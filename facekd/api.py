"""The Python face of facekd: the embedder and the gallery in three lines.

Example::

    from facekd import Embedder, Gallery

    embedder = Embedder.load("model.onnx")
    Gallery.open("people.gallery", embedder).enroll("photos/")
    print(Gallery.open("people.gallery", embedder).identify("who.jpg"))
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from facekd.core.choices import DETECTOR, Choice, DetectorName
from facekd.core.process import left_as_it_was
from facekd.core.types import Array
from facekd.deploy import embedder as deploy
from facekd.deploy.thresholds import model_thresholds, threshold_at
from facekd.errors import UserError
from facekd.ingest.photos import Search, embed_photos, photos_at
from facekd.photos.find import PhotoFile, one_photo
from facekd.photos.memory import Held, held, is_held

if TYPE_CHECKING:
    from facekd.commands.identify import Identification
    from facekd.crops.store import PhotoRecord
    from facekd.enrollment.report import EnrollSummary

Photo: TypeAlias = "str | Path | Held"
Photos: TypeAlias = "Photo | Iterable[Photo]"


@dataclass(frozen=True, slots=True)
class EmbeddedPhoto:
    """A photo, and the embeddings of the faces chosen from it."""

    source: str  # as it was given; in a folder, zip or tar the path below it
    status: str  # ok, or why there is no embedding: no_face, too_small, unreadable, too_large, no_embedding
    reason: str  # one sentence; empty for ok
    vectors: Array  # float32[n, D], unit norm; n is 0 unless ok
    boxes: Array  # float32[n, 4], x1 y1 x2 y2, px of the upright photo

    @property
    def ok(self) -> bool:
        """Whether there is an embedding."""
        return self.status == "ok"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two photos, how alike their faces are, and the verdict."""

    score: float  # cosine; -inf where a photo gave no face
    threshold: float
    far: float | None  # to which the threshold is calibrated; None where it was given
    same: bool  # score >= threshold
    reason: str  # why there is no score; empty where there is one

    def __str__(self) -> str:
        if self.reason:
            return f"no match: {self.reason}"
        far = "" if self.far is None else f", calibrated to a FAR of {self.far:g}"
        verdict = "the same person" if self.same else "different people"
        return f"{verdict}: score {self.score:.4f}, threshold {self.threshold:.4f}{far}"


class Embedder(deploy.Embedder):
    """A network ready to embed crops and photos; any thread and any forked process may use it.

    Example::

        embedder = Embedder.load("model.onnx")
        vectors = embedder.embed(crops)  # uint8[N, 112, 112, 3] RGB -> float32[N, D] of unit norm
        for photo in embedder.embed_photos("photos/"):
            print(photo.source, photo.status, photo.vectors.shape)
    """

    @left_as_it_was()
    def embed_photos(
        self,
        photos: Photos,
        *,
        detector: DetectorName = DETECTOR,
        weights: str | Path | None = None,
        min_face: int = 20,
        choose: Choice = "best",
    ) -> list[EmbeddedPhoto]:
        """Detect, align and embed; one answer for each photo, in order.

        Args:
            photos: a photo; a folder, zip or tar of photos; or several photos. A photo is a path, or in memory the
                bytes of a file, an open file, uint8[H, W, 3] RGB, uint8[H, W] or an image of Pillow.
            detector: yunet, mtcnn, facenet; none, where each photo already is a crop.
            weights: another ONNX file of yunet's than the one that comes with facekd.
            min_face: smallest face looked for, px.
            choose: which face of several: largest, centre, best, all.

        Raises:
            UserError: nothing at a path, or weights that the detector can't use; a photo without a face is an answer.
        """
        search = Search(detector, None if weights is None else Path(weights), min_face, choose)
        search.check()
        return list(self._embedded(_files(photos), search))

    def stream(
        self,
        photos: Iterable[Photo],
        *,
        detector: DetectorName = DETECTOR,
        weights: str | Path | None = None,
        min_face: int = 20,
        choose: Choice = "best",
    ) -> Iterator[EmbeddedPhoto]:
        """`embed_photos` of any number of photos, in order, with memory for a few of them.

        Args:
            photos: as in `embed_photos`, taken up to 32 for each core ahead of the answers; it need not end.

        Raises:
            UserError: no photo at a path, or weights that the detector can't use.
        """
        search = Search(detector, None if weights is None else Path(weights), min_face, choose)
        search.check()
        return self._embedded((_file(photo, place) for place, photo in enumerate(photos)), search)

    @left_as_it_was()
    def compare(
        self,
        photo_a: Photo,
        photo_b: Photo,
        *,
        threshold: float | None = None,
        far: float | None = None,
        detector: DetectorName = DETECTOR,
        weights: str | Path | None = None,
        min_face: int = 20,
    ) -> Comparison:
        """Whether two photos show the same person, each by its large face near the middle.

        Args:
            photo_a, photo_b: each as in `embed_photos`.
            threshold: cosine from which they do; without it the model's calibrated one.
            far: the calibrated threshold of this FAR; without it 0.001, else the nearest that is stricter, else the
                strictest.

        Raises:
            UserError: no photo at a path, or no threshold is known.
        """
        threshold, far = self._threshold(threshold, far)
        pair = [photo_a, photo_b]
        one, two = self.embed_photos(pair, detector=detector, weights=weights, min_face=min_face)
        failed = [f"{photo.source}: {photo.status}, {photo.reason}" for photo in (one, two) if not photo.ok]
        score = float("-inf") if failed else float(one.vectors[0] @ two.vectors[0])
        return Comparison(score, threshold, far, score >= threshold, "; ".join(failed))

    def thresholds(self) -> dict[float, float]:
        """FAR -> cosine that the model was calibrated to, its own or those that facekd carries; empty where none is."""
        return model_thresholds(self.network.path, self.contract)

    def _threshold(self, threshold: float | None, far: float | None) -> tuple[float, float | None]:
        if threshold is not None:
            if far is not None or not -1 <= threshold <= 1:
                raise UserError(f"threshold={threshold}: give a cosine from -1 to 1, and far only without it")
            return threshold, None
        return threshold_at(self.thresholds(), far, self.network.path, "threshold=")

    def _embedded(self, files: Iterable[PhotoFile], search: Search) -> Iterator[EmbeddedPhoto]:
        for record, vectors in embed_photos(files, self, search):
            yield _answer(record, vectors)


class Gallery:
    """Enrolled people and the embedder that knows them.

    Example::

        gallery = Gallery.open("people.gallery", embedder)
        gallery.enroll("photos/")
        print(gallery.identify("who.jpg"))
    """

    def __init__(self, path: Path, embedder: deploy.Embedder) -> None:
        self.path, self.embedder = path, embedder

    @classmethod
    def open(cls, path: str | Path, embedder: deploy.Embedder) -> Gallery:
        """The gallery at `path`, a folder or an ``s3://`` prefix; where there is none, `enroll` begins one.

        Raises:
            UserError: a gallery of another model.
        """
        from facekd.gallery.gallery import Gallery as Table
        from facekd.gallery.meta import exists

        gallery = cls(Path(path), embedder)
        if exists(gallery.path):
            Table.open(gallery.path, embedder.model_id)
        return gallery

    def __len__(self) -> int:
        """How many people are enrolled."""
        from facekd.gallery.gallery import Gallery as Table
        from facekd.gallery.meta import exists

        return len(Table.open(self.path)) if exists(self.path) else 0

    @left_as_it_was()
    def enroll(
        self,
        people: str | Path,
        *,
        root: str | Path | None = None,
        detector: DetectorName | None = None,
        weights: str | Path | None = None,
        min_face: int = 20,
        min_eyes: float | None = None,
        min_score: float | None = None,
        max_yaw: float | None = None,
        min_sharpness: float | None = None,
        threshold: float | None = None,
        suspect_threshold: float | None = None,
        accept_suspects: bool = False,
        replace: bool = False,
        dry_run: bool = False,
        quiet: bool = True,
    ) -> EnrollSummary:
        """Enroll people from a folder for each, a zip or tar of such, or a CSV; as ``facekd enroll`` does.

        Who is held back as a suspected mix-up, or has no photo that can be used, is not enrolled: a UserWarning says so
        and the summary, when printed, who and why.

        Raises:
            UserError: no people there, a gallery of another model, or a place that can't be written.
        """
        from facekd.commands.enroll import enroll_people
        from facekd.enrollment.asked import Enrolment, search_of
        from facekd.enrollment.gate import make_gate
        from facekd.enrollment.sources import read_people

        search = search_of(self.path, detector, None if weights is None else Path(weights), min_face)
        asked = Enrolment(
            people=Path(people),
            gallery=self.path,
            model=self.embedder.network.path,
            root=None if root is None else Path(root),
            search=search,
            gate=make_gate(search.detector, min_eyes, min_score, max_yaw, min_sharpness),
            threshold=threshold,
            suspect_threshold=suspect_threshold,
            accept_suspects=accept_suspects,
            replace=replace,
            dry_run=dry_run,
            quiet=quiet,
        )
        summary = enroll_people(asked, read_people(asked.people, asked.root), self.embedder)
        if summary.held_back or summary.not_enrolled:
            warnings.warn(
                f"{len(summary.held_back)} people were held back as suspected mix-ups and {len(summary.not_enrolled)} "
                "could not be enrolled; print the summary that enroll returns to see who and why",
                stacklevel=2,
            )
        return summary

    @left_as_it_was()
    def identify(
        self,
        photos: Photos,
        *,
        threshold: float | None = None,
        top: int = 1,
        where: Mapping[str, str] | None = None,
    ) -> Identification:
        """Who the faces in photos show; printed, a line for each face.

        Args:
            photos: as in `Embedder.embed_photos`, or a file of embeddings.
            threshold: cosine from which a person is named; without it the gallery's, else the model's strictest.
            top: how many of the most alike people to keep for each face.
            where: only people with this metadata.

        Raises:
            UserError: no gallery or nobody in it, no photo at a path, or no threshold is known.
        """
        from facekd.commands.identify import changed_weights, identify_embeddings, identify_photos, known_threshold
        from facekd.gallery.gallery import Gallery as Table

        home = Table.open(self.path, self.embedder.model_id)
        threshold = known_threshold(threshold, home, self.path, quiet=True)
        if isinstance(photos, str | Path) and Path(photos).suffix in (".parquet", ".npz"):
            return identify_embeddings(home, Path(photos), threshold, top, where)
        if note := changed_weights(home):
            warnings.warn(note, stacklevel=2)
        return identify_photos(home, _files(photos), self.embedder, threshold, top, where)

    def delete(self, person: str) -> bool:
        """Erase a person, every byte; returns whether they were enrolled.

        Raises:
            UserError: no gallery, or another process is writing it.
        """
        from facekd.commands.gallery import delete

        return bool(delete(str(self.path), person, quiet=True).enrolled)


def _files(photos: Photos) -> list[PhotoFile]:
    if isinstance(photos, str | Path):
        return list(photos_at(Path(photos)).photos)
    if is_held(photos):
        return [held(photos, "photo")]
    return [_file(one, place) for place, one in enumerate(photos)]  # type: ignore[arg-type]  # not one, so several


def _file(photo: Photo, place: int) -> PhotoFile:
    """One photo under the name it was given; in memory it has none but its place."""
    if is_held(photo):
        return held(photo, f"photos[{place}]")
    if not isinstance(photo, str | Path):
        raise TypeError(f"photos[{place}] is a {type(photo).__name__}: give a path, bytes, an array or an image")
    (found,) = one_photo(Path(photo)).photos
    return PhotoFile(found.root, found.member, str(photo), None)


def _answer(record: PhotoRecord, vectors: Array) -> EmbeddedPhoto:
    if record.status != "ok":
        empty = np.zeros((0, 4), np.float32)
        return EmbeddedPhoto(record.source, record.status, record.reason, vectors[:0], empty)
    boxes = np.array([crop["box"] for crop in record.crops], np.float32).reshape(-1, 4)
    return EmbeddedPhoto(record.source, "ok", "", vectors, boxes)
