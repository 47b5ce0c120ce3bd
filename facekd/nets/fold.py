"""Batch norms folded into the convolutions before them: the network as it is deployed, trained as it is.

In eval mode a norm is a factor and a summand for each channel, and a convolution can hold both. A network without norms
takes quicker steps, and its statistics can't drift on other crops than it was trained on; it wants a start that is
trained already.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class ChannelAffine(nn.Module):
    """scale · x + shift for each channel: what is left of a norm that has no convolution before it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """float[B, C, ...] -> float[B, C, ...]."""
        shape = (1, -1, *(1,) * (x.ndim - 2))
        return x * self.scale.view(shape) + self.shift.view(shape)


@torch.no_grad()
def fold_norms(net: nn.Module) -> None:
    """Fold each batch norm of `net`, in place: embeddings in eval mode stay, to rounding.

    A norm behind a convolution or linear layer of the same ``nn.Sequential`` goes into it; any other becomes a
    `ChannelAffine`. ``net.folded`` is true afterwards; a network that is folded already stays as it is.
    """
    for parent in list(net.modules()):
        if isinstance(parent, nn.Sequential):
            for at, (layer, norm) in enumerate(pairwise(list(parent))):
                if isinstance(norm, _BatchNorm) and isinstance(layer, nn.Conv2d | nn.Linear):
                    scale, shift = _affine(norm)
                    layer.weight.mul_(scale.view(-1, *(1,) * (layer.weight.ndim - 1)))
                    bias = shift if layer.bias is None else layer.bias * scale + shift
                    layer.bias = nn.Parameter(bias)
                    parent[at + 1] = nn.Identity()
    for parent in list(net.modules()):
        for name, norm in list(parent.named_children()):
            if isinstance(norm, _BatchNorm):
                affine = ChannelAffine(norm.num_features)
                scale, shift = _affine(norm)
                affine.scale.copy_(scale)
                affine.shift.copy_(shift)
                setattr(parent, name, affine)
    net.folded = True  # type: ignore[assignment]  # a plain attribute, as `activation` is


def _affine(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """float[C] factor and summand of a norm in eval mode."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias
