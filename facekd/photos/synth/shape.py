"""The head as a surface around its center: a radius for every direction, kept as a square map.

Directions are laid out by Lambert's equal-area azimuthal projection about the face's axis, so the face sits
undistorted in the middle and only the back of the skull, which no photo shows, is cut off.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from facekd.core.types import Array
from facekd.photos.synth.people import STYLES, DrawnPerson

N = 321  # side of every map, texels; odd, so that every other texel spans it
REACH = 1.82  # the map covers -REACH..REACH of the projection, up to 131 degrees from the face's axis


def gauss(x: Array, sd: float | Array) -> Array:
    """A bell of height 1 about 0."""
    return np.exp(-0.5 * (x / sd) ** 2)


def step(low: float, high: float, x: Array) -> Array:
    """Smooth step: 0 where x is `low` and beyond, 1 where x is `high` and beyond."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


@lru_cache(maxsize=1)
def directions() -> tuple[Array, Array, Array]:
    """Unit vectors (x, y, z), float32[N, N] each, of the map's texels."""
    line = np.linspace(-REACH, REACH, N, dtype=np.float32)
    u, v = np.meshgrid(line, line)
    square = np.minimum(u * u + v * v, 3.96)
    scale = np.sqrt(1 - square / 4)
    x, y, z = u * scale, v * scale, 1 - square / 2
    norm = np.sqrt(x * x + y * y + z * z)
    return x / norm, y / norm, z / norm


