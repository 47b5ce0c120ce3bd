"""From photos to crops, some photos at a time: read, decode, detect, warp; a record for each, never an exception."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.core.process import set_torch_threads
from facekd.errors import UserError

if TYPE_CHECKING:
    from facekd.core.types import Array, Faces, Photo
    from facekd.crops.store import PhotoRecord
    from facekd.photos.find import PhotoFile

    Detector = Callable[[Sequence[Array]], list[Faces]]

BATCH = 16  # photos handed to a worker together
TOGETHER = 2**21  # pixels of decoded photos that wait for each other


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
