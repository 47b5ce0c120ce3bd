"""A MobileFaceNet fitted layer by layer to a wider one: the student begins with what its teacher sees.

Where two networks have the same blocks, a layer of the narrower one can be computed by least squares: from what the
student's layers before it really give, to what the teacher's layer gives, so that each layer makes up for the errors of
those before. The streams that blocks add to are narrower in the student; they carry those combinations of the teacher's
channels from which the layers that read them are predicted best (reduced-rank regression). Elsewhere the student keeps
the teacher's channels, those of the largest part in what follows where it has fewer. No gradient is taken.

After the reconstruction of pruned layers: He, Zhang and Sun, "Channel Pruning for Accelerating Very Deep Neural
Networks", ICCV 2017, arXiv 1707.06168.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facekd.errors import UserError
from facekd.nets.mobilefacenet import Bottleneck, MobileFaceNet
from facekd.nets.saved import load_model
from facekd.teachers.onnx_torch import folded

CROPS, BODY = 4096, 512  # that the embedding's layer is fitted on; the first of them, for all layers before it
FEW = 32  # images that go through a layer at a time
ROWS, PLACES = 120_000, 60_000  # places of images that a pointwise layer is fitted on; and a depthwise one's channel
RIDGE, TAIL_RIDGE = 1e-4, 0.1  # of the inputs' mean variance
SEED = 0  # of the places


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution, the norm behind it folded in, and what bends its output."""

    weight: Tensor  # float32[O, I / groups, k, k]
    bias: Tensor  # float32[O]
    slope: Tensor | None  # float32[O] of its PReLU; None where it stays linear
    stride: int
    groups: int
    adds: bool = False  # its block's input is added to what it gives

    def before(self, x_BCHW: Tensor) -> Tensor:
        """What its PReLU gets."""
        weight, bias, padding = self.weight, self.bias, self.weight.shape[-1] // 2
        return _in_parts(lambda x: F.conv2d(x, weight, bias, self.stride, padding, groups=self.groups), x_BCHW)

    def bent(self, y_BCHW: Tensor) -> Tensor:
        """What its PReLU makes of it."""
        return y_BCHW if self.slope is None else F.prelu(y_BCHW, self.slope)

    def said(self) -> str:
        """Its kind, by which the layers of two networks are compared."""
        side = self.weight.shape[-1]
        parts = [f"a {side}x{side} {'convolution' if self.groups == 1 else 'depthwise one'} of stride {self.stride}"]
        return "".join([*parts, "" if self.slope is None else ", PReLU", ", added to the stream" if self.adds else ""])


@torch.no_grad()
def wider_layers(path: Path, student: MobileFaceNet) -> list[Layer]:
    """The layers of a network that is built as `student` is, only wider, up to the one before the global pooling.

    Args:
        path: a run folder of ours, or an ONNX file.

    Raises:
        UserError: it is built otherwise; the first layer that differs is named with the student's.
    """
    wanted = [_of_home(*one) for one in _convolutions(student)]
    found = _of_file(path) if path.suffix == ".onnx" else _of_run(path)
    for number, ours in enumerate(wanted):
        theirs = found[number] if number < len(found) else None
        if theirs is not None and ours.said() == theirs.said() and len(theirs.weight) >= len(ours.weight):
            continue
        there = "is missing" if theirs is None else f"is {theirs.said()}, of {len(theirs.weight)} channels"
        raise UserError(
            f"{path}: is not the student's network made wider: its layer {number + 1} {there}, the student's is "
            f"{ours.said()}, of {len(ours.weight)}; choose another --net, or another teacher"
        )
    return found[: len(wanted)]


