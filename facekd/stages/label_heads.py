"""The heads as the recipes use them: a flag's name in, a checked module and its loss out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from facekd.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from facekd.nets.heads import Head

HeadName = Literal["softmax", "normsoftmax", "cosface", "arcface", "adaface", "subarcface"]


def check_head(name: HeadName, margin: float | None, scale: float | None) -> None:
    """Pass where the head takes these numbers.

    Raises:
        UserError: a margin or a scale that this head has not, or out of its range.
    """
    from facekd.nets.heads import HEADS

    kind = HEADS[name]
    if margin is not None and kind.margin is None:
        raise UserError(f"--margin {margin:g}: {name} has no margin; leave it out, or choose cosface or arcface")
    if scale is not None and kind.scale is None:
        raise UserError(f"--scale {scale:g}: {name} has no scale; leave it out, or choose normsoftmax or arcface")
    largest = 1.0 if name == "cosface" else math.pi / 2
    if margin is not None and not 0 <= margin <= largest:
        unit = "a difference of cosines" if name == "cosface" else "radians"
        raise UserError(f"--margin {margin:g}: is {unit} for {name}; use a number from 0 to {largest:.3g}")
    if scale is not None and not 0 < scale < math.inf:
        raise UserError(f"--scale {scale:g}: use a number above zero, such as 64")


def head_loss(head: Head, outputs: Tensor, embeddings_BD: Tensor, labels_B: Tensor) -> Tensor:
    """The loss that belongs to a head, on what it gave for these embeddings; crops with label -1 are left out.

    In training AdaFace's running lengths follow those of the batch.
    """
    from facekd.losses import heads, softmax

    if head.name == "softmax":
        return softmax.softmax_cross_entropy(outputs, labels_B)
    margin, scale = head.margin, head.scale
    assert scale is not None
    if head.name == "normsoftmax":
        return heads.normsoftmax(outputs, labels_B, scale=scale)
    assert margin is not None
    if head.name == "cosface":
        return heads.cosface(outputs, labels_B, margin=margin, scale=scale)
    if head.name == "arcface":
        return heads.arcface(outputs, labels_B, margin_rad=margin, scale=scale)
    if head.name == "subarcface":
        return heads.subarcface(outputs, labels_B, margin_rad=margin, scale=scale)
    assert head.name == "adaface", head.name
    norms = embeddings_BD.detach().float().norm(dim=1)
    if head.training:
        head.see_norms(norms)
    quality = heads.norm_quality(norms, head.norm_mean, head.norm_deviation)
    return heads.adaface(outputs, labels_B, quality, margin_rad=margin, scale=scale)
