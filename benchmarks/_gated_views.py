"""Random views of crops, made in batches where the crops are: float32[B, 3, 112, 112], pixels from 0 to 255."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 112


def easy_view(pixels: Tensor) -> Tensor:
    """Mirrored half of the time, half of them moved a little, some of another light."""
    return other_light(moved(pixels.float(), 0.5, 1.0), 0.15).clamp(0, 255)


def strong_view(pixels: Tensor) -> Tensor:
    """Moved further, a quarter small or blurred, four tenths of another light, a fifth partly covered."""
    pixels = moved(pixels.float(), 0.8, 2.0)
    few = round(len(pixels) * 0.25)  # they come in random order
    pixels = torch.cat([smeared(pixels[:few]), pixels[few:]])
    return covered(other_light(pixels, 0.4), 0.2).clamp(0, 255)


def moved(pixels: Tensor, share: float, size: float) -> Tensor:
    """Mirrored half of the time; `share` of them turned, scaled and shifted, 3 degrees, 3 % and 1.5 pixels · size."""
    count, device = len(pixels), pixels.device
    mirror = torch.randint(0, 2, (count,), device=device) * 2.0 - 1
    on = (torch.rand(count, device=device) < share).float() * size
    angle = torch.randn(count, device=device) * on * math.radians(3)
    zoom = 1 + torch.randn(count, device=device) * on * 0.03
    shift = torch.randn(count, 2, device=device) * on[:, None] * (1.5 / (SIDE / 2))
    cosine, sine = torch.cos(angle) * zoom, torch.sin(angle) * zoom
    rows = torch.stack([cosine * mirror, -sine, shift[:, 0], sine * mirror, cosine, shift[:, 1]], 1)
    grid = F.affine_grid(rows.view(count, 2, 3), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def other_light(pixels: Tensor, share: float) -> Tensor:
    """`share` of them of another contrast and brightness, and some gray."""
    shape = (len(pixels), 1, 1, 1)
    on = (torch.rand(shape, device=pixels.device) < share).float()
    spread = 1 + on * (torch.rand(shape, device=pixels.device) * 0.5 - 0.3)
    lift = on * (torch.rand(shape, device=pixels.device) * 50 - 25)
    gray = (torch.rand(shape, device=pixels.device) < 0.15 * share).float()
    pixels = pixels + gray * (pixels.mean(1, keepdim=True) - pixels)
    return (pixels - 127) * spread + 127 + lift


def smeared(pixels: Tensor) -> Tensor:
    """A half of them made small and large again, the other half blurred; two kinds of each."""
    parts = list(pixels.chunk(4))
    for at, part in enumerate(parts):
        if at < 2:
            side = int(torch.randint(24, 88, ()))
            small = F.interpolate(part, (side, side), mode="bilinear", antialias=True)
            parts[at] = F.interpolate(small, (SIDE, SIDE), mode="bilinear")
        else:
            parts[at] = blurred(part, float(torch.empty(()).uniform_(0.5, 1.6)))
    return torch.cat(parts)


def blurred(pixels: Tensor, sigma: float) -> Tensor:
    at = torch.arange(-4, 5, device=pixels.device).float()
    row = torch.exp(-at.square() / (2 * sigma**2))
    row = (row / row.sum()).expand(3, 1, 9)
    pixels = F.conv2d(F.pad(pixels, (4, 4, 4, 4), mode="replicate"), row[:, :, :, None], groups=3)
    return F.conv2d(pixels, row[:, :, None, :], groups=3)


def covered(pixels: Tensor, share: float) -> Tensor:
    """`share` of them with a rectangle of one gray, 10 to 45 pixels wide and high."""
    count, device = len(pixels), pixels.device
    at = torch.arange(SIDE, device=device).float()
    top, left = (torch.rand(count, 1, device=device) * SIDE for _ in range(2))
    high, wide = (10 + torch.rand(count, 1, device=device) * 35 for _ in range(2))
    inside = ((at - top).abs() < high / 2)[:, :, None] & ((at - left).abs() < wide / 2)[:, None, :]
    inside &= torch.rand(count, 1, 1, device=device) < share
    gray = torch.rand(count, 1, 1, 1, device=device) * 255
    return torch.where(inside[:, None], gray, pixels)


def mixed(pixels: Tensor, said: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first `count` with up to half of another one mixed in, and of what is said of that other one (H. Zhang et
    al., "mixup", ICLR 2018)."""
    part = 0.5 * torch.rand(count, 1, device=pixels.device)
    other = torch.arange(len(pixels), device=pixels.device).roll(count + 1)[:count]
    images = pixels[:count] + part[:, :, None, None] * (pixels[other] - pixels[:count])
    blend = said[:count] + part * (said[other] - said[:count])
    return torch.cat([images, pixels[count:]]), torch.cat([blend, said[count:]])
