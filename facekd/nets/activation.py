"""PReLU in operators that a runtime runs at full speed: the same function, written otherwise.

ONNX Runtime holds a CNN's images in blocks of channels (NCHWc) from one convolution to the next; its PReLU knows no
blocks, so each of them turns the image back and forth and runs slowly in between. Convolution, Relu and the sum of
a convolution with another image stay in blocks, and they suffice: for slopes a < 1

    prelu(z) = a z + (1 - a) relu(z) = relu(z') + a / (1 - a) z',    z' = (1 - a) z,

with 1 - a folded into the weights of the convolution that makes z. What is left is one Relu and one depthwise 1x1
convolution that adds it to its sum. In floating point no bits are lost, however near a is to 1: z' has the relative
precision of z, and where both terms count they have the same sign or the first is zero (for a >= 0).

One slope for all channels is simpler: a LeakyRelu, of any slope, is computed inside of the convolution before it, in
blocks too. Where that convolution's own output is read as well, it would not be, and two depthwise ones are quicker.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np
from onnx import helper

from facekd.core.types import Array
from facekd.nets.graph import Graph

LEAKY = 0.01  # alpha of a LeakyRelu that names none, by ONNX's definition
LEAST_GAP = 2.0**-20  # between a slope and 1; a slope of 1 itself is moved by so much


def rewrite_prelu(model: Any, only: Container[str] | None = None, *, weights: bool = True) -> tuple[Any, int]:
    """The model without PReLU where its slopes are constant and belong to channels, and how many were rewritten.

    Args:
        model: folded by `graph.folded`, so that its norms are in the convolutions.
        only: the images whose PReLU is rewritten; None for all.
        weights: whether those of convolutions may change; else only a PReLU of one slope is rewritten.
    """
    graph = Graph(model)
    rewritten = 0
    for node in list(graph.nodes):
        if node.op_type != "PRelu" or (only is not None and node.input[0] not in only):
            continue
        maker = graph.makers().get(node.input[0])
        conv = maker if maker is not None and maker.op_type == "Conv" else None
        alone = graph.uses()[node.input[0]] == 1
        slope, slopes = _one_slope(graph, node), _slopes(graph, node, maker)
        if slope is not None and ((conv is not None and alone) or slopes is None):
            leaky = helper.make_node("LeakyRelu", [node.input[0]], list(node.output), alpha=slope)
            _replace(graph, node, [leaky])
        elif maker is None or slopes is None or not weights:
            continue
        elif conv is not None and alone and slopes.max() < 1:
            _after_convolution(graph, node, conv, slopes)
        else:
            _anywhere(graph, node, slopes)
        rewritten += 1
    return graph.model(), rewritten


def split_prelu(model: Any) -> tuple[Any, int]:
    """The model with PReLU as a sum of two convolutions of one input, and how many were split: the form to quantize.

    prelu(W x) = relu((1 - a) W x) + a W x. Each of the two is quantized in its own range, and a convolution's Relu
    costs a quantized graph nothing; with z in between, channels whose slopes are near 1 would get few codes. Where a
    slope is above 1, or no convolution makes the input alone, the PReLU stays.

    A PReLU of one slope for all channels becomes a LeakyRelu and a LeakyRelu stays: quantized, it is a table of 256
    numbers and costs less than a second convolution, and all channels lose as little.
    """
    graph = Graph(model)
    count = 0
    for node in list(graph.nodes):
        if node.op_type != "PRelu":
            continue
        slope = _one_slope(graph, node)
        if slope is not None:
            _replace(graph, node, [helper.make_node("LeakyRelu", [node.input[0]], list(node.output), alpha=slope)])
            continue
        conv = graph.makers().get(node.input[0])
        slopes = None if conv is None else _slopes(graph, node, conv)
        if conv is None or slopes is None or conv.op_type != "Conv" or slopes.max() > 1:
            continue
        if graph.uses()[node.input[0]] != 1 or not all(name in graph.weights for name in conv.input[1:]):
            continue
        (out,) = node.output
        made = []
        for what, factor in (("bent", 1 - slopes.astype(np.float64)), ("scaled", slopes.astype(np.float64))):
            part = helper.make_node("Conv", [conv.input[0]], [graph.name(f"{out}_{what}")])
            part.attribute.extend(conv.attribute)
            for name in conv.input[1:]:
                value = graph.weights[name]
                shape = (-1, *(1,) * (value.ndim - 1))
                part.input.append(graph.weight(f"{name}_{what}", (value * factor.reshape(shape)).astype(np.float32)))
            made.append(part)
        relu = graph.name(f"{out}_relu")
        bent, scaled = made
        _replace(
            graph,
            node,
            [
                bent,
                helper.make_node("Relu", [bent.output[0]], [relu]),
                scaled,
                helper.make_node("Add", [relu, scaled.output[0]], [out]),
            ],
        )
        graph.nodes = [other for other in graph.nodes if other is not conv]
        count += 1
    return graph.model(), count


def restore_prelu(model: Any) -> tuple[Any, int]:
    """The model with what `rewrite_prelu` made of PReLU turned back into it, and how many were turned back.

    s z + t relu(z), the two sums of one image by depthwise 1x1 convolutions, is p prelu(z) of slope s / p for
    p = s + t, and p, where it is above zero, goes into the convolution that makes z.
    """
    graph = Graph(model)
    count = 0
    for node in list(graph.nodes):
        found = _sum_with_relu(graph, node)
        if found is None:
            continue
        source, scale, positive = found
        conv = graph.makers().get(source)
        if not np.allclose(positive, 1, rtol=1e-6):
            kept = conv is not None and conv.op_type == "Conv" and graph.uses()[source] == 2
            if conv is None or not kept or not all(name in graph.weights for name in conv.input[1:]):
                continue
            _scale_outputs(graph, conv, positive)
        slope = graph.weight(f"{node.output[0]}_slope", (scale / positive).astype(np.float32).reshape(-1, 1, 1))
        _replace(graph, node, [helper.make_node("PRelu", [source, slope], list(node.output))])
        graph.prune()
        count += 1
    return graph.model(), count


def tame_prelu(model: Any) -> tuple[Any, int]:
    """The model with no PReLU slope beyond 1 or -1 between two convolutions, and how many PReLU changed.

    prelu_a(z) = -a prelu_1/a(-z) for either sign of a: the convolution before takes the -1 and the one behind the -a.
    """
    graph = Graph(model)
    count = 0
    for node in list(graph.nodes):
        if node.op_type not in ("PRelu", "LeakyRelu"):
            continue
        makers, uses = graph.makers(), graph.uses()
        before, after = makers.get(node.input[0]), next((n for n in graph.nodes if node.output[0] in n.input), None)
        slopes = _slopes(graph, node, before)
        if before is None or after is None or slopes is None or {before.op_type, after.op_type} != {"Conv"}:
            continue
        alone = uses[node.input[0]] == uses[node.output[0]] == 1
        steep = np.abs(slopes) > 1
        held = all(name in graph.weights for name in (*before.input[1:], *after.input[1:]))
        if not alone or not steep.any() or not held or not _scalable(graph, after, len(slopes)):
            continue
        wide = slopes.astype(np.float64)
        _scale_outputs(graph, before, np.where(steep, -1.0, 1.0))
        _scale_inputs(graph, after, np.where(steep, -wide, 1.0))
        tame = np.where(steep, 1 / np.where(steep, wide, 1), wide).astype(np.float32)
        if tame.min() == tame.max():
            made = helper.make_node("LeakyRelu", [node.input[0]], list(node.output), alpha=float(tame[0]))
        else:
            slope = graph.weight(f"{node.output[0]}_tame", tame.reshape(-1, 1, 1))
            made = helper.make_node("PRelu", [node.input[0], slope], list(node.output))
        _replace(graph, node, [made])
        count += 1
    return graph.model(), count


def _sum_with_relu(graph: Graph, node: Any) -> tuple[str, Array, Array] | None:
    """z, s and s + t, each float64[C], of a node that is s z + t relu(z); None for any other."""
    if node.op_type != "Add":
        return None
    makers, uses = graph.makers(), graph.uses()
    straight, bent = None, None  # (image, factors) without and with a Relu
    for name in node.input:
        if uses[name] != 1:
            return None
        factors, maker = None, makers.get(name)
        if maker is not None and maker.op_type == "Conv":
            factors = _factors(graph, maker)
            if factors is None:
                return None
            name = maker.input[0]
            maker = makers.get(name)
        if maker is not None and maker.op_type == "Relu" and uses[name] == 1:
            bent = (maker.input[0], factors)
        else:
            straight = (name, factors)
    if straight is None or bent is None or straight[0] != bent[0] or straight[1] is None:
        return None
    positive = straight[1] + (1.0 if bent[1] is None else bent[1])
    return (straight[0], straight[1], positive) if (positive > 0).all() else None


def _factors(graph: Graph, conv: Any) -> Array | None:
    """What a depthwise 1x1 convolution without bias multiplies each channel by, float64[C]; None for any other."""
    kernel = graph.weights.get(conv.input[1])
    if kernel is None or kernel.shape[1:] != (1, 1, 1) or len(conv.input) > 2 or _groups(conv) != len(kernel):
        return None
    numbers = {a.name: list(a.ints) for a in conv.attribute}
    if any(v != 1 for v in numbers.get("strides", [])) or any(numbers.get("pads", [])):
        return None
    return kernel.reshape(-1).astype(np.float64)


def _groups(conv: Any) -> int:
    return int(next((attribute.i for attribute in conv.attribute if attribute.name == "group"), 1))


def _scale_outputs(graph: Graph, conv: Any, factors: Array) -> None:
    """Let a convolution, its weights in the graph, give each channel `factors`, float64[C], times."""
    for place, name in enumerate(conv.input[1:], 1):
        value = graph.weights[name]
        shape = (-1, *(1,) * (value.ndim - 1))
        scaled = (value * factors.reshape(shape)).astype(np.float32)
        conv.input[place] = graph.weight(f"{name}_scaled", scaled)


def _scalable(graph: Graph, conv: Any, channels: int) -> bool:
    kernel = graph.weights[conv.input[1]]
    return _groups(conv) == 1 or (kernel.shape[1] == 1 and _groups(conv) == len(kernel) == channels)


def _scale_inputs(graph: Graph, conv: Any, factors: Array) -> None:
    """Let a convolution of one group, or a depthwise one, take each channel `factors`, float64[C], times."""
    kernel = graph.weights[conv.input[1]]
    shape = (1, -1, 1, 1) if _groups(conv) == 1 else (-1, 1, 1, 1)
    conv.input[1] = graph.weight(f"{conv.input[1]}_taken", (kernel * factors.reshape(shape)).astype(np.float32))


def _one_slope(graph: Graph, node: Any) -> float | None:
    """The slope that all channels of a PReLU share, or None where there are several or they are computed."""
    found = graph.weights.get(node.input[1])
    if found is None or found.size == 0 or found.min() != found.max():
        return None
    return float(found.flat[0])


def _slopes(graph: Graph, node: Any, maker: Any) -> Array | None:
    """float32[C], or None where they are computed, or not one for each channel of an image."""
    if node.op_type == "LeakyRelu":
        alpha = next((attribute.f for attribute in node.attribute if attribute.name == "alpha"), LEAKY)
        found: Array | None = np.array(alpha, np.float32)
    else:
        found = graph.weights.get(node.input[1])
    if found is None:
        return None
    if maker is not None and maker.op_type == "Conv" and maker.input[1] in graph.weights:
        channels = len(graph.weights[maker.input[1]])
    elif found.ndim >= 3 and found.shape[-3] > 1:
        channels = found.shape[-3]
    else:
        return None
    if found.size == 1:
        return np.full(channels, found.item(), np.float32)
    shape = (1,) * (4 - found.ndim) + found.shape
    return found.reshape(-1).astype(np.float32) if shape == (1, channels, 1, 1) else None


def _after_convolution(graph: Graph, node: Any, conv: Any, slopes: Array) -> None:
    if not all(name in graph.weights for name in conv.input[1:]):
        _anywhere(graph, node, slopes)
        return
    slopes = np.minimum(slopes.astype(np.float64), 1 - LEAST_GAP)
    gap = 1 - slopes
    kernel = graph.weights[conv.input[1]]
    conv.input[1] = graph.weight(f"{conv.input[1]}_gap", (kernel * gap.reshape(-1, 1, 1, 1)).astype(np.float32))
    if len(conv.input) > 2:
        conv.input[2] = graph.weight(f"{conv.input[2]}_gap", (graph.weights[conv.input[2]] * gap).astype(np.float32))
    _replace(graph, node, _sum_of(graph, node, (slopes / gap).astype(np.float32)))


def _anywhere(graph: Graph, node: Any, slopes: Array) -> None:
    """Where no convolution can take the factor, or a slope is above 1: a z + (1 - a) relu(z), one pass more."""
    a, rest = slopes, 1 - slopes
    (out,) = node.output
    relu, scaled, bent = (graph.name(f"{out}_{what}") for what in ("relu", "scaled", "bent"))
    nodes = [
        helper.make_node("Relu", [node.input[0]], [relu]),
        _depthwise(graph, relu, rest, bent),
        _depthwise(graph, node.input[0], a, scaled),
        helper.make_node("Add", [scaled, bent], [out]),
    ]
    _replace(graph, node, nodes)


def _sum_of(graph: Graph, node: Any, ratio: Array) -> list[Any]:
    (out,) = node.output
    relu, scaled = (graph.name(f"{out}_{what}") for what in ("relu", "scaled"))
    return [
        helper.make_node("Relu", [node.input[0]], [relu]),
        _depthwise(graph, node.input[0], ratio, scaled),
        helper.make_node("Add", [scaled, relu], [out]),
    ]


def _depthwise(graph: Graph, name: str, factors: Array, out: str) -> Any:
    weight = graph.weight(f"{out}_factor", factors.reshape(-1, 1, 1, 1).astype(np.float32))
    return helper.make_node("Conv", [name, weight], [out], group=len(factors), kernel_shape=[1, 1])


def _replace(graph: Graph, node: Any, nodes: list[Any]) -> None:
    at = next(i for i, other in enumerate(graph.nodes) if other is node)
    graph.nodes[at : at + 1] = nodes
