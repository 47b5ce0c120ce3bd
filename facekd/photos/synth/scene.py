"""What is around the head: backdrop, neck, clothes and hair that falls behind the neck."""

from __future__ import annotations

import cv2
import numpy as np

from facekd.core.types import Array
from facekd.photos.synth.people import STYLES, DrawnPerson
from facekd.photos.synth.shape import gauss, step
from facekd.photos.synth.shots import Shot
from facekd.photos.synth.skin import linear


def backdrop(shot: Shot, rng: np.random.Generator) -> Array:
    """A blurred place, linear RGB float32[size, size, 3]."""
    size = shot.size
    base = rng.uniform(0.03, 0.5) * _tint(rng, ())
    if shot.backdrop == 0:  # a wall, brighter to one side
        cells = base * rng.uniform(0.6, 1.3, (2, 2, 1))
    elif shot.backdrop == 1:  # a studio's cloth
        cells = base * (0.75 + 0.5 * rng.uniform(0, 1, (6, 6, 1)))
    else:  # outdoors, or a room
        cells = base * rng.uniform(0.35, 1.6, (5, 5, 1)) * _tint(rng, (5, 5))
    image = np.clip(cv2.resize(cells.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC), 0.002, 1.2)
    if shot.backdrop == 3:  # window frames, shelves, trunks
        small = np.ascontiguousarray(cv2.resize(image, (64, 64)))
        for _ in range(int(rng.integers(2, 6))):
            x, y, w, h = (int(v) for v in rng.integers([-10, -10, 4, 10], [64, 64, 30, 70]))
            tint = base * rng.uniform(0.2, 2.0) * _tint(rng, ())
            cv2.rectangle(small, (x, y), (x + w, y + h), np.clip(tint, 0, 1.1).tolist(), -1)
        small = cv2.GaussianBlur(small, (0, 0), float(rng.uniform(0.8, 3)))
        image = cv2.resize(small, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.maximum(image, 0)


def _tint(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A color of brightness about 1, more often warm, cool or green than violet; float[*shape, 3]."""
    warm, green = rng.normal(0, 0.2, shape), rng.normal(0.03, 0.05, shape)
    return np.clip(np.stack([1 + warm, 1 + green, 1 - warm], axis=-1), 0.3, 1.8)


def body(
    p: DrawnPerson, shot: Shot, turn: Array, x: Array, y: Array, rng: np.random.Generator
) -> tuple[Array, Array, Array]:
    """Neck, clothes and falling hair, seen at camera coordinates `x`, `y` (head units about the head's center).

    Returns:
        color (linear RGB float32[H, W, 3]), how much covers the backdrop float32[H, W], depth float32[H, W].
    """
    soft = 1.2 / shot.scale
    neck_top = turn @ np.array([0, -0.55, -0.2])
    base_x, base_y = float(neck_top[0]) * 0.5, -1.75
    t = np.clip((y - float(neck_top[1])) / (base_y - float(neck_top[1])), 0, 1.3)
    middle = neck_top[0] + (base_x - neck_top[0]) * t
    radius = p.neck * (1 + 0.16 * np.clip(t - 0.45, 0, 1))
    off = (x - middle) / radius
    neck = np.clip((1 - np.abs(off)) * radius / soft, 0, 1) * (y < -0.3)
    neck_z = -0.2 + 0.42 * np.sqrt(np.clip(1 - off * off, 0, 1)) * radius / 0.5 + 0.12 * t

    # Shoulders slope from the neck; the shirt's opening shows some skin.
    b = np.abs(x - base_x)
    wide = 1.45 + 0.3 * (p.jaw - 0.7) / 0.1 * 0.3
    shoulder = -1.28 - 0.34 * step(0.35, 1.2, b) - 0.9 * np.clip(b - wide * 0.9, 0, 2) ** 2
    opening = (
        base_y + 0.28 + 0.5 * (b / 0.55) ** 2.2 - 0.15,
        base_y - 0.1 + 0.75 * b / 0.55,
        base_y + 0.3 + 0.25 * (b / 0.55) ** 2,
    )[shot.collar]
    torso = np.clip((shoulder - y) / soft, 0, 1)
    cloth = torso * np.clip((opening - y) / soft, 0, 1)
    torso_z = -0.35 + 0.35 * np.sqrt(np.clip(1 - (b / (wide + 0.5)) ** 2, 0, 1)) + 0.25 * np.clip(shoulder - y, 0, 0.8)

    skin = linear(p.skin) * np.array([0.95, 0.88, 0.86], np.float32)
    color = np.broadcast_to(skin, (*x.shape, 3)).copy()
    color *= (0.5 + 0.5 * step(0.3, 0.85, t))[..., None]  # the jaw keeps light from the neck
    weave = linear(shot.cloth) * (1 + 0.06 * np.sin(x * 9 + y * 5))[..., None]
    color += (weave - color) * cloth[..., None]
    rim = gauss(opening - y, 0.02) * torso * (b < 0.6)
    color *= (1 - 0.45 * rim)[..., None]
    cover = np.maximum(neck, torso)
    depth = np.where(cloth > 0.5, torso_z + 0.03, np.maximum(neck_z, np.where(torso > 0.5, torso_z, -9)))

    fall = _fall(p, turn, x, y)
    if fall is not None:
        mask, locks = fall
        table = rng.uniform(-1, 1, (5, 90)).astype(np.float32)
        wave = x + 0.05 * p.curl * np.sin(y * 5 + 2 * np.sign(x))
        strands = cv2.remap(
            table, ((wave + 2) * 22).astype(np.float32), ((y + 2.6) * 1.4).astype(np.float32), cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_REFLECT,
        )  # fmt: skip
        tint = linear(p.hair) * np.clip(0.62 + 0.4 * strands, 0.2, 1.2)[..., None]
        behind = mask * (1 - cover)
        weight = np.maximum(behind, mask * locks)
        color += (tint - color) * weight[..., None]
        depth = np.where(weight > 0.5, np.where(cover > 0.5, depth + 0.06, -0.45) + 0.03 * strands, depth)
        cover = np.maximum(cover, weight)
    return color.astype(np.float32), cover.astype(np.float32), depth.astype(np.float32)


def _fall(p: DrawnPerson, turn: Array, x: Array, y: Array) -> tuple[Array, Array] | None:
    """Long hair: where it hangs, and where it hangs before the shoulders."""
    _, side, _, _ = STYLES[p.style]
    if p.style not in ("long", "bob"):
        return None
    root = turn @ np.array([0, 0.1, -0.25])
    end = -p.length if p.style == "long" else -1.0
    t = np.clip((0.1 - y) / (0.1 - end), 0, 1)
    half = p.width + side * p.volume * (0.45 + 0.45 * np.clip(6 * t, 0, 1)) + 0.1 * np.sin(t * 3) * p.volume
    a = np.abs(x - root[0] * (1 - 0.6 * t))
    mask = np.clip((half - a) / 0.04, 0, 1) * step(end - 0.05, end + 0.12, y + 0.05 * np.sin(x * 23)) * (y < 0.25)
    locks = step(0.42, 0.55, a) * (p.style == "long")
    return mask, locks
