"""Muon against the SVD, and against torch's own for matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facekd.training.loop import Plan, make_optimizer
from facekd.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(8, 8), (16, 5), (5, 40), (1, 7)])
@pytest.mark.parametrize("spread", [1.0, 30.0])
def test_an_update_keeps_the_directions_and_evens_their_sizes(shape: tuple[int, int], spread: float) -> None:
    torch.manual_seed(0)
    u, s, vh = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    matrix = u @ torch.diag(torch.logspace(0, -torch.log10(torch.tensor(spread)).item(), len(s))) @ vh
    evened = u.T @ orthogonal(matrix * 1e-4) @ vh.T
    sizes = evened.diagonal()
    assert (sizes > 0.6).all()
    assert (sizes < 1.3).all()
    torch.testing.assert_close(evened, torch.diag(sizes), atol=2e-3, rtol=0)


def test_no_gradient_at_all_is_no_step() -> None:
    assert torch.equal(orthogonal(torch.zeros(3, 4)), torch.zeros(3, 4))


def test_on_matrices_it_goes_the_way_of_torchs_own() -> None:
    torch.manual_seed(0)
    start = torch.randn(24, 10)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizer = Muon([{"params": [ours], "orthogonal": True}], lr=0.02, weight_decay=0.1)
    twin = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, momentum=0.95, nesterov=True)
    for step in range(5):
        gradient = torch.randn(24, 10, generator=torch.Generator().manual_seed(step))
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimizer.step()
        twin.step()
    # Torch's rounds are in bfloat16, three digits.
    moved, wanted = ours.detach() - start, theirs.detach() - start
    assert float((moved - wanted).norm() / wanted.norm()) < 0.02


def test_filters_that_mix_channels_take_it_and_all_else_adamw_at_a_tenth() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2)
    )
    before = {name: value.clone() for name, value in net.named_parameters()}
    optimizer = make_optimizer({"net": net}, Plan(steps=1, warmup=1, peak_lr=0.02, weight_decay=0.5, optimizer="muon"))
    for group in optimizer.param_groups:
        group["lr"] = 0.02 * group.get("share", 1.0)
    for parameter in net.parameters():
        parameter.grad = torch.randn_like(parameter)
    gradient = net[0].weight.grad.clone().reshape(4, 27)
    optimizer.step()
    for name, value in net.named_parameters():
        decay = 0.5 if value.ndim > 1 else 0.0
        if name == "0.weight":
            # The first step is along the gradient itself, whatever it is multiplied by.
            wanted = before[name] * (1 - 0.02 * decay) - 0.02 * orthogonal(gradient).view(4, 3, 3, 3)
            torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-6)
        else:
            # AdamW's first step is the rate in every place.
            moved = value - before[name] * (1 - 0.002 * decay)
            torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.002), rtol=1e-3, atol=0)
