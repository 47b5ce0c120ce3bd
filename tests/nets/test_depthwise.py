"""A strided depthwise layer is torch's own, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from facekd.nets.depthwise import StridedDepthwise
from facekd.nets.fold import fold_norms
from facekd.nets.mobilefacenet import conv


def gradients(
    layer: StridedDepthwise, x: Tensor, slope: Tensor, plain: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    x, layer.weight.grad = x.clone().requires_grad_(), None
    y = F.conv2d(x, layer.weight, None, layer.stride, layer.padding, groups=layer.groups) if plain else layer(x)
    y.backward(slope)
    return y, x.grad, layer.weight.grad


@pytest.mark.parametrize(("kernel", "stride", "side"), [(3, 2, 8), (3, 2, 7), (5, 2, 12), (3, 3, 10)])
def test_its_gradients_are_those_of_torch_in_float64(kernel: int, stride: int, side: int) -> None:
    torch.manual_seed(0)
    layer = StridedDepthwise(6, kernel, stride).double()
    x = torch.randn(2, 6, side, side, dtype=torch.float64)
    slope = torch.randn_like(layer(x))
    for ours, theirs in zip(gradients(layer, x, slope, False), gradients(layer, x, slope, True), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_under_autocast_it_works_in_bfloat16() -> None:
    torch.manual_seed(0)
    layer, x = StridedDepthwise(6, 3, 2), torch.randn(2, 6, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        low = gradients(layer, x, torch.ones(2, 6, 4, 4, dtype=torch.bfloat16), False)
    assert low[0].dtype == torch.bfloat16
    assert low[2] is not None
    assert low[2].dtype == torch.float32  # the weight's own
    for ours, exact in zip(low, gradients(layer, x, torch.ones(2, 6, 4, 4), True), strict=True):
        torch.testing.assert_close(ours, exact, rtol=0.02, atol=0.05, check_dtype=False)


def test_a_norm_folds_into_it_and_it_trains_on() -> None:
    torch.manual_seed(0)
    net = conv(6, 6, 3, stride=2, groups=6)
    assert isinstance(net[0], StridedDepthwise)
    x = torch.randn(4, 6, 8, 8)
    net.train()(x)
    before = net.eval()(x).detach()
    fold_norms(net)
    torch.testing.assert_close(net(x.requires_grad_()), before)
    net(x).sum().backward()
    assert net[0].bias is not None
    assert net[0].bias.grad is not None
