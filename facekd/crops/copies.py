"""Pictures that are there more than once, by a hash of how brightness changes across them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import cv2
import numpy as np

from facekd.core.types import Array
from facekd.crops.cropset import CropSet

ALIKE = 2  # of 64 bits of two pictures' hashes, at most
SURE = 0.95  # cosine of two copies, at least: once in some thousand two photos of a person have one hash


def picture_hash(pixels: Array) -> Array:
    """bool[64] of uint8[H, W, 3] RGB: in 8 rows, whether each of 9 places is darker than the next."""
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    found: Array = (small[:, 1:] > small[:, :-1]).ravel()
    return found


def hashes_apart(hashes: Array) -> Array:
    """int16[N, N]: in how many bits two of bool[N, 64] differ."""
    bits = hashes.astype(np.int16)
    return np.asarray(bits @ (1 - bits.T) + (1 - bits) @ bits.T)


def copies_within(crops: CropSet, vectors: Array, identities: Sequence[str]) -> dict[int, int]:
    """Places of crops that show a picture of the same person once more, and where it is first.

    Args:
        vectors: float32[N, D], unit norm, of all crops.
        identities: of all crops.
    """
    places = defaultdict(list)
    for place, identity in enumerate(identities):
        places[identity].append(place)
    first: dict[int, int] = {}
    for group in places.values():
        if len(group) < 2:
            continue
        apart = hashes_apart(np.stack([picture_hash(crops.pixels(place)) for place in group]))
        same = (apart <= ALIKE) & (vectors[group] @ vectors[group].T >= SURE)
        for row, place in enumerate(group):
            for earlier in np.flatnonzero(same[row, :row]):
                first.setdefault(place, first.get(group[earlier], group[earlier]))
    return first
