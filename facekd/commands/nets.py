"""facekd nets: the networks that can be trained and what each costs."""

from __future__ import annotations

from dataclasses import dataclass

from facekd.console import table
from facekd.errors import UserError
from facekd.settings.door import door


@dataclass(frozen=True, slots=True)
class NetCost:
    """One network's line."""

    name: str
    dim: int  # of the embedding
    parameters: int  # of the deployed network
    macs: int  # multiply-adds for one crop


@door
def nets(*, dim: int | None = None, size: int = 112, quiet: bool = False) -> tuple[NetCost, ...]:
    """List the networks that can be trained, with parameters and multiply-adds.

    Counted as the papers count: a norm behind a convolution or linear layer folds into it; multiply-adds are those of
    convolutions and linear layers.

    Example: facekd nets --dim 512

    Args:
        dim: Length of the embedding; without it the papers' own, 128 for MobileFaceNet, 256 for
            mobilefacenet-se and 512 for IResNet.
        size: Side of the crop in pixels, a multiple of 16.
        quiet: Print nothing.
    """
    import torch

    from facekd.nets import DIMS, NETS, build
    from facekd.nets.cost import num_macs, num_parameters

    if dim is not None and dim < 1:
        raise UserError(f"--dim {dim}: use the length of the embedding, such as 128")
    if size < 16:
        raise UserError(f"--size {size}: use the side of the crop in pixels, such as 112")
    costs = []
    for name in NETS:
        own = dim or DIMS.get(name, 512)
        with torch.device("meta"):  # shapes without numbers: nothing is computed
            net = build(name, dim=own, size=size)
            costs.append(NetCost(name, own, num_parameters(net), num_macs(net, size)))
    rows = [[c.name, str(c.dim), f"{c.parameters / 1e6:.3f} M", f"{c.macs / 1e6:.0f} M"] for c in costs]
    table(f"crops of {size} pixels", ["network", "embedding", "parameters", "multiply-adds"], rows, quiet)
    return tuple(costs)
