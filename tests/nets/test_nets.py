"""The networks are the published ones, counted as the papers count."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import nn

from facekd.errors import UserError
from facekd.nets import NETS, build
from facekd.nets.cost import num_macs, num_parameters
from facekd.nets.iresnet import IResNet
from facekd.nets.mobilefacenet import BOTTLENECKS, MobileFaceNet


def test_mobilefacenet_is_the_papers() -> None:
    net = MobileFaceNet()
    # arXiv 1804.07573: "0.99 M parameters", 221 M multiply-adds at 112x112 (table 2).
    assert num_parameters(net) == 993_344
    assert round(num_macs(net) / 1e6) == 221


@pytest.mark.parametrize(
    ("name", "count", "digest"),
    [("mobilefacenet", 333, "9a10e40736aebe0e"), ("mobilefacenet-se", 408, "bdd7b60cbfa603b9")],
)
def test_a_run_made_before_finds_its_weights_by_their_names(name: str, count: int, digest: str) -> None:
    names = list(build(name, dim=128).state_dict())
    assert len(names) == count
    assert hashlib.sha256("\n".join(names).encode()).hexdigest().startswith(digest)


def test_mobilefacenet_of_512_stays_under_1_2_million() -> None:
    net = MobileFaceNet(dim=512)
    assert num_parameters(net) == 993_344 + (512 - 128) * (512 + 1)  # a row of the last layer and its bias each
    assert num_parameters(net) <= 1.2e6


# insightface's own counts (recognition/arcface_torch, iresnet at 112x112 with a 512-d embedding); for 200 none is
# published, it is `iresnet_counts`. OpenVINO's Model Zoo has 34.129 M and 8.934 GFLOPs (two for a multiply-add) for
# insightface's MXNet net of 34 layers, 65.132 M and 24.21 GFLOPs for that of 100.
@pytest.mark.parametrize(
    ("depth", "millions", "gmacs"),
    [(18, 24.03, 2.6), (34, 34.14, 4.5), (50, 43.59, 6.3), (100, 65.16, 12.1), (200, 118.83, 23.4)],
)
def test_iresnet_is_insightfaces(depth: int, millions: float, gmacs: float) -> None:
    with torch.device("meta"):
        net = IResNet(depth)
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == millions
    # As deployed, norms behind a convolution are folded: fewer, and never by more than a hundredth.
    assert millions * 0.999 < num_parameters(net) / 1e6 < millions
    assert round(num_macs(net) / 1e9, 1) == gmacs


def iresnet_counts(blocks: tuple[int, ...], widths: tuple[int, ...], dim: int, size: int) -> tuple[int, int]:
    """Parameters and multiply-adds by the paper's table: BN-Conv-BN-PReLU-Conv-BN in each block, the second convolution
    strides in the first block of a group, and a 1x1 convolution with a norm takes the shortcut there."""
    side, channels = size, widths[0]
    parameters, macs = 27 * channels + 3 * channels, side**2 * channels * 27
    for out, repeats in zip(widths, blocks, strict=True):
        for i in range(repeats):
            first, second = 9 * channels * out, 9 * out * out
            parameters += 2 * channels + first + 3 * out + second + 2 * out
            macs += side**2 * first
            if i == 0:
                side //= 2
                parameters += channels * out + 2 * out
                macs += side**2 * channels * out
            macs += side**2 * second
            channels = out
    flat = channels * side**2
    return parameters + 2 * channels + flat * dim + 3 * dim, macs + flat * dim


@pytest.mark.parametrize(
    ("name", "blocks", "widths", "dim", "size"),
    [
        ("iresnet18", (2, 2, 2, 2), (64, 128, 256, 512), 512, 112),
        ("iresnet50", (3, 4, 14, 3), (64, 128, 256, 512), 128, 64),
        ("iresnet100", (3, 13, 30, 3), (64, 128, 256, 512), 512, 112),
        ("iresnet200", (6, 26, 60, 6), (64, 128, 256, 512), 512, 112),
        ("iresnet18-half", (2, 2, 2, 2), (32, 64, 128, 256), 256, 112),
        ("iresnet18-quarter", (2, 2, 2, 2), (16, 32, 64, 128), 8, 32),
    ],
)
def test_iresnet_by_formula(name: str, blocks: tuple[int, ...], widths: tuple[int, ...], dim: int, size: int) -> None:
    with torch.device("meta"):
        net = build(name, dim=dim, size=size)
    assert (sum(p.numel() for p in net.parameters()), num_macs(net, size)) == iresnet_counts(blocks, widths, dim, size)


def mobilefacenet_macs(dim: int, size: int) -> int:
    """By table 1's formula: a layer costs pixels out x channels out x channels in of its group x kernel area."""
    side, channels = size // 2, 64
    total = side**2 * 64 * 3 * 9 + side**2 * 64 * 9
    for expansion, out, repeats, stride in BOTTLENECKS:
        for i in range(repeats):
            inner = channels * expansion
            total += side**2 * inner * channels
            side //= stride if i == 0 else 1
            total += side**2 * inner * 9 + side**2 * out * inner
            channels = out
    return total + side**2 * 512 * channels + 512 * side**2 + dim * 512


