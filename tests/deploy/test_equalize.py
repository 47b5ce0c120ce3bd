"""Channels of equal range, and the same outcome."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import CHANNELS, SIDE, convolution, model_of, outputs
from onnx import helper

from facekd.deploy.equalize import equalize


@pytest.mark.parametrize("kind", ["Relu", "PRelu"])
@pytest.mark.parametrize("group", [1, CHANNELS])
def test_equalized_channels_have_one_range_and_the_same_outcome(kind: str, group: int) -> None:
    nodes, weights = convolution()
    weights["w"] *= np.geomspace(0.05, 1, CHANNELS).reshape(-1, 1, 1, 1)  # channels of very different ranges
    weights["b"] *= np.geomspace(0.05, 1, CHANNELS)
    weights |= {"v": np.random.default_rng(3).normal(size=(CHANNELS, CHANNELS // group, 3, 3))}
    weights |= {"a": np.full((CHANNELS, 1, 1), 0.25)}
    nodes.append(helper.make_node(kind, ["z", "a"] if kind == "PRelu" else ["z"], ["p"]))
    nodes.append(helper.make_node("Conv", ["p", "v"], ["y"], group=group))
    x = np.random.default_rng(1).normal(size=(4, CHANNELS, SIDE, SIDE)).astype(np.float32)
    model = model_of(nodes, weights)
    even = equalize(model, [x])
    np.testing.assert_allclose(outputs(even, x), outputs(model, x), rtol=1e-3, atol=1e-4)

    def spread(of: onnx.ModelProto) -> float:
        of.graph.output[0].name = "p"
        ranges = np.abs(outputs(of, x)).max(axis=(0, 2, 3))
        return float(ranges.max() / ranges.min())

    before, after = spread(model), spread(even)
    assert before > 10
    assert after < (1.01 if group > 1 else 1.1 * before**0.5)


def test_summed_and_gated_images_share_their_channels() -> None:
    """A block of squeeze and excitation beside its shortcut: what is summed is even too, and nothing else changes."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=(CHANNELS, CHANNELS, 1, 1)) / 4 for name in ("w0", "w1", "g", "w2")}
    for name in ("w0", "w1"):
        weights[name] *= np.geomspace(0.01, 1, CHANNELS).reshape(-1, 1, 1, 1)
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w0"], ["z0"]),
        node("Conv", ["z0", "w1"], ["z1"]),
        node("GlobalAveragePool", ["z1"], ["pooled"]),
        node("Conv", ["pooled", "g"], ["excited"]),
        node("Sigmoid", ["excited"], ["gate"]),
        node("Mul", ["z1", "gate"], ["gated"]),
        node("Add", ["gated", "z0"], ["sum"]),
        node("Conv", ["sum", "w2"], ["y"]),
    ]
    x = rng.normal(size=(4, CHANNELS, SIDE, SIDE)).astype(np.float32)
    model = model_of(nodes, weights)
    even = equalize(model, [x])
    np.testing.assert_allclose(outputs(even, x), outputs(model, x), rtol=1e-3, atol=1e-4)
    spread = []
    for made in (model, even):
        made.graph.output[0].name = "sum"
        ranges = np.abs(outputs(made, x)).max(axis=(0, 2, 3))
        spread.append(float(ranges.max() / ranges.min()))
    assert spread[0] > 30
    assert spread[1] < 2 * spread[0] ** 0.5
