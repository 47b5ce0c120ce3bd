"""What a model costs on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from facekd.core.types import Array
from facekd.deploy.embedder import CropEmbedder
from facekd.evaluation.judged import JudgedModel
from facekd.evaluation.results import Cost
from facekd.nets.onnx_cost import onnx_macs

SEED = 0  # of the noise that is embedded
TIMED_RUNS, TIMED_SECONDS = 30, 0.5


def costs_of(models: Sequence[JudgedModel]) -> tuple[Cost, ...]:
    """What each model costs that is there itself, not its embeddings alone."""
    return tuple(cost_of(one.name, one.embedder) for one in models if one.embedder is not None)


def cost_of(name: str, embedder: CropEmbedder) -> Cost:
    """What a model costs on this machine: size, and the time from uint8 crops to unit embeddings (medians)."""
    network, size = embedder.network, embedder.contract.size
    macs = network.macs
    if macs is None:
        macs = onnx_macs(network.path, (1, 3, size, size) if embedder.contract.layout == "NCHW" else (1, size, size, 3))
    crops = np.random.default_rng(SEED).integers(0, 256, (32, size, size, 3), np.uint8)
    one, many = _seconds(embedder, crops[:1]), _seconds(embedder, crops)
    return Cost(name, network.parameters, macs, network.bytes, 1e3 * one, 32 / many)


def _seconds(embedder: CropEmbedder, crops: Array) -> float:
    """The median of some runs, after one that warms up."""
    embedder.embed(crops)
    taken: list[float] = []
    end = time.perf_counter() + TIMED_SECONDS
    while len(taken) < 3 or (len(taken) < TIMED_RUNS and time.perf_counter() < end):
        start = time.perf_counter()
        embedder.embed(crops)
        taken.append(time.perf_counter() - start)
    return sorted(taken)[len(taken) // 2]
