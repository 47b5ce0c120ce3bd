"""Pruning an IResNet by magnitude: channels taken out for good, or single weights set to zero."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from facekd.nets import build
from facekd.nets.cost import num_parameters
from facekd.nets.iresnet import Block, IResNet

MULTIPLE = 4  # channels that stay are a multiple of this, and at least so many
NUMBER = 4  # bytes of a float32
HALVINGS = 16  # of the share of channels that is searched for


@dataclass(frozen=True, slots=True)
class Kept:
    """Which channels stay, int64, rising."""

    streams: list[Tensor]  # of what the stem writes, and of what each group of blocks adds to
    inner: list[Tensor]  # between the two convolutions of each block


def strongest(net: IResNet, share: float) -> Kept:
    """In every layer the same share of channels, those whose filters are largest.

    A filter counts with the norm behind it folded in; what a group of blocks adds to is written by several filters,
    whose sizes are summed. Source: H. Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv
    1608.08710: the L1 norm, and channels that a shortcut joins pruned together.
    """
    streams, inner = [_size(net.stem[0], net.stem[1])], []
    for block in _blocks(net):
        inner.append(_size(block.layers[1], block.layers[2]))
        written = _size(block.layers[4], block.layers[5])
        if isinstance(block.shortcut, nn.Sequential):
            streams.append(written + _size(block.shortcut[0], block.shortcut[1]))
        else:
            streams[-1] = streams[-1] + written
    return Kept([_top(sizes, share) for sizes in streams], [_top(sizes, share) for sizes in inner])


def cut(net: IResNet, kept: Kept) -> IResNet:
    """A smaller network with only the channels of `kept`; what they compute is not touched."""
    small = copy.deepcopy(net)
    streams = iter(kept.streams)
    before = next(streams)
    _cut_conv(small.stem[0], before, None)
    _cut_norm(small.stem[1], before)
    _cut_prelu(small.stem[2], before)
    for block, inner in zip(_blocks(small), kept.inner, strict=True):
        norm, conv, middle, act, last, end = block.layers
        projected = isinstance(block.shortcut, nn.Sequential)
        after = next(streams) if projected else before
        _cut_norm(norm, before)
        _cut_conv(conv, inner, before)
        _cut_norm(middle, inner)
        _cut_prelu(act, inner)
        _cut_conv(last, after, inner)
        _cut_norm(end, after)
        if projected:
            _cut_conv(block.shortcut[0], after, before)
            _cut_norm(block.shortcut[1], after)
        before = after
    norm, linear = small.output[0], small.output[3]
    places = linear.in_features // norm.num_features  # of the last picture: the linear layer takes channel by channel
    columns = (before[:, None] * places + torch.arange(places)).flatten()
    _cut_norm(norm, before)
    linear.weight = nn.Parameter(linear.weight.detach()[:, columns].clone())
    linear.in_features = len(columns)
    return small


def cut_to(net: IResNet, size: int) -> tuple[IResNet, float] | None:
    """The network cut to at most `size` bytes of float32 numbers, and the share of channels that stays.

    None where even the fewest channels are more.
    """
    low, high = 0.0, 1.0
    if NUMBER * num_parameters(cut(net, strongest(net, low))) > size:
        return None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fits = NUMBER * num_parameters(cut(net, strongest(net, middle))) <= size
        low, high = (middle, high) if fits else (low, middle)
    return cut(net, strongest(net, low)), low


def masks_to(net: nn.Module, size: int) -> dict[str, Tensor] | None:
    """bool masks by parameter's name: the largest weights, as many as `sparse_size` has room for in `size` bytes.

    Weights of different layers are compared by their square over the sum of the squares that are no smaller in
    their layer. Source: J. Lee et al., "Layer-adaptive sparsity for the Magnitude-based Pruning", ICLR 2021, arXiv
    2010.07611. None where not even one weight for each layer fits.
    """
    scores = {name: _lamp(module.weight.detach()) for name, module in _weighted(net)}
    falling = torch.cat([one.flatten() for one in scores.values()]).sort(descending=True).values
    low, high = len(scores), len(falling)  # each layer's largest weight scores 1

    def masks(count: int) -> dict[str, Tensor]:
        least = falling[count - 1]
        return {name: one >= least for name, one in scores.items()}

    if sparse_size(net, masks(low)) > size:
        return None
    while high - low > max(1, len(falling) // 100_000):
        middle = (low + high) // 2
        low, high = (middle, high) if sparse_size(net, masks(middle)) <= size else (low, middle)
    return masks(low)


@torch.no_grad()
def zero(net: nn.Module, masks: Mapping[str, Tensor]) -> None:
    """Set the weights that are masked out to zero."""
    for name, module in _weighted(net):
        if name in masks:
            module.weight.mul_(masks[name].to(module.weight.device))


def sparse_size(net: nn.Module, masks: Mapping[str, Tensor]) -> int:
    """Bytes of a network whose masked weights are stored sparsely, everything else as float32.

    Each layer takes the smallest of: all its numbers; a bit for each number and the kept ones; compressed sparse rows
    (the kept ones, the column of each in as few bytes as hold it, where each row begins in four bytes).
    """
    total = NUMBER * num_parameters(net)
    for name, module in _weighted(net):
        if name in masks:
            rows, numbers = len(module.weight), module.weight.numel()
            total += _layer_size(rows, numbers // rows, int(masks[name].sum())) - NUMBER * numbers
    return total


def nonzero(net: nn.Module, masks: Mapping[str, Tensor]) -> int:
    """Numbers that such a network keeps."""
    return num_parameters(net) - sum(int((~mask).sum()) for mask in masks.values())


def _layer_size(rows: int, columns: int, kept: int) -> int:
    index = 1 if columns <= 2**8 else 2 if columns <= 2**16 else 4
    bits = -(-rows * columns // 8) + NUMBER * kept
    compressed = (NUMBER + index) * kept + 4 * (rows + 1)
    return min(NUMBER * rows * columns, bits, compressed)


def _lamp(weight: Tensor) -> Tensor:
    squares = weight.double().square().flatten()
    order = squares.argsort(descending=True)
    scores = torch.empty_like(squares)
    scores[order] = squares[order] / squares[order].cumsum(0)
    return scores.reshape(weight.shape)


def _size(conv: nn.Module, norm: nn.Module) -> Tensor:
    """float[C]: the L1 norm of each filter, with the norm behind it folded in."""
    scale = norm.weight.detach().abs() / (norm.running_var + norm.eps).sqrt()
    return conv.weight.detach().abs().flatten(1).sum(1) * scale


def _top(sizes: Tensor, share: float) -> Tensor:
    count = max(MULTIPLE, round(share * len(sizes) / MULTIPLE) * MULTIPLE)
    return sizes.topk(min(count, len(sizes))).indices.sort().values


def _blocks(net: IResNet) -> list[Block]:
    return [block for block in net.blocks if isinstance(block, Block)]


def _weighted(net: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in net.named_modules() if isinstance(module, nn.Conv2d | nn.Linear))


def _cut_conv(conv: nn.Module, outputs: Tensor, inputs: Tensor | None) -> None:
    weight = conv.weight.detach()[outputs]
    conv.weight = nn.Parameter((weight if inputs is None else weight[:, inputs]).clone())
    conv.out_channels, conv.in_channels = conv.weight.shape[:2]


def _cut_norm(norm: nn.Module, kept: Tensor) -> None:
    norm.weight, norm.bias = (nn.Parameter(value.detach()[kept].clone()) for value in (norm.weight, norm.bias))
    norm.running_mean, norm.running_var = norm.running_mean[kept].clone(), norm.running_var[kept].clone()
    norm.num_features = len(kept)


def _cut_prelu(act: nn.Module, kept: Tensor) -> None:
    act.weight = nn.Parameter(act.weight.detach()[kept].clone())
    act.num_parameters = len(kept)


@torch.no_grad()
def check() -> None:
    """Taking out channels that are zero changes no output; the sizes counted are those of the packed bytes."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = build("iresnet18-quarter", dim=16, size=32)
    assert isinstance(net, IResNet)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            for value, low in ((module.weight, 0.5), (module.bias, -0.5), (module.running_mean, -0.5)):
                value.uniform_(low, low + 1, generator=generator)
            module.running_var.uniform_(20, 60, generator=generator)
    net.eval()
    kept = strongest(net, 0.5)
    _silence(net, kept)
    again = strongest(net, 0.5)
    pairs = zip([*kept.streams, *kept.inner], [*again.streams, *again.inner], strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    small = cut(net, kept).eval()
    assert num_parameters(small) < 0.6 * num_parameters(net)
    images = torch.randn(3, 3, 32, 32, generator=generator)
    torch.testing.assert_close(small(images), net(images), atol=1e-5, rtol=1e-5)

    size = NUMBER * num_parameters(net) // 5
    masks = masks_to(net, size)
    assert masks is not None
    assert 0.98 * size < sparse_size(net, masks) <= size
    for name, mask in masks.items():
        values = net.get_submodule(name).weight[mask].numpy().tobytes()
        bits = len(values) + -(-mask.numel() // 8)
        flat = mask.flatten(1)
        columns = flat.nonzero()[:, 1].numpy().astype("uint8" if flat.shape[1] <= 256 else "uint16").tobytes()
        compressed = len(values) + len(columns) + 4 * (len(flat) + 1)
        assert _layer_size(len(flat), flat.shape[1], int(mask.sum())) == min(4 * mask.numel(), bits, compressed)


def _silence(net: IResNet, kept: Kept) -> None:
    """Make every channel that is not in `kept` zero wherever it is written, and after every norm that reads it."""

    def norm(module: nn.Module, others: Tensor) -> None:
        module.bias[others] = 0
        module.running_mean[others] = 0

    def written(conv: nn.Module, after: nn.Module, kept: Tensor) -> Tensor:
        others = torch.tensor([i for i in range(len(conv.weight)) if i not in set(kept.tolist())])
        conv.weight[others] = 0
        norm(after, others)
        return others

    streams = iter(kept.streams)
    stays = next(streams)
    silent = written(net.stem[0], net.stem[1], stays)
    for block, inner in zip(_blocks(net), kept.inner, strict=True):
        norm(block.layers[0], silent)
        written(block.layers[1], block.layers[2], inner)
        if isinstance(block.shortcut, nn.Sequential):
            stays = next(streams)
            written(block.shortcut[0], block.shortcut[1], stays)
        silent = written(block.layers[4], block.layers[5], stays)
    norm(net.output[0], silent)
