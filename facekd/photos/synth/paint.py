"""Eyes, brows, nostrils, lips, folds and glasses, painted pixel by pixel where the face is seen.

Each function changes `color` (linear RGB) in place inside its own patch. `x` and `y` give, for every pixel of the
patch, the head coordinates of the skin seen there; `soft` is the width of a pixel in head units, so that edges
are smooth.
"""

from __future__ import annotations

import numpy as np

from facekd.core.types import Array
from facekd.photos.synth.people import DrawnPerson
from facekd.photos.synth.shape import gauss
from facekd.photos.synth.shots import Shot
from facekd.photos.synth.skin import linear


def eye(color: Array, x: Array, y: Array, p: DrawnPerson, shot: Shot, side: int, soft: float) -> None:
    """One eye with its lids and lashes; `side` is -1 for the one on the picture's left, 1 for the other."""
    e, f = _turn((x - side * p.eye_x) * side, y - p.eye_y, p.eye_tilt)  # e runs outwards
    e = e / p.eye_w
    high = p.eye_open * shot.lids * (1 - 0.25 * p.hooded * np.clip(e, 0, 1))
    inside = np.clip(1 - np.abs(e) ** 2.3, 0, 1)
    upper = high * inside**0.75 * (1 - 0.14 * e)
    lower = -0.62 * p.eye_open * (1 - 0.3 * max(shot.smile, 0)) * inside**0.8 * (1 + 0.16 * e)
    fade = _edge(1.02 - np.abs(e), soft / p.eye_w)

    # The lid, its crease and the shade of the socket.
    lid = gauss(f - upper - 0.02, 0.03) * np.clip(1.25 - np.abs(e), 0, 1)
    _blend(color, lid, color * np.float32(0.84), 1)
    if shot.makeup > 0:
        _blend(color, lid, color * np.array([0.5, 0.4, 0.5], np.float32), 0.7 * shot.makeup)
    fold = f - high * 1.05 * np.clip(1 - (np.abs(e) / 1.2) ** 2.2, 0, 1) ** 0.8 - 0.018 - 0.028 * p.crease
    _blend(color, gauss(fold, 0.011) * np.clip(1.3 - np.abs(e), 0, 1), color * np.float32(0.35), 0.3 + 0.45 * p.crease)

    ball = _edge(upper - f, soft) * _edge(f - lower, soft) * fade
    white = np.array([0.66, 0.6, 0.57], np.float32) * (0.9 - 0.25 * np.abs(e)[..., None] ** 2)
    white = white * (1 - 0.45 * gauss(upper - f, 0.022))[..., None]
    _blend(color, ball, white, 1)
    corner = ball * np.clip((-e - 0.8) * 5, 0, 1)
    _blend(color, corner, np.array([0.45, 0.2, 0.17], np.float32), 0.8)
    gx = shot.gaze[0] * side * 0.6
    d = np.sqrt((e * p.eye_w - gx * p.eye_w * 0.9 + 0.004) ** 2 + (f - 0.006 - shot.gaze[1] * 0.08) ** 2)
    iris = linear(p.iris) * (0.75 + 0.7 * np.clip(d / p.iris_r, 0, 1) ** 2)[..., None]
    iris = iris * (1 - 0.65 * gauss(d - p.iris_r, 0.011))[..., None]
    iris = iris * (1 - 0.5 * gauss(upper - f, 0.018))[..., None]
    _blend(color, ball * _edge(p.iris_r - d, soft), iris, 1)
    _blend(color, ball * _edge(p.iris_r * 0.44 - d, soft), np.array([0.004, 0.004, 0.005], np.float32), 1)

    lash = 0.009 + 0.012 * p.lashes * (1 + 0.5 * shot.makeup) * (0.65 + 0.35 * np.clip(e, -1, 1))
    line = np.exp(-(((f - upper - 0.004) / lash) ** 2)) * np.clip((1.12 - np.abs(e)) * 6, 0, 1)
    _blend(color, line, np.array([0.012, 0.009, 0.008], np.float32), 0.92)
    line = gauss(f - lower, 0.008) * np.clip((1.05 - np.abs(e)) * 4, 0, 1)
    _blend(color, line, color * np.float32(0.3), 0.3 + 0.3 * p.lashes)


