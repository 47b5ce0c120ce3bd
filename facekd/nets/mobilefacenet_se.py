"""MobileFaceNet with a squeeze-excitation gate in each block, as Intel's face-reidentification-retail-0095 is built.

S. Chen et al., "MobileFaceNets", arXiv 1804.07573, for the blocks; J. Hu et al., "Squeeze-and-Excitation Networks",
arXiv 1709.01507, for the gates; the sizes, the window and its stretching are those of the file in OpenVINO's Open Model
Zoo, https://docs.openvino.ai/2023.3/omz_models_model_face_reidentification_retail_0095.html (Apache-2.0).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facekd.nets.mobilefacenet import BOTTLENECKS, Activation, Bottleneck, GlobalDepthwise, conv, slopes_of

SQUEEZE = 8  # channels of a block for each one of its gate
MARGIN = 14  # an ArcFace crop's width in units of the margin that is cut off on its left and on its right
STRETCH = 16  # sides of the stretched window in the same units: 112 pixels become 128


class MobileFaceNetSE(nn.Module):
    """1.107 M parameters and 289 M multiply-adds at 112 pixels with a 256-d embedding.

    The middle 96 of the crop's 112 columns are stretched to 128 x 128 pixels before the first convolution.

    Args:
        dim: length of the embedding.
        size: side of the input in pixels, a multiple of 16.
        activation: ``prelu``, here with one slope for all channels of a layer, which runtimes fuse into the convolution
            before it as LeakyRelu; or ``relu``.
    """

    def __init__(self, dim: int = 256, size: int = 112, activation: str = "prelu") -> None:
        super().__init__()
        assert size % 16 == 0, size
        self.activation = activation
        act = slopes_of(activation, shared=True)
        side = round(size / MARGIN) * STRETCH
        stem = 64
        self.input_norm = nn.BatchNorm2d(3)
        layers: list[nn.Module] = [
            conv(3, stem, 3, stride=2, act=act),
            conv(stem, stem, 3, groups=stem, act=act),
        ]
        channels = stem
        for expansion, out, repeats, stride in BOTTLENECKS:
            for i in range(repeats):
                layers.append(GatedBottleneck(channels, out, expansion, stride if i == 0 else 1, act))
                channels = out
        layers.append(conv(channels, 512, 1, act=act))
        layers.append(nn.Sequential(GlobalDepthwise(512, side // 16), nn.BatchNorm2d(512)))
        layers.append(nn.Sequential(nn.Conv2d(512, dim, 1, bias=False)))
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", a=0.25 if activation == "prelu" else 0.0)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """float[B, dim] embeddings, not of unit norm, for float[B, 3, size, size] or fewer pixels."""
        embeddings: Tensor = self.layers(self.input_norm(stretched(x_BCHW))).flatten(1)
        return embeddings


def stretched(x_BCHW: Tensor) -> Tensor:
    """float[B, 3, 16 m, 16 m] of float[B, 3, 14 m, 14 m], nearly: the crop without a margin m left and right, resampled
    bilinearly. 112 pixels give 128."""
    size = x_BCHW.shape[-1]
    margin = round(size / MARGIN)
    side = margin * STRETCH
    return F.interpolate(x_BCHW[..., margin : size - margin], (side, side), mode="bilinear", align_corners=False)


class GatedBottleneck(Bottleneck):
    """A bottleneck that weighs the channels last, before the input is added."""

    def __init__(self, channels: int, out: int, expansion: int, stride: int, act: Activation) -> None:
        super().__init__(channels, out, expansion, stride, act)
        self.layers.append(Gate(out, act))


class Gate(nn.Module):
    """Each channel times a number from 0 to 1 that the means of all channels decide (squeeze and excitation)."""

    def __init__(self, channels: int, act: Activation) -> None:
        super().__init__()
        squeezed = channels // SQUEEZE
        self.layers = nn.Sequential(nn.Conv2d(channels, squeezed, 1), act(squeezed), nn.Conv2d(squeezed, channels, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        means = x_BCHW.mean((2, 3), keepdim=True)
        return x_BCHW * torch.sigmoid(self.layers(means))
