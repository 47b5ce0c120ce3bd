"""MTCNN's three networks as ONNX Runtime sessions, with facenet-pytorch's weights and quicker but equal graphs.

Their PReLU is what costs most: ONNX Runtime computes convolutions in blocks of channels, but has no PReLU in
that layout. With slope a <= 1 a PReLU is ``a x + relu((1 - a) x)``: two convolutions of one channel each, the
second with its relu and sum built in. Before a maximum pool it is quicker still to pool first (`_pooled_prelu`).
The layers after the last convolution lose their softmax: of two classes only the difference counts.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal

import numpy as np

from facekd.core.types import Array

Name = Literal["pnet", "rnet", "onet"]


def load_net(name: Name) -> Any:
    """An ``onnxruntime.InferenceSession`` on one core; it may be called from several threads at once.

    Input ``pixels``: float32[n, 3, h, w], RGB, 0..255; 24x24 for ``rnet``, 48x48 for ``onet``, any for ``pnet``.
    Output: float32[n, 5 or 15] (of ``pnet`` float32[n, 5, h', w']): the logit of "face", four box offsets, and
    of ``onet`` five x and five y of the landmarks, in facenet-pytorch's order and units.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # the cores work on different photos
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = False  # it would keep a plan for every size of photo ever seen
    return onnxruntime.InferenceSession(graph(name, read_weights(name)), options, providers=["CPUExecutionProvider"])


def read_weights(name: Name) -> dict[str, Array]:
    """The arrays of a network, from the installed facenet-pytorch, which is not imported for it."""
    import torch

    spec = importlib.util.find_spec("facenet_pytorch")
    if spec is None or spec.submodule_search_locations is None:
        raise ModuleNotFoundError("No module named 'facenet_pytorch'", name="facenet_pytorch")
    path = Path(spec.submodule_search_locations[0]) / "data" / f"{name}.pt"
    return {key: value.double().numpy() for key, value in torch.load(path, weights_only=True).items()}


def graph(name: Name, weights: dict[str, Array]) -> bytes:
    """The serialized ONNX model of a network."""
    net = _Graph(weights)
    if name == "pnet":
        x, sign = net.pooled_prelu(net.pixels("conv1"), "prelu1", 2)
        x = net.prelu(net.conv(x, "conv2", sign), "prelu2")
        x = net.prelu(net.conv(x, "conv3"), "prelu3")
        return net.serialized(net.convolve(x, *net.heads("conv4_1", "conv4_2")))
    if name == "rnet":
        x, sign = net.pooled_prelu(net.pixels("conv1"), "prelu1", 3)
        x = net.pool(net.prelu(net.conv(x, "conv2", sign), "prelu2"), 3)
        x = net.prelu(net.conv(x, "conv3"), "prelu3")
        x = net.dense_prelu(x, "dense4", "prelu4")
        return net.serialized(net.dense(x, *net.heads("dense5_1", "dense5_2")))
    # Two thirds of its time is conv2; here the first pool is better left where it was.
    x = net.pool(net.prelu(net.convolve("pixels", *net.pixels("conv1")), "prelu1"), 3)
    x = net.pool(net.prelu(net.conv(x, "conv2"), "prelu2"), 3)
    x = net.pool(net.prelu(net.conv(x, "conv3"), "prelu3"), 2)
    x = net.prelu(net.conv(x, "conv4"), "prelu4")
    x = net.dense_prelu(x, "dense5", "prelu5")
    return net.serialized(net.dense(x, *net.heads("dense6_1", "dense6_2", "dense6_3")))


