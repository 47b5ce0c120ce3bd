"""The Python face of facekd: the embedder and the gallery in three lines.

For example:

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
from typing import TYPE_CHECKING

from facekd.core.process import left_as_it_was
from facekd.core.types import Array
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.thresholds import model_thresholds, threshold_at
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.photos import (
    EnrollDecision,
    EnrolledFaces,
    EnrollReport,
    FaceChoice,
    FaceSearch,
    ModelFile,
    QualityGate,
)

# What reads photos is loaded with the first of them: who embeds crops waits for none of it.
if TYPE_CHECKING:
    from facekd.enrollment.answers import Identification
    from facekd.enrollment.report import EnrollSummary
    from facekd.ingest.given import Photo, Photos
    from facekd.ingest.photos import EmbeddedPhoto


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


class Embedder(CropEmbedder):
    """A network ready to embed crops and photos; any thread and any forked process may use it.

    For example:

        embedder = Embedder.load("model.onnx")
        vectors = embedder.embed(crops)  # uint8[N, 112, 112, 3] RGB -> float32[N, D] of unit norm
        for photo in embedder.embed_photos("photos/"):
            print(photo.source, photo.status, photo.vectors.shape)
    """

    @door
    def embed_photos(self, photos: Photos, *, faces: FaceChoice = FaceChoice()) -> list[EmbeddedPhoto]:
        """Detect, align and embed; one answer for each photo, in order.

        Args:
            photos: a photo; a folder, zip or tar of photos; or several photos. A photo is a path, or in memory the
                bytes of a file, an open file, uint8[H, W, 3] RGB, uint8[H, W] or an image of Pillow. A ready embedding,
                float[D], may stand for a photo and comes back as it is; float[N, D] and `Embeddings` are several.
            faces: how faces are looked for; its fields may be given by name: detector, weights, min_face, choose.

        Raises:
            UserError: nothing at a path that was given alone, or weights that the detector can't use. A photo without
                a face is an answer, and so is one among several that can't be read.
            TypeError: what is no photo by its type.
        """
        from facekd.ingest.given import embed_given, items_of

        return list(embed_given(items_of(photos, self.model_id), self, faces, faces.choose))

    @door
    def stream(self, photos: Iterable[Photo], *, faces: FaceChoice = FaceChoice()) -> Iterator[EmbeddedPhoto]:
        """`embed_photos` of any number of photos, in order, with memory for a few of them.

        Args:
            photos: as in `embed_photos`, taken up to 32 for each core ahead of the answers; it need not end.
            faces: as in `embed_photos`.

        Raises:
            UserError: weights that the detector can't use.
        """
        from facekd.ingest.given import embed_given, item_of

        return embed_given((item_of(photo, place) for place, photo in enumerate(photos)), self, faces, faces.choose)

    @door
    def compare(
        self,
        photo_a: Photo,
        photo_b: Photo,
        *,
        threshold: float | None = None,
        far: float | None = None,
        faces: FaceSearch = FaceSearch(),
    ) -> Comparison:
        """Whether two photos show the same person, each by its large face near the middle.

        Args:
            photo_a: as in `embed_photos`.
            photo_b: the other, likewise.
            threshold: cosine from which they do; without it the model's calibrated one.
            far: the calibrated threshold of this FAR; without it 0.001, else the nearest that is stricter, else the
                strictest.
            faces: how faces are looked for; its fields may be given by name: detector, weights, min_face.

        Raises:
            UserError: no photo at a path, or no threshold is known.
        """
        from facekd.ingest.given import embed_given, file_of

        threshold, far = _decision(threshold, far, self.thresholds(), self.network.path)
        one, two = embed_given([file_of(photo, place) for place, photo in enumerate((photo_a, photo_b))], self, faces)
        failed = [f"{photo.source}: {photo.status}, {photo.reason}" for photo in (one, two) if not photo.ok]
        return _compared(one.vectors, two.vectors, threshold, far, "; ".join(failed))

    def thresholds(self) -> dict[float, float]:
        """FAR -> cosine that the model was calibrated to, its own or those that facekd carries; empty where none is."""
        if self._thresholds is None:  # a file is read for them
            self._thresholds = model_thresholds(self.network.path, self.contract)
        return dict(self._thresholds)

    _thresholds: dict[float, float] | None = None


def _decision(
    threshold: float | None, far: float | None, known: Mapping[float, float], whose: Path
) -> tuple[float, float | None]:
    """The cosine from which two photos show one person, and the FAR to which it is calibrated."""
    if threshold is None:
        return threshold_at(known, far, whose, "threshold=")
    if far is not None or not -1 <= threshold <= 1:
        raise UserError(f"threshold={threshold}: give a cosine from -1 to 1, and far only without it")
    return threshold, None


def _compared(one: Array, two: Array, threshold: float, far: float | None, reason: str) -> Comparison:
    """What is said of the first of float32[n, D] and of float32[m, D]."""
    score = float("-inf") if reason else float(one[0] @ two[0])
    return Comparison(score, threshold, far, score >= threshold, reason)


class Gallery:
    """Enrolled people and the embedder that knows them.

    It may stay open as long as a service runs: it always answers by what the gallery holds at that moment, whoever
    wrote it. Any thread may use it; one at a time may enroll or delete. A process that forks may open it before the
    fork, as it may load the embedder, but may use it only afterwards: the threads of LanceDB do not come along.

    For example:

        gallery = Gallery.open("people.gallery", embedder)
        gallery.enroll("photos/")
        print(gallery.identify("who.jpg"))
        print(gallery.verify("person-1", "who.jpg"))
    """

    def __init__(self, path: Path, embedder: CropEmbedder) -> None:
        from facekd.gallery.current import CurrentGallery

        self.path, self.embedder = path, embedder
        self._current = CurrentGallery(path, embedder.model_id)

    @classmethod
    def open(cls, path: str | Path, embedder: CropEmbedder) -> Gallery:
        """The gallery at `path`, a folder or an ``s3://`` prefix; where there is none, `enroll` begins one.

        Raises:
            UserError: a gallery of another model.
        """
        from facekd.gallery.meta import check_model, exists, read_meta
        from facekd.gallery.place import Place

        gallery = cls(Path(path), embedder)
        if exists(gallery.path):  # what is in it is read when it is first used, so that a process may fork before that
            check_model(Place.of(gallery.path), read_meta(gallery.path), embedder.model_id)
        return gallery

    def __len__(self) -> int:
        """How many people are enrolled."""
        from facekd.gallery.meta import exists

        return len(self._current.now()) if exists(self.path) else 0

    @door
    def enroll(
        self,
        people: Path | Mapping[str, Photos],
        *,
        root: Path | None = None,
        faces: EnrolledFaces = EnrolledFaces(),
        quality: QualityGate = QualityGate(),
        decision: EnrollDecision = EnrollDecision(),
        quiet: bool = True,
    ) -> EnrollSummary:
        """Enroll people from a folder for each, a zip or tar of such, or a CSV, or by id; as ``facekd enroll`` does.

        Of a mapping, each id has photos as in `Embedder.embed_photos`. Those in memory are called by their digest in
        ledgers, and of those that were not taken the gallery keeps no embedding.

        Who is held back as a suspected mix-up, or has no photo that can be used, is not enrolled: a UserWarning says so
        and the summary, when printed, who and why. The fields of `faces`, `quality` and `decision` may be given by
        name: detector, weights, min_face, min_eyes, min_score, max_yaw, min_sharpness, min_detail, threshold, fpir,
        false_alarms, suspect_threshold, decisions, accept_suspects, replace, change, dry_run.

        Raises:
            UserError: no people there, a gallery of another model, or a place that can't be written.
            BusyError: somebody else is writing the gallery.
        """
        from facekd.commands.enroll import enroll_people

        if isinstance(people, Mapping):
            from facekd.enrollment.sources import given_people

            if root is not None:
                raise UserError(f"root={root}: is for a CSV; leave it out")
        summary = enroll_people(
            given_people(people, self.embedder.model_id) if isinstance(people, Mapping) else people,
            self.path,
            self.embedder,
            root=root,
            network=ModelFile(model=self.embedder.network.path),
            faces=faces,
            quality=quality,
            decision=decision,
            output=EnrollReport(),
            quiet=quiet,
        )
        if summary.held_back or summary.not_enrolled:
            warnings.warn(
                f"{len(summary.held_back)} people were held back as suspected mix-ups and {len(summary.not_enrolled)} "
                "could not be enrolled; print the summary that enroll returns to see who and why",
                stacklevel=3,
            )
        return summary

    @left_as_it_was()
    def identify(
        self,
        photos: Photos,
        *,
        threshold: float | None = None,
        fpir: float | None = None,
        top: int = 1,
        where: Mapping[str, str] | None = None,
    ) -> Identification:
        """Who the faces in photos show; printed, a line for each face.

        Args:
            photos: as in `Embedder.embed_photos`, or a file of embeddings.
            threshold: cosine from which a person is named; without it that of the gallery's promise, which is higher
                for a face that looks like many people.
            fpir: another promise: the share of searches for a stranger that end with a name.
            top: how many of the most alike people to keep for each face.
            where: only people with this metadata.

        Raises:
            UserError: no gallery or nobody in it, no photo at a path, or no threshold is known.
        """
        from facekd.enrollment import identification as by
        from facekd.ingest.given import items_of

        home = self._current.now()
        named_from = by.known_threshold(threshold, home, self.path, quiet=True, fpir=fpir)
        if isinstance(photos, str | Path) and Path(photos).suffix in (".parquet", ".npz"):
            return by.identify_embeddings(home, Path(photos), named_from, top, where)
        if note := by.changed_weights(home):
            warnings.warn(note, stacklevel=2)
        return by.identify_photos(home, items_of(photos, home.meta.model_id), self.embedder, named_from, top, where)

    @left_as_it_was()
    def verify(
        self, person: str, photo: Photo, *, threshold: float | None = None, far: float | None = None
    ) -> Comparison:
        """Whether a photo shows an enrolled person, by its large face near the middle; noted in the audit log.

        Args:
            person: who it is said to be.
            photo: as in `Embedder.embed_photos`.
            threshold: as in `Embedder.compare`. One person is compared, so a threshold of one comparison decides.
            far: as in `Embedder.compare`.

        Raises:
            UserError: nobody of that name is enrolled, no gallery, no photo at a path, or no threshold is known.
        """
        from facekd.enrollment.calibration import gallery_thresholds
        from facekd.enrollment.person import enrolled_person
        from facekd.enrollment.request import search_in
        from facekd.ingest.given import embed_given, file_of

        home = self._current.now()
        threshold, far = _decision(threshold, far, gallery_thresholds(home.meta), self.path)
        template = enrolled_person(home, person).template
        (seen,) = embed_given([file_of(photo, 0)], self.embedder, search_in(home.meta))
        failed = "" if seen.ok else f"{seen.source}: {seen.status}, {seen.reason}"
        result = _compared(template[None], seen.vectors, threshold, far, failed)
        home.note("same", photos=1, same=result.same, threshold=threshold)
        return result

    def delete(self, person: str) -> bool:
        """Erase a person, every byte; returns whether they were enrolled.

        Raises:
            UserError: no gallery, or another process is writing it.
        """
        from facekd.commands.gallery import delete

        return bool(delete(str(self.path), person, quiet=True).enrolled)