@torch.no_grad()
def fit_layers(
    student: MobileFaceNet,
    layers: list[Layer],
    images_BCHW: Tensor,
    embeddings_BD: Tensor,
) -> Iterator[float]:
    """Put into `student` what least squares make of `layers`, norms settled on the images.

    Args:
        layers: of `wider_layers`.
        images_BCHW: float32[CROPS, 3, S, S] as both networks take them; fewer do, worse.
        embeddings_BD: float32[CROPS, dim] of unit norm: what the teacher says of them.

    Yields:
        For each block, and then for the last layer, which share of the variance of what the teacher has there the
        student's own explains; the student is whole after the last.
    """
    student.eval()
    homes = [home for home, _ in _convolutions(student)]
    widths = [len(_of_home(*one).weight) for one in _convolutions(student)]
    stem, second, *inner, last = layers
    body = images_BCHW[:BODY]
    blocks = list(zip(*[iter(inner)] * 3, strict=True))
    # The stem is bent twice before anything is combined: channels can only be chosen.
    first = stem.bent(stem.before(body))
    wide = second.before(first)
    kept = _stem_channels(first, second.bent(wide), second, blocks[0][0], widths[1])
    x = _put(homes[0], _chosen(stem, kept[0]), body)
    x = _put(homes[1], _depthwise(x, wide[:, kept[1]], _chosen(second, kept[1])), x)
    stream = second.bent(wide)
    del first, wide
    maps = _stream_maps(stream, blocks, last, widths[4:-1:3])
    for number, (expand, depthwise, project) in enumerate(blocks):
        place = 2 + 3 * number
        here = homes[place : place + 3]
        taught = expand.before(stream)
        taught_deep = depthwise.before(expand.bent(taught))
        given = depthwise.bent(taught_deep)
        stream = project.before(given) + (stream if project.adds else 0)
        channels = _largest(project.weight.flatten(1).square().sum(0) * given.var((0, 2, 3)), widths[place])
        y = _put(here[0], _pointwise(x, taught[:, channels], _chosen(expand, channels)), x)
        y = _put(here[1], _depthwise(y, taught_deep[:, channels], _chosen(depthwise, channels)), y)
        wanted = torch.einsum("dc,bchw->bdhw", maps[number], stream)
        y = _put(here[2], _pointwise(y, wanted - x if project.adds else wanted, project), y)
        x = x + y if project.adds else y
        yield _explained(x, wanted)
    taught = last.before(stream)
    channels = _largest(taught.var((0, 2, 3)), widths[-1])
    x = _put(homes[-1], _pointwise(x, taught[:, channels], _chosen(last, channels)), x)
    _put_tail(student, images_BCHW, embeddings_BD)
    yield _explained(x, last.bent(taught)[:, channels])


def _in_parts(call: Callable[[Tensor], Tensor], x_BCHW: Tensor) -> Tensor:
    return torch.cat([call(part) for part in torch.split(x_BCHW, FEW)])


def _convolutions(net: MobileFaceNet) -> Iterator[tuple[nn.Sequential, bool]]:
    """Each convolution with its norm and activation, and whether its output is added to a stream; up to the last."""
    for module in list(net.layers)[:-2]:  # behind it are the global pooling and the embedding's own layer
        if isinstance(module, Bottleneck):
            *inner, project = module.layers
            yield from ((home, False) for home in inner if isinstance(home, nn.Sequential))
            assert isinstance(project, nn.Sequential)
            yield project, module.residual
        else:
            assert isinstance(module, nn.Sequential)
            yield module, False


def _explained(found_BCHW: Tensor, wanted_BCHW: Tensor) -> float:
    missed, whole = (x_BCHW.var((0, 2, 3)).sum() for x_BCHW in (found_BCHW - wanted_BCHW, wanted_BCHW))
    return 1 - float(missed / whole)


def _of_home(home: nn.Sequential, adds: bool) -> Layer:
    """A layer of ours as it is when it is used."""
    conv, norm, bend = home[0], home[1], home[2] if len(home) > 2 else None
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    slope = bend.weight if isinstance(bend, nn.PReLU) else None
    weight, bias = conv.weight * gain[:, None, None, None], norm.bias - norm.running_mean * gain
    return Layer(weight, bias, slope, conv.stride[0], conv.groups, adds)


