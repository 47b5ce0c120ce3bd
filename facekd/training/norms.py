"""The statistics of batch norms, taken anew once the weights stand still."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def settle_norms(net: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace each batch norm's running mean and variance by their averages over `batches`.

    While weights move, running statistics trail behind them; after a short training a network in eval mode can be
    far from the one that was trained. Source: Y. Wu and J. Johnson, "Rethinking 'Batch' in BatchNorm",
    arXiv 2105.07576, section 3 (PreciseBN).

    The variances averaged are the unbiased ones of each batch, as torch keeps them. The net is left in train mode.

    Args:
        batches: inputs float32[B, 3, S, S], views as in training; at least one.
    """
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over what comes
    net.train()
    with torch.no_grad():
        for images in batches:
            net(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
