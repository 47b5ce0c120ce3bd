"""How one photo was taken: pose, expression, light, glasses, backdrop, camera. None of it belongs to the person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from facekd.core.types import Array
from facekd.photos.synth.people import PHOTO, DrawnPerson, stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """Angles in radians, image lengths in pixels, others in head units."""

    size: int  # side of the photo
    scale: float  # pixels for one head unit
    center: tuple[float, float]  # of the head
    distance: float  # of the camera
    yaw: float
    pitch: float
    roll: float
    smile: float  # -0.4..1
    gape: float  # opening of the mouth, 0..1
    lids: float  # opening of the eyes, about 1
    brows: float  # raised, -1..1
    gaze: tuple[float, float]
    light: tuple[float, float, float]  # toward the main lamp, unit length
    lamp: tuple[float, float, float]  # its color and strength
    ambient: tuple[float, float, float]
    fill: float  # light from the other side
    gain: tuple[float, float, float]  # white balance and exposure
    saturation: float
    contrast: float
    glasses: bool
    makeup: float
    shine: float
    backdrop: int
    cloth: tuple[float, float, float]
    collar: int
    blur: float  # standard deviation
    noise: float  # standard deviation, gray levels
    quality: int  # of the JPEG


def shoot(person: DrawnPerson, seed: int, photo: int) -> tuple[Shot, np.random.Generator]:
    """The circumstances of photo number `photo`, and the stream that its grain and backdrop go on with."""
    rng = stream(seed, person.index, PHOTO, photo)

    def normal(mean: float, sd: float, reach: float = 2.2) -> float:
        return float(mean + sd * np.clip(rng.normal(), -reach, reach))

    def three(values: Array) -> tuple[float, float, float]:
        return float(values[0]), float(values[1]), float(values[2])

    size = int(rng.integers(200, 257))
    scale = float(size * rng.uniform(0.255, 0.315))
    yaw, pitch, roll = normal(0, 0.22), normal(0.0, 0.11), normal(0, 0.09)
    center = (size * normal(0.5, 0.03), size * normal(0.47, 0.025))
    smile = float(np.clip(rng.choice([normal(0.1, 0.15), normal(0.75, 0.2)]), -0.4, 1.1))
    gape = float(np.clip(normal(0.25 + 0.4 * (smile > 0.6), 0.25), 0, 1)) if rng.random() < 0.45 else 0.0
    azimuth, height = normal(0, 0.75), rng.uniform(-0.1, 1.0)
    light = np.array([np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)])
    warm = normal(0, 0.11)
    lamp = rng.uniform(0.65, 1.15) * np.array([1 + warm, 1, 1 - 1.1 * warm])
    cool = normal(0, 0.1)
    ambient = rng.uniform(0.22, 0.6) * np.array([1 - cool, 1, 1 + cool])
    total = float((lamp * (0.25 + 0.6 * max(light[2], 0)) + ambient).mean())
    exposure = np.exp(normal(0, 0.17)) * (1.1 / total) ** 0.8
    # A camera half adapts to the subject: the dark get more light and the light less.
    exposure *= float(np.mean(np.square(np.array(person.skin) / 255)) / 0.3) ** -0.22
    gain = exposure * np.exp(rng.normal(0, [0.06, 0.025, 0.08]))
    cloth = rng.uniform(15, 215) * np.clip(1 + rng.normal(0, 0.24, 3), 0.4, 1.6)
    shot = Shot(
        size=size, scale=scale, center=center, distance=float(rng.uniform(6, 14)), yaw=yaw, pitch=pitch, roll=roll,
        smile=smile, gape=gape, lids=float(np.clip(normal(1 - 0.12 * max(smile, 0), 0.12), 0.55, 1.3)),
        brows=normal(0, 0.45), gaze=(normal(-0.5 * yaw, 0.18), normal(0, 0.12)),
        light=three(light), lamp=three(lamp), ambient=three(ambient), fill=float(rng.uniform(0, 0.35)),
        gain=three(gain), saturation=0.0 if rng.random() < 0.03 else normal(0.9, 0.13), contrast=normal(1, 0.1),
        glasses=bool(rng.random() < person.glasses), makeup=person.makeup * float(rng.uniform(0.2, 1)),
        shine=float(rng.uniform(0.3, 1)), backdrop=int(rng.integers(4)), cloth=three(np.clip(cloth, 8, 245)),
        collar=int(rng.integers(3)), blur=float(rng.gamma(1.5, 0.28)), noise=float(rng.gamma(2, 1.5)),
        quality=int(rng.integers(62, 96)),
    )  # fmt: skip
    return shot, rng


def rotation(shot: Shot) -> Array:
    """float64[3, 3], head axes -> camera axes (x right, y up, z to the viewer): yaw about y, then pitch, then roll."""
    sy, cy = np.sin(shot.yaw), np.cos(shot.yaw)
    sp, cp = np.sin(shot.pitch), np.cos(shot.pitch)
    sr, cr = np.sin(shot.roll), np.cos(shot.roll)
    yaw = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    pitch = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(roll @ pitch @ yaw)
