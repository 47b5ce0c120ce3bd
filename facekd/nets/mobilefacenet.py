"""MobileFaceNet: S. Chen et al., "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on
Mobile Devices", CCBR 2018, arXiv 1804.07573, Table 1."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F

from facekd.nets.depthwise import StridedDepthwise

# Table 1's bottlenecks: expansion t, channels c, repeats n, stride s of the first.
BOTTLENECKS = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1))


Activation = Callable[[int], nn.Module]  # what makes the layer for so many channels


class MobileFaceNet(nn.Module):
    """0.99 M parameters and 221 M multiply-adds at 112 pixels with a 128-d embedding.

    Args:
        dim: length of the embedding.
        size: side of the input in pixels, a multiple of 16; the global depthwise kernel follows it.
        width: factor on every width but the embedding's; 1 is the paper's.
        activation: ``prelu`` is the paper's; ``relu`` is what runtimes fuse into a convolution, see
            ``benchmarks/embed.py`` for what that is worth.
    """

    def __init__(self, dim: int = 128, size: int = 112, width: float = 1.0, activation: str = "prelu") -> None:
        super().__init__()
        assert size % 16 == 0, size
        self.activation = activation
        act = slopes_of(activation)

        def wide(channels: int) -> int:
            return max(8, round(channels * width / 8) * 8)

        stem = wide(64)
        layers: list[nn.Module] = [
            conv(3, stem, 3, stride=2, act=act),
            conv(stem, stem, 3, groups=stem, act=act),
        ]
        channels = stem
        for expansion, out, repeats, stride in BOTTLENECKS:
            for i in range(repeats):
                layers.append(Bottleneck(channels, wide(out), expansion, stride if i == 0 else 1, act))
                channels = wide(out)
        head = wide(512)
        layers.append(conv(channels, head, 1, act=act))
        # A learned weight for each place (global depthwise convolution) in place of average pooling.
        layers.append(nn.Sequential(GlobalDepthwise(head, size // 16), nn.BatchNorm2d(head)))
        layers.append(conv(head, dim, 1))
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", a=0.25 if activation == "prelu" else 0.0)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """float[B, dim] embeddings, not of unit norm, for float[B, 3, size, size] or fewer pixels."""
        embeddings: Tensor = self.layers(x_BCHW).flatten(1)
        return embeddings


class GlobalDepthwise(nn.Conv2d):
    """A weight for each place of each channel, summed to one number: float[B, C, side, side] -> float[B, C, 1, 1].

    On smaller inputs, as in the first part of a training that grows its images, the weights of neighboring places
    are averaged and scaled so that their sum stays.
    """

    def __init__(self, channels: int, side: int) -> None:
        super().__init__(channels, channels, side, groups=channels, bias=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        side, whole = x_BCHW.shape[-1], self.kernel_size[0]
        weight = self.weight
        if side != whole:
            weight = F.interpolate(weight, (side, side), mode="area") * (whole / side) ** 2
        if self.training:
            # In training as a sum of products: its gradient by the weights is a plain sum over the crops, for which
            # oneDNN's convolution takes 20 times as long.
            sums = (x_BCHW * weight.squeeze(1)).sum((2, 3), keepdim=True)
            return sums if self.bias is None else sums + self.bias.view(1, -1, 1, 1)
        return F.conv2d(x_BCHW, weight, self.bias, groups=self.groups)


class Bottleneck(nn.Module):
    """Expand, filter each channel, project; the input is added where the shapes agree."""

    def __init__(self, channels: int, out: int, expansion: int, stride: int, act: Activation) -> None:
        super().__init__()
        inner = channels * expansion
        self.layers = nn.Sequential(
            conv(channels, inner, 1, act=act),
            conv(inner, inner, 3, stride=stride, groups=inner, act=act),
            conv(inner, out, 1),
        )
        self.residual = stride == 1 and channels == out

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.layers(x_BCHW)
        return x_BCHW + y_BCHW if self.residual else y_BCHW


def slopes_of(activation: str, *, shared: bool = False) -> Activation:
    """``prelu``, with a slope for each channel or one that all share, or ``relu``."""
    if activation != "prelu":
        return lambda channels: nn.ReLU(inplace=True)
    return lambda channels: nn.PReLU(1 if shared else channels)


def conv(
    channels: int, out: int, kernel: int, *, stride: int = 1, groups: int = 1, act: Activation | None = None
) -> nn.Sequential:
    """Convolution, batch norm and, where there is one, an activation; of an odd kernel, the places stay."""
    if stride > 1 and groups == channels == out:
        filters: nn.Module = StridedDepthwise(channels, kernel, stride)
    else:
        filters = nn.Conv2d(channels, out, kernel, stride, kernel // 2, groups=groups, bias=False)
    layers: list[nn.Module] = [filters, nn.BatchNorm2d(out)]
    if act is not None:
        layers.append(act(out))
    return nn.Sequential(*layers)
