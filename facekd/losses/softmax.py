"""The labels' own objective."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def softmax_cross_entropy(logits_BC: Tensor, labels_B: Tensor, weights_B: Tensor | None = None) -> Tensor:
    """Mean cross-entropy of float[B, C] logits against int64[B] labels, in nats; label -1 is left out.

    A batch without a label gives zero, with a gradient of zero. Half precision is computed in float32.

    Args:
        weights_B: float[B], 0 or more: how much each crop counts, 1 unless given. The sum is divided by how many
            crops have a label, not by their weights. Divided by weights, a crop's pull would hang on who else is in
            its batch, a batch of common people alone would count as if it had no weights, and two processes would
            not take the step of one.
    """
    check_labels(labels_B, logits_BC.shape[1])
    logits_BC = wide(logits_BC)
    labeled = (labels_B >= 0).sum().clamp(min=1)
    if weights_B is None:
        return F.cross_entropy(logits_BC, labels_B, ignore_index=-1, reduction="sum") / labeled
    losses_B = F.cross_entropy(logits_BC, labels_B, ignore_index=-1, reduction="none")
    return (losses_B * weights_B.detach().to(losses_B)).sum() / labeled


def class_weights(counts_C: Tensor, beta: float) -> Tensor:
    """float64[C]: the weight of a crop of each class, (1 − β) / (1 − β^n) for a class of n crops, their mean one.

    The n-th crop of a class is taken to add β^(n − 1) to what is known of it, so n crops are (1 − β^n) / (1 − β)
    effective ones. β = 0 weighs all crops alike, β → 1 all classes alike (1 / n).
    Source: Y. Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", arXiv 1901.05555, section 3.
    The mean is taken over all crops, where the paper's is over classes: the loss and its gradient keep their size on
    average, so a learning rate that suits the plain loss suits this one, however long the tail.

    Args:
        counts_C: int[C], how many crops each class has, all above 0.
        beta: β in [0, 1).
    """
    assert 0 <= beta < 1, beta
    assert (counts_C > 0).all(), "a class without a crop"
    counts = counts_C.double()
    # expm1 keeps the digits that 1 − β^n loses for β near 1.
    weights = (1 - beta) / -torch.expm1(counts * (math.log(beta) if beta else -math.inf))
    return weights * counts.sum() / (weights * counts).sum()


def check_labels(labels_B: Tensor, classes: int) -> None:
    """Labels come from the identities that the head was built for; another one is our own mistake.

    On a GPU, which would have to be waited for, it is left to the device's own check.
    """
    if labels_B.device.type != "cpu" or labels_B.numel() == 0 or torch.compiler.is_compiling():
        return
    low, high = int(labels_B.min()), int(labels_B.max())
    assert -1 <= low <= high < classes, f"labels from {low} to {high} for a head of {classes} classes"


def wide(values: Tensor) -> Tensor:
    """In float32 where they are in half precision; gradients come back in theirs."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
