"""Softmax heads on cosines: a margin is taken from the own identity's cosine before the cross-entropy.

Each takes cosines in [-1, 1] of embeddings to class centers and int64[B] labels, of which -1 is left out, and gives
the mean cross-entropy in nats; `weights_B` says how much each crop counts, as in `softmax_cross_entropy`. Arguments
stay as they are; half precision is computed in float32. Angles are never taken by acos, whose slope is infinite at
cosines of ±1: cos(θ + m) = cos θ cos m − sin θ sin m, so the slope is the true sin(θ + m) / sin θ wherever it is
finite and cos m at the two ends.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from facekd.losses.softmax import check_labels, softmax_cross_entropy, wide


def normsoftmax(cosines_BC: Tensor, labels_B: Tensor, *, scale: float, weights_B: Tensor | None = None) -> Tensor:
    """Cross-entropy of scale · cosine: no margin, and no length of embedding or center to hide behind.

    Source: F. Wang et al., "NormFace", arXiv 1704.06369.
    """
    return softmax_cross_entropy(scale * wide(cosines_BC), labels_B, weights_B)


def cosface(
    cosines_BC: Tensor, labels_B: Tensor, *, margin: float, scale: float, weights_B: Tensor | None = None
) -> Tensor:
    """Large margin cosine loss: the own identity's cosine less `margin`.

    Source: H. Wang et al., "CosFace", arXiv 1801.09414, equation 4.

    Args:
        margin: a difference of cosines, 0 or more; the paper's is 0.35.
    """
    cosines = wide(cosines_BC)
    return _with_own(cosines, labels_B, _own(cosines, labels_B) - margin, scale, weights_B)


def arcface(
    cosines_BC: Tensor, labels_B: Tensor, *, margin_rad: float, scale: float, weights_B: Tensor | None = None
) -> Tensor:
    """Additive angular margin loss: cos(θ + m) in place of the own identity's cos θ.

    Past θ = π − m, where cos(θ + m) would rise again, the authors' code goes on with cos θ − m sin m, so the penalty
    keeps growing all the way to π. Source: J. Deng et al., "ArcFace", arXiv 1801.07698, equation 3.

    Args:
        margin_rad: radians in [0, π/2]; the paper's is 0.5.
    """
    cosines = wide(cosines_BC)
    own = _own(cosines, labels_B)
    beyond = own < -math.cos(margin_rad)
    shifted = torch.where(beyond, own - margin_rad * math.sin(margin_rad), _turned(own, margin_rad))
    return _with_own(cosines, labels_B, shifted, scale, weights_B)


def adaface(
    cosines_BC: Tensor,
    labels_B: Tensor,
    quality_B: Tensor,
    *,
    margin_rad: float,
    scale: float,
    weights_B: Tensor | None = None,
) -> Tensor:
    """Quality adaptive margin loss: cos(θ − m q) − m (1 + q) in place of the own identity's cos θ.

    A crop of low quality (q = −1) has ArcFace's margin, one of high quality (q = 1) a larger one that weighs hard
    crops more; q gets no gradient. The angle θ − m q is held within [0, π].
    Source: M. Kim et al., "AdaFace", arXiv 2204.00964, section 3.

    Args:
        quality_B: q in [-1, 1], as `norm_quality` gives it.
        margin_rad: m; the paper's is 0.4.
    """
    cosines = wide(cosines_BC)
    own, quality = _own(cosines, labels_B), quality_B.detach().to(cosines)
    angle = -margin_rad * quality
    under = (angle < 0) & (own > torch.cos(angle))  # θ − m q below 0
    above = (angle > 0) & (own < -torch.cos(angle))  # beyond π
    turned = own * torch.cos(angle) - _sine(own) * torch.sin(angle)
    held = torch.where(under, torch.ones_like(own), torch.where(above, -torch.ones_like(own), turned))
    return _with_own(cosines, labels_B, held - margin_rad * (1 + quality), scale, weights_B)


def norm_quality(norms_B: Tensor, mean: Tensor, deviation: Tensor, concentration: float = 0.333) -> Tensor:
    """AdaFace's image quality in [-1, 1]: how an embedding's length stands among the lengths lately seen.

    `concentration` is the paper's h. The result carries no gradient.
    """
    return ((norms_B.detach() - mean) / (deviation + 1e-3) * concentration).clamp(-1, 1)


def subarcface(
    cosines_BCK: Tensor, labels_B: Tensor, *, margin_rad: float, scale: float, weights_B: Tensor | None = None
) -> Tensor:
    """ArcFace on the nearest of K centers that each identity has: photos of the wrong person gather around another one.

    Source: J. Deng et al., "Sub-center ArcFace", ECCV 2020.
    """
    return arcface(cosines_BCK.amax(dim=2), labels_B, margin_rad=margin_rad, scale=scale, weights_B=weights_B)


def _own(cosines_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Each crop's cosine to its own identity; to the first one where the label is -1."""
    check_labels(labels_B, cosines_BC.shape[1])
    return cosines_BC.gather(1, labels_B.clamp(min=0)[:, None]).squeeze(1)


def _with_own(cosines_BC: Tensor, labels_B: Tensor, own_B: Tensor, scale: float, weights_B: Tensor | None) -> Tensor:
    logits_BC = cosines_BC.scatter(1, labels_B.clamp(min=0)[:, None], own_B[:, None]) * scale
    return softmax_cross_entropy(logits_BC, labels_B, weights_B)


def _sine(cosine: Tensor) -> Tensor:
    """sin of the angle in [0, π]; its slope at the ends, where it is infinite, is taken as 0."""
    square = (1 - cosine) * (1 + cosine)
    inside = square > 0
    return torch.where(inside, torch.where(inside, square, 1.0).sqrt(), 0.0)


def _turned(cosine: Tensor, angle: float) -> Tensor:
    """cos(θ + angle)."""
    return cosine * math.cos(angle) - _sine(cosine) * math.sin(angle)
