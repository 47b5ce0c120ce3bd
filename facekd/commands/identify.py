"""facekd identify: photos in, the names of the people in them out, or that they are unknown."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekd.console import progress, say, table
from facekd.core.printable import printable_line
from facekd.enrollment.asked import check_threshold
from facekd.enrollment.report import Names, write_table
from facekd.errors import UserError
from facekd.ingest.photos import Search, embed_photos, in_batches, load_embedder, photos_at
from facekd.settings.door import door

if TYPE_CHECKING:
    import pyarrow as pa

    from facekd.core.types import Embeddings
    from facekd.crops.store import PhotoRecord
    from facekd.deploy.embedder import Embedder
    from facekd.gallery.gallery import Gallery
    from facekd.gallery.meta import GalleryMeta
    from facekd.photos.find import PhotoFile

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
    # The most alike people and their scores, the most alike first; none where only one was asked for and the face is
    # unknown: who is merely the nearest is nobody's business.
    candidates: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Identification:
    """Every face of the photos, and the photos without one."""

    threshold: float
    faces: tuple[IdentifiedFace, ...]
    without: tuple[tuple[str, str, str], ...]  # photos that gave no face: source, status, reason

    @property
    def exit_code(self) -> int:
        return 1 if any(status in UNREADABLE for _, status, _ in self.without) else 0

    def __str__(self) -> str:
        lines = [
            f"{printable_line(face.source)}: {printable_line(face.person)}, score {face.score:.4f}"
            if face.person is not None
            else f"{printable_line(face.source)}: unknown, the nearest score is {face.score:.4f}"
            for face in self.faces
        ]
        return "\n".join(lines + [f"{printable_line(source)}: {status}, {why}" for source, status, why in self.without])


@door
def identify(
    gallery: Path,
    photos: Path,
    *,
    model: Path | None = None,
    threshold: float | None = None,
    top: int = 1,
    where: list[str] | None = None,
    out: Path | None = None,
    private: bool = False,
    quiet: bool = False,
) -> Identification:
    """Name the people in photos: each face is compared with everybody in the gallery.

    A face whose score with the most alike person is under the threshold is unknown. Exits with 1 when a photo
    could not be read.

    Example: facekd identify staff.gallery visitors/ --threshold 0.42

    Args:
        gallery: A gallery that 'facekd enroll' made: its folder or s3:// prefix.
        photos: One photo; a folder, zip or tar of photos; or a .parquet or .npz of 'facekd embed'.
        model: Run folder or ONNX file of the gallery's model, where it has moved since the enrolment.
        threshold: Cosine from which a person is named; the gallery's own where not given.
        top: Show as many of the most alike people for each face, whatever their score.
        where: Only people with this metadata, as key=value; several have to hold together.
        out: Write the answers here too: .parquet or .csv, a row for each face and candidate.
        private: Print no name of a person or photo, only numbers; the file of --out has the names.
        quiet: Print nothing.
    """
    from facekd.gallery.gallery import Gallery

    check_threshold(threshold)
    if top < 1:
        raise UserError(f"--top {top}: give how many people to show for each face, at least 1")
    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise UserError(f"{out}: answers are written as .parquet or .csv; give a name that ends in one of these")
    asked = parse_where(where or [])
    home = Gallery.open(gallery)
    threshold = known_threshold(threshold, home, gallery, quiet)
    if photos.suffix in (".parquet", ".npz"):
        result = identify_embeddings(home, photos, threshold, top, asked)
    else:
        found = photos_at(photos).photos
        if note := changed_weights(home):
            say(note, quiet)
        result = identify_photos(home, found, gallery_embedder(home, model), threshold, top, asked, quiet)
    if out is not None:
        write_table(out, _rows(result))
    _print(result, out, top, private, quiet)
    return result


def parse_where(conditions: Sequence[str]) -> dict[str, str]:
    """``key=value`` each, as a mapping.

    Raises:
        UserError: one of another form, or a key twice.
    """
    found: dict[str, str] = {}
    for condition in conditions:
        key, equals, value = condition.partition("=")
        if not key or not equals or key in found:
            raise UserError(f"--where {condition!r}: give key=value, each key once, such as --where office=Basel")
        found[key] = value
    return found


def known_threshold(given: float | None, home: Gallery, gallery: Path, quiet: bool) -> float:
    """The threshold given, else the one the gallery was enrolled with, else the model's strictest; never a guess.

    The model's is of one comparison. A search makes one with each person, which is said.

    Raises:
        UserError: none of these is there.
    """
    if given is not None:
        return given
    if home.meta.threshold is not None:
        return home.meta.threshold
    known = gallery_thresholds(home.meta)
    if known:
        far, people = min(known), len(home)
        say(
            f"threshold {known[far]:.4f}: the model's, calibrated to a FAR of {far:g} for one comparison; a face is "
            f"compared with {people} people, so a stranger looks like {far * people:.2g} of them by chance",
            quiet,
        )
        return known[far]
    raise UserError(
        f"{gallery}: no threshold is known, so nobody can be told from a stranger; take one at a FAR you accept from "
        "'facekd verify' on a pair list and give it with --threshold, here or to 'facekd enroll'"
    )


def gallery_thresholds(meta: GalleryMeta) -> dict[float, float]:
    """FAR -> cosine of one comparison: as the model had them at the enrollment, else as facekd carries them.

    Templates that were mapped from another model score otherwise: what facekd knows of the model says nothing of them.
    """
    from facekd.deploy.thresholds import known_thresholds

    return dict(meta.calibrated) or ({} if meta.mapped else known_thresholds(meta.contract))


def identify_embeddings(
    home: Gallery, path: Path, threshold: float, top: int = 1, where: Mapping[str, str] | None = None
) -> Identification:
    """Who the embeddings in a file of 'facekd embed' show.

    Raises:
        UserError: no such file, another model's embeddings, or nobody to be named.
    """
    from facekd.deploy.embeddings import read_embeddings

    embedded = read_embeddings(path)
    places = [(source, None) for source in embedded.sources]
    faces = tuple(_answers(home, embedded.embeddings, places, threshold, top, where))
    _note(home, threshold, faces, len(set(embedded.sources)))
    return Identification(threshold, faces, ())


def identify_photos(
    home: Gallery,
    photos: Sequence[PhotoFile],
    embedder: Embedder,
    threshold: float,
    top: int = 1,
    where: Mapping[str, str] | None = None,
    quiet: bool = True,
) -> Identification:
    """Who the faces in photos show; each face is looked for as it was at the enrolment.

    Raises:
        UserError: an embedder of another model than the gallery's, or nobody to be named.
    """
    import numpy as np

    from facekd.core.types import Embeddings

    search = _search(home.meta)
    search.check()
    embedded = progress(embed_photos(photos, embedder, search), len(photos), "identify", quiet)
    faces: list[IdentifiedFace] = []
    without: list[tuple[str, str, str]] = []
    for batch in in_batches(embedded, PHOTOS):
        without += [(record.source, record.status, record.reason) for record, _ in batch if record.status != "ok"]
        crops = list(_crops(record for record, _ in batch))
        if crops:
            vectors = np.concatenate([vectors for record, vectors in batch if record.status == "ok"])
            probes = Embeddings(vectors, tuple(crop["crop_id"] for crop in crops), embedder.model_id)
            places = [(crop["source"], tuple(crop["box"])) for crop in crops]
            faces += _answers(home, probes, places, threshold, top, where)
    _note(home, threshold, faces, len(photos))
    return Identification(threshold, tuple(faces), tuple(without))


def _search(meta: GalleryMeta) -> Search:
    """How the gallery's people were looked for, for all faces of a photo."""
    weights = None if meta.weights is None else Path(meta.weights)
    return Search(meta.detector, weights, meta.min_face, "all")  # type: ignore[arg-type]  # enroll wrote the name


