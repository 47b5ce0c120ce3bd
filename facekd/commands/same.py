"""facekd same: do two photos, or a photo and an enrolled person, show the same person?"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from facekd.commands.identify import gallery_embedder, gallery_thresholds
from facekd.console import say
from facekd.core.choices import DetectorName
from facekd.core.printable import printable_line
from facekd.deploy.thresholds import model_thresholds, threshold_at
from facekd.enrollment.asked import check_threshold
from facekd.errors import UserError
from facekd.ingest.photos import Search, embed_batch, load_embedder
from facekd.photos.find import one_photo
from facekd.settings.door import door

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from facekd.core.types import Array
    from facekd.crops.store import PhotoRecord
    from facekd.deploy.embedder import Embedder
    from facekd.photos.find import PhotoFile

OneFace = Literal["largest", "centre", "best"]


@dataclass(frozen=True, slots=True)
class Side:
    """What was compared on one side: the face taken from a photo, or an enrolled person."""

    name: str  # the photo as it was given, or the person
    faces: int | None  # found in the photo; None of a person
    box: tuple[float, float, float, float] | None  # of the face taken: x1 y1 x2 y2, px; None of a person
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


@door
def same(
    photo: Path,
    other: Path,
    *,
    person: str | None = None,
    threshold: float | None = None,
    far: float | None = None,
    model: Path | None = None,
    contract: Path | None = None,
    detector: DetectorName | None = None,
    weights: Path | None = None,
    min_face: int | None = None,
    choose: OneFace = "best",
    json: bool = False,
    quiet: bool = False,
) -> Same:
    """Say whether two photos show the same person: score, threshold and verdict.

    Exits with 0 for the same person, 1 for different people, and 2 where that can't be told: no face in a photo, no
    such file, no threshold. A score is a cosine: 1 for the same picture, about 0 for strangers.

    What a FAR promises holds for pairs like those it was measured on: adults, mostly people of public life, women with
    men as well. Two people of one sex and one origin match more often, and children far more: where 1 in 100 pairs of
    men match, 10 to 23 in 100 pairs of boys under twenty do, and about half or more of those under three, with every
    network tried. Don't rely on a verdict about children.

    Example: facekd same a.jpg b.jpg

    Example: facekd same visitor.jpg staff.gallery --person Anna

    Args:
        photo: A photo.
        other: Another photo; or a gallery that 'facekd enroll' made, for --person.
        person: Who of the gallery the photo is compared with.
        threshold: Cosine from which it is the same person; without it the network's own at --far.
        far: Which of the network's calibrated thresholds: the share of pairs of strangers that pass for one person. Not
            given: 0.001, or what the network has that is strictest where it has none so strict.
        model: Run folder or ONNX file; facekd's own network unless given, a gallery's own where it has moved.
        contract: What an ONNX model expects of a crop, where facekd does not know it.
        detector: yunet, mtcnn, facenet; none, where each photo already is a crop. A gallery has its own.
        weights: Another ONNX file of yunet than the one that comes with facekd.
        min_face: Smallest face looked for, pixels; 20 unless given. A gallery has its own.
        choose: Which face of several in a photo is compared.
        json: Print the answer as one JSON object.
        quiet: Print nothing; the exit code tells.
    """
    check_threshold(threshold)
    if threshold is not None and far is not None:
        raise UserError("--threshold and --far both say where the same person begins; give one of them")
    if person is None and not _is_gallery(other):
        search = Search(choose=choose) if detector is None else Search(detector, choose=choose)
        search = replace(search, weights=weights, min_face=search.min_face if min_face is None else min_face)
        result = _two_photos(photo, other, threshold, far, _loaded(model, contract), search)
    else:
        given = {"--contract": contract, "--detector": detector, "--weights": weights, "--min-face": min_face}
        for flag, value in given.items():
            if value is not None:
                raise UserError(f"{flag} {value}: {other} looks for faces as at the enrollment; leave {flag} out")
        result = _with_person(photo, other, person, threshold, far, model, choose)
    _print(result, choose, json, quiet)
    return result


def one_in(far: float) -> str:
    """A FAR in words: ``1 in 1,000``."""
    return f"1 in {round(1 / far):,}" if far <= 0.5 else f"{100 * far:.0f} in 100"


def _two_photos(
    photo: Path, other: Path, threshold: float | None, far: float | None, embedder: Embedder, search: Search
) -> Same:
    path = embedder.network.path
    threshold, far = _threshold(threshold, far, model_thresholds(path, embedder.contract), path)
    (a, vector_a), (b, vector_b) = _faces([photo, other], embedder, search)
    return _answer(a, b, vector_a, vector_b, threshold, far, embedder)


def _with_person(
    photo: Path,
    gallery: Path,
    person: str | None,
    threshold: float | None,
    far: float | None,
    model: Path | None,
    choose: OneFace,
) -> Same:
    from facekd.gallery.gallery import Gallery

    if person is None:
        raise UserError(f"{gallery}: is a gallery; say with --person whom of it to compare, or ask 'facekd identify'")
    home = Gallery.open(gallery)
    meta = home.meta
    threshold, far = _threshold(threshold, far, gallery_thresholds(meta), gallery)
    enrolled = home.people([person]).get(person)
    if enrolled is None:
        raise UserError(
            f"{gallery}: nobody called {printable_line(person)} is enrolled; 'facekd gallery info {gallery} --people' "
            "lists who is"
        )
    embedder = gallery_embedder(home, model)
    weights = None if meta.weights is None else Path(meta.weights)
    search = Search(meta.detector, weights, meta.min_face, choose)  # type: ignore[arg-type]  # enroll wrote the name
    ((side, vector),) = _faces([photo], embedder, search)
    result = _answer(side, Side(person, None, None, None), vector, enrolled.template, threshold, far, embedder)
    home.note("same", photos=1, same=result.same, threshold=threshold)
    return result


def _threshold(
    given: float | None, far: float | None, known: Mapping[float, float], whose: Path
) -> tuple[float, float | None]:
    return (given, None) if given is not None else threshold_at(known, far, whose, "--threshold")


def _faces(photos: Sequence[Path], embedder: Embedder, search: Search) -> list[tuple[Side, Array]]:
    """The face taken from each photo, and its embedding, float32[D].

    Raises:
        UserError: a path that is no photo, or one that gives no embedding.
    """
    search.check()
    records = embed_batch(
        [_file(path) for path in photos],
        make_embedder=lambda: embedder,
        make_detector=search.maker(),
        choose=search.choose,
        min_face=search.min_face,
    )
    return [(_side(path, record), vectors[0]) for path, (record, vectors) in zip(photos, records, strict=True)]


def _side(path: Path, record: PhotoRecord) -> Side:
    if record.status != "ok":
        raise UserError(f"{path}: {record.status}, {record.reason}; give a photo that shows a face")
    return Side(str(path), len(record.boxes), tuple(record.crops[0]["box"]), record.sha256)


def _answer(a: Side, b: Side, left: Array, right: Array, threshold: float, far: float | None, by: Embedder) -> Same:
    score = max(-1.0, min(1.0, float(left @ right)))
    return Same(score >= threshold, score, threshold, far, str(by.network.path), by.model_id, a, b)


def _loaded(model: Path | None, contract: Path | None) -> Embedder:
    from facekd.deploy.default import default_model

    return load_embedder(model or default_model(), contract)


def _is_gallery(path: Path) -> bool:
    """Whether it is one; a folder that is none is left to `_file`, which says so."""
    if not path.is_dir() and not str(path).startswith("s3:"):
        return False
    from facekd.gallery.meta import exists

    return exists(path) or str(path).startswith("s3:")


def _file(path: Path) -> PhotoFile:
    if path.is_dir():
        raise UserError(
            f"{path}: a folder, where a photo is wanted; give a photo, and after it another or a gallery and --person"
        )
    (found,) = one_photo(path).photos
    return found


def _print(result: Same, choose: OneFace, json: bool, quiet: bool) -> None:
    for side in (result.a, result.b):
        if side.faces is not None and side.faces > 1 and side.box is not None:
            place = " ".join(f"{value:.0f}" for value in side.box)
            say(
                f"{printable_line(side.name)}: {side.faces} faces; took {place} (x1 y1 x2 y2, --choose {choose})", quiet
            )
    if result.a.sha256 == result.b.sha256:
        say("both are the same file: the score says nothing about the person", quiet)
    if not quiet:
        print(_as_json(result) if json else result)


def _as_json(result: Same) -> str:
    return json.dumps(asdict(result), allow_nan=False)