def _of_file(path: Path) -> list[Layer]:
    """The convolutions of an ONNX file in their order, up to the first operator that ours have not."""
    from onnx import numpy_helper

    graph = folded(path).graph
    numbers = {one.name: torch.from_numpy(numpy_helper.to_array(one).copy()) for one in graph.initializer}
    found: list[Layer] = []
    for node in graph.node:
        asked = {one.name: [*one.ints, one.i] for one in node.attribute}
        computed = [name for name in node.input if name not in numbers]
        if node.op_type == "Conv" and len(computed) == 1:
            weight = numbers[node.input[1]]
            bias = numbers[node.input[2]] if len(node.input) > 2 else torch.zeros(len(weight))
            strides, pads = set(asked.get("strides", [1])[:-1]), set(asked.get("pads", [0])[:-1])
            if pads != {weight.shape[-1] // 2} or len(strides) != 1 or set(asked.get("dilations", [1])[:-1]) - {1}:
                break
            found.append(Layer(weight, bias, None, strides.pop(), asked.get("group", [1])[0]))
        elif node.op_type == "PRelu" and found:
            slope = numbers[node.input[1]].flatten()
            found[-1] = replace(found[-1], slope=slope.expand(len(found[-1].weight)))
        elif node.op_type == "Add" and len(computed) == 2 and found:
            found[-1] = replace(found[-1], adds=True)
        else:
            break
    return found


def _of_run(path: Path) -> list[Layer]:
    net = load_model(path).net
    return [_of_home(*one) for one in _convolutions(net)] if isinstance(net, MobileFaceNet) else []


def _chosen(layer: Layer, channels: Tensor) -> Layer:
    """The layer with some of its outputs."""
    slope = None if layer.slope is None else layer.slope[channels]
    return replace(layer, weight=layer.weight[channels], bias=layer.bias[channels], slope=slope)


def _largest(scores: Tensor, count: int) -> Tensor:
    """The places of the `count` largest, in their order."""
    return torch.sort(torch.topk(scores, count).indices).values


def _stem_channels(first: Tensor, after: Tensor, second: Layer, reader: Layer, count: int) -> tuple[Tensor, Tensor]:
    """Inputs and outputs of the second layer that a depthwise one of `count` channels keeps, output by output.

    An output of a group of several inputs keeps the one that makes most of it.
    """
    several = second.weight.shape[1]
    of = torch.arange(len(second.weight)) // (len(second.weight) // second.groups) * several
    inputs = of[:, None] + torch.arange(several)  # [O, several]
    parts = second.weight.square().sum((2, 3)) * first.var((0, 2, 3))[inputs] + 1e-12
    most = parts.max(1)
    worth = reader.weight.flatten(1).square().sum(0) * after.var((0, 2, 3)) * most.values / parts.sum(1)
    outputs = _largest(worth, count)
    return inputs[outputs, most.indices[outputs]], outputs


def _stream_maps(
    stream: Tensor, blocks: list[tuple[Layer, Layer, Layer]], last: Layer, widths: list[int]
) -> list[Tensor]:
    """float32[student's width, teacher's width] for the output of each block: what the student's stream is to carry."""
    stream = stream[: BODY // 2]
    readers = [*(block[0] for block in blocks[1:]), last]
    sums: list[tuple[Tensor, Tensor]] = []  # of each stream: covariance, and what the layers that read it weigh
    stream_of = []
    for (expand, depthwise, project), reader in zip(blocks, readers, strict=True):
        given = depthwise.bent(depthwise.before(expand.bent(expand.before(stream))))
        stream = project.before(given) + (stream if project.adds else 0)
        rows = _rows(stream).double()
        covariance = torch.cov(rows.T)
        weight = reader.weight.flatten(1).double()
        power = ((weight @ covariance) * weight).sum(1)
        alive = power > 1e-6 * power.max()
        gain = (weight[alive] / power[alive, None]).T @ weight[alive]
        if project.adds:
            sums[-1] = sums[-1][0] + covariance, sums[-1][1] + gain
        else:
            sums.append((covariance, gain))
        stream_of.append(len(sums) - 1)
    return [_map_of(*sums[at], width) for at, width in zip(stream_of, widths, strict=True)]


def _map_of(covariance: Tensor, gain: Tensor, width: int) -> Tensor:
    """Reduced-rank regression: the `width` directions, of unit variance, that best predict what reads the stream."""
    values, vectors = torch.linalg.eigh(covariance)
    values = values.clamp(min=float(values.max()) * 1e-7)
    root: Tensor = (vectors * values.sqrt()) @ vectors.T
    inverse: Tensor = (vectors / values.sqrt()) @ vectors.T
    best: Tensor = torch.linalg.eigh(root @ gain @ root).eigenvectors[:, -width:]
    return (best.T @ inverse).float()


def _rows(x_BCHW: Tensor, most: int = ROWS) -> Tensor:
    """float32[n, C] of at most so many places, the same ones of every tensor of as many."""
    rows = x_BCHW.permute(0, 2, 3, 1).flatten(0, 2)
    if len(rows) <= most:
        return rows
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(SEED))[:most]]


