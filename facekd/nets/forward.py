"""A network's embeddings without gradients, in pieces that a processor's caches hold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Crops for each core at a time: the activations of many more no longer fit into the core's cache.
FEW = 16


def forward(net: nn.Module, images_BCHW: Tensor) -> Tensor:
    """float32[B, dim] of a network in eval mode, on the images' own device."""
    on_cpu = images_BCHW.device.type == "cpu"
    parts = torch.split(images_BCHW, FEW * torch.get_num_threads()) if on_cpu else (images_BCHW,)
    with torch.no_grad():
        return torch.cat([net(part).float().flatten(1) for part in parts])
