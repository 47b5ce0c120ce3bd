"""Forms of a step: tried, held against float32, chosen by the time that the whole run takes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from facekd.nets import build
from facekd.training.forms import LOSS_APART, PLAIN, Form, Tried, quickest, try_forms

LOW, QUICK = Form("bf16", False), Form("bf16", True)


def tried(form: Form, seconds: float, begin: float = 0.0, loss: float = 0.0, gradient: float = 0.0) -> Tried:
    return Tried(form, seconds, begin, loss, gradient)


def test_a_long_beginning_pays_in_a_long_run_only() -> None:
    found = [tried(PLAIN, 1.0), tried(LOW, 0.9), tried(QUICK, 0.4, begin=90.0)]
    assert quickest(found, 150).form == LOW
    assert quickest(found, 300).form == QUICK


@pytest.mark.parametrize("apart", [(0.02, 0.0), (0.0, 0.6), (float("nan"), 0.0), (0.0, float("nan"))])
def test_what_computes_something_else_is_never_chosen(apart: tuple[float, float]) -> None:
    found = [tried(PLAIN, 1.0), tried(LOW, 0.1, 0.0, *apart)]
    assert quickest(found, 1000).form == PLAIN


def test_bf16_is_tried_and_the_net_is_left_as_it_was() -> None:
    torch.manual_seed(0)
    net, images = build("mobilefacenet-half", dim=32, size=64).train(), torch.randn(16, 3, 64, 64)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    state = torch.get_rng_state()
    found = try_forms(net, images, [PLAIN, LOW], pytest.fail)
    assert found[PLAIN].loss_apart == found[PLAIN].gradient_apart == 0
    assert 0 < found[LOW].gradient_apart < 0.5, "bfloat16 differs, and is no other network"
    assert found[LOW].loss_apart <= LOSS_APART
    assert found[LOW].agrees, "trainings of MobileFaceNets that began so ended no worse"
    assert all(one.seconds > 0 for one in found.values())
    assert all(torch.equal(value, net.state_dict()[key]) for key, value in before.items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(state, torch.get_rng_state())


class Wrong(nn.Module):
    """Other numbers in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.flatten(1))
        return -y if y.dtype == torch.bfloat16 else y


def test_a_form_that_is_wrong_is_seen() -> None:
    torch.manual_seed(0)
    found = try_forms(Wrong().train(), torch.randn(8, 3, 2, 2), [PLAIN, LOW], pytest.fail)
    assert not found[LOW].agrees
