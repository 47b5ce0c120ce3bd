"""Fewer bits: weights stored as fp16, or weights and images as int8 with ranges taken from real crops."""

from __future__ import annotations

import tempfile
from collections.abc import Container, Sequence
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


def to_fp16(model: Any, *, exact: bool = False, only: Container[str] | None = None) -> Any:
    """The model with its weights stored as fp16 and cast when it is loaded: half the file, arithmetic in fp32.

    ONNX Runtime has no fp16 convolution for x86, and casting images back and forth would cost more than it saves.
    A weight beyond fp16's range stays fp32.

    Args:
        exact: only those weights that fp16 holds to the last bit.
        only: the names of those that may be stored so; None for all.
    """
    graph = Graph(model)
    casts = []
    for name, value in list(graph.weights.items()):
        if value.dtype != np.float32 or value.size < LEAST_NUMBERS or np.abs(value).max() > np.finfo(np.float16).max:
            continue
        if only is not None and name not in only:
            continue
        rounded = value.astype(np.float16)
        if exact and not np.array_equal(rounded.astype(np.float32), value):
            continue
        half = graph.weight(f"{name}_fp16", rounded)
        del graph.weights[name]
        casts.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    graph.nodes = casts + graph.nodes
    return graph.model()


def from_fp16(model: Any) -> Any:
    """The model with the weights that `to_fp16` stored as fp16 in fp32 again, for readers that cast no constants."""
    graph = Graph(model)
    kept = []
    for node in graph.nodes:
        value = graph.weights.get(node.input[0]) if node.op_type == "Cast" else None
        if value is None or value.dtype != np.float16:
            kept.append(node)
        else:
            graph.weights[node.output[0]] = value.astype(np.float32)
    graph.nodes = kept
    return graph.model()


def holds_fp16(model: Any) -> bool:
    """Whether a network stores weights as fp16."""
    return any(
        tensor.data_type == TensorProto.FLOAT16 and np.prod(tensor.dims) >= LEAST_NUMBERS
        for tensor in model.graph.initializer
    )


def to_int8(model: Any, inputs: Sequence[Array]) -> Any:
    """The model quantized statically: int8 weights per channel, uint8 images, in QuantizeLinear/DequantizeLinear form.

    Args:
        model: folded by `graph.folded`, its PReLU in a form that quantizes well: `equalize`, `activation.split_prelu`.
        inputs: what the graph takes, batches of real crops; the ranges of all images are taken from them.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    named = Graph(with_node_names(model))
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


def with_node_names(model: Any) -> Any:
    """The model with a name for every node."""
    named = Graph(model)
    for number, node in enumerate(named.nodes):
        node.name = node.name or f"node_{number}"
    return named.model()


def large_images(graph: Graph) -> set[str]:
    """Names of the images, the graph's input included, that only layers left in fp32 read: before the second halving.

    The first layer counts as halving also without a stride. Where nothing halves the image a second time, it is what
    comes before the first layer.
    """
    halvings = _halvings(graph)
    layers = [node for node in graph.nodes if node.op_type in LAYERS]
    smallest = max((halvings.get(name, 0) for node in layers for name in node.input), default=0)
    return {name for name, times in halvings.items() if times < min(2, smallest)}


def _halvings(graph: Graph) -> dict[str, int]:
    """How many layers with a stride, the first layer among them, come before each image."""
    found = {graph.proto.graph.input[0].name: 0}
    for node in graph.nodes:
        fed = [found[name] for name in node.input if name in found]
        if not fed:
            continue
        times = max(fed)
        strides = next((list(a.ints) for a in node.attribute if a.name == "strides"), [])
        if (times == 0 and node.op_type in LAYERS) or (times > 0 and any(stride > 1 for stride in strides)):
            times += 1
        found.update(dict.fromkeys(node.output, times))
    return found


def _left_in_fp32(graph: Graph) -> list[str]:
    """Names of the nodes that stay fp32: little work, and much that depends on their bits.

    The first convolution, with its activation: pixels lie halfway between the steps of the range that they would get,
    so that neighbors fall together, and runtimes that round otherwise see other faces. What follows it while the image
    has not been halved twice: few channels, so that the error of each weighs much, and images so large that turning
    them into codes and back takes the time that int8 saves. In facekd's own model they make a sixth of what 1 less the
    cosine to the source is in all, for few bytes. The gates of squeeze and
    excitation, from the pooling to the sigmoid: a gate scales a whole channel. The last layer: it makes the embedding.
    """
    makers = graph.makers()
    always: list[Any] = []
    for node in graph.nodes:
        if node.op_type in GATES:
            always += _back_to_pooling(makers, node)
    at = makers.get(graph.proto.graph.output[0].name)
    while at is not None and at.op_type not in LAYERS:
        at = makers.get(at.input[0])
    always += [] if at is None else [at]
    for large in (large_images(graph), {name for name, times in _halvings(graph).items() if times == 0}):
        names = {node.name for node in (*_reading(graph, large), *always)}
        if any(node.op_type in LAYERS and node.name not in names for node in graph.nodes):
            return sorted(names)
    return []  # a network of two layers would have nothing in int8


def _reading(graph: Graph, images: set[str]) -> list[Any]:
    """The nodes that read only these images, and the activations behind them."""
    kept: list[Any] = []
    behind: set[str] = set()
    for node in graph.nodes:
        fed = {name for name in node.input if name and name not in graph.weights}
        if fed and (fed <= images or (fed <= behind and node.op_type in ACTIVATIONS)):
            kept.append(node)
            behind.update(node.output)
    return kept


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
