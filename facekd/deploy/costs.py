"""What each part of a network of fewer bits costs, and which parts to leave as they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from facekd.core.pixels import unit
from facekd.core.types import Array

SHARES = (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)  # of the whole cost that is left, one try after the other


def costliest(costs: Mapping[str, float]) -> Iterator[set[str]]:
    """Ever more names, the costliest first: those without which at most such a share of the whole cost is left."""
    falling = sorted(costs.items(), key=lambda one: -one[1])
    whole = sum(costs.values())
    before = 0
    for share in SHARES:
        left, count = whole, 0
        while count < len(falling) and left > share * whole:
            left -= falling[count][1]
            count += 1
        if count > before:
            before = count
            yield {name for name, _ in falling[:count]}


def embedded(model: Any, inputs: Sequence[Array]) -> Array:
    """float32[N, D] embeddings of unit norm that a graph gives of these batches."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (fed,) = session.get_inputs()
    vectors = [session.run(None, {fed.name: batch})[0] for batch in inputs]
    return unit(np.concatenate([one.reshape(len(one), -1) for one in vectors]))
