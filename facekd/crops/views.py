"""Seeded views: view v of crop i is a pure function of (seed, i, v), whoever computes it and when."""

from __future__ import annotations

import json
import os
import random
import threading
from importlib.metadata import version
from typing import Any

import numpy as np

from facekd.core.files import sha256_bytes
from facekd.core.types import Array

_own = threading.local()


def view(pixels: Array, seed: int, index: int, number: int) -> Array:
    """The `number`-th augmented view of crop `index`: uint8[S, S, 3] RGB, as `pixels`.

    Flip, small affine, light, blur, JPEG and grey. The same arguments give the same bytes in any thread,
    process or resumed run.
    """
    pipeline = _pipeline()
    sequence = np.random.SeedSequence([seed, index, number])
    # One stream for all steps: set_random_seed would give each its own of the same seed, so that they all happen or
    # none does.
    pipeline.set_random_state(np.random.default_rng(sequence), random.Random(int(sequence.generate_state(1)[0])))
    augmented: Array = pipeline(image=pixels)["image"]
    return augmented


def augmentation_id() -> str:
    """16 hex digits that change with the pipeline and with the versions of what computes it."""
    versions = {name: version(name) for name in ("albumentations", "opencv-python-headless", "numpy")}
    described = json.dumps([_pipeline().to_dict(), versions], sort_keys=True, default=str)
    return sha256_bytes(described.encode())[:16]


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
                A.GaussianBlur(blur_limit=(3, 5), p=0.15),
                A.ImageCompression(quality_range=(40, 95), p=0.2),
                A.ToGray(p=0.05),
            ]
        )
    return _own.pipeline
