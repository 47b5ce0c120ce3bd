"""Spectacles, drawn over the lit image."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from facekd.core.types import Array
from facekd.photos.synth.people import STYLES, DrawnPerson
from facekd.photos.synth.shots import Shot

# Half width, half height, squareness, thickness, linear RGB.
FRAMES = (
    (0.235, 0.16, 2.0, 0.016, (0.02, 0.02, 0.02)),
    (0.25, 0.17, 3.5, 0.034, (0.012, 0.012, 0.014)),
    (0.24, 0.13, 4.0, 0.026, (0.1, 0.04, 0.02)),
    (0.22, 0.2, 2.0, 0.014, (0.45, 0.36, 0.18)),
    (0.245, 0.14, 2.8, 0.018, (0.3, 0.3, 0.32)),
    (0.27, 0.19, 2.6, 0.03, (0.16, 0.03, 0.04)),
)
SHIFT = 4  # bits behind the point of a polyline's coordinates


def draw(image: Array, p: DrawnPerson, shot: Shot, project: Callable[[Array], Array]) -> None:
    """Put spectacles on the face; `project` takes head points float[n, 3] to the photo."""
    half_w, half_h, power, thick, tint = FRAMES[p.frame]
    plane = 0.97 * p.depth + 0.07
    center_y = p.eye_y - 0.02
    middle = max(p.eye_x, half_w + 0.05)
    angle = np.linspace(0, 2 * np.pi, 41)
    cos, sin = np.cos(angle), np.sin(angle)
    rim_x = half_w * np.sign(cos) * np.abs(cos) ** (2 / power)
    rim_y = half_h * np.sign(sin) * np.abs(sin) ** (2 / power)
    mask = np.zeros(image.shape[:2], np.uint8)
    glass = np.zeros(image.shape[:2], np.uint8)
    width = max(1, round(thick * 2 * shot.scale))
    lines = []
    for side in (-1, 1):
        x = side * middle + rim_x
        rim = np.column_stack([x, center_y + rim_y, plane - 0.12 * x * x])
        lines.append(rim)
        cv2.fillPoly(glass, [_fixed(project(rim))], 255, cv2.LINE_AA, SHIFT)
        # The side piece shows only where the head does not hide it.
        if side * np.sin(shot.yaw) < 0.12:
            outer = middle + half_w
            hinge = np.array([[side * outer, center_y + 0.06, plane - 0.12 * outer**2]])
            ear = np.array([[side * (p.width + 0.03), center_y + 0.05, 0.12]])
            reach = 0.3 if STYLES[p.style][3] else 1.0  # long hair falls over it
            lines.append(hinge + (ear - hinge) * np.linspace(0, reach, 8)[:, None])
    inner = middle - half_w
    bridge = np.linspace(-inner, inner, 9)
    lines.append(np.column_stack([bridge, center_y + 0.05 + 0.03 * (1 - (bridge / inner) ** 2), np.full(9, plane)]))
    for line in lines:
        cv2.polylines(mask, [_fixed(project(line))], False, 255, width, cv2.LINE_AA, SHIFT)
    haze = (glass.astype(np.float32) / 255 * 0.06)[..., None]
    image *= 1 - haze
    image += haze * np.array(shot.ambient, np.float32) * 0.9
    weight = (mask.astype(np.float32) / 255)[..., None]
    shade = np.array(tint, np.float32) * (np.array(shot.ambient, np.float32) + 0.5)
    image += (shade - image) * weight


def _fixed(points: Array) -> Array:
    return np.round(points * (1 << SHIFT)).astype(np.int32)
