"""facekd align: photos in, crops and a ledger out; no photo is lost on the way."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from facekd.core.door import door, set_torch_threads
from facekd.core.run import default_out, start_run
from facekd.errors import UserError
from facekd.stages.console import progress, say, table

if TYPE_CHECKING:
    from facekd.core.types import Array, Faces, Photo
    from facekd.crops.store import CropStore, PhotoRecord
    from facekd.photos.find import PhotoFile

    Detector = Callable[[Sequence[Array]], list[Faces]]
    Records = list[PhotoRecord]
    Function = Callable[[Sequence[PhotoFile]], Records]

BATCH = 16  # photos handed to a worker together
TOGETHER = 2**21  # pixels of decoded photos that wait for each other
PART = 512  # photos in a part of the store: what a kill can cost
DetectorName = Literal["yunet", "mtcnn", "facenet", "none"]
DETECTOR: DetectorName = "yunet"  # where none is asked for and none was used before
Engine = Literal["local", "ray"]
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


@door
def align(
    photos: Path,
    out: Path | None = None,
    *,
    detector: DetectorName | None = None,
    weights: Path | None = None,
    min_face: int = 20,
    choose: Choice = "best",
    turn: bool = False,
    size: int = 112,
    engine: Engine = "local",
    address: str | None = None,
    show: int = 0,
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
        detector: yunet, unless OUT was begun with another; mtcnn, slower; facenet, facenet-pytorch's own driver of the
            same networks, slower still; none, where each photo already is a crop.
        weights: Another ONNX file of yunet's than the one that comes with facekd.
        min_face: Smallest face looked for, pixels.
        choose: Which face of several becomes the crop: the largest, the one nearest to the middle (centre), the one
            that best combines both, or all.
        turn: Where no face is found, look again in the photo turned by 90, 180 and 270 degrees.
        size: Side of a crop, pixels.
        engine: local, on the cores of this machine; ray, on a Ray cluster, with the same result.
        address: The cluster of ray, such as ray://HOST:10001 or auto; without it one is started here. Its machines
            need facekd, and the photos and weights at the same paths.
        show: Write OUT/show.html, to look at: as many of the first photos, the failures and the least certain.
        quiet: Print nothing.
    """
    from facekd.crops.store import CropStore
    from facekd.faces.detect import weights_digest
    from facekd.photos.find import find_photos

    if not 16 <= size <= 4096:
        raise UserError(f"--size {size}: a crop is from 16 to 4096 pixels wide, most often 112")
    if show < 0:
        raise UserError(f"--show {show}: give how many photos to show, such as 20")
    map_batches = _engine(engine, address)
    if engine == "ray":  # its workers run in other folders
        photos, weights = photos.absolute(), weights and weights.absolute()
    found = find_photos(photos)
    out = out or default_out("align")
    detector = detector or _detector_of(out)
    make_detector = detector_maker(detector, weights, min_face)
    make_detector()  # wrong weights are the user's mistake: say so before the store is touched
    made = {"detector": detector, "min_face": min_face, "choose": choose, "turn": turn, "size": size}
    digest = weights_digest(detector, weights)
    with CropStore.writing(out, {**made, "weights_sha256": digest, "template": "arcface"}) as store:
        how = {"engine": engine, "address": address, "show": show}
        start_run(out, "align", {"photos": photos, "out": out, "weights": weights, **made, **how}, inputs=(photos,))
        todo, known = _unfinished(found.photos, store)
        if len(todo) < len(found.photos):
            say(f"{out}: {len(found.photos) - len(todo)} of {len(found.photos)} photos are done already", quiet)
        function = partial(
            align_batch, make_detector=make_detector, choose=choose, min_face=min_face, size=size, turn=turn
        )
        part: list[PhotoRecord] = []
        for records in progress(map_batches(function, todo), len(todo), "align", quiet, unit=BATCH):
            part += [_as_duplicate(record, known) for record in records]
            if len(part) >= PART:
                store.append(part)
                part = []
        if part:
            store.append(part)
        summary = _summary(out, found.photos, len(todo), len(found.others), store)
        if show:
            from facekd.stages.align_show import write_sheet

            write_sheet(found.photos, store, show)
    _print(summary, store, quiet)
    if show:
        say(f"to look at: {out / 'show.html'}", quiet)
    return summary


def _detector_of(out: Path) -> DetectorName:
    """The detector of the store in `out`, the default where there is none yet."""
    from facekd.crops.store import CropStore

    if not (out / "store.json").is_file():
        return DETECTOR
    found: DetectorName = CropStore.open(out).settings.get("detector", DETECTOR)
    return found


def _engine(engine: Engine, address: str | None) -> Callable[[Function, Sequence[PhotoFile]], Iterator[Records]]:
    """A function that maps another over photos, BATCH of them at a time, in their order."""
    from facekd.engines import local

    if engine == "local":
        if address is not None:
            raise UserError(f"--address {address} is of a Ray cluster; add --engine ray or leave it out")
        return lambda function, files: local.map_ordered(function, local.batches(files, BATCH), local.cores())
    try:
        from facekd.engines import ray
    except ModuleNotFoundError as error:
        raise UserError("--engine ray needs Ray; install it with: pip install 'facekd[ray]'") from error
    if address is not None:
        ray.reach(address)
    return lambda function, files: ray.map_ordered(function, local.batches(files, BATCH), address)


