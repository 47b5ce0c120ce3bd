"""What a model costs on this machine, and its accuracy against that."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from facekd.core.types import Array
    from facekd.deploy.embedder import Embedder
    from facekd.reports.document import Block

SEED = 0  # of the noise that is embedded
TIMED_RUNS, TIMED_SECONDS = 30, 0.5

Shown: TypeAlias = "tuple[float, float, float] | None"


def cost_of(embedder: Embedder) -> dict[str, Any]:
    """What a model costs on this machine: size, and the time from uint8 crops to unit embeddings (medians)."""
    import numpy as np

    from facekd.nets.onnx_cost import onnx_macs

    network = embedder.network
    size = embedder.contract.size
    macs = network.macs
    if macs is None:
        macs = onnx_macs(network.path, (1, 3, size, size) if embedder.contract.layout == "NCHW" else (1, size, size, 3))
    crops = np.random.default_rng(SEED).integers(0, 256, (32, size, size, 3), np.uint8)
    return {
        "parameters": network.parameters,
        "macs": macs,
        "bytes": network.bytes,
        "latency_ms": 1e3 * _seconds(embedder, crops[:1]),
        "crops_per_second": 32 / _seconds(embedder, crops),
    }


def cost_blocks(costs: Sequence[Mapping[str, Any]], rates: Sequence[Shown], label: str) -> tuple[Block, ...]:
    """What each model costs, and a rate of each against its latency.

    Args:
        costs: as `cost_of`, with the model's name.
        rates: (rate, low, high) of each model; None where it has no such number.
        label: what the rate is.
    """
    from facekd.reports import plots
    from facekd.reports.document import Figure, Table

    if not costs:
        return ()
    rows, points = [], []
    for cost, shown in zip(costs, rates, strict=True):
        macs = "–" if cost["macs"] is None else f"{cost['macs'] / 1e6:.0f} M"
        sizes = (f"{cost['parameters'] / 1e6:.3f} M", macs, f"{cost['bytes'] / 1e6:.2f} MB")
        rows.append((cost["model"], *sizes, f"{cost['latency_ms']:.1f} ms", f"{cost['crops_per_second']:.0f}/s"))
        if shown is not None:
            points.append(plots.CostPoint(cost["model"], cost["latency_ms"], *shown))
    columns = ("model", "parameters", "multiply-adds", "file", "one crop", "crops, 32 at once")
    note = "Times are medians on this machine, from the crop's pixels to its embedding."
    listed = Table("Cost", columns, tuple(rows), note)
    if not points:
        return (listed,)
    return listed, Figure(plots.cost(points, x_label="Time of one crop (ms)", y_label=label), f"{label} against cost")


def _seconds(embedder: Embedder, crops: Array) -> float:
    """The median of some runs, after one that warms up."""
    embedder.embed(crops)
    taken: list[float] = []
    end = time.perf_counter() + TIMED_SECONDS
    while len(taken) < 3 or (len(taken) < TIMED_RUNS and time.perf_counter() < end):
        start = time.perf_counter()
        embedder.embed(crops)
        taken.append(time.perf_counter() - start)
    return sorted(taken)[len(taken) // 2]
