"""Channels of an image brought to one range before it is quantized with one scale for all of them.

ReLU, LeakyReLU and PReLU keep a positive factor: f(s x) = s f(x). So a channel may leave its convolution s times larger
and enter the next one with weights s times smaller, and nothing changes but how many of the 256 codes it uses.
M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, arXiv 1906.04721;
here with ranges of real images in place of those of weights.

Sums, poolings and gates keep the factor too: s x + s y = s (x + y), and a gate multiplies whatever the channel is. So
images that are summed share their channels' factors, all convolutions that write them take 1 / s and all that read them
s: with the blocks of a residual network, or the gates of squeeze and excitation, nothing is left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from facekd.core.types import Array
from facekd.nets.graph import Graph

MOST = 512.0  # factor: a channel that is hardly ever active is not blown up beyond it
HOMOGENEOUS = ("Relu", "LeakyRelu", "PRelu", "GlobalAveragePool", "AveragePool", "MaxPool")
FUSED = ("Relu", "PRelu")  # into the layer before them when it is quantized, a PReLU by `activation.split_prelu`
GATES = ("Sigmoid", "HardSigmoid")


@dataclass(frozen=True, slots=True)
class Shared:
    """Images whose channels may only be scaled together."""

    writers: list[Any]  # convolutions whose output is one of them
    readers: list[Any]  # convolutions of one of them
    images: list[str]  # those that are quantized: none that was pooled, none between a layer and its Relu or PReLU


def equalize(model: Any, inputs: Sequence[Array]) -> Any:
    """The model with equal ranges of the channels of the images between convolutions.

    The range of a channel that several images share is the largest of them, each as a fraction of its image's own.

    Args:
        model: folded by `graph.folded`, its PReLU as it comes.
        inputs: what the graph takes, batches of real crops.
    """
    graph = Graph(model)
    found = [shared for shared in shared_channels(graph) if _scalable(graph, shared)]
    names = [name for shared in found for name in shared.images]
    ranges = dict(zip(names, _ranges(model, names, inputs), strict=True))
    for shared in found:
        largest = [ranges[name] for name in shared.images]
        if len({len(one) for one in largest}) != 1:  # one channel for all of another image's
            continue
        share = np.max([one / max(one.max(), 1e-12) for one in largest], axis=0)
        # A depthwise kernel has a scale for each channel and takes any factor; an ordinary one shares a scale among all
        # its inputs, so half of the way is left to it.
        depthwise = all(_depthwise(graph, conv) for conv in shared.readers)
        factor = np.maximum(share, 1e-12) ** (1.0 if depthwise else 0.5)
        factor = np.maximum(factor, 1 / MOST).astype(np.float32)
        for conv in shared.writers:
            for place, name in enumerate(conv.input[1:], 1):
                value = graph.weights[name]
                even = value / factor.reshape(-1, *(1,) * (value.ndim - 1))
                conv.input[place] = graph.weight(f"{name}_even", even)
        for conv in shared.readers:
            name = conv.input[1]
            shape = (-1, 1, 1, 1) if _depthwise(graph, conv) else (1, -1, 1, 1)
            conv.input[1] = graph.weight(f"{name}_even", graph.weights[name] * factor.reshape(shape))
    return graph.model()


def shared_channels(graph: Graph) -> list[Shared]:
    """The images of a graph by whose channels have to be scaled together, those alone that convolutions bound.

    An image that anything else makes or reads, as the graph's input, its output, or what a Clip or a concatenation
    takes, fixes the scale of all that share it, and they are left out.
    """
    makers, uses = graph.makers(), graph.uses()
    joined: dict[str, str] = {}
    read: Counter[str] = Counter()  # by nodes that keep a factor
    fixed = {value.name for value in graph.proto.graph.input}

    def root(name: str) -> str:
        joined.setdefault(name, name)
        while joined[name] != name:
            name = joined[name]
        return name

    for node in graph.nodes:
        kept = _keeping(graph, makers, node)
        read.update(kept)
        if node.op_type == "Conv":
            root(node.output[0])
            continue
        if not kept:
            fixed.update(node.output)
        for name in kept:
            joined[root(name)] = root(node.output[0])
    fixed |= {name for name in joined if uses[name] != read[name]}
    fixed_roots = {root(name) for name in fixed}
    unbent = {node.input[0] for node in graph.nodes if node.op_type in FUSED and uses[node.input[0]] == 1}
    images: dict[str, list[str]] = {}
    for name in list(joined):
        images.setdefault(root(name), []).append(name)
    made = []
    for key, names in images.items():
        inside = set(names)
        writers = [node for node in graph.nodes if node.op_type == "Conv" and node.output[0] in inside]
        readers = [node for node in graph.nodes if node.op_type == "Conv" and node.input[0] in inside]
        made_by = {name: makers[name].op_type for name in names if name in makers}
        whole = [name for name, kind in made_by.items() if kind != "GlobalAveragePool" and name not in unbent]
        if key not in fixed_roots and writers and readers:
            made.append(Shared(writers, readers, whole))
    return made


def _keeping(graph: Graph, makers: dict[str, Any], node: Any) -> list[str]:
    """The images of which a node keeps a positive factor, or that a convolution reads; else none."""
    images = [name for name in node.input if name and name not in graph.weights]
    constant = len(images) < len(node.input)
    if node.op_type == "Conv" or (node.op_type in HOMOGENEOUS and len(node.output) == 1):
        return [name for name in node.input[:1] if name in images]
    if node.op_type == "Add" and not constant:
        return images
    if node.op_type == "Mul" and not constant:
        gated = [name for name in images if name not in makers or makers[name].op_type not in GATES]
        return gated if len(gated) == 1 else []
    return []


def _scalable(graph: Graph, shared: Shared) -> bool:
    """Whether the weights of all convolutions are at hand, and the readers' kernels know one channel from another."""
    convs = (*shared.writers, *shared.readers)
    if any(name not in graph.weights for conv in convs for name in conv.input[1:]):
        return False
    return all(_groups(conv) == 1 or _depthwise(graph, conv) for conv in shared.readers)


def _depthwise(graph: Graph, conv: Any) -> bool:
    kernel = graph.weights[conv.input[1]]
    return kernel.shape[1] == 1 and _groups(conv) == len(kernel)


def _groups(conv: Any) -> int:
    return int(next((attribute.i for attribute in conv.attribute if attribute.name == "group"), 1))


def _ranges(model: Any, names: Sequence[str], inputs: Sequence[Array]) -> list[Array]:
    """float64[C] for each image named: the largest magnitude of each channel in a batch, on average."""
    import onnxruntime

    probe = Graph(model)
    axes = probe.weight("range_axes", np.array([0, 2, 3], np.int64))
    for name in names:
        magnitude = probe.name(f"{name}_magnitude")
        probe.nodes.append(helper.make_node("Abs", [name], [magnitude]))
        probe.nodes.append(helper.make_node("ReduceMax", [magnitude, axes], [f"{name}_range"], keepdims=0))
    made = probe.model()
    made.graph.output.extend(helper.make_tensor_value_info(f"{n}_range", TensorProto.FLOAT, None) for n in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fed = session.get_inputs()[0].name
    found = [session.run([f"{name}_range" for name in names], {fed: batch}) for batch in inputs] if names else []
    return [np.mean([batch[i] for batch in found], axis=0).astype(np.float64) for i in range(len(names))]
