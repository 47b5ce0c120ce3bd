"""From detected faces to crops: which face, where it goes, how sharp it is."""

from __future__ import annotations

import math

import cv2
import numpy as np

from facekd.core.geometry import ARCFACE, similarity, template_points, warp
from facekd.core.suggest import nearest
from facekd.core.types import Array, Crop, Faces, Photo
from facekd.errors import UserError
from facekd.faces.detail import detail

CHOICES = ("largest", "center", "best", "all")
# A head seen from the front, in distances between the eyes: the template, made symmetric, and a nose whose tip stands
# 25 of the mean pupil distance of 63 mm before the plane of eyes and mouth (z points away from the viewer).
_MIRRORED = ARCFACE[[1, 0, 2, 4, 3]] * (-1, 1)
_FRONT = (ARCFACE + _MIRRORED) / 2  # x from the middle of the face
_HEAD = np.column_stack([_FRONT / np.linalg.norm(_FRONT[1] - _FRONT[0]), [0, 0, -0.4, 0, 0]])
_FROM_HEAD = np.linalg.pinv(_HEAD - _HEAD.mean(axis=0))


def choose(faces: Faces, shape: tuple[int, int], policy: str) -> list[int]:
    """Places in `faces` of those that become crops.

    Args:
        shape: height and width of the photo, px.
        policy: ``largest``: the most visible area; ``center``: nearest to the middle of the photo; ``best``: visible
            area - 2 * (distance to the middle)², so a large face near the middle; ``all``. Ties go to the first.
            Only the part of a box inside the photo counts: a passer-by cut off by its edge is not its subject.

    Source: ``best`` is the weighting that insightface's benchmarks choose by.

    Raises:
        UserError: another policy.
    """
    if policy not in CHOICES:
        raise UserError(f"--choose {policy!r} is no policy{nearest(policy, CHOICES)}")
    if len(faces) == 0:
        return []
    if policy == "all" or len(faces) == 1:
        return list(range(len(faces)))
    height, width = shape
    x1, y1, x2, y2 = faces.boxes.astype(np.float64).T
    visible = (x2.clip(0, width) - x1.clip(0, width)) * (y2.clip(0, height) - y1.clip(0, height))
    offset = ((x1 + x2 - width) / 2) ** 2 + ((y1 + y2 - height) / 2) ** 2
    value = {"largest": visible, "center": -offset, "best": visible - 2 * offset}[policy]
    return [int(np.argmax(value))]


def align_face(photo: Photo, box: Array, landmarks: Array, size: int = 112, template: str = "arcface") -> Crop:
    """The crop of one face: its five landmarks laid on the template by a similarity.

    Args:
        box: float32[4], px; its middle names the face within the photo.
        landmarks: float32[5, 2], px.

    Raises:
        ValueError: degenerate landmarks.
    """
    matrix = similarity(landmarks, template_points(template, size))
    pixels = warp(photo.pixels, matrix, size)
    return Crop(pixels, matrix, crop_id(photo.sha256, box), sharpness(pixels), detail(pixels))


def crop_id(sha256: str, box: Array) -> str:
    """A pure function of the photo's bytes and the face's place: ``<20 hex digits>-<x>-<y>`` of its middle, px."""
    x, y = (box[:2] + box[2:]) / 2
    return f"{sha256[:20]}-{round(float(x))}-{round(float(y))}"


def sharpness(pixels: Array) -> float:
    """Standard deviation of the Laplacian of a uint8[S, S, 3] crop's gray image: higher is sharper.

    Source: Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000.
    """
    return float(cv2.Laplacian(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), cv2.CV_64F).std())


def eye_distance(landmarks: Array) -> float:
    """Pixels of the photo between the eyes of float32[5, 2] landmarks: how much of the face the photo holds."""
    return float(np.linalg.norm(landmarks[1].astype(np.float64) - landmarks[0]))


def pose(landmarks: Array) -> tuple[float, float, float]:
    """Yaw, pitch and roll of a face in radians, estimated from float32[5, 2] landmarks alone.

    Zero is the template's view. Yaw is above zero for a face turned to the picture's right, pitch for one that looks
    down, roll for one tilted clockwise; roll is the angle of the line between the eyes. They tell a profile from a
    front view. Five points can't tell a low nose from a nod: a person's own pitch is off by up to some 20 degrees.

    Source: the first step of DeMenthon and Davis, "Model-based object pose in 25 lines of code", IJCV 15, 1995 (a
    scaled orthographic view of a known head), its two rows made orthogonal and equally long by an SVD.
    """
    points = landmarks.astype(np.float64)
    along = points[1] - points[0]
    roll = math.atan2(along[1], along[0])
    cosine, sine = math.cos(roll), math.sin(roll)
    upright = (points - points.mean(axis=0)) @ np.array([[cosine, -sine], [sine, cosine]])
    left, _, right = np.linalg.svd(upright.T @ _FROM_HEAD.T, full_matrices=False)
    x_axis, y_axis = left @ right  # of the picture, in the head's coordinates
    (x1, x2, x3), (y1, y2, y3) = x_axis.tolist(), y_axis.tolist()
    z1, z2, z3 = x2 * y3 - x3 * y2, x3 * y1 - x1 * y3, x1 * y2 - x2 * y1
    return math.asin(max(min(z1, 1.0), -1.0)), math.atan2(z2, z3), roll
