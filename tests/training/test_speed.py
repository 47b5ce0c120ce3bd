"""What makes a step quicker leaves what is learned as it is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from facekd.nets import build
from facekd.nets.mobilefacenet import GlobalDepthwise
from facekd.training.loop import Batch, Plan, fit, make_optimizer
from facekd.training.schedule import side_at
from facekd.training.speed import KeptScale


def plain_net() -> nn.Module:
    """No batch norm: what a crop gives does not hang on the crops beside it."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.PReLU(), nn.Linear(8, 2))


def trained(accumulate: int) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    net = plain_net()
    plan = Plan(steps=5, warmup=1, peak_lr=0.1, weight_decay=1e-3, accumulate=accumulate)
    images = torch.randn(5, 12, 3, 2, 2, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(12) % 2
    batches = [Batch(images[i], labels, tuple(map(str, range(12)))) for i in range(5)]

    def loss(batch: Batch) -> dict[str, Tensor]:
        assert len(batch.crop_ids) == len(batch.images_BCHW) == 12 // accumulate
        return {"labels": F.cross_entropy(net(batch.images_BCHW), batch.labels_B)}

    optimizer = make_optimizer({"net": net}, plan)
    rows = list(fit({"net": net}, optimizer, batches, loss, plan, 0, Accelerator(cpu=True)))
    return net.state_dict(), rows


@pytest.mark.parametrize("accumulate", [2, 3, 12])
def test_a_batch_in_parts_takes_the_same_steps(accumulate: int) -> None:
    whole, rows = trained(1)
    parts, rows_of_parts = trained(accumulate)
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-6)
    for one, two in zip(rows, rows_of_parts, strict=True):
        assert two == pytest.approx(one, rel=1e-5)


def test_each_side_has_its_share_of_the_steps_and_the_rest_is_whole() -> None:
    sides = [side_at(step, 10, [(64, 0.5), (80, 0.25)], 112) for step in range(10)]
    assert sides == [64] * 5 + [80] * 3 + [112] * 2
    assert side_at(0, 10, [], 112) == 112


@pytest.mark.parametrize("side", [2, 3, 5, 7])
def test_a_flat_image_gives_one_answer_at_every_size(side: int) -> None:
    # The weights' sum is what a flat image meets; from 7x7 to 4x4 the areas overlap, so there it is only near.
    layer = GlobalDepthwise(6, 7)
    nn.init.ones_(layer.weight)
    torch.testing.assert_close(layer(torch.ones(1, 6, side, side)), torch.full((1, 6, 1, 1), 49.0))


@pytest.mark.parametrize("side", [3, 7])
def test_in_training_its_gradients_are_those_of_a_convolution(side: int) -> None:
    torch.manual_seed(0)
    layer, x = GlobalDepthwise(6, 7).double(), torch.randn(4, 6, side, side, dtype=torch.float64)
    weight = F.interpolate(layer.weight, (side, side), mode="area") * (7 / side) ** 2
    found, wanted = layer(x.requires_grad_()), F.conv2d(x, weight, groups=6)
    torch.testing.assert_close(found, wanted)
    slope = torch.randn_like(wanted)
    for ours, theirs in zip(
        torch.autograd.grad(found, [x, layer.weight], slope),
        torch.autograd.grad(wanted, [x, layer.weight], slope),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)


def test_smaller_images_pass_and_learn_the_same_weights() -> None:
    net = build("mobilefacenet-half", dim=16, size=64).train()
    net(torch.randn(2, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_fp16s_scale_is_kept() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    weight = torch.ones(1, requires_grad=True)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    for _ in range(3):
        scaler.scale((weight * 2).sum()).backward()
        scaler.step(optimizer)
        scaler.update()
    kept = KeptScale()
    kept.take(scaler)
    again = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    other = KeptScale()
    other.load_state_dict(kept.state_dict())
    other.give(again)
    assert again.state_dict() == scaler.state_dict()
    assert scaler.get_scale() == 2048.0


COMPILED = """
import torch
from torch import nn
from facekd.training.speed import compiled
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.PReLU(8), nn.Flatten(), nn.Linear(288, 4)).train()
before = {key: value.clone() for key, value in net.state_dict().items()}
images = torch.randn(4, 3, 8, 8)
quick = compiled(net, images, lambda line: print("TOLD", line))
assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items()), "the trial left a trace"
assert all(parameter.grad is None for parameter in net.parameters())
one = quick(images)
net.load_state_dict(before)
torch.testing.assert_close(one, net(images), rtol=1e-3, atol=1e-4)
print("SAME", quick is not net)
"""


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["g++", "/no/such/compiler"])
def test_compiled_is_the_same_net_and_without_a_compiler_it_is_told(compiler: str, tmp_path: Path) -> None:
    environment = {**os.environ, "CXX": compiler, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(
        [sys.executable, "-c", COMPILED], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert ("TOLD" in run.stdout) == (compiler != "g++")
    assert f"SAME {compiler == 'g++'}" in run.stdout
