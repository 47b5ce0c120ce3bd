"""Folded norms: the same embeddings, no statistics, one bias more for each convolution."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from toy import SIZE

from facekd.core.contract import Contract
from facekd.nets import build
from facekd.nets.cost import num_parameters
from facekd.nets.fold import fold_norms
from facekd.nets.saved import load_model, save_model


def lived(name: str) -> nn.Module:
    """A network whose norms have statistics and weights of their own."""
    torch.manual_seed(3)
    net = build(name, dim=8, size=SIZE)
    for module in net.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return net.eval()


@pytest.mark.parametrize("name", ["mobilefacenet", "mobilefacenet-se", "iresnet18-quarter"])
def test_embeddings_stay_when_norms_are_folded(name: str) -> None:
    net = lived(name)
    images = torch.randn(4, 3, SIZE, SIZE)
    with torch.no_grad():
        before, counted = net(images), num_parameters(net)
        fold_norms(net)
        torch.testing.assert_close(net(images), before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))
    assert not any(isinstance(module, _BatchNorm) for module in net.modules())
    assert num_parameters(net) == counted  # as deployed: that is what was counted before
    images.requires_grad_()
    net.train()
    torch.testing.assert_close(net(images), before, rtol=1e-4, atol=1e-4 * float(before.abs().max()))


def test_folding_twice_changes_nothing() -> None:
    net = lived("mobilefacenet-se")
    fold_norms(net)
    once = {key: value.clone() for key, value in net.state_dict().items()}
    fold_norms(net)
    assert all(torch.equal(value, once[key]) for key, value in net.state_dict().items())


def test_a_folded_network_is_kept_and_read_as_one(tmp_path: Path) -> None:
    net = lived("mobilefacenet-se")
    fold_norms(net)
    save_model(tmp_path / "model.safetensors", "mobilefacenet-se", net, Contract(dim=8, size=SIZE))
    found = load_model(tmp_path).net
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        torch.testing.assert_close(found(images), net(images))
    assert found.folded is True
