"""Channels of equal range, and the same outcome."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import CHANNELS, SIDE, convolution, model_of, outputs
from onnx import helper

from facekd.deploy.equalise import equalise


@pytest.mark.parametrize("kind", ["Relu", "PRelu"])
@pytest.mark.parametrize("group", [1, CHANNELS])
def test_equalised_channels_have_one_range_and_the_same_outcome(kind: str, group: int) -> None:
    nodes, weights = convolution()
    weights["w"] *= np.geomspace(0.05, 1, CHANNELS).reshape(-1, 1, 1, 1)  # channels of very different ranges
    weights["b"] *= np.geomspace(0.05, 1, CHANNELS)
    weights |= {"v": np.random.default_rng(3).normal(size=(CHANNELS, CHANNELS // group, 3, 3))}
    weights |= {"a": np.full((CHANNELS, 1, 1), 0.25)}
    nodes.append(helper.make_node(kind, ["z", "a"] if kind == "PRelu" else ["z"], ["p"]))
    nodes.append(helper.make_node("Conv", ["p", "v"], ["y"], group=group))
    x = np.random.default_rng(1).normal(size=(4, CHANNELS, SIDE, SIDE)).astype(np.float32)
    model = model_of(nodes, weights)
    even = equalise(model, [x])
    np.testing.assert_allclose(outputs(even, x), outputs(model, x), rtol=1e-3, atol=1e-4)

    def spread(of: onnx.ModelProto) -> float:
        of.graph.output[0].name = "p"
        ranges = np.abs(outputs(of, x)).max(axis=(0, 2, 3))
        return float(ranges.max() / ranges.min())

    before, after = spread(model), spread(even)
    assert before > 10
    assert after < (1.01 if group > 1 else 1.1 * before**0.5)
