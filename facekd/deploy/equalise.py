"""Channels of an image brought to one range before it is quantised with one scale for all of them.

ReLU, LeakyReLU and PReLU keep a positive factor: f(s x) = s f(x). So a channel may leave its convolution s times larger
and enter the next one with weights s times smaller, and nothing changes but how many of the 256 codes it uses.
M. Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, arXiv 1906.04721;
here with ranges of real images in place of those of weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from facekd.core.types import Array
from facekd.nets.graph import Graph

MOST = 64.0  # factor: a channel that is hardly ever active is not blown up beyond it


def equalise(model: Any, inputs: Sequence[Array]) -> Any:
    """The model with equal ranges of the channels between a convolution, its activation and the next convolution.

    Args:
        model: folded by `graph.folded`, its PReLU as it comes.
        inputs: what the graph takes, batches of real crops.
    """
    graph = Graph(model)
    makers, uses = graph.makers(), graph.uses()
    readers = {name: node for node in graph.nodes for name in node.input}
    chains = []
    for node in graph.nodes:
        if node.op_type not in ("Relu", "LeakyRelu", "PRelu"):
            continue
        before, after = makers.get(node.input[0]), readers.get(node.output[0])
        alone = uses[node.input[0]] == uses[node.output[0]] == 1
        if alone and before is not None and after is not None and {before.op_type, after.op_type} == {"Conv"}:
            chains.append((before, node, after))
    ranges = _ranges(model, [node.output[0] for _, node, _ in chains], inputs)
    for (before, _, after), largest in zip(chains, ranges, strict=True):
        if any(name not in graph.weights for name in (*before.input[1:], *after.input[1:])):
            continue
        kernel, groups = graph.weights[after.input[1]], _groups(after)
        depthwise = kernel.shape[1] == 1 and groups == len(kernel) == len(largest)
        if not depthwise and groups != 1:
            continue
        # A depthwise kernel has a scale for each channel and takes any factor; an ordinary one shares a scale among all
        # its inputs, so half of the way is left to it.
        factor = np.maximum(largest / largest.max(), 1e-12) ** (1.0 if depthwise else 0.5)
        factor = np.maximum(factor, 1 / MOST).astype(np.float32)
        for place, name in enumerate(before.input[1:], 1):
            value = graph.weights[name]
            before.input[place] = graph.weight(f"{name}_even", value / factor.reshape(-1, *(1,) * (value.ndim - 1)))
        shape = (-1, 1, 1, 1) if depthwise else (1, -1, 1, 1)
        after.input[1] = graph.weight(f"{after.input[1]}_even", kernel * factor.reshape(shape))
    return graph.model()


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
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fed = session.get_inputs()[0].name
    found = [session.run([f"{name}_range" for name in names], {fed: batch}) for batch in inputs] if names else []
    return [np.mean([batch[i] for batch in found], axis=0).astype(np.float64) for i in range(len(names))]
