"""The maps of one person: the radius of the head, and the color of skin, beard and hair on it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from facekd.core.types import Array
from facekd.photos.synth.people import GRAIN, DrawnPerson, stream
from facekd.photos.synth.shape import N, directions, features, gauss, hair_mask, hair_thickness, skull, step


@dataclass(frozen=True, slots=True)
class HeadMaps:
    """A person's maps, laid out as in shape.directions."""

    radius: Array  # float32[N, N], with hair
    bare: Array  # float32[N, N], without
    color: Array  # float32[N, N, 4]: linear RGB 0..1, and how much of it is hair, 0..1


def linear(rgb: tuple[float, float, float]) -> Array:
    """Light of an sRGB color, by the square law that the camera here uses."""
    return (np.asarray(rgb, np.float32) / 255) ** 2


def cloud(rng: np.random.Generator, rows: int, columns: int, shape: tuple[int, int] = (N, N)) -> Array:
    """Smooth noise of `rows` x `columns` bumps in about -1..1, float32[shape]."""
    small = rng.uniform(-1, 1, (rows, columns)).astype(np.float32)
    return cv2.resize(small, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


@lru_cache(maxsize=4)
def head(p: DrawnPerson) -> HeadMaps:
    """The maps of person `p`."""
    rng = stream(p.seed, p.index, GRAIN)
    dx, dy, dz = directions()
    x, y, z = skull(p)
    plain = np.sqrt(x * x + y * y + z * z)
    bare = plain + features(p, x, y, z)
    x, y, z = bare * dx, bare * dy, bare * dz

    strands = _strands(p, rng)
    mask = hair_mask(p, x, y, z, strands)
    lift = hair_thickness(p, mask, x, y, z, strands)
    radius = bare + lift
    growth = _beard(p, x, y, z, rng)
    if p.beard in ("full", "goatee"):
        radius = radius + 0.07 * growth * (0.6 + 0.4 * strands)

    color = _skin(p, bare, x, y, z, rng)
    tint = linear(p.hair)
    if p.beard != "none":
        whisker = tint * 0.7 + 0.004
        thin = (0.45 if p.beard == "stubble" else 0.95) * p.beard_dense
        grain = 0.82 + 0.3 * cloud(rng, 190, 190)
        weight = np.clip(growth * thin * grain, 0, 1)[..., None]
        color = color * (1 - weight) + whisker * weight
    # Hair is darker in its depths and toward its roots.
    shade = np.clip(0.8 + 0.55 * strands + 0.12 * cloud(rng, 9, 9), 0.2, 1.7)[..., None]
    hair = tint * shade + np.float32(0.002)
    roots = cv2.GaussianBlur(mask, (0, 0), 5)[..., None]
    mask = np.maximum(mask, step(0.012, 0.04, lift))  # the hair's thickness has a front of its own
    weight = mask[..., None] * (0.6 if p.style == "buzz" else 1.0)
    color = color * (1 - weight) + hair * weight
    # Skin beside hair lies in its shade.
    color = color * (1 - 0.35 * np.clip(roots - weight, 0, 1))
    both = np.concatenate([color, np.maximum(mask, growth * (p.beard == "full"))[..., None]], axis=2)
    return HeadMaps(radius.astype(np.float32), bare.astype(np.float32), np.ascontiguousarray(both, np.float32))


def _strands(p: DrawnPerson, rng: np.random.Generator) -> Array:
    """Noise drawn out along the hair, from the crown or parting outwards; -1..1."""
    dx, dy, dz = directions()
    if p.style in ("afro", "curly"):
        fine = 62 if p.style == "afro" else 30
        return np.clip(0.7 * cloud(rng, fine, fine) + 0.5 * cloud(rng, fine // 2, fine // 2), -1, 1)
    # The crown: back of the top, to the side of the parting.
    crown = np.array([0.35 * p.parting, 0.85, -0.25 if p.style != "tied" else -0.6])
    crown = crown / np.linalg.norm(crown)
    right = np.cross(crown, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    ahead = np.cross(right, crown)
    around = np.arctan2(dx * right[0] + dy * right[1] + dz * right[2], dx * ahead[0] + dy * ahead[1] + dz * ahead[2])
    down = np.arccos(np.clip(dx * crown[0] + dy * crown[1] + dz * crown[2], -1, 1))
    around = around + p.curl * 0.12 * np.sin(down * 7 + around * 3)
    total = np.zeros((N, N), np.float32)
    for count, share in ((150, 0.55), (50, 0.5)):
        table = rng.uniform(-1, 1, (7, count)).astype(np.float32)
        table = np.concatenate([table, table[:, :1], table[:, 1:2]], axis=1)  # wraps around
        total += share * cv2.remap(
            table, ((around / np.pi + 1) / 2 * count).astype(np.float32), (down * 2.1).astype(np.float32),
            cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE,
        )  # fmt: skip
    return np.clip(total, -1, 1)


def _beard(p: DrawnPerson, x: Array, y: Array, z: Array, rng: np.random.Generator) -> Array:
    """Where the beard grows, 0..1."""
    if p.beard == "none":
        return np.zeros_like(x)
    a = np.abs(x)
    ragged = 0.03 * cloud(rng, 60, 60)
    cheek = p.mouth_y + 0.1 + np.maximum(a - 0.25, 0) * 0.95
    jaw = step(-0.05, 0.06, cheek - y + ragged) * step(0.0, 0.15, z + 0.1)
    lip = step(0.04, -0.02, np.abs(a - 0.12) - p.mouth_w * 0.75 + ragged) * gauss(
        y - p.mouth_y - p.lip_up - 0.085, 0.05
    )
    lip = np.minimum(1.4 * lip, 1)
    mouth = (a / (p.mouth_w * 1.05)) ** 2 + ((y - p.mouth_y) / (p.lip_up + p.lip_low)) ** 2
    clear = step(0.7, 1.3, mouth)
    if p.beard == "goatee":
        jaw = jaw * step(0.32, 0.25, a + ragged)
    elif p.beard == "moustache":
        jaw = jaw * 0
    return np.asarray(np.maximum(jaw, lip) * clear, np.float32)


def _skin(p: DrawnPerson, bare: Array, x: Array, y: Array, z: Array, rng: np.random.Generator) -> Array:
    """Linear RGB of the bare skin, with hollows darkened; float32[N, N, 3]."""
    base = linear(p.skin)
    a = np.abs(x)
    mottle = 1 + 0.05 * cloud(rng, 11, 11) + 0.04 * cloud(rng, 45, 45) + 0.03 * cloud(rng, 140, 140)
    red = 0.16 * p.ruddy * gauss(a - 0.4, 0.16) * gauss(y + 0.25, 0.16)
    red = (
        red + 0.2 * p.ruddy * gauss(a, 0.11) * gauss(y - p.nose_y, 0.1) + 0.15 * (a > 0.72) * step(0.3, 0.2, np.abs(y))
    )
    red = red + 0.25 * p.makeup * gauss(a - 0.45, 0.13) * gauss(y + 0.18, 0.1)
    # Rings under the eyes, and a thin socket, come with age.
    ring = (0.12 + 0.003 * (p.age - 18)) * gauss(a - p.eye_x * 0.93, 0.11) * gauss(y - p.eye_y + 0.11, 0.035)
    color = base * mottle[..., None]
    color = color * (1 + red[..., None] * np.array([0.15, -0.75, -0.65], np.float32))
    color = color * (1 - ring[..., None] * np.array([0.8, 1.1, 0.9], np.float32))
    if p.freckles > 0:
        spots = np.clip(cloud(rng, 120, 120) * 2.2 - 1.25, 0, 1) * gauss(y + 0.12, 0.25) * (a < 0.68)
        color = color * (1 - p.freckles * spots[..., None] * np.array([0.4, 0.6, 0.7], np.float32))
    for _ in range(p.moles):
        mx, my, size = rng.uniform(-0.55, 0.55), rng.uniform(-0.85, 0.45), rng.uniform(0.016, 0.03)
        spot = np.exp(-((((x - mx) ** 2 + (y - my) ** 2) / size**2) ** 2)) * (z > 0.2)
        color = color * (1 - 0.75 * spot[..., None] * np.array([0.75, 0.9, 0.95], np.float32))
    if p.age > 35:  # lines across the forehead
        lines = gauss(np.sin((y + 0.03 * np.cos(5 * x)) * 44 + p.index), 0.3) * step(0.35, 0.45, y) * step(0.45, 0.2, a)
        color = color * (1 - min(0.22, 0.007 * (p.age - 35)) * lines[..., None])
    hollow = np.clip(1 + 3.6 * (bare - cv2.GaussianBlur(bare, (0, 0), 9)), 0.4, 1.1)
    return np.asarray(color * hollow[..., None], np.float32)