def glints(image: Array, x: Array, y: Array, p: DrawnPerson, shot: Shot, side: int, soft: float) -> None:
    """The lamp mirrored in one eye; goes onto the lit image."""
    gx = side * p.eye_x + shot.gaze[0] * 0.6 * p.eye_w * 0.9 + 0.03 * shot.light[0]
    gy = p.eye_y + 0.012 + shot.gaze[1] * 0.08 + 0.025 * shot.light[1]
    d = np.sqrt((x - gx) ** 2 + (y - gy) ** 2)
    _blend(image, _edge(0.014 - d, soft), np.array([1, 1, 1], np.float32), 0.8)


def brow(color: Array, x: Array, y: Array, p: DrawnPerson, shot: Shot, side: int, soft: float) -> None:
    """One eyebrow."""
    e, f = _turn((x - side * p.eye_x * 1.03) * side, y - p.eye_y - p.brow_gap - 0.035 * shot.brows, p.brow_tilt)
    e = e / p.brow_len
    middle = p.brow_arch * (1 - (e - 0.25) ** 2)
    middle = middle + np.where(e < 0, -0.02 * shot.brows * e, 0)
    half = p.brow_thick * (1.1 - 0.45 * np.clip(e, -1, 1)) * np.clip((1.05 - np.abs(e)) * 3, 0, 1) ** 0.5
    body = np.exp(-((np.abs(f - middle) / np.maximum(half, 1e-3)) ** 3)) * (np.abs(e) < 1.05)
    hairs = 0.88 + 0.12 * np.sin(e * 30 + f * 70 + p.index) * np.clip(1 - soft * 25, 0, 1)
    tint = linear(p.hair) * 0.55 + linear(p.skin) * 0.05
    _blend(color, body * hairs, np.asarray(np.minimum(tint, linear(p.skin) * 0.55), np.float32), p.brow_dense)


def nostrils(color: Array, x: Array, y: Array, p: DrawnPerson, soft: float) -> None:
    """The two nostrils and the creases of the wings."""
    a = np.abs(x)
    low = p.nose_y - 0.095 + 0.5 * p.nose_up
    hole = ((a - p.nose_w * 0.46) / (p.nose_w * 0.27)) ** 2 + ((y - low - 0.12 * (a - p.nose_w * 0.4)) / 0.026) ** 2
    _blend(color, np.exp(-(hole**1.5)), color * np.array([0.16, 0.1, 0.09], np.float32), 0.9)
    ring = np.sqrt(((a - p.nose_w * 0.72) / 0.075) ** 2 + ((y - p.nose_y + 0.035) / 0.075) ** 2)
    crease = gauss(ring - 1, 0.16) * np.clip((a - p.nose_w * 0.75) * 18, 0, 1)
    _blend(color, crease, color * np.array([0.55, 0.45, 0.42], np.float32), 0.75)
    under = gauss(y - low + 0.025, 0.018) * gauss(a, p.nose_w * 0.5)
    _blend(color, under, color * np.array([0.6, 0.52, 0.5], np.float32), 0.6)