def place(x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
    """Where the points lie in the maps (column, row), and their distance from the center."""
    norm = np.sqrt(x * x + y * y + z * z)
    scale = np.sqrt(2 / (norm * np.maximum(norm + z, 1e-3))) * np.float32((N - 1) / 2 / REACH)
    half = np.float32((N - 1) / 2)
    return x * scale + half, y * scale + half, norm


def skull(p: DrawnPerson) -> tuple[Array, Array, Array]:
    """The bare head without features: points (x, y, z), float32[N, N] each."""
    dx, dy, dz = (part[::2, ::2] for part in directions())  # smooth enough for half the texels
    r = np.ones_like(dx)
    power = np.float32(p.square)
    for _ in range(5):
        x, y, z = r * dx, r * dy, r * dz
        low = np.clip(-y / p.chin, 0, 1)
        wide = p.width * (1 - (1 - p.jaw) * low**1.4) * (1 - (1 - p.temple) * np.clip(y / 0.6, 0, 1.3))
        wide = wide * (1 + p.cheek_full * gauss(y + 0.45, 0.25))
        deep = np.where(z - 0.2 * low > 0, p.depth - 0.03 * low, 1.0)
        # Under the jaw the head ends higher at the back than at the chin.
        down = p.chin * (0.66 + 0.34 * step(-0.2, 0.55, z))
        tall = np.where(y > 0, p.top, down)
        g = (
            (np.abs(x) / wide) ** power
            + np.where(y > 0, np.abs(y) / tall, 0) ** 2.8
            + np.where(y > 0, 0, np.abs(y) / tall) ** 2.4
            + (np.abs(z - 0.2 * low) / deep) ** 2.3
        )
        r = (r * np.clip(g, 1e-3, 1e3) ** np.float32(-1 / 2.4)).astype(np.float32)
    line = np.arange(N, dtype=np.float32) / 2
    r = cv2.remap(r, *np.meshgrid(line, line), cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    dx, dy, dz = directions()
    return r * dx, r * dy, r * dz


def features(p: DrawnPerson, x: Array, y: Array, z: Array) -> Array:
    """What brows, eyes, nose, cheeks, lips, chin and ears add to the radius; float32[N, N]."""
    a = np.abs(x)
    front = step(0.1, 0.4, z)
    out = -p.eye_deep * gauss(a - p.eye_x * 0.97, 0.15) * gauss(y - p.eye_y, 0.1)
    out += 0.045 * gauss(a - p.eye_x, 0.085) * gauss(y - p.eye_y, 0.075)
    out += p.brow_ridge * gauss(a - 0.26, 0.2) * gauss(y - p.eye_y - p.brow_gap * 0.8, 0.07)
    # Nose: a ridge that grows from between the eyes to the tip, then falls off sharply.
    root = p.eye_y + 0.09
    along = np.clip((root - y) / (root - p.nose_y), 0, 1.2)
    height = p.bridge_out + (p.nose_out - p.bridge_out) * along**1.3 + p.nose_bump * gauss(along - 0.45, 0.16)
    half = p.bridge_w + (0.095 - p.bridge_w) * along**2
    rise = 0.35 * a  # the wings end higher than the tip
    under = step(p.nose_y - 0.13 - p.nose_up, p.nose_y - 0.01 + p.nose_up, y - rise)
    out += height * np.exp(-((a / (half * 1.3)) ** 2)) * step(root + 0.14, root - 0.08, y) * under
    out += 0.03 * gauss(a, p.nose_w * 0.42) * gauss(y - p.nose_y, 0.06)
    out += 0.085 * gauss(a - p.nose_w * 0.72, 0.048) * gauss(y - p.nose_y + 0.025, 0.05)
    # Cheeks and the folds of age.
    out += p.cheekbone * gauss(a - 0.46, 0.15) * gauss(y + 0.1, 0.13)
    out -= (0.012 + 0.0004 * (p.age - 18)) * gauss(a - 0.5, 0.13) * gauss(y + 0.5, 0.18)
    # Lips.
    mouth = y - p.mouth_y
    across = np.exp(-((a / (p.mouth_w * 1.05)) ** 4))
    out += across * (
        0.04 * gauss(mouth - p.lip_up * 0.5, p.lip_up + 0.02)
        + 0.05 * gauss(mouth + p.lip_low * 0.55, p.lip_low * 0.8 + 0.02)
        - 0.035 * gauss(mouth, 0.018)
    )
    out -= 0.014 * gauss(a, 0.035) * gauss(mouth - p.lip_up - 0.09, 0.07)
    out -= 0.035 * gauss(a, 0.16) * gauss(mouth + p.lip_low + 0.09, 0.045)
    out += p.chin_out * gauss(a, 0.16) * gauss(y + p.chin - 0.2, 0.12) - p.chin_dent * gauss(a, 0.025) * gauss(
        y + p.chin - 0.22, 0.08
    )
    out *= front
    # Ears: a rim with a bowl in it.
    side = step(0.4, 0.6, a)
    tall = 0.25 * p.ear
    ex, ey = (z + 0.02) / 0.13, (y + 0.02) / tall
    disc = ex * ex + ey * ey
    flap = np.sqrt(np.clip(1.15 - disc, 0, 1)) * (1 + 0.25 * ey) - 0.4 * step(0.55, 0.05, disc)
    if not STYLES[p.style][3]:
        out += cv2.GaussianBlur(side * 1.25 * p.ear_out * np.maximum(flap, 0), (0, 0), 1.3)
    return np.asarray(out, np.float32)


def hair_mask(p: DrawnPerson, x: Array, y: Array, z: Array, noise: Array) -> Array:
    """Where hair grows on the skull, 0..1, float32[N, N]; `noise` (-1..1) frays the hairline."""
    if p.style == "bald":
        return np.zeros_like(x)
    _, _, bottom, cover = STYLES[p.style]
    a = np.abs(x) / p.width
    line = p.hairline + p.recede * gauss(a - 0.5, 0.16) - 0.06 * gauss(a, 0.1) * (p.recede > 0.1)
    if p.style == "fringe":
        line = line - 0.26 - 0.06 * p.parting * x
    elif p.style in ("bob", "long") and p.parting == 0:
        line = line - 0.28
    elif p.style == "swept":
        line = line + 0.06 * p.parting * np.clip(x, -0.4, 0.4)
    inner = 0.74 if cover else 0.79
    edge = line - (line - bottom) * step(inner, inner + 0.17, a + (0.06 * y if not cover else 0.04 * np.sin(3 * y)))
    h = y - edge
    h = np.where(z < -0.1, np.maximum(h, y - bottom), h)
    soft = 0.03 if p.style in ("bob", "long", "fringe", "afro", "curly") else 0.05
    mask = step(-soft, soft, h + 0.035 * noise)
    if p.style == "horseshoe":
        mask = mask * step(0.4, 0.15, y - 0.25 * step(0.2, -0.5, z)) * step(0.6, 0.75, a)
    if not cover:
        ex, ey = (z + 0.04) / 0.17, (y + 0.02) / (0.27 * p.ear)
        mask = mask * np.where(np.abs(x) > 0.4, step(0.9, 1.3, ex * ex + ey * ey), 1)
    return np.asarray(mask, np.float32)


def hair_thickness(p: DrawnPerson, mask: Array, x: Array, y: Array, z: Array, strands: Array) -> Array:
    """How far the hair stands off the skull; `strands` (-1..1) gives it relief. float32[N, N]."""
    top, side, bottom, _ = STYLES[p.style]
    upper = step(0.1, 0.6, y)
    thick = (side + (top - side) * upper) * p.volume
    if p.style in ("swept", "short", "bob", "long"):
        thick = thick * (1 + 0.35 * p.parting * np.clip(x / 0.7, -1, 1) * upper)
        thick = thick - 0.05 * gauss(x + 0.3 * p.parting, 0.05) * upper * (abs(p.parting) > 0) * (y > 0.3)
    if p.style == "swept":
        thick = thick * (0.75 + 0.5 * step(0.0, 0.7, z))
    if p.style == "tied":
        thick = thick + 0.3 * gauss(x, 0.2) * gauss(z + 0.05, 0.3) * step(0.7, 1.0, y) * (p.length > 1.8)
    if p.style in ("curly", "afro", "bob", "long"):
        thick = thick * (0.35 + 0.65 * step(bottom - 0.05, bottom + 0.5, y))
    rough = 0.05 + (0.1 if p.style in ("curly", "afro") else 0.0)
    lift = mask * np.maximum(thick + rough * strands * np.minimum(1, thick / 0.1), 0)
    return np.asarray(cv2.GaussianBlur(lift.astype(np.float32), (0, 0), 2.0), np.float32)