def changed_weights(home: Gallery) -> str:
    """A sentence where the detector's weights are no longer those of the enrollment, or empty."""
    from facekd.gallery.meta import other_weights

    meta = home.meta
    if not other_weights(meta, _search(meta).weights_digest()):
        return ""
    return (
        f"{home.place}: its people were enrolled with other weights of {meta.detector} than those at hand (sha256 "
        f"{str(meta.weights_sha256)[:12]}…), which can lower every score; enroll everybody into a new gallery"
    )


def _crops(records: Iterable[PhotoRecord]) -> Iterator[dict[str, Any]]:
    for record in records:
        if record.status == "ok":
            yield from record.crops


def _answers(
    home: Gallery,
    probes: Embeddings,
    places: Sequence[tuple[str, tuple[float, ...] | None]],
    threshold: float,
    top: int,
    where: Mapping[str, str] | None,
) -> Iterator[IdentifiedFace]:
    """Who some probes show, in their order."""
    found = home.search(probes, top, where=where or None)
    if not all(found):
        home.identify(probes, threshold, where=where or None)  # says why nobody can be named
    for (source, box), crop_id, matches in zip(places, probes.ids, found, strict=True):
        best = matches[0]
        person = best.person_id if best.score >= threshold else None
        shown = matches if top > 1 or person is not None else []
        candidates = tuple((match.person_id, match.score) for match in shown)
        yield IdentifiedFace(source, crop_id, box, person, best.score, candidates)  # type: ignore[arg-type]  # 4 numbers


