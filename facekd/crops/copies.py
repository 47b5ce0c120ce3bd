"""Pictures that are there more than once, by a hash of how brightness changes across them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import cv2
import numpy as np

from facekd.core.types import Array
from facekd.crops.cropset import CropSet

ALIKE = 2  # of 64 bits of two pictures' hashes, at most
BLOCK = 1024  # rows compared together
SURE = 0.95  # cosine of two copies, at least: once in some thousand two photos of a person have one hash


def picture_hash(pixels: Array) -> Array:
    """bool[64] of uint8[H, W, 3] RGB: in 8 rows, whether each of 9 places is darker than the next."""
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    found: Array = (small[:, 1:] > small[:, :-1]).ravel()
    return found


def hashes_apart(hashes: Array, others: Array) -> Array:
    """float32[N, M]: in how many bits bool[N, 64] and bool[M, 64] differ."""
    left, right = hashes.astype(np.float32), others.astype(np.float32)
    return np.asarray(left.sum(axis=1)[:, None] + right.sum(axis=1) - 2 * left @ right.T)


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
        hashes = np.stack([picture_hash(crops.pixels(place)) for place in group])
        kept = np.ones(len(group), bool)  # what is first is compared with, not its copies
        for start in range(0, len(group), BLOCK):
            near = hashes_apart(hashes[start : start + BLOCK], hashes) <= ALIKE
            for row, place in enumerate(group[start : start + BLOCK], start):
                for earlier in np.flatnonzero(near[row - start, :row] & kept[:row]):
                    if vectors[place] @ vectors[group[earlier]] >= SURE:
                        first[place], kept[row] = group[earlier], False
                        break
    return first
