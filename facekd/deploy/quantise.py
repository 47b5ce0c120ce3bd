"""Fewer bits: weights stored as fp16, or weights and images as int8 with ranges taken from real crops."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from facekd.core.types import Array
from facekd.nets.graph import Graph, set_metadata

LAYERS = ("Conv", "Gemm", "MatMul")
ACTIVATIONS = ("Relu", "Clip", "PRelu", "LeakyRelu", "Add")  # Add where a PReLU was split in two
GATES, POOLS = ("Sigmoid", "HardSigmoid"), ("GlobalAveragePool", "ReduceMean")
LEAST_NUMBERS = 256  # weights of fewer numbers stay fp32: they are no part of the file's size


def to_fp16(model: Any) -> Any:
    """The model with its weights stored as fp16 and cast when it is loaded: half the file, arithmetic in fp32.

    ONNX Runtime has no fp16 convolution for x86, and casting images back and forth would cost more than it saves.
    A weight beyond fp16's range stays fp32.
    """
    graph = Graph(model)
    casts = []
    for name, value in list(graph.weights.items()):
        if value.dtype != np.float32 or value.size < LEAST_NUMBERS or np.abs(value).max() > np.finfo(np.float16).max:
            continue
        half = graph.weight(f"{name}_fp16", value.astype(np.float16))
        del graph.weights[name]
        casts.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    graph.nodes = casts + graph.nodes
    return graph.model()


def to_int8(model: Any, inputs: Sequence[Array]) -> Any:
    """The model quantised statically: int8 weights per channel, uint8 images, in QuantizeLinear/DequantizeLinear form.

    Args:
        model: folded by `graph.folded`, its PReLU in a form that quantises well: `equalise`, `activation.split_prelu`.
        inputs: what the graph takes, batches of real crops; the ranges of all images are taken from them.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    named = Graph(model)
    for number, node in enumerate(named.nodes):
        node.name = node.name or f"node_{number}"
    prepared = named.model()
    set_metadata(prepared, {"onnx.quant.pre_process": "onnxruntime.quant"})  # what its own folding would have left
    with tempfile.TemporaryDirectory(prefix="facekd-export-") as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            prepared,
            path,
            _Batches(model.graph.input[0].name, inputs),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Relu", "Clip", "Add", "Gemm", "MatMul", "PRelu", "LeakyRelu"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            nodes_to_exclude=_left_in_fp32(named),
            # The mean of the batches' ends: one odd face does not widen a range for all.
            extra_options={"CalibMovingAverage": True},
        )
        return onnx.load(str(path))


def _left_in_fp32(graph: Graph) -> list[str]:
    """Names of the nodes that stay fp32: little work, and much that depends on their bits.

    The first convolution, with its activation: pixels lie halfway between the steps of the range that they would get,
    so that neighbors fall together, and runtimes that round otherwise see other faces. The gates of squeeze and
    excitation, from the pooling to the sigmoid: a gate scales a whole channel. The last layer: it makes the embedding.
    """
    makers = graph.makers()
    kept: list[Any] = []
    before, behind = {graph.proto.graph.input[0].name}, set[str]()  # images before and behind the first convolutions
    for node in graph.nodes:
        fed = {name for name in node.input if name and name not in graph.weights}
        if fed and fed <= before:
            kept.append(node)
            (behind if node.op_type in LAYERS else before).update(node.output)
        elif fed and fed <= behind and node.op_type in ACTIVATIONS:
            kept.append(node)
            behind.update(node.output)
    for node in graph.nodes:
        if node.op_type in GATES:
            kept += _back_to_pooling(makers, node)
    at = makers.get(graph.proto.graph.output[0].name)
    while at is not None and at.op_type not in LAYERS:
        at = makers.get(at.input[0])
    kept += [] if at is None else [at]
    names = {node.name for node in kept}
    # A network of two layers would have nothing in int8.
    return sorted(names) if any(n.op_type in LAYERS and n.name not in names for n in graph.nodes) else []


def _back_to_pooling(makers: dict[str, Any], gate: Any) -> list[Any]:
    """The nodes from a pooling over the whole image to a gate; none where there is no such pooling."""
    found, at = [gate], makers.get(gate.input[0])
    while at is not None and at.op_type not in POOLS:
        if at.op_type not in (*LAYERS, "Relu", "PRelu", "LeakyRelu", "Clip", "Reshape", "Flatten", "Add"):
            return []
        found.append(at)
        at = makers.get(at.input[0])
    return [] if at is None else found


class _Batches:
    """What onnxruntime's calibration asks for: one feed after another, then None."""

    def __init__(self, name: str, inputs: Sequence[Array]) -> None:
        self.name = name
        self.left = iter(inputs)

    def get_next(self) -> dict[str, Array] | None:
        batch = next(self.left, None)
        return None if batch is None else {self.name: batch}
