"""MTCNN: facenet-pytorch's three networks and weights, driven by a cascade of our own.

The same faces as ``facenet_pytorch.MTCNN.detect(landmarks=True)``, at several times its speed on a processor:
the networks run in ONNX Runtime (`mtcnn_nets`); every resampled pixel, of the pyramid and of the crops, is an
exact mean read from one integral image; no step loops over boxes. A photo's faces are computed from that photo
alone and on one core, so they are the same bits in every batch; speed on several cores comes from several photos.

K. Zhang, Z. Zhang, Z. Li, Y. Qiao, "Joint face detection and alignment using multitask cascaded
convolutional networks", IEEE Signal Processing Letters 23(10), 2016. F. C. Crow, "Summed-area tables for
texture mapping", SIGGRAPH 1984.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import cv2
import numpy as np

from facekd.core.types import Array, Faces
from facekd.faces.mtcnn_nets import load_net
from facekd.faces.nms import nms

THRESHOLDS = (0.6, 0.7, 0.7)  # least probability of a face after each network
FACTOR = 0.709  # from one level of the pyramid to the next
WINDOW, STRIDE = 12, 2  # of P-Net, in pixels of a level
# How much goes through a network at once: as much as its intermediate results fit the core's own cache.
STRIP_PIXELS, RNET_CROPS, ONET_CROPS = 32_000, 16, 4


class Nets(NamedTuple):
    pnet: Any
    rnet: Any
    onet: Any


def load(min_face: int = 20) -> Callable[[Array], Faces]:
    """A function from a photo to its faces of at least about `min_face` pixels, largest first.

    Threads may share it; one call keeps to one core.
    """
    nets = Nets(load_net("pnet"), load_net("rnet"), load_net("onet"))
    return lambda photo: detect_one(photo, min_face, nets)


def detect_one(photo: Array, min_face: int, nets: Nets) -> Faces:
    """The faces of one uint8[H, W, 3] RGB photo."""
    sums = _integral(photo)
    height, width = photo.shape[:2]

    boxes = _square(_propose(sums, min_face, nets.pnet))
    boxes, corners = _inside(boxes, width, height)
    found = _run(nets.rnet, sums, corners, 24, RNET_CROPS)
    boxes, scores, found = _passing(boxes, found, THRESHOLDS[1])
    kept = nms(boxes, scores, 0.7)
    boxes = _square(_moved(boxes[kept], found[kept, 1:5]))

    boxes, corners = _inside(boxes, width, height)
    found = _run(nets.onet, sums, corners, 48, ONET_CROPS)
    boxes, scores, found = _passing(boxes, found, THRESHOLDS[2])
    points = found[:, 5:].reshape(-1, 2, 5).transpose(0, 2, 1)  # five x, five y -> five (x, y)
    landmarks = points * (boxes[:, None, 2:] - boxes[:, None, :2] + 1) + boxes[:, None, :2] - 1
    boxes = _moved(boxes, found[:, 1:5])
    # Boxes beyond the photo's edge may cover the same pixels and score the same; facenet-pytorch keeps the last.
    kept = len(boxes) - 1 - nms(boxes[::-1], scores[::-1], 0.7, over="smaller", pixel=1)
    areas = (boxes[kept, 2] - boxes[kept, 0]) * (boxes[kept, 3] - boxes[kept, 1])
    kept = kept[np.argsort(-areas, kind="stable")]
    return Faces(boxes[kept], scores[kept], landmarks[kept])


def _integral(photo: Array) -> Array:
    """int32[3, H + 1, W + 1]: sum of the pixels above and left of each corner, one plane for each color.

    In photos of more than 8 million pixels a sum may wrap around; the sums over windows come out right all the same.
    """
    height, width = photo.shape[:2]
    sums = np.empty((3, height + 1, width + 1), np.int32)
    for color, plane in enumerate(cv2.split(photo)):
        cv2.integral(plane, sums[color], sdepth=cv2.CV_32S)
    return sums


def _propose(sums: Array, min_face: int, pnet: Any) -> Array:
    """float32[n, 4] boxes that P-Net takes for faces, moved by its offsets, of the whole pyramid."""
    height, width = sums.shape[1] - 1, sums.shape[2] - 1
    scales = list(_scales(min(height, width), min_face))
    levels = [_level(sums, (int(height * scale + 1), int(width * scale + 1)), pnet) for scale in scales]
    if not levels:
        return np.zeros((0, 4), np.float32)
    found = np.concatenate(levels)  # [n, 7]: row, column, logit, four offsets
    counts = [len(level) for level in levels]
    shrunk = np.repeat(np.array(scales, np.float32), counts)[:, None]
    cells = found[:, 1::-1] * STRIDE  # x, y
    boxes = np.floor(np.concatenate([cells + 1, cells + WINDOW], axis=1) / shrunk)
    scores = _probability(found[:, 2])
    starts = np.cumsum([0, *counts])
    kept = np.concatenate(
        [start + nms(boxes[start:end], scores[start:end], 0.5) for start, end in itertools.pairwise(starts)]
    )
    kept = kept[nms(boxes[kept], scores[kept], 0.7)]
    boxes = boxes[kept]
    return np.asarray(boxes + found[kept, 3:] * np.tile(boxes[:, 2:] - boxes[:, :2], 2), np.float32)


def _scales(shorter: int, min_face: int) -> Iterator[float]:
    """The factors at which the photo is looked at, until its shorter side is below P-Net's window."""
    scale = WINDOW / min_face
    side = shorter * scale
    while side >= WINDOW:
        yield scale
        scale, side = scale * FACTOR, side * FACTOR


