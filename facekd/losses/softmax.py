"""The labels' own objective."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def softmax_cross_entropy(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Mean cross-entropy of float[B, C] logits against int64[B] labels, in nats; label -1 is left out.

    A batch without a label gives zero, with a gradient of zero.
    """
    labelled = labels_B >= 0
    total = F.cross_entropy(logits_BC, labels_B, ignore_index=-1, reduction="sum")
    return total / labelled.sum().clamp(min=1)