def _note(home: Gallery, threshold: float, faces: Sequence[IdentifiedFace], photos: int) -> None:
    named = sum(face.person is not None for face in faces)
    home.note("identify", photos=photos, faces=len(faces), named=named, threshold=threshold)


def gallery_embedder(home: Gallery, given: Path | None) -> Embedder:
    """The gallery's model, from where it was at the enrolment or from where it is `given`.

    Raises:
        UserError: it is not there any more, or another model was given.
    """
    from facekd.core.files import sha256_file, write_text
    from facekd.gallery.gallery import Gallery

    path = given or Path(home.meta.model)
    if given is None and not path.exists():
        raise UserError(f"{home.place}: its model is no longer at {path}; say where it is with --model")
    # A foreign ONNX file knows nothing of its contract: the gallery kept the one it was enrolled with.
    foreign = path.suffix == ".onnx" and path.exists() and sha256_file(path) == home.meta.contract.weights_sha256
    with tempfile.TemporaryDirectory(prefix="facekd-") as folder:
        contract = Path(folder) / "contract.json" if foreign else None
        if contract is not None:
            write_text(contract, home.meta.contract.to_json())
        embedder = load_embedder(path, contract)
    Gallery.open(home.place, embedder.model_id)
    return embedder


def _rows(result: Identification) -> pa.Table:
    """The answers as a pyarrow Table: a row for each face and candidate."""
    import pyarrow as pa

    corners = ("x1", "y1", "x2", "y2")
    texts = [(name, pa.string()) for name in ("source", "crop_id", "person", "candidate")]
    schema = pa.schema([*texts, ("rank", pa.int32()), ("score", pa.float64()), *((x, pa.float32()) for x in corners)])
    rows = []
    for face in result.faces:
        common = {"source": face.source, "crop_id": face.crop_id, "person": face.person}
        box = dict(zip(corners, face.box or (None,) * 4, strict=True))
        for rank, (candidate, score) in enumerate(face.candidates or [(None, face.score)], 1):
            rows.append({**common, "candidate": candidate, "rank": rank, "score": score, **box})
    return pa.Table.from_pylist(rows, schema)


def _print(result: Identification, out: Path | None, top: int, private: bool, quiet: bool) -> None:
    people = dict.fromkeys(name for face in result.faces for name, _ in face.candidates)
    photos = dict.fromkeys([*(face.source for face in result.faces), *(source for source, _, _ in result.without)])
    names = Names(private, list(people), list(photos))
    rows = []
    for face in result.faces[:SHOWN]:
        row = [
            names.photo(face.source),
            "–" if face.box is None else " ".join(f"{value:.0f}" for value in face.box),
            "unknown" if face.person is None else names.person(face.person),
            f"{face.score:.4f}",
        ]
        if top > 1:
            row.append("  ".join(f"{names.person(name)} {score:.4f}" for name, score in face.candidates))
        rows.append(row)
    known = sum(face.person is not None for face in result.faces)
    title = f"{known} of {len(result.faces)} faces named at threshold {result.threshold:.4f}"
    columns = ["photo", "face x1 y1 x2 y2", "person", "score"] + (["most alike"] if top > 1 else [])
    table(title, columns, rows, quiet)
    if len(result.faces) > SHOWN:
        where = f"{out} has all" if out else "--out FILE.parquet writes all"
        say(f"… and {len(result.faces) - SHOWN} more; {where}", quiet)
    if result.without:
        say(f"{len(result.without)} photos gave no face:", quiet)
        for source, status, reason in result.without[:SHOWN]:
            say(f"  {names.photo(source)}: {status}" + ("" if private else f", {reason}"), quiet)
        if len(result.without) > SHOWN:
            say(f"  … and {len(result.without) - SHOWN} more", quiet)
