"""The heads as the recipes use them: a flag's name in, a checked module and its loss out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from facekd.core.types import Array
from facekd.losses import heads, softmax
from facekd.losses.softmax import class_weights
from facekd.nets.heads import Head
from facekd.training.parallel import whole_mean


def balance_classes(beta: float, labels_N: Array) -> Tensor | None:
    """float32[C]: how much a crop of each class counts, as `losses.softmax.class_weights`; None where beta is 0.

    Args:
        labels_N: of the training crops, of which -1 is left out; each class has one at least.
    """
    if not beta or not (labels_N >= 0).any():
        return None
    return class_weights(torch.from_numpy(np.bincount(labels_N[labels_N >= 0])), beta).float()


def head_loss(
    head: Head, outputs: Tensor, embeddings_BD: Tensor, labels_B: Tensor, class_weights_C: Tensor | None = None
) -> Tensor:
    """The loss that belongs to a head, on what it gave for these embeddings; crops with label -1 are left out.

    In training AdaFace's running lengths follow those of the batch. Of several processes each gets its share of the
    mean over all labeled crops of the batch.

    Args:
        class_weights_C: float[C] as `balance_classes` gives it, on the labels' device; None weighs all crops alike.
    """
    weights_B = None if class_weights_C is None else class_weights_C[labels_B.clamp(min=0)]
    return whole_mean(_head_loss(head, outputs, embeddings_BD, labels_B, weights_B), (labels_B >= 0).sum())


def _head_loss(
    head: Head, outputs: Tensor, embeddings_BD: Tensor, labels_B: Tensor, weights_B: Tensor | None
) -> Tensor:
    if head.name == "softmax":
        return softmax.softmax_cross_entropy(outputs, labels_B, weights_B)
    margin, scale = head.margin, head.scale
    assert scale is not None
    if head.name == "normsoftmax":
        return heads.normsoftmax(outputs, labels_B, scale=scale, weights_B=weights_B)
    assert margin is not None
    if head.name == "cosface":
        return heads.cosface(outputs, labels_B, margin=margin, scale=scale, weights_B=weights_B)
    if head.name == "arcface":
        return heads.arcface(outputs, labels_B, margin_rad=margin, scale=scale, weights_B=weights_B)
    if head.name == "subarcface":
        return heads.subarcface(outputs, labels_B, margin_rad=margin, scale=scale, weights_B=weights_B)
    assert head.name == "adaface", head.name
    norms = embeddings_BD.detach().float().norm(dim=1)
    if head.training:
        head.see_norms(norms)
    quality = heads.norm_quality(norms, head.norm_mean, head.norm_deviation)
    return heads.adaface(outputs, labels_B, quality, margin_rad=margin, scale=scale, weights_B=weights_B)
