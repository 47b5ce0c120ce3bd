"""facekd align: photos in, crops and a ledger out; no photo is lost on the way."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from facekd.core.run import default_out, start_run
from facekd.errors import UserError
from facekd.stages.console import progress, say, table

if TYPE_CHECKING:
    from facekd.core.types import Array, Faces, Photo
    from facekd.crops.store import CropStore, PhotoRecord
    from facekd.photos.find import PhotoFile

    Detector = Callable[[Sequence[Array]], list[Faces]]

BATCH = 16  # photos detected together
PART = 512  # photos in a part of the store: what a kill can cost
DetectorName = Literal["mtcnn", "facenet", "yunet", "none"]
Choice = Literal["largest", "centre", "best", "all"]


@dataclass(frozen=True, slots=True)
class AlignSummary:
    """What became of the photos."""

    out: Path
    photos: int
    new: int  # aligned by this run; the others were done before
    statuses: dict[str, int]
    others: int  # files that are no photos by their name

    @property
    def failed(self) -> int:
        """Photos that gave no crop, duplicates aside."""
        return sum(count for status, count in self.statuses.items() if status not in ("ok", "duplicate"))

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0


def align(
    photos: Path,
    out: Path | None = None,
    *,
    detector: DetectorName = "mtcnn",
    weights: Path | None = None,
    min_face: int = 20,
    choose: Choice = "best",
    size: int = 112,
    quiet: bool = False,
) -> AlignSummary:
    """Find the faces in photos, warp each to a crop, and account for every photo.

    Running it again aligns only what is new or has changed. Exits with 1 when a photo gave no crop; the
    ledger says which and why.

    Example: facekd align photos/ crops/ --choose all

    Args:
        photos: A folder, zip or tar of photos; a folder per person names the identities, else LFW's
            Name_0001.jpg does.
        out: The crop store to write or to go on with.
        detector: mtcnn; facenet, facenet-pytorch's own slower driver of the same networks; yunet, OpenCV's;
            none, where each photo already is a crop.
        weights: The ONNX file of yunet.
        min_face: Smallest face looked for, pixels.
        choose: Which face of several becomes the crop: the largest, the one nearest to the middle (centre), the one
            that best combines both, or all.
        size: Side of a crop, pixels.
        quiet: Print nothing.
    """
    from facekd.crops.store import CropStore
    from facekd.engines.local import batches, cores, map_ordered
    from facekd.photos.find import find_photos

    if not 16 <= size <= 4096:
        raise UserError(f"--size {size}: a crop is from 16 to 4096 pixels wide, most often 112")
    found = find_photos(photos)
    make_detector = detector_maker(detector, weights, min_face)
    make_detector()  # wrong weights are the user's mistake: say so before the store is touched
    out = out or default_out("align")
    settings = {"detector": detector, "min_face": min_face, "choose": choose, "size": size, "template": "arcface"}
    store = CropStore.create(out, settings)
    config = {"photos": photos, "out": out, "weights": weights, **settings}
    config.pop("template")
    start_run(out, "align", config, inputs=(photos,))

    todo, known = _unfinished(found.photos, store)
    if len(todo) < len(found.photos):
        say(f"{out}: {len(found.photos) - len(todo)} of {len(found.photos)} photos are done already", quiet)
    function = partial(align_batch, make_detector=make_detector, choose=choose, min_face=min_face, size=size)
    results = map_ordered(function, batches(todo, BATCH), cores())
    part: list[PhotoRecord] = []
    for records in progress(results, len(todo), "align", quiet, unit=BATCH):
        part += [_as_duplicate(record, known) for record in records]
        if len(part) >= PART:
            store.append(part)
            part = []
    if part:
        store.append(part)
    summary = _summary(out, found.photos, len(todo), len(found.others), store)
    _print(summary, store, quiet)
    return summary


def align_batch(
    files: Sequence[PhotoFile],
    *,
    make_detector: Callable[[], Detector],
    choose: str,
    min_face: int,
    size: int,
) -> list[PhotoRecord]:
    """Read, decode, detect and warp some photos; one record each, never an exception for a bad photo."""
    from facekd.core.files import sha256_bytes
    from facekd.crops.store import PhotoRecord
    from facekd.photos.decode import BadPhotoError, decode
    from facekd.photos.find import read_bytes

    start = time.perf_counter()
    records: list[PhotoRecord] = []
    decoded: list[tuple[int, Photo]] = []
    for file in files:
        record = PhotoRecord(file.source, file.identity, "unreadable")
        records.append(record)
        try:
            data = read_bytes(file)
        except OSError as error:
            record.reason = str(error)
            continue
        record.sha256 = sha256_bytes(data)
        try:
            photo = decode(data, file.source)
        except BadPhotoError as error:
            record.status, record.reason = error.status, error.reason
            continue
        record.height, record.width = photo.pixels.shape[:2]
        if min(record.width, record.height) < min_face:
            record.status = "too_small"
            record.reason = f"{record.width}x{record.height} pixels can hold no face of {min_face}"
            continue
        decoded.append((len(records) - 1, photo))
    detect = make_detector()
    for (place, photo), faces in zip(decoded, detect([photo.pixels for _, photo in decoded]), strict=True):
        _fill(records[place], photo, faces, choose, size)
    seconds = (time.perf_counter() - start) / len(files)
    for record in records:
        record.seconds = seconds
    return records


def _fill(record: PhotoRecord, photo: Photo, faces: Faces, choose: str, size: int) -> None:
    """Turn the faces of one photo into the crops of its record."""
    from facekd.core.pixels import encode_crop
    from facekd.faces.align import align_face
    from facekd.faces.align import choose as choose_faces

    record.boxes = faces.boxes.tolist()
    if len(faces) == 0:
        record.status, record.reason = "no_face", "the detector found no face"
        return
    for place in choose_faces(faces, photo.pixels.shape[:2], choose):
        try:
            crop = align_face(photo, faces.boxes[place], faces.landmarks[place], size)
        except ValueError as error:
            record.reason = f"face {place}: {error}"
            continue
        record.chosen.append(place)
        record.crop_ids.append(crop.crop_id)
        record.crops.append(
            {
                "crop_id": crop.crop_id,
                "image": encode_crop(crop.pixels),
                "identity": record.identity,
                "source": record.source,
                "sha256": record.sha256,
                "box": faces.boxes[place].tolist(),
                "landmarks": faces.landmarks[place].ravel().tolist(),
                "matrix": crop.matrix.ravel().tolist(),
                "score": float(faces.scores[place]),
                "quality": crop.quality,
            }
        )
    record.status = "ok" if record.crops else "no_face"


def detector_maker(name: str, weights: Path | None, min_face: int) -> Callable[[], Detector]:
    """A function that gives each thread a detector of its own (OpenCV's is not thread-safe)."""
    if name == "none":
        return _already_cropped
    from facekd.faces.detect import load_detector

    own = threading.local()

    def make() -> Detector:
        if not hasattr(own, "detector"):
            own.detector = load_detector(name, min_face=min_face, weights=weights, threads=1)
        return own.detector  # type: ignore[no-any-return]

    return make


def _already_cropped() -> Detector:
    """The "detector" of photos that are crops: their landmarks are the template's, scaled to the photo."""
    import numpy as np

    from facekd.core.geometry import TEMPLATES
    from facekd.core.types import Faces

    def detect(photos: Sequence[Array]) -> list[Faces]:
        faces = []
        for pixels in photos:
            height, width = pixels.shape[:2]
            side = min(height, width)
            corner = np.array([(width - side) / 2, (height - side) / 2])
            points = (TEMPLATES["arcface"] + 0.5) * (side / 112) - 0.5 + corner
            box = np.array([[*corner, *(corner + side)]], np.float32)
            faces.append(Faces(box, np.ones(1, np.float32), points[None].astype(np.float32)))
        return faces

    return detect


def _unfinished(files: Sequence[PhotoFile], store: CropStore) -> tuple[list[PhotoFile], dict[str, PhotoRecord]]:
    """The photos that the ledger lacks or that have changed since, and the first photo with each digest."""
    from facekd.core.files import sha256_bytes
    from facekd.crops.store import PhotoRecord
    from facekd.photos.find import read_bytes

    rows = {row["source"]: row for row in store.ledger().to_pylist()}
    todo = []
    for file in files:
        row = rows.get(file.source)
        if row is not None:
            try:
                digest = sha256_bytes(read_bytes(file))
            except OSError:
                digest = None
            if digest == row["sha256"]:
                continue
            del rows[file.source]
        todo.append(file)
    kept = {row["sha256"]: row for row in rows.values() if row["status"] == "ok"}
    # A duplicate whose first photo has changed has to be aligned itself.
    orphans = [s for s, row in rows.items() if row["status"] == "duplicate" and row["sha256"] not in kept]
    todo += [file for file in files if file.source in set(orphans)]
    known = {
        digest: PhotoRecord(row["source"], row["identity"], "ok", crop_ids=row["crop_ids"])
        for digest, row in kept.items()
    }
    return todo, known


def _as_duplicate(record: PhotoRecord, known: dict[str, PhotoRecord]) -> PhotoRecord:
    """The record itself, or, for bytes seen before, a record that points to the first photo's crops."""
    if record.status != "ok" or record.sha256 is None:
        return record
    first = known.setdefault(record.sha256, record)
    if first is record:
        return record
    record.status, record.reason = "duplicate", f"the same bytes as {first.source}"
    record.crop_ids, record.crops = first.crop_ids, []
    return record


def _summary(out: Path, files: Sequence[PhotoFile], new: int, others: int, store: CropStore) -> AlignSummary:
    sources = {file.source for file in files}
    ledger = store.ledger().select(["source", "status"]).to_pylist()
    statuses = Counter(row["status"] for row in ledger if row["source"] in sources)
    assert sum(statuses.values()) == len(sources), "a photo has no ledger row"
    return AlignSummary(out, len(sources), new, dict(statuses), others)


def _print(summary: AlignSummary, store: CropStore, quiet: bool) -> None:
    rows = [[status, str(count)] for status, count in sorted(summary.statuses.items(), key=lambda item: -item[1])]
    table(f"{summary.photos} photos, {summary.new} aligned now → {summary.out}", ["status", "photos"], rows, quiet)
    if summary.others:
        say(f"{summary.others} other files were passed over: their names are no photos'", quiet)
    if summary.failed:
        bad = [r for r in store.ledger().to_pylist() if r["status"] not in ("ok", "duplicate")]
        for row in bad[:5]:
            say(f"  {row['source']}: {row['status']}, {row['reason']}", quiet)
        if len(bad) > 5:
            say(f"  … and {len(bad) - 5} more in {summary.out}/ledger", quiet)
