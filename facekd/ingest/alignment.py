"""From photos to crops, some photos at a time: read, decode, detect, warp; a record for each, never an exception."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from facekd.core.files import sha256_bytes
from facekd.core.pixels import encode_crop
from facekd.core.process import set_torch_threads
from facekd.core.types import Faces, Photo
from facekd.crops.records import AlignedCrop, PhotoRecord
from facekd.errors import UserError
from facekd.faces.align import align_face, eye_distance, pose
from facekd.faces.align import choose as choose_faces
from facekd.faces.cropped import detect_one
from facekd.faces.detect import Detect, load_detector
from facekd.faces.turned import detect_turned
from facekd.photos.decode import BadPhotoError, decode
from facekd.photos.find import PhotoFile, read_bytes
from facekd.settings.photos import FaceSearch

BATCH = 16  # photos handed to a worker together
TOGETHER = 2**21  # pixels of decoded photos that wait for each other


def align_batch(
    files: Sequence[PhotoFile],
    *,
    make_detector: Callable[[], Detect],
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


def _read_photo(file: PhotoFile, min_face: int) -> tuple[PhotoRecord, Photo | None]:
    """A photo's record, and the photo where there may be a face in it."""
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
        if not error.lasting:
            record.sha256 = None  # as if it had not been read, so that the next run tries again
        return record, None
    record.height, record.width = photo.pixels.shape[:2]
    if min(record.width, record.height) < min_face:
        record.status = "too_small"
        record.reason = f"{record.width}x{record.height} pixels can hold no face of {min_face}"
        return record, None
    return record, photo


def _align_photos(
    photos: Sequence[tuple[PhotoRecord, Photo]], detect: Detect, choose: str, size: int, turn: bool
) -> None:
    """Find the faces of decoded photos and put their crops into their records."""
    found = []
    for record, photo in photos:
        start = time.perf_counter()
        faces = detect([photo.pixels])[0]
        if len(faces) == 0 and turn:
            faces, record.turned = detect_turned(detect, photo.pixels)
        found.append(faces)
        record.seconds += time.perf_counter() - start
    for (record, photo), faces in zip(photos, found, strict=True):
        start = time.perf_counter()
        if len(faces):
            _add_crops(record, photo, faces, choose, size)
        else:
            record.status = "no_face"
            record.reason = "the detector found no face" + (", however the photo was turned" if turn else "")
        record.seconds += time.perf_counter() - start


def _add_crops(record: PhotoRecord, photo: Photo, faces: Faces, choose: str, size: int) -> None:
    """Turn the faces of one photo into the crops of its record."""
    record.boxes = faces.boxes.tolist()
    for place in choose_faces(faces, photo.pixels.shape[:2], choose):
        landmarks = faces.landmarks[place]
        try:
            crop = align_face(photo, faces.boxes[place], landmarks, size)
        except ValueError as error:
            record.reason = f"face {place}: {error}"
            continue
        if crop.crop_id in record.crop_ids:
            continue  # a box about the same middle: the same face again
        yaw, pitch, roll = pose(landmarks)
        record.chosen.append(place)
        record.crop_ids.append(crop.crop_id)
        record.crops.append(
            AlignedCrop(
                crop_id=crop.crop_id,
                image=encode_crop(crop.pixels),
                identity=record.identity,
                source=record.source,
                sha256=record.sha256,
                box=tuple(record.boxes[place]),
                landmarks=tuple(landmarks.ravel().tolist()),
                matrix=tuple(crop.matrix.ravel().tolist()),
                score=float(faces.scores[place]),
                quality=crop.quality,
                eyes=eye_distance(landmarks),
                yaw=yaw,
                pitch=pitch,
                roll=roll,
                detail=crop.detail,
            )
        )
    record.status = "ok" if record.crops else "no_face"


def detector_of(search: FaceSearch) -> Detect:
    """This process's detector, loaded once.

    Raises:
        UserError: weights that the detector can't use, or doesn't want.
    """
    detector = _loaded(search.detector_name, search.weights, search.min_face)
    if search.detector == "facenet":  # torch runs it, and an earlier command's threads ended with that command
        set_torch_threads(1)
    return detector


@functools.lru_cache(maxsize=4)
def _loaded(name: str, weights: Path | None, min_face: int) -> Detect:
    if name != "none":
        return load_detector(name, min_face=min_face, weights=weights, threads=1)
    if weights is not None:
        raise UserError(f"--detector none needs no weights; leave {weights} out or use --detector yunet")
    return lambda photos: [detect_one(photo) for photo in photos]
