"""YuNet, as OpenCV runs it.

W. Wu, H. Peng, S. Yu, "YuNet: a tiny millisecond-level face detector", Machine Intelligence Research 20, 2023.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from facekd.core.types import Array, Faces
from facekd.errors import UserError

SCORE = 0.7  # faces scored lower are dropped
OVERLAP = 0.3  # greatest intersection over union of two faces
CANDIDATES = 5000  # boxes that enter the suppression, best first
LONGEST = 1024  # longer photos are shrunk to it: YuNet was trained on faces up to about 300 pixels


def load(weights: Path, min_face: int = 20) -> Callable[[Array], Faces]:
    """A function from a photo to its faces, best first, by the YuNet of an ONNX file. Threads may share it.

    OpenCV is told to work on one core a call, in the whole process: the cores work on different photos.

    Args:
        weights: ``face_detection_yunet_2023mar.onnx`` of OpenCV's model zoo.
        min_face: faces whose longer side is shorter are dropped, in pixels of the photo.

    Raises:
        UserError: no such file, or not a YuNet.
    """
    if not weights.is_file():
        raise UserError(f"{weights}: no such file; give face_detection_yunet_2023mar.onnx of OpenCV's model zoo")
    cv2.setNumThreads(1)
    own = threading.local()  # OpenCV's detector keeps state from one call to the next: each thread has its own
    making = threading.Lock()  # OpenCV's log level, which _network changes for a moment, is the whole process's

    def detect_one(photo: Array) -> Faces:
        if not hasattr(own, "network"):
            with making:
                own.network = _network(weights)
        return _found(own.network, photo, min_face)

    try:
        detect_one(np.zeros((32, 32, 3), np.uint8))
    except cv2.error as error:
        raise UserError(
            f"{weights}: not a YuNet that OpenCV can run; give face_detection_yunet_2023mar.onnx of its model zoo"
        ) from error
    return detect_one


def _network(weights: Path) -> cv2.FaceDetectorYN:
    told = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)  # OpenCV 5 warns of its own default
    try:
        return cv2.FaceDetectorYN.create(str(weights), "", (32, 32), SCORE, OVERLAP, CANDIDATES)
    finally:
        cv2.utils.logging.setLogLevel(told)


def _found(network: cv2.FaceDetectorYN, photo: Array, min_face: int) -> Faces:
    height, width = photo.shape[:2]
    shrink = min(1.0, LONGEST / max(height, width))
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    pixels = cv2.cvtColor(photo, cv2.COLOR_RGB2BGR)
    if shrink < 1:
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    network.setInputSize(size)
    _, rows = network.detect(pixels)
    if rows is None:
        return Faces.none()
    # Rows: x y width height, five points, score. YuNet names its points from the person's side: the
    # "right" eye and mouth corner come first, which are those on the picture's left.
    back = np.array([width / size[0], height / size[1]], np.float32)
    corner, sides = rows[:, :2] * back, rows[:, 2:4] * back
    large = sides.max(axis=1) >= min_face
    boxes = np.concatenate([corner, corner + sides], axis=1)[large]
    return Faces(boxes, rows[large, 14], rows[large, 4:14].reshape(-1, 5, 2) * back)
