"""What a network costs: parameters and multiply-adds."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn


def num_parameters(net: nn.Module) -> int:
    """Numbers in the deployed network, as the papers count.

    A norm after a convolution or linear layer folds into it and leaves one bias for each channel; any other norm
    keeps its scale and shift. MobileFaceNet's paper counts so (Table 1: 0.99 M).
    """
    total = sum(parameter.numel() for parameter in net.parameters())
    for module in net.modules():
        if isinstance(module, nn.Sequential):
            for before, norm in pairwise(module):
                if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) and isinstance(before, nn.Conv2d | nn.Linear):
                    total -= norm.num_features * (2 if before.bias is not None else 1)
    return total


def num_macs(net: nn.Module, size: int = 112) -> int:
    """Multiply-adds of the convolutions and linear layers for one crop of `size` pixels, as the papers count."""
    total = 0

    def count(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, Tensor)
        each = weight[0].numel()  # multiply-adds for one number of the output
        total += output[0].numel() * each

    handles = [m.register_forward_hook(count) for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    was_training = net.training
    device = next(net.parameters()).device
    net.eval()
    with torch.no_grad():
        net(torch.zeros(1, 3, size, size, device=device))
    net.train(was_training)
    for handle in handles:
        handle.remove()
    return total
