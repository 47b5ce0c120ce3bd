"""facekd identify: photos in, the names of the people in them out, or that they are unknown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.errors import UserError
from facekd.stages.console import say, table
from facekd.stages.embed import embed_photos, list_failed, photos_at
from facekd.stages.enroll import check_threshold

if TYPE_CHECKING:
    from facekd.core.types import Array
    from facekd.crops.store import PhotoRecord
    from facekd.deploy.embedder import Embedder
    from facekd.gallery.gallery import Gallery
    from facekd.gallery.meta import GalleryMeta

PHOTOS = 64  # photos whose faces are searched together
SHOWN = 50  # faces that the table shows
UNREADABLE = ("unreadable", "too_large")


@dataclass(frozen=True, slots=True)
class IdentifiedFace:
    """One face, and who it shows."""

    source: str  # the photo
    crop_id: str
    box: tuple[float, float, float, float] | None  # x1 y1 x2 y2, px; None where it came from a file of embeddings
    person: str | None  # None: unknown
    score: float  # cosine to the most alike person of the gallery, named or not


@dataclass(frozen=True, slots=True)
class Identification:
    """Every face of the photos, and the photos without one."""

    threshold: float
    faces: tuple[IdentifiedFace, ...]
    without: tuple[tuple[str, str, str], ...]  # photos that gave no face: source, status, reason

    @property
    def exit_code(self) -> int:
        return 1 if any(status in UNREADABLE for _, status, _ in self.without) else 0


def identify(
    gallery: Path,
    photos: Path,
    *,
    model: Path | None = None,
    threshold: float | None = None,
    out: Path | None = None,
    quiet: bool = False,
) -> Identification:
    """Name the people in photos: each face is compared with everybody in the gallery.

    A face whose score with the most alike person is under the threshold is unknown. Exits with 1 when a photo
    could not be read.

    Example: facekd identify staff.gallery visitors/ --threshold 0.42

    Args:
        gallery: A gallery that 'facekd enroll' made.
        photos: One photo; a folder, zip or tar of photos; or a .parquet or .npz of 'facekd embed'.
        model: Run folder or ONNX file of the gallery's model, where it has moved since the enrolment.
        threshold: Cosine from which a person is named; the gallery's own where not given.
        out: Write the answers here too: .parquet or .csv.
        quiet: Print nothing.
    """
    from facekd.gallery.gallery import Gallery

    check_threshold(threshold)
    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise UserError(f"{out}: answers are written as .parquet or .csv; give a name that ends in one of these")
    home = Gallery.open(gallery)
    threshold = _threshold(threshold, home.meta, gallery, quiet)
    if photos.suffix in (".parquet", ".npz"):
        result = _identify_embeddings(home, photos, threshold)
    else:
        result = _identify_photos(home, photos, model, threshold, quiet)
    if out is not None:
        _write(out, result)
    _print(result, out, quiet)
    return result


def _threshold(given: float | None, meta: GalleryMeta, gallery: Path, quiet: bool) -> float:
    """The threshold given, else the one the gallery was enrolled with, else the model's strictest; never a guess."""
    if given is not None:
        return given
    if meta.threshold is not None:
        return meta.threshold
    if meta.calibrated:
        far = min(meta.calibrated)
        say(f"threshold {meta.calibrated[far]:.4f}: the model's, calibrated to a FAR of {far:g}", quiet)
        return meta.calibrated[far]
    raise UserError(
        f"{gallery}: no threshold is known, so nobody can be told from a stranger; take one at a FAR you accept from "
        "'facekd verify' on a pair list and give it with --threshold, here or to 'facekd enroll'"
    )


def _identify_embeddings(home: Gallery, path: Path, threshold: float) -> Identification:
    from facekd.deploy.embeddings import read_embeddings

    embedded = read_embeddings(path)
    answers = home.identify(embedded.embeddings, threshold)
    faces = (
        IdentifiedFace(source, crop_id, None, answer.person_id, answer.score)
        for source, crop_id, answer in zip(embedded.sources, embedded.embeddings.ids, answers, strict=True)
    )
    return Identification(threshold, tuple(faces), ())