def align_batch(
    files: Sequence[PhotoFile],
    *,
    make_detector: Callable[[], Detector],
    choose: str,
    min_face: int,
    size: int,
    turn: bool = False,
) -> list[PhotoRecord]:
    """Read, decode, detect and warp some photos; one record each, never an exception for a bad photo.

    Small photos go through each step together, since a step that is repeated finds its code and tables in the core's
    cache; a worker's memory holds no more than TOGETHER pixels and one photo.
    """
    detect = make_detector()
    records: list[PhotoRecord] = []
    waiting: list[tuple[PhotoRecord, Photo]] = []
    for file in files:
        start = time.perf_counter()
        record, photo = _read_photo(file, min_face)
        record.seconds = time.perf_counter() - start
        records.append(record)
        if photo is not None:
            waiting.append((record, photo))
            if sum(one.pixels.size for _, one in waiting) > 3 * TOGETHER:
                _align_photos(waiting, detect, choose, size, turn)
                waiting = []
    _align_photos(waiting, detect, choose, size, turn)
    return records


def _align_photos(
    photos: Sequence[tuple[PhotoRecord, Photo]], detect: Detector, choose: str, size: int, turn: bool
) -> None:
    """Find the faces of decoded photos and put their crops into their records."""
    found = []
    for record, photo in photos:
        start = time.perf_counter()
        found.append(_find_faces(record, photo, detect, turn))
        record.seconds += time.perf_counter() - start
    for (record, photo), faces in zip(photos, found, strict=True):
        start = time.perf_counter()
        if len(faces):
            _fill(record, photo, faces, choose, size)
        record.seconds += time.perf_counter() - start


def _read_photo(file: PhotoFile, min_face: int) -> tuple[PhotoRecord, Photo | None]:
    """A photo's record, and the photo where there may be a face in it."""
    from facekd.core.files import sha256_bytes
    from facekd.crops.store import PhotoRecord
    from facekd.photos.decode import BadPhotoError, decode
    from facekd.photos.find import read_bytes

    record = PhotoRecord(file.source, file.identity, "unreadable")
    try:
        data = read_bytes(file)
    except OSError as error:
        record.reason = str(error)
        return record, None
    record.sha256 = sha256_bytes(data)
    try:
        photo = decode(data, file.source)
    except BadPhotoError as error:
        record.status, record.reason = error.status, error.reason
        return record, None
    record.height, record.width = photo.pixels.shape[:2]
    if min(record.width, record.height) < min_face:
        record.status = "too_small"
        record.reason = f"{record.width}x{record.height} pixels can hold no face of {min_face}"
        return record, None
    return record, photo


def _find_faces(record: PhotoRecord, photo: Photo, detect: Detector, turn: bool) -> Faces:
    """The faces of a photo; where there is none its record says so."""
    from facekd.faces.turned import detect_turned

    faces = detect([photo.pixels])[0]
    if len(faces) == 0 and turn:
        faces, record.turned = detect_turned(detect, photo.pixels)
    if len(faces) == 0:
        record.status = "no_face"
        record.reason = "the detector found no face" + (", however the photo was turned" if turn else "")
    return faces


def _fill(record: PhotoRecord, photo: Photo, faces: Faces, choose: str, size: int) -> None:
    """Turn the faces of one photo into the crops of its record."""
    from facekd.core.pixels import encode_crop
    from facekd.faces.align import align_face, eye_distance, pose
    from facekd.faces.align import choose as choose_faces

    record.boxes = faces.boxes.tolist()
    for place in choose_faces(faces, photo.pixels.shape[:2], choose):
        try:
            crop = align_face(photo, faces.boxes[place], faces.landmarks[place], size)
        except ValueError as error:
            record.reason = f"face {place}: {error}"
            continue
        if crop.crop_id in record.crop_ids:
            continue  # a box about the same middle: the same face again
        yaw, pitch, roll = pose(faces.landmarks[place])
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
                "eyes": eye_distance(faces.landmarks[place]),
                "yaw": yaw,
                "pitch": pitch,
                "roll": roll,
            }
        )
    record.status = "ok" if record.crops else "no_face"


def detector_maker(name: str, weights: Path | None, min_face: int) -> Callable[[], Detector]:
    """A function that gives this process's detector, loaded once; it can be sent to another process."""
    return partial(_detector, name, weights, min_face)


def _detector(name: str, weights: Path | None, min_face: int) -> Detector:
    detector = _loaded(name, weights, min_face)
    if name == "facenet":  # torch runs it, and an earlier command's threads ended with that command
        set_torch_threads(1)
    return detector


@functools.lru_cache(maxsize=4)
def _loaded(name: str, weights: Path | None, min_face: int) -> Detector:
    if name == "none":
        from facekd.faces.cropped import detect_one

        if weights is not None:
            raise UserError(f"--detector none needs no weights; leave {weights} out or use --detector yunet")
        return lambda photos: [detect_one(photo) for photo in photos]
    from facekd.faces.detect import load_detector

    return load_detector(name, min_face=min_face, weights=weights, threads=1)


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
    orphans = {s for s, row in rows.items() if row["status"] == "duplicate" and row["sha256"] not in kept}
    todo += [file for file in files if file.source in orphans]
    known = {
        digest: PhotoRecord(row["source"], row["identity"], "ok", crop_ids=row["crop_ids"])
        for digest, row in kept.items()
    }
    return todo, known


def _as_duplicate(record: PhotoRecord, known: dict[str, PhotoRecord]) -> PhotoRecord:
    """The record itself, or, for bytes seen before, a record that points to the first photo's crops."""
    from facekd.crops.store import PhotoRecord

    if record.status != "ok" or record.sha256 is None:
        return record
    first = known.get(record.sha256)
    if first is None:
        # Without its crops: these may go once they are written, however many photos there are.
        known[record.sha256] = PhotoRecord(record.source, record.identity, "ok", crop_ids=record.crop_ids)
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