class _Graph:
    """An ONNX graph that grows node by node; each method adds nodes and returns the name of their output."""

    def __init__(self, weights: dict[str, Array]) -> None:
        self.weights = weights
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def constant(self, values: Array) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        return name

    def convolve(self, x: str, weight: Array, bias: Array | None = None, group: int = 1) -> str:
        inputs = [x, self.constant(weight), *([] if bias is None else [self.constant(bias)])]
        return self.node("Conv", *inputs, kernel_shape=list(weight.shape[2:]), group=group)

    def conv(self, x: str, layer: str, sign: Array | None = None) -> str:
        weight = self.weights[f"{layer}.weight"]
        if sign is not None:
            weight = weight * sign[:, None, None]
        return self.convolve(x, weight, self.weights[f"{layer}.bias"])

    def dense(self, x: str, weight: Array, bias: Array) -> str:
        return self.node("Gemm", x, self.constant(weight), self.constant(bias), transB=1)

    def pool(self, x: str, size: int) -> str:
        return self.node("MaxPool", x, kernel_shape=[size, size], strides=[2, 2], ceil_mode=1)

    def pixels(self, layer: str) -> tuple[Array, Array]:
        """Weight and bias of a first layer with ``(pixels - 127.5) / 128`` folded in; it has no padding."""
        weight, bias = self.weights[f"{layer}.weight"], self.weights[f"{layer}.bias"]
        return weight / 128, bias - weight.sum(axis=(1, 2, 3)) * 127.5 / 128

    def heads(self, classes: str, *others: str) -> tuple[Array, Array]:
        """Weight and bias of the last layers side by side: "face" minus "no face", then the others."""
        weight, bias = self.weights[f"{classes}.weight"], self.weights[f"{classes}.bias"]
        return (
            np.concatenate([weight[1:] - weight[:1], *(self.weights[f"{name}.weight"] for name in others)]),
            np.concatenate([bias[1:] - bias[:1], *(self.weights[f"{name}.bias"] for name in others)]),
        )

    def prelu(self, x: str, layer: str) -> str:
        slope = self.weights[f"{layer}.weight"]
        assert (slope <= 1).all(), layer
        count = len(slope)
        bent = self.node("Relu", self.convolve(x, (1 - slope).reshape(count, 1, 1, 1), group=count))
        return self.node("Add", self.convolve(x, slope.reshape(count, 1, 1, 1), group=count), bent)

    def pooled_prelu(self, first: tuple[Array, Array], layer: str, size: int) -> tuple[str, Array]:
        """``maxpool(prelu(conv(pixels)))`` with the pool first, and the sign of each of its channels.

        With P = maxpool(x): for slopes in [0, 1] the PReLU rises and is applied to P. For a slope a < 0,
        prelu(x) = max(x, a x), so the convolution also yields a x, pooled to Q, and the result is
        max(P, Q) = Q + relu(P - Q). For a slope a > 1 the PReLU is not convex, but minus it is:
        -prelu(P) = -P + relu(-(a - 1) P); such a channel comes out negated, with sign -1.
        """
        weight, bias = first
        slope = self.weights[f"{layer}.weight"]
        count = len(slope)
        falling = np.flatnonzero(slope < 0)
        weight = np.concatenate([weight, weight[falling] * slope[falling, None, None, None]])
        bias = np.concatenate([bias, bias[falling] * slope[falling]])
        straight, bent = np.zeros((2, count, len(bias)))
        sign = np.where(slope > 1, -1.0, 1.0)
        rows = np.arange(count)
        straight[rows, rows] = np.where(slope > 1, -1.0, slope)
        bent[rows, rows] = 1 - slope
        twins = count + np.arange(len(falling))
        straight[falling, falling], straight[falling, twins] = 0, 1
        bent[falling, falling], bent[falling, twins] = 1, -1
        x = self.pool(self.convolve("pixels", weight, bias), size)
        relu = self.node("Relu", self.convolve(x, bent[..., None, None]))
        return self.node("Add", self.convolve(x, straight[..., None, None]), relu), sign

    def dense_prelu(self, x: str, layer: str, prelu: str) -> str:
        """A dense layer over float[n, c, h, w], which facenet-pytorch flattens as (w, h, c)."""
        weight = self.weights[f"{layer}.weight"]
        side = 3  # of the picture that R-Net's and O-Net's convolutions leave
        weight = weight.reshape(len(weight), side, side, -1).transpose(0, 3, 2, 1).reshape(len(weight), -1)
        x = self.dense(self.node("Flatten", x), weight, self.weights[f"{layer}.bias"])
        return self.node("PRelu", x, self.constant(self.weights[f"{prelu}.weight"]))

    def serialized(self, output: str) -> bytes:
        from onnx import TensorProto, helper

        pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, "h", "w"])
        found = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        made = helper.make_graph(self.nodes, "mtcnn", [pixels], [found], self.constants)
        opset = [helper.make_opsetid("", 17)]
        return bytes(helper.make_model(made, opset_imports=opset, ir_version=9).SerializeToString())
