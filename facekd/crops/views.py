"""Seeded views: view v of crop i is a pure function of (seed, i, v), whoever computes it and when."""

from __future__ import annotations

import json
import math
import os
import random
import threading
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import cv2
import numpy as np

from facekd.core.choices import Augment
from facekd.core.files import sha256_bytes
from facekd.core.types import Array
from facekd.crops.cropset import CropSet

CODE = 2  # of this file; raise it with whatever changes a view's bytes: embeddings of views are kept by it

MASKED, PATCHED = 0.4, 0.4  # shares of the occluded views; the rest stays plain
LEAST, MOST = 1 / 16, 1 / 4  # of the crop's area, which the rectangle covers
LONGEST = 2.0  # sides of the rectangle to each other

_own = threading.local()


def view_batch(crops: CropSet, seed: int, places: Array, numbers: Array, augment: Augment) -> Array:
    """uint8[B, S, S, 3] RGB: view `numbers[b]` of crop `places[b]`, int64[B] each.

    Args:
        augment: plain, those of `view`; occluded, the same with a rectangle of `occlude` in most of them; flip, the
            crop and its mirror image in turn, so that two views are all there are.

    Raises:
        UserError: a damaged crop.
    """

    def one(index: int, number: int) -> Array:
        if augment == "flip":
            mirrored = (int(_seeds(seed, index, 0).generate_state(1)[0]) + number) % 2
            return crops.pixels(index)[:, :: -1 if mirrored else 1]
        plain = view(crops.pixels(index), seed, index, number)
        if augment == "plain":
            return plain
        # A stream of its own: what is not covered is the plain view's.
        rng = np.random.default_rng(_seeds(seed, index, number).spawn(1)[0])
        return occlude(plain, rng, lambda: crops.pixels(_another(rng, index, len(crops))))

    return np.stack([one(index, number) for index, number in zip(places.tolist(), numbers.tolist(), strict=True)])


def view(pixels: Array, seed: int, index: int, number: int) -> Array:
    """The `number`-th augmented view of crop `index`: uint8[S, S, 3] RGB, as `pixels`.

    Flip, small affine, light, low resolution, blur, JPEG and gray. The same arguments give the same bytes in any
    thread, process or resumed run.
    """
    pipeline = _pipeline()
    seeds = _seeds(seed, index, number)
    # One stream for all steps: set_random_seed would give each its own of the same seed, so that they all happen or
    # none does.
    pipeline.set_random_state(np.random.default_rng(seeds), random.Random(int(seeds.generate_state(1)[0])))
    augmented: Array = pipeline(image=pixels)["image"]
    return augmented


def occlude(pixels: Array, rng: np.random.Generator, another: Callable[[], Array]) -> Array:
    """A copy of a uint8[S, S, 3] view with one rectangle of it masked, patched, or neither.

    A mask is noise or the view's mean color; a patch is what another crop shows at the same place. The rectangle
    covers a sixteenth to a quarter of the area and is at most twice as long as wide.

    Args:
        another: uint8[S, S, 3] of another crop, asked for a patch.

    Source: masks, Z. Zhong et al., "Random Erasing Data Augmentation", arXiv 1708.04896; patches, S. Yun et al.,
    "CutMix", arXiv 1905.04899, the label being what the teacher says of the result.
    """
    covered = pixels.copy()
    chance = rng.random()
    if chance >= MASKED + PATCHED:
        return covered
    size = len(pixels)
    side = size * math.sqrt(rng.uniform(LEAST, MOST))
    stretch = LONGEST ** rng.uniform(-0.5, 0.5)
    height, width = round(side * stretch), round(side / stretch)
    top, left = rng.integers(size - height + 1), rng.integers(size - width + 1)
    here = np.s_[top : top + height, left : left + width]
    if chance >= MASKED:
        covered[here] = another()[here]
    elif rng.random() < 0.5:
        covered[here] = rng.integers(0, 256, (height, width, 3), np.uint8)
    else:
        covered[here] = pixels.mean(axis=(0, 1)).round()
    return covered


def augmentation_id(augment: Augment) -> str:
    """16 hex digits that change with the kind of views, with how they are made, and with the versions of what does."""
    versions = {name: version(name) for name in ("albumentations", "opencv-python-headless", "numpy")}
    described = json.dumps([augment, CODE, _pipeline().to_dict(), versions], sort_keys=True, default=str)
    return sha256_bytes(described.encode())[:16]


def _seeds(seed: int, index: int, number: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, index, number])


def _another(rng: np.random.Generator, index: int, count: int) -> int:
    """A crop that is not `index`, where there is one."""
    return int((index + rng.integers(1, max(2, count))) % count)


def _pipeline() -> Any:
    """The pipeline of this thread: it carries the state of its random generator."""
    if not hasattr(_own, "pipeline"):
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # without it the import asks a server for the newest version
        import albumentations as A

        _own.pipeline = A.Compose(
            [
                A.HorizontalFlip(p=0.5),
                A.Affine(scale=(0.94, 1.06), translate_percent=(-0.03, 0.03), rotate=(-6, 6), p=0.5),
                A.RandomBrightnessContrast(0.25, 0.25, p=0.5),
                A.HueSaturationValue(8, 25, 0, p=0.3),
                # A face from far away: 28 to 84 of 112 pixels wide, its pixels averaged as a sensor does.
                A.Downscale((0.25, 0.75), {"downscale": cv2.INTER_AREA, "upscale": cv2.INTER_LINEAR}, p=0.2),
                A.GaussianBlur(blur_limit=(3, 5), p=0.15),
                A.ImageCompression(quality_range=(40, 95), p=0.2),
                A.ToGray(p=0.05),
            ]
        )
    return _own.pipeline
