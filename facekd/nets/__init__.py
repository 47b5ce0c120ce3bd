"""Networks by name: one literal table, no registry.

torch is imported when a network is built: a device that only runs an exported file need not load it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from facekd.core.suggest import nearest
from facekd.errors import UserError

if TYPE_CHECKING:
    from torch import nn

ACTIVATIONS = ("prelu", "relu")


def _mobilefacenet(**settings: Any) -> nn.Module:
    from facekd.nets.mobilefacenet import MobileFaceNet

    return MobileFaceNet(**settings)


def _mobilefacenet_se(**settings: Any) -> nn.Module:
    from facekd.nets.mobilefacenet_se import MobileFaceNetSE

    return MobileFaceNetSE(**settings)


def _iresnet(depth: int, **settings: Any) -> nn.Module:
    from facekd.nets.iresnet import IResNet

    return IResNet(depth, **settings)


# Lengths of the embedding in the papers, for the networks that have another than 512.
DIMS = {"mobilefacenet": 128, "mobilefacenet-half": 128, "mobilefacenet-se": 256}

# Each takes dim= and size=; MobileFaceNets also activation=.
NETS: dict[str, Callable[..., nn.Module]] = {
    "mobilefacenet": _mobilefacenet,
    "mobilefacenet-half": partial(_mobilefacenet, width=0.5),
    "mobilefacenet-se": _mobilefacenet_se,
    "iresnet18": partial(_iresnet, 18),
    "iresnet34": partial(_iresnet, 34),
    "iresnet50": partial(_iresnet, 50),
    "iresnet100": partial(_iresnet, 100),
    "iresnet200": partial(_iresnet, 200),
    "iresnet18-half": partial(_iresnet, 18, width=0.5),
    "iresnet18-quarter": partial(_iresnet, 18, width=0.25),
}


def build(name: str, *, dim: int, size: int = 112, activation: str = "prelu", folded: bool = False) -> nn.Module:
    """The network called `name`, freshly initialized from torch's global seed.

    Args:
        activation: one of ACTIVATIONS; only MobileFaceNets have another than their paper's.
        folded: without batch norms, each in the convolution before it: `fold.fold_norms`.

    Raises:
        UserError: no such network or activation, or a size that none takes.
    """
    if name not in NETS:
        raise UserError(f"no network {name!r}{nearest(name, NETS)}")
    if size % 16 != 0:
        raise UserError(f"{name}: takes crops of 112 or another multiple of 16 pixels, not {size}; align them again")
    if activation not in ACTIVATIONS:
        raise UserError(f"no activation {activation!r}{nearest(activation, ACTIVATIONS)}")
    if activation != "prelu" and not name.startswith("mobilefacenet"):
        raise UserError(f"{name}: has no other activation than PReLU; {activation} is for mobilefacenet")
    settings: dict[str, Any] = {"dim": dim, "size": size}
    net = NETS[name](**settings) if activation == "prelu" else NETS[name](**settings, activation=activation)
    if folded:
        from facekd.nets.fold import fold_norms

        fold_norms(net)
    return net
