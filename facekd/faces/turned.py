"""A second look at photos that lie on their side or head."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from facekd.core.types import Array, Faces

QUARTERS = (1, 3, 2)  # a camera held upright is the most frequent reason, upside down the least


def detect_turned(detect: Callable[[Sequence[Array]], list[Faces]], photo: Array) -> tuple[Faces, int]:
    """The faces of a photo after it is turned by 90, 270 or 180 degrees, whichever gives the surest face.

    Args:
        detect: a detector.
        photo: uint8[H, W, 3] RGB in which it finds nothing.

    Returns:
        The faces in the coordinates of `photo` as it is, and by how many degrees it was turned counterclockwise: 0
        where no turn gives a face. Landmarks keep the order of a head that stands upright.
    """
    best, degrees = Faces.none(), 0
    for quarters in QUARTERS:
        found = detect([np.ascontiguousarray(np.rot90(photo, quarters))])[0]
        if len(found) and (len(best) == 0 or found.scores.max() > best.scores.max()):
            best, degrees = _turn_back(found, quarters, photo.shape[1], photo.shape[0]), 90 * quarters
    return best, degrees


def _turn_back(faces: Faces, quarters: int, width: int, height: int) -> Faces:
    """Faces found in a photo turned by `quarters`, in the coordinates of the photo of `width` and `height`."""
    corners = _points_back(faces.boxes.reshape(-1, 2, 2), quarters, width, height, pixel=0)
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    return Faces(boxes, faces.scores, _points_back(faces.landmarks, quarters, width, height, pixel=1))


def _points_back(points: Array, quarters: int, width: int, height: int, pixel: int) -> Array:
    """float32[..., 2] points turned back.

    Args:
        pixel: 1 for points that count from the middle of a pixel, as landmarks; 0 for edges, as boxes.
    """
    x, y = points[..., 0], points[..., 1]
    turned = {1: (width - pixel - y, x), 2: (width - pixel - x, height - pixel - y), 3: (y, height - pixel - x)}
    return np.stack(turned[quarters], axis=-1).astype(np.float32)
