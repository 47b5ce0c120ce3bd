"""Five landmarks measured again, in the face's own box: MTCNN's O-Net as a second opinion on another detector's faces.

K. Zhang, Z. Zhang, Z. Li, Y. Qiao, "Joint face detection and alignment using multitask cascaded
convolutional networks", IEEE Signal Processing Letters 23(10), 2016. The weights are facenet-pytorch's; the file is
what ``mtcnn_nets.graph("onet", mtcnn_nets.read_weights("onet"))`` gives, kept so that torch is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facekd.core.types import Array

WEIGHTS = Path(__file__).parents[1] / "weights" / "mtcnn_onet.onnx"
SIZE = 48  # px of O-Net's input
TOGETHER = 4  # crops in one run: their intermediate results fit the core's own cache
SURE = float(np.log(0.7 / 0.3))  # least logit of "face"; under it O-Net knows no better than the detector
BEYOND = 3  # a box longer than as many photos is a mistake, and would cost as many photos' memory

Refine = Callable[[Array, Array, Array], Array]


def load_refiner() -> Refine:
    """``refine(photo, boxes, landmarks)``, as `refine` below. Threads may share it; one call keeps to one core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the cores work on different photos
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(WEIGHTS), options, providers=["CPUExecutionProvider"])
    return lambda photo, boxes, landmarks: refine(photo, boxes, landmarks, session)


def refine(photo: Array, boxes: Array, landmarks: Array, session: Any) -> Array:
    """float32[n, 5, 2]: the landmarks that O-Net sees in the square around each box, where it sees a face.

    Args:
        photo: uint8[H, W, 3] RGB.
        boxes: float32[n, 4], px; they may reach beyond the photo, where O-Net is shown black, as MTCNN's authors did.
        landmarks: float32[n, 5, 2], px: what stays where O-Net sees no face.
        session: of O-Net, see `mtcnn_nets.load_net`.
    """
    refined = landmarks.copy()
    squares = [_square(box) for box in boxes]
    longest = BEYOND * max(photo.shape[:2])
    places = [place for place, (_, _, side) in enumerate(squares) if 1 <= side <= longest]
    for start in range(0, len(places), TOGETHER):
        some = places[start : start + TOGETHER]
        pixels = np.stack([_pixels(photo, *squares[place]) for place in some]).astype(np.float32)
        found = session.run(None, {"pixels": np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))})[0]
        for place, row in zip(some, found, strict=True):
            if row[0] >= SURE:
                x, y, side = squares[place]
                refined[place] = row[5:].reshape(2, 5).T * side + (x, y)  # five x, five y -> five (x, y)
    return refined


def _square(box: Array) -> tuple[int, int, int]:
    """Left, top and side, in whole pixels, of the square around a box's middle that is as wide as its longer side."""
    x1, y1, x2, y2 = (float(value) for value in box)
    if not np.isfinite(box).all():
        return 0, 0, 0
    side = max(x2 - x1, y2 - y1)
    return round((x1 + x2 - side) / 2), round((y1 + y2 - side) / 2), round(side)


def _pixels(photo: Array, left: int, top: int, side: int) -> Array:
    """uint8[48, 48, 3]: a square of the photo, black beyond its edge, by area means."""
    height, width = photo.shape[:2]
    right, bottom = left + side, top + side
    seen = photo[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
    if seen.shape[:2] != (side, side):
        if not seen.size:
            return np.zeros((SIZE, SIZE, 3), np.uint8)
        edges = (max(-top, 0), max(bottom - height, 0), max(-left, 0), max(right - width, 0))
        seen = cv2.copyMakeBorder(seen, *edges, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return np.asarray(cv2.resize(seen, (SIZE, SIZE), interpolation=cv2.INTER_AREA))