def _level(sums: Array, shape: tuple[int, int], pnet: Any) -> Array:
    """float32[m, 7] row, column, logit and four offsets of P-Net's hits on the photo shrunk to `shape`.

    The level is made and searched in strips of rows. Each has an even first row and repeats ten rows of the
    one before, so its results are those of the whole level.
    """
    height, width = shape
    top, bottom = _windows(sums.shape[1] - 1, height)
    left, right = _windows(sums.shape[2] - 1, width)
    total = max(1, (height - WINDOW) // STRIDE + 1)  # rows of results; the very last may add half a window
    step = max(8, STRIP_PIXELS // width // STRIDE)
    least = np.log(THRESHOLDS[0] / (1 - THRESHOLDS[0]))
    hits = []
    for start in range(0, total, step):
        last = start + step >= total
        rows = slice(start * STRIDE, height if last else (start + step) * STRIDE + WINDOW - STRIDE)
        bands = _take(sums, bottom[rows], 1)
        bands -= _take(sums, top[rows], 1)
        means = _take(bands, right, 2)
        means -= _take(bands, left, 2)
        pixels = np.empty((1, *means.shape), np.float32)
        pixels[0] = means
        pixels *= np.float32(1) / ((bottom - top)[rows, None] * (right - left)).astype(np.float32)
        maps = pnet.run(None, {"pixels": pixels})[0][0]
        row, column = np.nonzero(maps[0] >= least)
        hits.append(np.column_stack([row + start, column, maps[:, row, column].T]).astype(np.float32))
    return np.concatenate(hits)


def _run(net: Any, sums: Array, corners: Array, size: int, most: int) -> Array:
    """float32[n, 5 or 15]: what R-Net or O-Net says of the crops at int[n, 4] `corners`, `most` at a time."""
    parts = [
        net.run(None, {"pixels": _crops(sums, corners[start : start + most], size)})[0]
        for start in range(0, len(corners), most)
    ]
    return np.concatenate(parts) if parts else np.zeros((0, 15), np.float32)


def _crops(sums: Array, corners: Array, size: int) -> Array:
    """float32[n, 3, size, size] means of the photo under each cell of a grid over each box.

    Args:
        sums: int32[3, H + 1, W + 1], integral image.
        corners: int[n, 4], x1 y1 x2 y2 with the last two outside the box.
    """
    stride, flat = sums.shape[2], sums.reshape(3, -1)
    left, right = _windows(corners[:, 2:3] - corners[:, 0:1], size)
    top, bottom = _windows(corners[:, 3:4] - corners[:, 1:2], size)
    areas = ((bottom - top)[:, :, None] * (right - left)[:, None]).astype(np.float32)
    left, right = (left + corners[:, 0:1])[:, None], (right + corners[:, 0:1])[:, None]
    top, bottom = ((top + corners[:, 1:2]) * stride)[:, :, None], ((bottom + corners[:, 1:2]) * stride)[:, :, None]
    total = _take(flat, bottom + right, 1)
    total -= _take(flat, top + right, 1)
    total -= _take(flat, bottom + left, 1)
    total += _take(flat, top + left, 1)
    means = np.empty((len(corners), 3, size, size), np.float32)
    means[...] = total.transpose(1, 0, 2, 3)
    means *= np.float32(1) / areas[:, None]
    return means


def _take(values: Array, indices: Array, axis: int) -> Array:
    # "clip" spares a first pass that looks for indices out of range; there are none.
    return np.take(values, indices, axis=axis, mode="clip")


def _windows(length: int | Array, count: int) -> tuple[Array, Array]:
    """First and past-the-last pixel under each of `count` cells over `length` pixels.

    As torch's "area" interpolation has it: whole pixels, and neighboring cells share one where it does not divide.
    """
    edges = np.arange(count + 1) * length
    return edges[..., :-1] // count, -(-edges[..., 1:] // count)


def _inside(boxes: Array, width: int, height: int) -> tuple[Array, Array]:
    """The boxes that touch the photo, and for each int[n, 4] the pixels it covers (x1 y1 x2 y2, last two outside)."""
    corners = np.trunc(boxes).astype(np.int64)
    corners[:, :2] = np.maximum(corners[:, :2], 1) - 1  # the networks' boxes count pixels from 1
    corners[:, 2:] = np.minimum(corners[:, 2:], (width, height))
    touching = (corners[:, :2] < corners[:, 2:]).all(axis=1)
    return boxes[touching], corners[touching]


def _passing(boxes: Array, found: Array, least: float) -> tuple[Array, Array, Array]:
    """Boxes, probabilities and network outputs of the faces more probable than `least`."""
    scores = _probability(found[:, 0])
    passing = scores > least
    return boxes[passing], scores[passing], found[passing]


def _probability(logits: Array) -> Array:
    with np.errstate(over="ignore"):  # exp of a large number is inf, and 1 / inf is the right answer
        return np.asarray(1 / (1 + np.exp(-logits)), np.float32)


def _moved(boxes: Array, offsets: Array) -> Array:
    """Boxes whose corners are moved by the offsets, in units of the box's side in whole pixels."""
    return np.asarray(boxes + offsets * np.tile(boxes[:, 2:] - boxes[:, :2] + 1, 2), np.float32)


def _square(boxes: Array) -> Array:
    """Boxes of equal sides around the same centers, as large as the longer side was."""
    sides = boxes[:, 2:] - boxes[:, :2]
    longest = sides.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + sides * np.float32(0.5) - longest * np.float32(0.5)
    return np.asarray(np.concatenate([corner, corner + longest], axis=1), np.float32)
