"""A crop store of people who are hard to tell apart: faint patterns under strong noise."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from toy import SETTINGS, person, record

from facekd.crops.store import CropStore

CONTRAST, NOISE = 0.1, 40.0  # of toy.person's pattern; of each photo, in pixel values


def write_faint_store(folder: Path, people: int, photos: int, contrast: float = CONTRAST) -> Path:
    """A store of `people` times `photos` crops whose 4 x 4 coarse squares, not their pixels, tell people apart."""
    records = []
    for number, photo in itertools.product(range(people), range(photos)):
        pattern = person(number, 0).reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)).repeat(8, 0).repeat(8, 1)
        noise = np.random.default_rng([number, photo]).normal(0, NOISE, pattern.shape)
        pixels = np.clip(128 + contrast * (pattern - 128) + noise, 0, 255).astype(np.uint8)
        records.append(record(f"p{number:02d}", f"p{number:02d}/{photo}.png", pixels))
    CropStore.create(folder, SETTINGS).append(records)
    return folder