def mouth(color: Array, x: Array, y: Array, p: DrawnPerson, shot: Shot, soft: float) -> None:
    """Lips, and teeth where the mouth is open."""
    wide = half_mouth(p, shot)
    m = x / wide
    within = np.clip(1 - np.abs(m) ** 2.2, 0, 1)
    center = p.mouth_y + corner_lift(p, shot) * np.abs(m) ** 2 - 0.006 * gauss(m, 0.15)
    gape = 0.13 * shot.gape
    inner_up = center + 0.25 * gape * within
    inner_low = center - 0.75 * gape * within
    thin = 1 - 0.18 * max(shot.smile, 0)
    peak = 1 + 0.35 * p.lip_bow * (gauss(np.abs(m) - 0.24, 0.16) - 1.1 * gauss(m, 0.1))
    top = inner_up + p.lip_up * thin * within**0.9 * peak
    bottom = inner_low - p.lip_low * thin * within**0.75 * (1 - 0.08 * gauss(m, 0.12))

    skin = linear(p.skin)
    lips = skin * np.array([0.79, 0.43, 0.46], np.float32)
    lips = lips * (1 - 0.5 * p.lip_red) + 0.5 * p.lip_red * skin * np.array([0.85, 0.3, 0.32], np.float32)
    if shot.makeup > 0:
        painted = np.array([[0.42, 0.03, 0.05], [0.35, 0.06, 0.1], [0.3, 0.09, 0.07]], np.float32)[p.index % 3]
        lips = lips * (1 - 0.7 * shot.makeup) + 0.7 * shot.makeup * painted
    upper = _edge(top - y, soft) * _edge(y - inner_low, soft)
    lower = _edge(inner_low - y, soft) * _edge(y - bottom, soft)
    rim = 0.86 * _edge(1.0 - np.abs(m), 2 * soft / wide)
    _blend(color, upper * rim, lips * np.float32(0.82), 1)
    light = (1 + 0.25 * gauss(y - (inner_low + bottom) / 2, 0.02) * gauss(m, 0.4))[..., None]
    _blend(color, lower * rim, lips * light, 1)
    if gape > 0.01:
        hole = _edge(inner_up - y, soft) * _edge(y - inner_low, soft)
        _blend(color, hole, np.array([0.03, 0.01, 0.01], np.float32), 0.95)
        row = inner_up - 0.075 * (1 - 0.35 * m**2)
        gaps = 1 - 0.25 * gauss(np.sin(x * 58), 0.25) * np.clip(1 - soft * 30, 0.2, 1)
        teeth = np.array([0.74, 0.7, 0.61], np.float32) * (gaps * np.clip(1.1 - np.abs(m) ** 2, 0.15, 1))[..., None]
        _blend(color, hole * _edge(y - row, soft), teeth, 0.9)
    else:
        line = gauss(y - center, 0.011) * np.clip((1.06 - np.abs(m)) * 8, 0, 1)
        _blend(color, line, lips * np.float32(0.14), 0.85)
    dent = gauss(np.abs(x) - wide - 0.012, 0.018) * gauss(y - p.mouth_y - corner_lift(p, shot), 0.022)
    _blend(color, dent, color * np.array([0.45, 0.35, 0.33], np.float32), 0.7)


def folds(color: Array, x: Array, y: Array, p: DrawnPerson, shot: Shot) -> None:
    """The fold from the nose to the corner of the mouth, with age and smiles, and crow's feet."""
    old = float(np.clip((p.age - 28) / 40, 0, 1))
    strength = 0.08 + 0.4 * old + 0.3 * max(shot.smile, 0)
    a = np.abs(x)
    t = np.clip((p.nose_y + 0.03 - y) / (p.nose_y - p.mouth_y + 0.1), 0, 1)
    path = p.nose_w + 0.045 + (half_mouth(p, shot) + 0.06 - p.nose_w - 0.045) * t**1.3
    line = gauss(a - path, 0.016 + 0.012 * t) * np.clip(t * 5, 0, 1) * np.clip((0.9 - t) * 3, 0, 1)
    _blend(color, line, color * np.array([0.6, 0.5, 0.47], np.float32), min(strength, 0.9))
    if old > 0.2:
        feet = gauss(np.sin((y - p.eye_y) * 75), 0.35) * gauss(a - p.eye_x - p.eye_w - 0.09, 0.045)
        feet = feet * gauss(y - p.eye_y, 0.06)
        _blend(color, feet, color * np.float32(0.6), 0.6 * old)


def half_mouth(p: DrawnPerson, shot: Shot) -> float:
    """Half the width of the mouth in this photo."""
    return p.mouth_w * (1 + 0.2 * shot.smile - 0.12 * shot.gape * (shot.smile < 0.5))


def corner_lift(p: DrawnPerson, shot: Shot) -> float:
    """How high the corners of the mouth lie above its middle."""
    return 0.055 * shot.smile + 0.03 * p.lip_tilt


def _turn(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return x * cos + y * sin, y * cos - x * sin


def _edge(distance: Array, soft: float) -> Array:
    """0 outside, 1 inside, over the width of a pixel."""
    return np.clip(distance / soft + 0.5, 0, 1)


def _blend(color: Array, weight: Array, other: Array, strength: float) -> None:
    w = np.clip(weight * np.float32(strength), 0, 1)[..., None].astype(np.float32)
    color += (other - color) * w
