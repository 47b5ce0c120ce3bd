"""The "detector" of photos that are crops already: every photo is one face, its landmarks the template's."""

from __future__ import annotations

import numpy as np

from facekd.core.geometry import template_points
from facekd.core.types import Array, Faces


def detect_one(photo: Array) -> Faces:
    """The one face of a uint8[H, W, 3] photo: its largest square about the middle, taken for an ArcFace crop."""
    height, width = photo.shape[:2]
    side = min(height, width)
    corner = np.array([(width - side) / 2, (height - side) / 2])
    box = np.array([[*corner, *(corner + side)]], np.float32)
    points = template_points("arcface", side) + corner
    return Faces(box, np.ones(1, np.float32), points[None].astype(np.float32))
