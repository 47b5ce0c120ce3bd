"""Networks by name: one literal table, no registry."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from facekd.core.suggest import nearest
from facekd.errors import UserError
from facekd.nets.iresnet import IResNet
from facekd.nets.mobilefacenet import MobileFaceNet

# Each takes dim= and size=.
NETS: dict[str, Callable[..., nn.Module]] = {
    "mobilefacenet": MobileFaceNet,
    "mobilefacenet-half": partial(MobileFaceNet, width=0.5),
    "iresnet18": partial(IResNet, 18),
    "iresnet34": partial(IResNet, 34),
    "iresnet50": partial(IResNet, 50),
    "iresnet100": partial(IResNet, 100),
    "iresnet200": partial(IResNet, 200),
    "iresnet18-half": partial(IResNet, 18, width=0.5),
    "iresnet18-quarter": partial(IResNet, 18, width=0.25),
}


def build(name: str, *, dim: int, size: int = 112) -> nn.Module:
    """The network called `name`, freshly initialised from torch's global seed.

    Raises:
        UserError: no such network, or a size that none takes.
    """
    if name not in NETS:
        raise UserError(f"no network {name!r}{nearest(name, NETS)}")
    if size % 16 != 0:
        raise UserError(f"{name}: takes crops of 112 or another multiple of 16 pixels, not {size}; align them again")
    return NETS[name](dim=dim, size=size)
