"""IResNet, the ResNet of face recognition: J. Deng et al., "ArcFace", CVPR 2019 (its "improved residual unit":
BN-Conv-BN-PReLU-Conv-BN, no stride in the stem), with insightface's output: BN-Dropout-FC-BN."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

# Blocks in the four groups.
DEPTHS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 14, 3), 100: (3, 13, 30, 3), 200: (6, 26, 60, 6)}


class IResNet(nn.Module):
    """IResNet of a depth in DEPTHS.

    Args:
        depth: 18, 34, 50, 100 or 200.
        dim: length of the embedding.
        size: side of the input in pixels, a multiple of 16.
        width: factor on the 64, 128, 256 and 512 channels.
        dropout: before the fully connected layer, in [0, 1).
    """

    def __init__(self, depth: int, dim: int = 512, size: int = 112, width: float = 1.0, dropout: float = 0.0) -> None:
        super().__init__()
        assert size % 16 == 0, size
        self.side = size // 16  # of the last map
        widths = [max(8, round(c * width / 8) * 8) for c in (64, 128, 256, 512)]
        channels = widths[0]
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels), nn.PReLU(channels)
        )
        blocks: list[nn.Module] = []
        for out, repeats in zip(widths, DEPTHS[depth], strict=True):
            for i in range(repeats):
                blocks.append(Block(channels, out, 2 if i == 0 else 1))
                channels = out
        self.blocks = nn.Sequential(*blocks)
        self.output = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.Linear(channels * self.side**2, dim),
            nn.BatchNorm1d(dim),
        )
        # The norm's scale would only stretch embeddings that are compared by angle.
        self.output[-1].weight.requires_grad_(False)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0, 0.1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """float[B, dim] embeddings, not of unit norm, for float[B, 3, size, size] or fewer pixels.

        The map of a smaller image, as in the first part of a training that grows its images, is stretched to the places
        that the last layer has weights for.
        """
        map_BCHW: Tensor = self.blocks(self.stem(x_BCHW))
        if map_BCHW.shape[-1] != self.side:
            map_BCHW = F.interpolate(map_BCHW, (self.side, self.side), mode="bilinear")
        embeddings: Tensor = self.output(map_BCHW)
        return embeddings


class Block(nn.Module):
    """The improved residual unit."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.Conv2d(channels, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.PReLU(out),
            nn.Conv2d(out, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.layers(x_BCHW) + self.shortcut(x_BCHW)
        return y_BCHW
