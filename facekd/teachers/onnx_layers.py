"""The weights of an ONNX file put into a network of facekd that is built like it, layer by layer."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facekd.core.pixels import to_input
from facekd.core.types import Array
from facekd.errors import UserError
from facekd.nets.activation import restore_prelu
from facekd.nets.files import Network
from facekd.nets.fold import ChannelAffine
from facekd.teachers.onnx_torch import folded

AGREE = 1e-5  # largest difference of two numbers of unit embeddings
TRIED, SEED = 4, 0  # random crops on which the two are compared
SHOWN = 6  # layers of a kind that an error lists


@dataclass(frozen=True, slots=True)
class OnnxLayer:
    """One layer with weights of an ONNX graph."""

    said: str  # its kind and sizes: layers of the same text fit each other
    values: tuple[Array | None, ...]  # for the parameters of the layer, in the order of `_parameters`


@torch.no_grad()
def take_layers(net: nn.Module, network: Network) -> None:
    """Put the weights of an ONNX file into `net`, which then gives its embeddings.

    Args:
        net: folded, in eval mode; takes what the file takes.
        network: the file as a runtime runs it.

    Raises:
        UserError: the two are not built alike, and which layers each has that the other has not; or they are, and give
            other embeddings.
    """
    theirs = list(_onnx_layers(restore_prelu(folded(network.path))[0]))
    size = network.contract.size
    ours = list(_layers(net, torch.zeros(1, 3, size, size)))
    here, there = [_said(layer) for layer in ours], [layer.said for layer in theirs]
    if len(here) == len(there):  # one slope for all channels is as many equal ones
        there = [h if t == _prelu(1) and h.startswith("PReLU") else t for h, t in zip(here, there, strict=True)]
    if here != there:
        raise UserError(f"{network.path}: is not built like this network: {_differences(here, there)}")
    for layer, source in zip(ours, theirs, strict=True):
        for parameter, value in zip(_parameters(layer), source.values, strict=True):
            if parameter is not None:
                found = np.zeros(1) if value is None else np.asarray(value)
                fitted = np.full(parameter.shape, found.item()) if found.size == 1 else found.reshape(parameter.shape)
                parameter.copy_(torch.from_numpy(fitted.astype(np.float32)))
    pixels = np.random.default_rng(SEED).integers(0, 256, (TRIED, size, size, 3), np.uint8)
    images = to_input(pixels, network.contract)
    wanted = torch.nn.functional.normalize(torch.from_numpy(network.run(images)))
    apart = float((torch.nn.functional.normalize(net(torch.from_numpy(images))) - wanted).abs().max())
    if not apart <= AGREE:
        raise UserError(
            f"{network.path}: has the layers of this network and gives other embeddings ({apart:.1e} apart), so what "
            "lies between its layers is another; distill from it as a --teacher instead"
        )


def _layers(net: nn.Module, example: Tensor) -> Iterator[nn.Module]:
    """The layers with weights, in the order in which they run."""
    found: list[nn.Module] = []
    kinds = (nn.Conv2d, nn.Linear, nn.PReLU, nn.ReLU, ChannelAffine)
    handles = [
        module.register_forward_hook(lambda layer, *_: found.append(layer))
        for module in net.modules()
        if isinstance(module, kinds)
    ]
    net(example)
    for handle in handles:
        handle.remove()
    yield from found


def _said(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d):
        return _convolution(tuple(layer.weight.shape), int(layer.stride[0]), layer.groups)
    if isinstance(layer, nn.Linear):
        return f"linear {layer.in_features} to {layer.out_features}"
    if isinstance(layer, nn.PReLU):
        return _prelu(layer.num_parameters)
    if isinstance(layer, ChannelAffine):
        return f"scale and shift of {len(layer.scale)} channels"
    return "ReLU"


def _parameters(layer: nn.Module) -> tuple[Tensor | None, ...]:
    if isinstance(layer, nn.Conv2d | nn.Linear):
        return layer.weight, layer.bias
    if isinstance(layer, nn.PReLU):
        return (layer.weight,)
    if isinstance(layer, ChannelAffine):
        return layer.scale, layer.shift
    return ()


def _onnx_layers(model: Any) -> Iterator[OnnxLayer]:
    """The layers with weights of a folded graph, in its order; others are passed by."""
    from onnx import helper, numpy_helper

    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    scale: Array | None = None  # of a Mul with a number for each channel, which an Add is to follow
    for node in model.graph.node:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        fixed = [weights[name] for name in node.input if name in weights]
        channels = fixed[0].size if fixed and fixed[0].ndim == 4 and fixed[0].shape[1] == fixed[0].size > 1 else 0
        match node.op_type:
            case "Conv" if fixed:
                stride = int(attributes.get("strides", [1])[0])
                said = _convolution(fixed[0].shape, stride, int(attributes.get("group", 1)))
                yield OnnxLayer(said, (fixed[0], fixed[1] if len(fixed) > 1 else None))
            case "Gemm" if fixed:
                matrix = fixed[0] if attributes.get("transB") else fixed[0].T
                said = f"linear {matrix.shape[1]} to {matrix.shape[0]}"
                yield OnnxLayer(said, (matrix, fixed[1] if len(fixed) > 1 else None))
            case "PRelu" if fixed:
                yield OnnxLayer(_prelu(fixed[0].size), (fixed[0],))
            case "LeakyRelu":
                yield OnnxLayer(_prelu(1), (np.array([attributes.get("alpha", 0.01)], np.float32),))
            case "Relu":
                yield OnnxLayer("ReLU", ())
            case "Clip" | "Elu" | "HardSwish":
                yield OnnxLayer(node.op_type, ())
            case "BatchNormalization" if len(fixed) == 4:
                gain, shift, mean, variance = fixed
                factor = gain / np.sqrt(variance + attributes.get("epsilon", 1e-5))
                said = f"scale and shift of {gain.size} channels"
                yield OnnxLayer(said, (factor, shift - mean * factor))
            case "Mul" if channels:
                scale = fixed[0]
            case "Add" if channels and scale is not None and scale.size == channels:
                yield OnnxLayer(f"scale and shift of {channels} channels", (scale, fixed[0]))
                scale = None
            case _:
                pass


def _convolution(shape: tuple[int, ...], stride: int, groups: int) -> str:
    out, each, height, width = shape
    return f"convolution {each * groups} to {out}, {height}x{width}, stride {stride}, {groups} groups"


def _prelu(slopes: int) -> str:
    return "PReLU of one slope" if slopes == 1 else f"PReLU of {slopes} slopes"


def _differences(here: list[str], there: list[str]) -> str:
    """What each of two networks has that the other has not, in a sentence."""
    lacking, beyond = list[str](), list[str]()
    for kind, a, b, c, d in difflib.SequenceMatcher(None, here, there, autojunk=False).get_opcodes():
        if kind != "equal":
            lacking += [f"layer {place + 1} ({here[place]})" for place in range(a, b)]
            beyond += [f"its layer {place + 1} ({there[place]})" for place in range(c, d)]
    return "; ".join(
        f"{len(layers)} {what}: " + ", ".join(layers[:SHOWN]) + (" …" if len(layers) > SHOWN else "")
        for layers, what in ((lacking, "layers are not in the file"), (beyond, "of the file are not in the network"))
        if layers
    )
