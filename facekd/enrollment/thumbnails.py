"""Small pictures of the faces in photos, for a page on which somebody looks at them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from facekd.core.pixels import encode_crop
from facekd.core.types import Array
from facekd.faces.align import choose
from facekd.faces.detect import Detect
from facekd.ingest.alignment import detector_of
from facekd.photos.decode import BadPhotoError, decode
from facekd.photos.find import PhotoFile, read_bytes
from facekd.settings.photos import FaceSearch

SIDE = 168  # px of a thumbnail
AROUND = 1.8  # sides of the square shown, in those of the face's box
GRAY = (128, 128, 128)  # where the photo ends


def thumbnails(files: Sequence[PhotoFile], search: FaceSearch) -> list[bytes | None]:
    """JPEGs of the faces that stand for some photos; None for a photo that can't be read any more."""
    return [_thumbnail(file, detector_of(search)) for file in files]


def _thumbnail(file: PhotoFile, detect: Detect) -> bytes | None:
    try:
        photo = decode(read_bytes(file), file.source).pixels
    except (OSError, BadPhotoError):
        return None
    height, width = photo.shape[:2]
    found = detect([photo])[0]
    box = found.boxes[choose(found, (height, width), "best")[0]] if len(found) else np.array([0, 0, width, height])
    return encode_crop(_around(photo, box.astype(np.float64)))


def _around(photo: Array, box: Array) -> Array:
    """uint8[SIDE, SIDE, 3]: the square around a box, float64[4] x1 y1 x2 y2, of a photo."""
    x1, y1, x2, y2 = box
    scale = SIDE / max(1, min(AROUND * max(x2 - x1, y2 - y1), max(photo.shape[:2])))
    shrunk = min(1.0, 2 * scale)  # first, so that no pixel is passed over
    if shrunk < 1:
        size = (max(1, round(photo.shape[1] * shrunk)), max(1, round(photo.shape[0] * shrunk)))
        photo = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    middle = np.array([x1 + x2, y1 + y2]) / 2
    matrix = np.column_stack([np.eye(2) * scale / shrunk, SIDE / 2 - scale * middle])
    small: Array = cv2.warpAffine(photo, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderValue=GRAY)
    return small
