"""An exported graph of plain operators as a PyTorch module, from which Core ML, TFLite and ExecuTorch are converted.

These converters read what PyTorch traced, none of them ONNX. Each operator is one call of a function that they know,
in their words: no shape is computed, only the batch is free.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.ao.quantization.fx._decomposed  # registers torch.ops.quantized_decomposed
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from facekd.errors import UserError

Call = Callable[..., Tensor]


class PlainModule(nn.Module):
    """The graph of an ONNX file, run node by node: float32[N, 3, S, S] in, float32[N, D] out.

    Args:
        model: a ModelProto of one input and one output.
        what: is made of it, for a refusal.

    Raises:
        UserError: a node of it is none that is known here.
    """

    def __init__(self, model: Any, what: str) -> None:
        super().__init__()
        fixed = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        for node in model.graph.node:
            if node.op_type == "Constant":
                fixed[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
        self.places: dict[str, str] = {}  # of the weights that a node reads as tensors
        self.steps: list[tuple[Call, tuple[str, ...], str]] = []
        for node in model.graph.node:
            if node.op_type == "Constant" or _known(node, fixed):
                continue
            call, read = _call(node, fixed, what)
            for name in read:
                if name in fixed and name not in self.places:
                    self.places[name] = f"weight_{len(self.places)}"
                    self.register_buffer(self.places[name], torch.from_numpy(fixed[name].copy()))
            self.steps.append((call, read, node.output[0]))
        self.fed, self.made = model.graph.input[0].name, model.graph.output[0].name
        self.size = model.graph.input[0].type.tensor_type.shape.dim[-1].dim_value

    def forward(self, images: Tensor) -> Tensor:
        values = {name: getattr(self, place) for name, place in self.places.items()} | {self.fed: images}
        for call, read, made in self.steps:
            values[made] = call(*(values[name] for name in read))
        embeddings: Tensor = values[self.made]
        return embeddings


def _known(node: Any, fixed: dict[str, Any]) -> bool:
    """Whether what `node` makes is known beforehand, which is then in `fixed`: fp16 weights, and an int32 bias.

    The weights of int8 stay steps of the graph: converters look for them.
    """
    if node.op_type == "Cast" and node.input[0] in fixed:
        dtype = helper.tensor_dtype_to_np_dtype(node.attribute[0].i)
        fixed[node.output[0]] = fixed[node.input[0]].astype(dtype)
        return True
    if node.op_type != "DequantizeLinear" or node.input[0] not in fixed or fixed[node.input[0]].dtype != np.int32:
        return False
    codes, scale = (fixed[name] for name in node.input[:2])
    fixed[node.output[0]] = (codes * scale.astype(np.float64)).astype(np.float32)
    return True


def read_module(path: Path, what: str) -> PlainModule:
    """The ONNX file at `path` as a module in eval mode."""
    return PlainModule(onnx.load(str(path)), what).eval()


def traced(net: PlainModule) -> Any:
    """The module as TorchScript of one crop, which pnnx and coremltools have read for longest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is old, and that sizes are fixed
        return torch.jit.trace(net, torch.zeros(1, 3, net.size, net.size))  # type: ignore[no-untyped-call]


def _call(node: Any, fixed: dict[str, Any], what: str) -> tuple[Call, tuple[str, ...]]:
    """What computes `node`, and the names of the tensors that it is given."""
    has = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    names = tuple(node.input)

    def given(place: int, attribute: str = "") -> list[Any] | None:
        """An input that is fixed, or the attribute that was its place in older opsets; None where it is not there."""
        if len(names) > place and names[place]:
            if names[place] not in fixed:
                raise _refused(node, what, "with an input that is computed")
            found: list[Any] = fixed[names[place]].reshape(-1).tolist()
            return found
        value = has.get(attribute)
        return None if value is None else list(np.atleast_1d(value).tolist())

    match node.op_type:
        case "QuantizeLinear" | "DequantizeLinear":
            return _codes(node, has, fixed), names[:1]
        case "Conv":
            return _convolution(node, has, what), names
        case "Gemm" if not has.get("transA") and has.get("alpha", 1) == has.get("beta", 1) == 1:
            straight = not has.get("transB")
            return lambda x, w, b=None: F.linear(x, w.T if straight else w, b), names
        case "MatMul":
            return torch.matmul, names
        case "BatchNormalization":
            eps = float(has.get("epsilon", 1e-5))
            return lambda x, gain, shift, mean, var: F.batch_norm(x, mean, var, gain, shift, eps=eps), names
        case "PRelu":
            return lambda x, slope: F.prelu(x, slope.reshape(-1)), names
        case "LeakyRelu":
            alpha = float(has.get("alpha", 0.01))
            return lambda x: F.leaky_relu(x, alpha), names
        case "Clip":
            low, high = given(1, "min"), given(2, "max")
            least, most = (None if one is None else float(one[0]) for one in (low, high))
            if (least, most) == (0, 6):
                return F.relu6, names[:1]
            return lambda x: torch.clamp(x, least, most), names[:1]
        case "Relu" | "Sigmoid" | "HardSwish" | "Tanh" | "Sqrt" | "Identity" | "Dropout":
            return SIMPLE[node.op_type], names[:1]
        case "Add" | "Sub" | "Mul" | "Div":
            return ARITHMETIC[node.op_type], names
        case "Max" if len(names) == 2:
            for place in (0, 1):
                if names[place] in fixed and fixed[names[place]].size == 1:
                    bound = float(fixed[names[place]].item())
                    return partial(torch.clamp, min=bound), (names[1 - place],)
            return torch.maximum, names
        case "GlobalAveragePool":
            return lambda x: F.adaptive_avg_pool2d(x, 1), names
        case "ReduceSum" | "ReduceMean":
            axes, keep = given(1, "axes"), bool(has.get("keepdims", 1))
            if axes:
                reduce = torch.sum if node.op_type == "ReduceSum" else torch.mean
                return lambda x: reduce(x, tuple(axes), keepdim=keep), names[:1]
        case "Flatten" if has.get("axis", 1) == 1:
            return lambda x: x.flatten(1), names
        case "Reshape" if (shape := given(1) or [])[1:] and -1 not in shape[1:]:
            # The batch, whatever it is; a shape that lists one crop holds for each.
            if shape[0] in (0, -1, 1) and 0 not in shape[1:]:
                return lambda x: x.reshape(-1, *shape[1:]), names[:1]
        case "Reshape" if given(1) in ([0, -1], [1, -1]):
            return lambda x: x.flatten(1), names[:1]
        case "Transpose":
            return lambda x: x.permute(*has["perm"]), names
        case "Concat":
            return lambda *parts: torch.cat(parts, int(has["axis"])), names
        case "Slice":
            starts, ends, axes, steps = (given(place) for place in (1, 2, 3, 4))
            if starts is not None and ends is not None and len(starts) == 1 and steps in (None, [1]):
                axis, start, end = (axes or [0])[0], starts[0], ends[0]
                index = (slice(None),) * axis + (slice(start, end),)
                return lambda x: x[index], names[:1]
        case "Resize" if has.get("mode") == b"linear":
            if has.get("coordinate_transformation_mode", b"half_pixel") == b"half_pixel" and not has.get("antialias"):
                scales, sizes = given(2), given(3)
                if sizes is None and scales is not None and scales[:2] == [1, 1]:
                    return _resize(scales[2:], None), names[:1]
                if sizes is not None:
                    return _resize(None, sizes[2:]), names[:1]
        case _:
            pass
    raise _refused(node, what)


