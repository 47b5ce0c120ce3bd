"""YuNet, as OpenCV runs it.

W. Wu, H. Peng, S. Yu, "YuNet: a tiny millisecond-level face detector", Machine Intelligence Research 20, 2023.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from facekd.core.types import Array, Faces
from facekd.errors import UserError

SCORE = 0.7  # faces scored lower are dropped
OVERLAP = 0.3  # greatest intersection over union of two faces
CANDIDATES = 5000  # boxes that enter the suppression, best first
LONGEST = 1024  # longer photos are shrunk to it: YuNet was trained on faces up to about 300 pixels


def load(weights: Path, min_face: int = 20, threads: int | None = None) -> Callable[[Sequence[Array]], list[Faces]]:
    """A ``detect(photos)`` that runs the YuNet of an ONNX file; faces come best first.

    One such function serves one thread: OpenCV's detector keeps state between calls.

    Args:
        weights: ``face_detection_yunet_2023mar.onnx`` of OpenCV's model zoo.
        min_face: faces whose longer side is shorter are dropped, in pixels of the photo.
        threads: of OpenCV, for the whole process; None leaves them as they are.

    Raises:
        UserError: no such file, or not a YuNet.
    """
    if not weights.is_file():
        raise UserError(f"{weights}: no such file; give face_detection_yunet_2023mar.onnx of OpenCV's model zoo")
    if threads is not None:
        cv2.setNumThreads(threads)
    told = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of its own default
    try:
        network = cv2.FaceDetectorYN.create(str(weights), "", (32, 32), SCORE, OVERLAP, CANDIDATES)
        network.detect(np.zeros((32, 32, 3), np.uint8))
    except cv2.error as error:
        raise UserError(
            f"{weights}: not a YuNet that OpenCV can run; give face_detection_yunet_2023mar.onnx of its model zoo"
        ) from error
    finally:
        cv2.utils.logging.setLogLevel(told)

    def detect_one(photo: Array) -> Faces:
        height, width = photo.shape[:2]
        shrink = min(1.0, LONGEST / max(height, width))
        size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        pixels = cv2.cvtColor(photo, cv2.COLOR_RGB2BGR)
        if shrink < 1:
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        network.setInputSize(size)
        _, found = network.detect(pixels)
        if found is None:
            return Faces.none()
        # Rows: x y width height, five points, score. YuNet names its points from the person's side: the
        # "right" eye and mouth corner come first, which are those on the picture's left.
        back = np.array([width / size[0], height / size[1]], np.float32)
        corner, sides = found[:, :2] * back, found[:, 2:4] * back
        large = sides.max(axis=1) >= min_face
        boxes = np.concatenate([corner, corner + sides], axis=1)[large]
        return Faces(boxes, found[large, 14], found[large, 4:14].reshape(-1, 5, 2) * back)

    def detect(photos: Sequence[Array]) -> list[Faces]:
        # Photos of one size in a row: OpenCV prepares the network anew for each other size.
        found: list[Faces] = [Faces.none()] * len(photos)
        for index in sorted(range(len(photos)), key=lambda index: photos[index].shape):
            found[index] = detect_one(photos[index])
        return found

    return detect
