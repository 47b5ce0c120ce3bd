"""The program inside an .mlpackage, computed by PyTorch: Core ML itself runs on Apple's systems only.

What is computed is the file as it lies there, weights from its weight.bin, each operation by its definition in
coremltools' reference. An operation in fp16 is computed in fp32 of fp16 numbers and rounded to fp16.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facekd.core.types import Array
from facekd.errors import UserError

MODEL, WEIGHTS = "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights"


def program(path: Path) -> Callable[[Array], Array]:
    """The main function of the program in the .mlpackage at `path`: float32[1, 3, S, S] in, float32[1, D] out."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # in a dozen lines, that this is no Mac
    try:
        import coremltools
        from coremltools.converters.mil.frontend.milproto.load import load
    finally:
        logging.disable(before)

    spec = coremltools.utils.load_spec(str(path / MODEL))
    function = load(spec, spec.specificationVersion, str(path / WEIGHTS)).functions["main"]
    (fed,) = function.inputs
    (made,) = function.outputs
    steps = [operation for operation in function.operations if operation.op_type != "const"]
    for operation in steps:
        if operation.op_type not in OPERATIONS:
            raise UserError(f"facekd can't compute Core ML's {operation.op_type}, and so can't check the file")

    def call(images: Array) -> Array:
        values: dict[str, Any] = {fed: torch.from_numpy(images)}

        def value(given: Any) -> Any:
            if isinstance(given, list | tuple):
                return [value(one) for one in given]
            if given.name in values:
                return values[given.name]
            found = given.val
            return torch.from_numpy(found.astype(np.float32)) if _images(found) else found

        with torch.inference_mode():
            for operation in steps:
                given = {key: value(one) for key, one in operation.inputs.items() if one is not None}
                (output,) = operation.outputs
                result = OPERATIONS[operation.op_type](**given)
                values[output.name] = result.half().float() if "fp16" in _kind(output) else result
        found: Array = values[made.name].float().numpy()
        return found

    return call


def _images(found: Any) -> bool:
    return isinstance(found, np.ndarray) and found.dtype.kind == "f"


def _kind(output: Any) -> str:
    from coremltools.converters.mil.mil import types

    name: str = types.builtin_to_string(output.dtype)
    return name


def _conv(x: Tensor, weight: Tensor, strides: Any, pad_type: str, pad: Any, dilations: Any, groups: Any,
          bias: Tensor | None = None) -> Tensor:  # fmt: skip
    if pad_type not in ("custom", "valid"):
        raise UserError(
            f"facekd can't compute Core ML's convolution of padding {pad_type!r}, and so can't check the file"
        )
    if pad_type == "custom":
        top, bottom, left, right = (int(each) for each in pad)
        x = F.pad(x, (left, right, top, bottom))
    return F.conv2d(x, weight, bias, tuple(map(int, strides)), 0, tuple(map(int, dilations)), int(groups))


def _slice(x: Tensor, begin: Any, end: Any, begin_mask: Any = None, end_mask: Any = None) -> Tensor:
    first = [None if begin_mask is not None and begin_mask[i] else int(at) for i, at in enumerate(begin)]
    last = [None if end_mask is not None and end_mask[i] else int(at) for i, at in enumerate(end)]
    return x[tuple(slice(a, b) for a, b in zip(first, last, strict=True))]


def _upsample(x: Tensor, scale_factor_height: Any, scale_factor_width: Any, align_corners: Any) -> Tensor:
    size = [int(n * float(s)) for n, s in zip(x.shape[2:], (scale_factor_height, scale_factor_width), strict=True)]
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=bool(align_corners))


def _batch_norm(x: Tensor, mean: Tensor, variance: Tensor, epsilon: Any, gamma: Any = None, beta: Any = None) -> Tensor:
    return F.batch_norm(x, mean, variance, gamma, beta, eps=float(epsilon))


def _axes(axes: Any) -> tuple[int, ...]:
    return tuple(int(axis) for axis in axes)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "real_div": lambda x, y: x / y,
    "maximum": lambda x, y: torch.maximum(x, torch.as_tensor(y)),
    "sqrt": lambda x: torch.sqrt(x),
    "sigmoid": lambda x: torch.sigmoid(x),
    "tanh": lambda x: torch.tanh(x),
    "relu": lambda x: F.relu(x),
    "relu6": lambda x: F.relu6(x),
    "leaky_relu": lambda x, alpha: F.leaky_relu(x, float(alpha)),
    "prelu": lambda x, alpha: F.prelu(x, alpha.reshape(-1)),
    "clip": lambda x, alpha, beta: torch.clamp(x, float(alpha), float(beta)),
    "cast": lambda x, dtype: x.half().float() if dtype == "fp16" else x,
    "identity": lambda x: x,
    "conv": _conv,
    "linear": lambda x, weight, bias=None: F.linear(x, weight, bias),
    "matmul": lambda x, y, transpose_x=False, transpose_y=False: (
        (x.mT if transpose_x else x) @ (y.mT if transpose_y else y)
    ),
    "batch_norm": _batch_norm,
    "reduce_mean": lambda x, axes, keep_dims: x.mean(_axes(axes), bool(keep_dims)),
    "reduce_sum": lambda x, axes, keep_dims: x.sum(_axes(axes), bool(keep_dims)),
    "reshape": lambda x, shape: x.reshape(tuple(int(n) for n in shape)),
    "transpose": lambda x, perm: x.permute(*_axes(perm)),
    "concat": lambda values, axis, interleave=False: torch.cat(values, int(axis)),
    "slice_by_index": _slice,
    "upsample_bilinear": _upsample,
}
