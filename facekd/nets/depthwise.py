"""A depthwise convolution with a stride whose gradient is quick on a CPU: the same layer, the same weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class StridedDepthwise(nn.Conv2d):
    """Filter each channel and keep every `stride`-th place: float[B, C, H, W] -> float[B, C, H / stride, W / stride].

    oneDNN has no kernel for the gradient by such a layer's input: it takes 20 to 180 times as long as the layer itself
    in bf16 and 4 times in fp32 (`benchmarks/train_step.py`). Put back between zeros, the gradient goes through a
    convolution without a stride, which has one.

    Args:
        channels: C.
        kernel: odd side of the filters; the places stay.
        stride: 2 or more.
    """

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias  # a bias where a norm was folded into it
        if not self.training or x_BCHW.device.type != "cpu":
            return F.conv2d(x_BCHW, weight, bias, self.stride, self.padding, groups=self.groups)
        if torch.is_autocast_enabled("cpu"):
            kind = torch.get_autocast_dtype("cpu")
            x_BCHW, weight = x_BCHW.to(kind), weight.to(kind)
            bias = None if bias is None else bias.to(kind)
        y_BCHW: Tensor = _Strided.apply(x_BCHW, weight, self.stride[0])  # type: ignore[no-untyped-call]
        return y_BCHW if bias is None else y_BCHW + bias.view(1, -1, 1, 1)


class _Strided(torch.autograd.Function):
    """Of x float[B, C, H, W] and filters float[C, 1, K, K]."""

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x_BCHW, weight)
        ctx.stride = stride
        return F.conv2d(x_BCHW, weight, None, stride, weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x_BCHW, weight = ctx.saved_tensors
        stride, pad = ctx.stride, weight.shape[-1] // 2
        to_x = to_weight = None
        if ctx.needs_input_grad[0]:
            spread = torch.zeros_like(x_BCHW)
            spread[..., ::stride, ::stride] = gradient
            to_x = F.conv2d(spread, weight.flip(2, 3), None, 1, pad, groups=len(weight))
        if ctx.needs_input_grad[1]:
            _, to_weight, _ = torch.ops.aten.convolution_backward(
                gradient, x_BCHW, weight, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], len(weight),
                [False, True, False],
            )  # fmt: skip
        return to_x, to_weight, None