def _identify_photos(home: Gallery, photos: Path, model: Path | None, threshold: float, quiet: bool) -> Identification:
    meta = home.meta
    found = photos_at(photos)
    embedder = _load_model(home, model)
    embedded = embed_photos(
        found.photos,
        embedder,
        detector=meta.detector,  # type: ignore[arg-type]  # enroll wrote it from the same names
        weights=None if meta.weights is None else Path(meta.weights),
        min_face=meta.min_face,
        choose="all",
        label="identify",
        quiet=quiet,
    )
    faces: list[IdentifiedFace] = []
    without: list[tuple[str, str, str]] = []
    waiting: list[tuple[PhotoRecord, Array]] = []
    for record, vectors in embedded:
        if record.status != "ok":
            without.append((record.source, record.status, record.reason))
            continue
        waiting.append((record, vectors))
        if len(waiting) == PHOTOS:
            faces += _answers(home, waiting, embedder.model_id, threshold)
            waiting = []
    faces += _answers(home, waiting, embedder.model_id, threshold)
    return Identification(threshold, tuple(faces), tuple(without))


def _answers(
    home: Gallery, photos: Sequence[tuple[PhotoRecord, Array]], model_id: str, threshold: float
) -> list[IdentifiedFace]:
    """Who the faces of some photos show, in their order."""
    import numpy as np

    from facekd.core.types import Embeddings

    crops = [crop for record, _ in photos for crop in record.crops]
    if not crops:
        return []
    vectors = np.concatenate([vectors for _, vectors in photos])
    probes = Embeddings(vectors, tuple(crop["crop_id"] for crop in crops), model_id)
    answers = home.identify(probes, threshold)
    return [
        IdentifiedFace(crop["source"], crop["crop_id"], tuple(crop["box"]), answer.person_id, answer.score)
        for crop, answer in zip(crops, answers, strict=True)
    ]


def _load_model(home: Gallery, given: Path | None) -> Embedder:
    """The gallery's model, from where it was at the enrolment or from where it is `given`."""
    from facekd.core.files import sha256_file
    from facekd.deploy.embedder import Embedder
    from facekd.gallery.gallery import Gallery
    from facekd.gallery.meta import CONTRACT

    path = given or Path(home.meta.model)
    if given is None and not path.exists():
        raise UserError(f"{home.folder}: its model is no longer at {path}; say where it is with --model")
    # A foreign ONNX file knows nothing of its contract: the gallery kept the one it was enrolled with.
    foreign = path.suffix == ".onnx" and path.exists() and sha256_file(path) == home.meta.contract.weights_sha256
    embedder = Embedder.load(path, home.folder / CONTRACT if foreign else None)
    Gallery.open(home.folder, embedder.model_id)
    return embedder


def _write(out: Path, result: Identification) -> None:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet as pq

    from facekd.core.files import atomic_write

    corners = ("x1", "y1", "x2", "y2")
    fields = [("source", pa.string()), ("crop_id", pa.string()), ("person", pa.string()), ("score", pa.float64())]
    schema = pa.schema([*fields, *((corner, pa.float32()) for corner in corners)])
    rows = [{**asdict(face), **dict(zip(corners, face.box or (None,) * 4, strict=True))} for face in result.faces]
    answers = pa.Table.from_pylist(rows, schema)
    with atomic_write(out) as file:
        if out.suffix == ".csv":
            pyarrow.csv.write_csv(answers, file)
        else:
            pq.write_table(answers, file)


def _print(result: Identification, out: Path | None, quiet: bool) -> None:
    rows = [
        [
            face.source,
            "–" if face.box is None else " ".join(f"{value:.0f}" for value in face.box),
            "unknown" if face.person is None else face.person,
            f"{face.score:.4f}",
        ]
        for face in result.faces[:SHOWN]
    ]
    known = sum(face.person is not None for face in result.faces)
    title = f"{known} of {len(result.faces)} faces named at threshold {result.threshold:.4f}"
    table(title, ["photo", "face x1 y1 x2 y2", "person", "score"], rows, quiet)
    if len(result.faces) > SHOWN:
        where = f"{out} has all" if out else "--out FILE.parquet writes all"
        say(f"… and {len(result.faces) - SHOWN} more; {where}", quiet)
    if result.without:
        say(f"{len(result.without)} photos gave no face:", quiet)
        list_failed(result.without, quiet)
