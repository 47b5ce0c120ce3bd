"""A running average of the weights: what is judged and handed on in place of the last step's."""

from __future__ import annotations

import copy

import torch
from torch import nn


def averaged_copy(net: nn.Module) -> nn.Module:
    """The same network, without gradients, to be moved by `follow`."""
    return copy.deepcopy(net).requires_grad_(False)


@torch.no_grad()
def follow(average: nn.Module, net: nn.Module, decay: float, step: int) -> None:
    """Each weight a ← d a + (1 − d) w after `step` steps; statistics of norms are left for `settle_norms`.

    d is `decay`, at first (1 + step) / (10 + step), so that the random beginning is forgotten.
    Source: B. Polyak, A. Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; the beginning as in
    TensorFlow's ExponentialMovingAverage.
    """
    keep = min(decay, (1 + step) / (10 + step))
    for mean, weight in zip(average.parameters(), net.parameters(), strict=True):
        mean.lerp_(weight.detach(), 1 - keep)