def _codes(node: Any, has: dict[str, Any], fixed: dict[str, Any]) -> Call:
    """A real number as one of 256 codes, or back, in the words of PyTorch's own quantization.

    uint8 codes become int8, 128 lower, the only ones that runtimes on devices compute with. Weights are given as real
    numbers and made codes again: converters fold that, and know no weights that are codes to begin with.
    """
    scale, zero = (fixed[name] for name in node.input[1:3])
    lower = 128 if zero.dtype == np.uint8 else 0
    zeros = zero.astype(np.int64) - lower
    quantized = torch.ops.quantized_decomposed
    each = zeros.size > 1
    ends = (-127 if each else -128, 127, torch.int8)
    given = (torch.from_numpy(scale.reshape(-1).copy()), torch.from_numpy(zeros.reshape(-1)), int(has.get("axis", 1)))
    one = (float(scale.reshape(-1)[0]), int(zeros.reshape(-1)[0]))
    if node.op_type == "QuantizeLinear":
        return lambda x: quantized.quantize_per_tensor(x, *one, *ends)
    codes = fixed.get(node.input[0])
    if codes is None:
        return lambda x: quantized.dequantize_per_tensor(x, *one, *ends)
    shape = [1] * codes.ndim
    shape[given[2] if each else 0] = -1
    fixed[node.input[0]] = ((codes.astype(np.int64) - lower - zeros.reshape(shape)) * scale.reshape(shape)).astype(
        np.float32
    )
    if each:
        return lambda x: quantized.dequantize_per_channel(
            quantized.quantize_per_channel(x, *given, *ends), *given, *ends
        )
    return lambda x: quantized.dequantize_per_tensor(quantized.quantize_per_tensor(x, *one, *ends), *one, *ends)


SIMPLE: dict[str, Call] = {
    "Relu": F.relu,
    "Sigmoid": torch.sigmoid,
    "HardSwish": F.hardswish,
    "Tanh": torch.tanh,
    "Sqrt": torch.sqrt,
    "Identity": lambda x: x,
    "Dropout": lambda x: x,
}
ARITHMETIC: dict[str, Call] = {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Div": torch.div}


def _refused(node: Any, what: str, how: str = "in the form that the network has it in") -> UserError:
    return UserError(f"{what} can't hold the operator {node.op_type} (node {node.name or node.output[0]}) {how}")


def _convolution(node: Any, has: dict[str, Any], what: str) -> Call:
    if has.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID") or len(has.get("strides", [1, 1])) != 2:
        raise _refused(node, what)
    stride, dilation, groups = has.get("strides", [1, 1]), has.get("dilations", [1, 1]), has.get("group", 1)
    top, left, bottom, right = has.get("pads", [0, 0, 0, 0])
    even = (top, left) == (bottom, right)

    def convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        x = x if even else F.pad(x, (left, right, top, bottom))
        padding = (top, left) if even else (0, 0)
        return F.conv2d(x, weight, bias, tuple(stride), padding, tuple(dilation), groups)

    return convolve


def _resize(scales: list[float] | None, sizes: list[int] | None) -> Call:
    def resize(x: Tensor) -> Tensor:
        size = sizes
        if size is None:
            assert scales is not None
            # In these networks the factor is rounded and the size is meant: 96 by 1.3333333 is 128.
            size = [round(int(x.shape[2 + place]) * factor) for place, factor in enumerate(scales)]
        return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)

    return resize
