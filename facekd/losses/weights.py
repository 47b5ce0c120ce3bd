"""A student of its teacher's own shape learns the weights themselves."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def shared_weights(student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> tuple[str, ...]:
    """The names under which both hold a parameter of one shape, in the student's order."""
    return tuple(name for name, value in student.items() if name in teacher and teacher[name].shape == value.shape)


def weight_distance(
    student: Mapping[str, Tensor], teacher: Mapping[str, Tensor], names: tuple[str, ...], decay: float = 0.0
) -> Tensor:
    """½ ‖w_s − w_t‖² + λ/2 ‖w_s‖² over the parameters called `names`.

    Args:
        names: as `shared_weights` gives them; at least one.
        decay: λ, 0 or more.
    """
    pulls = [(student[name] - teacher[name].detach()).square().sum() for name in names]
    total = torch.stack(pulls).sum() / 2
    if decay:
        total = total + decay / 2 * torch.stack([student[name].square().sum() for name in names]).sum()
    return total
