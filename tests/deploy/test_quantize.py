"""What int8 leaves alone: the pixels, the gates and the last layer; between them everything is quantized."""

from __future__ import annotations

import numpy as np
import onnx
from graphs import CHANNELS, SIDE, model_of, outputs
from onnx import helper

from facekd.core.types import Array
from facekd.deploy.quantize import to_int8
from facekd.nets.activation import split_prelu


def gated() -> onnx.ModelProto:
    """Two convolutions, a gate over what they make, one convolution more and the layer that makes the embedding."""
    rng = np.random.default_rng(0)
    square = (CHANNELS, CHANNELS, 1, 1)
    weights: dict[str, Array] = {name: rng.normal(size=square) / 4 for name in ("w0", "w1", "g0", "g1", "w2", "w3")}
    weights |= {"a": rng.random((CHANNELS, 1, 1))}
    node = helper.make_node
    nodes = [
        node("Mul", ["x", "k"], ["scaled"]),
        node("Conv", ["scaled", "w0"], ["z0"]),
        node("PRelu", ["z0", "a"], ["p0"]),
        node("Conv", ["p0", "w1"], ["z1"]),
        node("GlobalAveragePool", ["z1"], ["pooled"]),
        node("Conv", ["pooled", "g0"], ["squeezed"]),
        node("Relu", ["squeezed"], ["bent"]),
        node("Conv", ["bent", "g1"], ["excited"]),
        node("Sigmoid", ["excited"], ["gate"]),
        node("Mul", ["z1", "gate"], ["gated"]),
        node("Conv", ["gated", "w2"], ["z2"]),
        node("Relu", ["z2"], ["p2"]),
        node("Conv", ["p2", "w3"], ["z3"]),
        node("Flatten", ["z3"], ["y"]),
    ]
    return split_prelu(model_of(nodes, weights | {"k": np.array(0.5)}))[0]


def test_pixels_gates_and_the_last_layer_stay_in_fp32() -> None:
    model = gated()
    x = np.random.default_rng(1).normal(size=(8, CHANNELS, SIDE, SIDE)).astype(np.float32)
    made = to_int8(model, [x[:4], x[4:]])
    makers = {name: node for node in made.graph.node for name in node.output}
    layers = {node.output[0]: node for node in made.graph.node if node.op_type == "Conv"}

    def quantized(conv: onnx.NodeProto) -> bool:
        weight = makers.get(conv.input[1])
        return weight is not None and weight.op_type == "DequantizeLinear"

    found = {node.name or name: quantized(node) for name, node in layers.items()}
    assert len(found) == 7  # the first one is two, as its PReLU was split
    assert sum(found.values()) == 2  # w1 and w2
    first = {node.input[0] for node in made.graph.node if node.op_type == "QuantizeLinear"}
    assert not first & {"x", "scaled", "pooled", "squeezed", "bent", "excited"}
    wanted, got = outputs(model, x), outputs(made, x)
    assert (got * wanted).sum() > 0.99 * np.linalg.norm(got) * np.linalg.norm(wanted)
    # Pixels that are one step apart are so behind the first layer too: no two of the 256 fall together.
    pixels = ((np.arange(256, dtype=np.float32) - 127.5) / 127.5).reshape(256, 1, 1, 1)
    gray = np.broadcast_to(pixels, (256, CHANNELS, SIDE, SIDE)).astype(np.float32)
    made.graph.output[0].name = next(n.input[0] for n in made.graph.node if n.op_type == "QuantizeLinear")
    seen = outputs(made, gray)
    assert len({row.tobytes() for row in seen}) == 256
