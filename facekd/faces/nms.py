"""Greedy non-maximum suppression without a Python loop per box."""

from __future__ import annotations

from typing import Literal

import numpy as np

from facekd.core.types import Array

BLOCK = 128  # candidates compared with each other at once: their matrix stays inside the core's cache
LATER = np.triu(np.ones((BLOCK, BLOCK), bool), 1)


def nms(
    boxes: Array, scores: Array, threshold: float, *, over: Literal["union", "smaller"] = "union", pixel: int = 0
) -> Array:
    """int64[k]: the boxes kept, best score first; of equal scores the earlier one wins.

    A box is kept unless a better kept one overlaps it by more than `threshold`. This is the greedy rule
    of ``torchvision.ops.nms`` exactly, in its float32 arithmetic; only the order of the work differs.

    Args:
        boxes: float32[n, 4], x1 y1 x2 y2.
        scores: float32[n].
        threshold: greatest overlap allowed, in [0, 1].
        over: the overlap is the intersection over the union, or over the smaller of both areas.
        pixel: 1 where x2 and y2 are the last pixel inside the box, so that its width is x2 - x1 + 1.
    """
    order = np.argsort(-scores, kind="stable")
    if len(order) < 2:
        return order
    boxes = boxes[order]
    kept = np.zeros(len(order), bool)
    most = np.float64(threshold)  # torchvision compares a float32 overlap with a float64 threshold
    with np.errstate(invalid="ignore"):  # two boxes without area: 0 / 0 is NaN, which is not more than `most`
        for start in range(0, len(order), BLOCK):
            block = np.arange(start, min(start + BLOCK, len(order)))
            better = boxes[:start][kept[:start]]
            if len(better):
                block = block[~(_overlap(better, boxes[block], over, pixel) > most).any(axis=0)]
            beats = _overlap(boxes[block], boxes[block], over, pixel) > most
            kept[block] = _survivors(beats & LATER[: len(block), : len(block)])
    return order[kept]


def _survivors(beats: Array) -> Array:
    """bool[n]: who is left when each in turn, if still there, removes those it `beats` (bool[n, n], upper triangle).

    ``alive = not any(alive and beats)`` has one solution, since the matrix is triangular. Iterating from
    'all alive' fixes at least one more row a step and ends after as many steps as the longest chain.
    """
    alive: Array = np.ones(len(beats), bool)
    while True:
        after = ~beats[alive].any(axis=0)
        if np.array_equal(after, alive):
            return alive
        alive = after


def _overlap(a: Array, b: Array, over: str, pixel: int) -> Array:
    """float32[n, m] overlap of each box of `a` with each of `b`."""
    one, zero = np.float32(pixel), np.float32(0)
    ax1, ay1, ax2, ay2 = np.ascontiguousarray(a.T)[:, :, None]
    bx1, by1, bx2, by2 = np.ascontiguousarray(b.T)
    inter = np.maximum(np.minimum(ax2, bx2) - np.maximum(ax1, bx1) + one, zero)
    inter *= np.maximum(np.minimum(ay2, by2) - np.maximum(ay1, by1) + one, zero)
    area_a, area_b = (ax2 - ax1 + one) * (ay2 - ay1 + one), (bx2 - bx1 + one) * (by2 - by1 + one)
    whole = area_a + area_b - inter if over == "union" else np.minimum(area_a, area_b)
    inter /= whole
    return np.asarray(inter)
