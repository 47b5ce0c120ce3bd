"""Weights of 8 or 4 bits, a scale for each block of them, computed with in fp32: a smaller file of the same speed.

The codes become weights again by Cast, Mul and Reshape (and Floor, Sub and Concat for two codes in a byte): plain
operators on constants, which ONNX Runtime computes once, when it loads the file. ONNX's own DequantizeLinear has
blocks from opset 21 on, which few readers know, and ONNX Runtime's MatMulNBits knows no convolutions.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from facekd.core.types import Array
from facekd.deploy.costs import costliest, embedded
from facekd.deploy.quantize import LAYERS, LEAST_NUMBERS
from facekd.nets.graph import Graph

LONGEST, SHORTEST = 32, 8  # numbers that share a scale
CLIPPED = np.linspace(0.7, 1.0, 13, dtype=np.float32)  # of the range: the one of the least squared error is taken


def block_forms(full: Any, bits: int, inputs: Sequence[Array]) -> Iterator[Any]:
    """The network with weights of `bits` bits, then with 8 for ever more of the layers that lose most by 4.

    It ends before a form that is no smaller than with 8 bits everywhere.

    Args:
        full: in fp32.
        inputs: what the graph takes, batches of real crops.
    """
    yield to_blocks(full, bits)
    if bits == 8:
        return
    wanted = embedded(full, inputs)
    costs: dict[str, float] = {}
    for node in full.graph.node:
        if node.op_type in LAYERS and node.input[1] not in costs:
            alone = to_blocks(full, 4, only={node.input[1]})
            costs[node.input[1]] = float(1 - (embedded(alone, inputs) * wanted).sum(axis=1).mean())
    most = to_blocks(full, 8).ByteSize()
    for names in costliest(costs):
        made = to_blocks(full, 4, wide=names)
        if made.ByteSize() >= most:
            return
        yield made


def to_blocks(model: Any, bits: int, *, only: Container[str] | None = None, wide: Container[str] = ()) -> Any:
    """The model with the weights of its layers in `bits` bits, 8 or 4; those of few numbers stay fp32.

    A block lies in one output channel; where none of even length divides a channel's numbers, as in a depthwise 3x3
    convolution, they take 8 bits.

    Args:
        only: the names of the weights that change; None for all.
        wide: of those that take 8 bits.
    """
    graph = Graph(model)
    nodes: list[Any] = []
    done: set[str] = set()
    for node in graph.nodes:
        name = node.input[1] if node.op_type in LAYERS else ""
        value = graph.weights.get(name)
        if name in done or (only is not None and name not in only):
            continue
        if value is None or value.dtype != np.float32 or value.size < LEAST_NUMBERS:
            continue
        row = int(np.prod(value.shape[1:]))
        narrow = bits == 4 and name not in wide
        block = next((n for n in range(LONGEST, SHORTEST - 1, -1) if row % n == 0 and not (narrow and n % 2)), None)
        if block is None:
            narrow = False
            block = next((n for n in range(LONGEST, SHORTEST - 1, -1) if row % n == 0), None)
        if block is None:
            continue
        done.add(name)
        nodes += _decoded(graph, name, *_coded(value.reshape(-1, block), 4 if narrow else 8))
    graph.nodes = nodes + graph.nodes
    return graph.model()


def _coded(rows: Array, bits: int) -> tuple[Array, Array]:
    """int8[K, B] codes and float16[K, 1] scales of float32[K, B]: code * scale is about the number."""
    most = np.float32(2 ** (bits - 1) - 1)
    largest = np.maximum(np.abs(rows).max(axis=1, keepdims=True), np.float32(1e-7) * most)
    best = np.full((len(rows), 1), np.inf, np.float32)
    codes, scales = np.zeros(rows.shape, np.int8), np.zeros((len(rows), 1), np.float16)
    for share in CLIPPED if bits == 4 else CLIPPED[-1:]:
        scale = np.maximum(largest * share / most, np.finfo(np.float16).tiny).astype(np.float16)
        tried = np.clip(np.round(rows / scale.astype(np.float32)), -most - (bits == 4), most)
        error = ((tried * scale.astype(np.float32) - rows) ** 2).sum(axis=1, keepdims=True)
        better = error < best
        best = np.where(better, error, best)
        codes, scales = np.where(better, tried, codes).astype(np.int8), np.where(better, scale, scales)
    return codes, scales


def _decoded(graph: Graph, name: str, codes: Array, scales: Array) -> list[Any]:
    """The nodes that make the weight `name` of its codes, which take its place among the weights."""
    value = graph.weights.pop(name)
    nodes: list[Any] = []

    def add(op: str, *inputs: str, **attributes: Any) -> str:
        made = graph.name(f"{name}_{op.lower()}")
        nodes.append(helper.make_node(op, list(inputs), [made], **attributes))
        return made

    def number(wish: str, of: float) -> str:
        return graph.weight(f"{name}_{wish}", np.array(of, np.float32))

    if np.abs(codes.astype(np.int16)).max() <= 8 and codes.shape[1] % 2 == 0:
        half = codes.shape[1] // 2
        shifted = (codes + 8).astype(np.uint8)
        packed = graph.weight(f"{name}_codes", shifted[:, :half] | (shifted[:, half:] << 4))
        whole = add("Cast", packed, to=TensorProto.FLOAT)
        high = add("Floor", add("Mul", whole, number("sixteenth", 1 / 16)))
        low = add("Sub", whole, add("Mul", high, number("sixteen", 16)))
        floats = add("Sub", add("Concat", low, high, axis=1), number("eight", 8))
    else:
        floats = add("Cast", graph.weight(f"{name}_codes", codes), to=TensorProto.FLOAT)
    factors = add("Cast", graph.weight(f"{name}_scales", scales), to=TensorProto.FLOAT)
    shape = graph.weight(f"{name}_shape", np.array(value.shape, np.int64))
    nodes.append(helper.make_node("Reshape", [add("Mul", floats, factors), shape], [name]))
    return nodes