def _solved(inputs: Tensor, wanted: Tensor, ridge: float) -> tuple[Tensor, Tensor]:
    """Weights and biases of ridge regressions: float64[..., n, I], [..., n, O] -> float32[..., O, I], [..., O]."""
    means = inputs.mean(-2, keepdim=True), wanted.mean(-2, keepdim=True)
    inputs, wanted = inputs - means[0], wanted - means[1]
    gram = inputs.mT @ inputs
    eye = torch.eye(gram.shape[-1], dtype=gram.dtype)
    size = gram.diagonal(dim1=-2, dim2=-1).mean(-1)[..., None, None].clamp(min=1e-30)  # 0 where nothing comes in
    weights = torch.linalg.solve(gram + ridge * size * eye, inputs.mT @ wanted).mT
    return weights.float(), (means[1] - means[0] @ weights.mT)[..., 0, :].float()


def _pointwise(x_BCHW: Tensor, wanted_BCHW: Tensor, like: Layer, ridge: float = RIDGE) -> Layer:
    weight, bias = _solved(_rows(x_BCHW).double(), _rows(wanted_BCHW).double(), ridge)
    return replace(like, weight=weight[:, :, None, None], bias=bias, groups=1)


def _depthwise(x_BCHW: Tensor, wanted_BCHW: Tensor, like: Layer) -> Layer:
    side, (_, channels, *places) = like.weight.shape[-1], wanted_BCHW.shape
    some = max(1, PLACES // (places[0] * places[1]))
    found = []
    for at in range(0, channels, FEW):
        part = x_BCHW[:some, at : at + FEW].contiguous()
        patches = F.unfold(part, side, padding=side // 2, stride=like.stride)
        patches = patches.reshape(len(part), part.shape[1], side * side, -1)
        targets = wanted_BCHW[:some, at : at + FEW].flatten(2).transpose(0, 1).flatten(1)
        found.append(_solved(patches.permute(1, 0, 3, 2).flatten(1, 2).double(), targets[..., None].double(), RIDGE))
    weight, bias = (torch.cat(parts) for parts in zip(*found, strict=True))
    return replace(like, weight=weight.reshape(channels, 1, side, side), bias=bias[:, 0], groups=channels)


def _put(home: nn.Sequential, layer: Layer, x_BCHW: Tensor) -> Tensor:
    """Put a layer into its place, the norm's statistics those of the images; what it then gives."""
    conv, norm = home[0], home[1]
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    conv.weight.copy_(layer.weight)
    given = _in_parts(conv, x_BCHW)
    variance, mean = torch.var_mean(given, (0, 2, 3), correction=0)
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)
    norm.weight.copy_((variance + norm.eps).sqrt())
    norm.bias.copy_(mean + layer.bias)
    if layer.slope is not None:
        bend = home[2]
        assert isinstance(bend, nn.PReLU)
        bend.weight.copy_(layer.slope)
    return _in_parts(home, x_BCHW)


def _put_tail(student: MobileFaceNet, images_BCHW: Tensor, embeddings_BD: Tensor) -> None:
    """The pooling as a mean, and behind it the layer that makes the teacher's embeddings of it best."""
    *body, pooling, tail = student.layers
    assert isinstance(pooling, nn.Sequential)
    assert isinstance(tail, nn.Sequential)
    pooled = _in_parts(lambda x: nn.Sequential(*body)(x).mean((2, 3), keepdim=True), images_BCHW)
    conv, channels = pooling[0], pooled.shape[1]
    assert isinstance(conv, nn.Conv2d)
    side = conv.kernel_size[0]
    mean = Layer(torch.full((channels, 1, side, side), 1 / side**2), torch.zeros(channels), None, 1, channels)
    pooled = _put(pooling, mean, pooled.expand(-1, -1, side, side))
    wanted = embeddings_BD[:, :, None, None] * embeddings_BD.shape[1] ** 0.5
    _put(tail, _pointwise(pooled, wanted, replace(mean, stride=1), TAIL_RIDGE), pooled)