@pytest.mark.parametrize(("dim", "size"), [(128, 112), (8, 32), (64, 48)])
def test_macs_by_formula(dim: int, size: int) -> None:
    assert num_macs(MobileFaceNet(dim, size), size) == mobilefacenet_macs(dim, size)


def test_counting_leaves_the_net_as_it_was() -> None:
    net = build("iresnet18-quarter", dim=8, size=32)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    net.train()
    first = num_macs(net, 32)
    assert net.training
    assert num_macs(net, 32) == first  # no hook was left behind
    assert not any(module._forward_hooks for module in net.modules())
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items())


def test_a_norm_folds_only_behind_what_it_can_fold_into() -> None:
    free = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 5, 3, bias=False))
    assert num_parameters(free) == 6 + 135
    behind = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5))
    assert num_parameters(behind) == 135 + 5
    biased = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))
    assert num_parameters(biased) == 24 + 6


@pytest.mark.parametrize("name", [name for name in NETS if name not in ("iresnet100", "iresnet200")])
def test_every_name_gives_its_embedding(name: str) -> None:
    net = build(name, dim=12, size=32).eval()
    with torch.no_grad():
        embeddings = net(torch.randn(3, 3, 32, 32))
    assert embeddings.shape == (3, 12)
    assert torch.isfinite(embeddings).all()


@pytest.mark.parametrize("name", ["iresnet100", "iresnet200"])
def test_every_deep_name_gives_its_embedding_shape(name: str) -> None:
    with torch.device("meta"):
        assert build(name, dim=12, size=32).eval()(torch.zeros(3, 3, 32, 32)).shape == (3, 12)


def test_building_is_seeded() -> None:
    nets = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        nets.append(build("mobilefacenet-half", dim=8, size=32).state_dict())
    key = "layers.0.0.weight"
    assert torch.equal(nets[0][key], nets[1][key])
    assert not torch.equal(nets[0][key], nets[2][key])


def test_relu_in_place_of_prelu() -> None:
    net = build("mobilefacenet", dim=512, activation="relu")
    kinds = {type(module) for module in net.modules()}
    assert nn.ReLU in kinds
    assert nn.PReLU not in kinds
    slopes = sum(m.num_parameters for m in build("mobilefacenet", dim=512).modules() if isinstance(m, nn.PReLU))
    assert num_parameters(net) == num_parameters(MobileFaceNet(dim=512)) - slopes
    assert num_macs(net) == num_macs(MobileFaceNet(dim=512))
    with pytest.raises(UserError, match="iresnet18: has no other activation than PReLU"):
        build("iresnet18", dim=8, activation="relu")
    with pytest.raises(UserError, match="no activation 'rel'; did you mean 'relu'"):
        build("mobilefacenet", dim=8, activation="rel")


def test_a_mistyped_name_and_an_odd_size_are_refused() -> None:
    with pytest.raises(UserError, match="no network 'mobilefacent'; did you mean 'mobilefacenet'"):
        build("mobilefacent", dim=8)
    with pytest.raises(UserError, match="multiple of 16 pixels, not 100"):
        build("mobilefacenet", dim=8, size=100)
