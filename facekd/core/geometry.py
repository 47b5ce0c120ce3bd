"""Where a face lies in its crop: the five-point template, the similarity and the warp."""

from __future__ import annotations

import math

import cv2
import numpy as np

from facekd.core.types import Array

# insightface's five points for a 112x112 crop, in the order of Faces.landmarks.
ARCFACE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])
TEMPLATES = {"arcface": ARCFACE}


def template_points(template: str, size: int) -> Array:
    """float64[5, 2]: where the five landmarks lie in a crop of `size` pixels.

    A pixel's center has whole coordinates, so scaling is about the picture's corner at -0.5.
    """
    return (TEMPLATES[template] + 0.5) * (size / 112) - 0.5


def similarity(source: Array, target: Array) -> Array:
    """The least-squares similarity (rotation, scale, shift; no mirroring) from `source` to `target`.

    Args:
        source: float[n, 2], n >= 2 points that do not all coincide.
        target: float[n, 2].

    Returns:
        float64[2, 3] with ``target ~ matrix @ (x, y, 1)``.

    Raises:
        ValueError: points that are not finite, all coincide or are mirrored (no turn lays them on the target).

    Source: S. Umeyama, "Least-squares estimation of transformation parameters between two point
    patterns", PAMI 13(4), 1991; in the plane its solution has the closed form below.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("landmarks are not finite")
    source_mean, target_mean = source.mean(axis=0), target.mean(axis=0)
    s, t = source - source_mean, target - target_mean
    spread = (s**2).sum()
    if spread < 1e-9:
        raise ValueError("landmarks coincide")
    a = (s * t).sum() / spread  # scale * cos(angle)
    b = (s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum() / spread  # scale * sin(angle)
    if math.hypot(a, b) < 1e-6:
        raise ValueError("landmarks are mirrored")
    rotation = np.array([[a, -b], [b, a]])
    return np.column_stack([rotation, target_mean - rotation @ source_mean])


def warp(pixels: Array, matrix: Array, size: int) -> Array:
    """uint8[size, size, 3]: the photo seen through `matrix` (photo -> crop), black outside the photo.

    Where the photo is much larger than the crop, bilinear sampling alone would skip pixels; the photo is
    first shrunk by whole blocks (area average), so that every pixel counts.
    """
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    block = max(1, int(1 / scale + 1e-9))  # 7.999… is 8
    if block > 1:
        # Only the part of the photo that the crop sees is shrunk.
        inverse = cv2.invertAffineTransform(matrix)
        corners = np.array([[0, 0, 1], [size, 0, 1], [0, size, 1], [size, size, 1]], float) @ inverse.T
        height, width = pixels.shape[:2]
        x1, y1 = np.clip(np.floor(corners.min(axis=0)).astype(int) - block, 0, (width - 1, height - 1))
        x2, y2 = np.clip(np.ceil(corners.max(axis=0)).astype(int) + block, 1, (width, height))
        part = pixels[y1:y2, x1:x2]
        new_width, new_height = max(1, (x2 - x1) // block), max(1, (y2 - y1) // block)
        part = part[: new_height * block, : new_width * block]
        ratio_x, ratio_y = part.shape[1] / new_width, part.shape[0] / new_height
        pixels = cv2.resize(part, (new_width, new_height), interpolation=cv2.INTER_AREA)
        # small -> photo: x = (u + 0.5) * ratio - 0.5 + x1
        back = np.array([[ratio_x, 0, (ratio_x - 1) / 2 + x1], [0, ratio_y, (ratio_y - 1) / 2 + y1], [0, 0, 1]])
        matrix = matrix @ back
    return cv2.warpAffine(pixels, matrix, (size, size), flags=cv2.INTER_LINEAR)
