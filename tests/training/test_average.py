"""The running average of the weights, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from facekd.training.average import averaged_copy, follow


def test_an_average_by_hand_forgets_its_beginning() -> None:
    net = nn.Linear(1, 1)
    with torch.no_grad():
        net.weight.fill_(0.0)
    average = averaged_copy(net)
    assert not any(p.requires_grad for p in average.parameters())
    wanted = 0.0
    for step in range(1, 200):
        with torch.no_grad():
            net.weight.fill_(float(step))
        follow(average, net, decay=0.9, step=step)
        keep = min(0.9, (1 + step) / (10 + step))
        wanted = keep * wanted + (1 - keep) * step
    assert average.weight.item() == pytest.approx(wanted, rel=1e-5)
    assert 185 < wanted < 195  # it trails by about 1 / (1 - d) steps
    assert net.weight.item() == 199


def test_a_decay_of_nothing_is_the_last_weight() -> None:
    net, other = nn.Linear(2, 3), nn.Linear(2, 3)
    average = averaged_copy(net)
    follow(average, other, decay=0.0, step=5)
    torch.testing.assert_close(average.weight, other.weight)
