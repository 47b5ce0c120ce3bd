"""Pure functions of the step: which crops, which learning rate. A resumed run asks them and goes on exactly."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np

from facekd.core.types import Array


def learning_rate(step: int, steps: int, warmup: int, peak: float) -> float:
    """Linear warm-up over `warmup` steps, then half a cosine from `peak` down to zero at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def side_at(step: int, steps: int, phases: Sequence[tuple[int, float]], full: int) -> int:
    """Side of the images in pixels at `step`: each phase's side for its share of the steps, in turn, then `full`."""
    end = 0.0
    for side, share in phases:
        end += share * steps
        if step < end:
            return side
    return full


def ramp(step: int, steps: int) -> float:
    """Share of a term's weight at `step`: rises linearly over `steps` steps and stays at 1; 1 where `steps` is 0."""
    return min(1.0, (step + 1) / steps) if steps else 1.0


def batch_indices(step: int, batch: int, count: int, seed: int) -> tuple[Array, Array]:
    """Which of `count` crops make up a batch, and which view of each.

    Crops come in shuffled epochs without a gap between them; the view's number is the epoch's.

    Returns:
        int64[batch] places and int64[batch] view numbers.
    """
    positions = np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
    epochs, offsets = np.divmod(positions, count)
    places = [_order(seed, int(epoch), count)[offset] for epoch, offset in zip(epochs, offsets, strict=True)]
    return np.array(places, np.int64), epochs


@functools.lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> Array:
    return np.random.default_rng([seed, epoch]).permutation(count)
