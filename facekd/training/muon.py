"""Muon: steps whose matrices are orthogonal, so that every direction of a layer learns at the same pace."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

MOMENTUM = 0.95
ROUNDS = 5
QUINTIC = (3.4445, -4.7750, 2.0315)  # of Jordan et al.: steep at 0; singular values end between about 0.7 and 1.2


class Muon(torch.optim.AdamW):
    """Muon for the groups that say ``orthogonal``, AdamW for the others.

    A group's parameters are matrices, or filters of convolutions, float[out, in, height, width], which are taken as
    matrices of [out, in · height · width]. ``lr`` of an orthogonal group is the spectral norm of a step, about.
    Weight decay is decoupled, as AdamW's.

    Source: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024,
    https://kellerjordan.github.io/posts/muon/; momentum 0.95 in Nesterov's form and the step's factor
    max(1, rows / columns)^½ as there. ``torch.optim.Muon`` is the same for matrices alone.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; the gradients of the orthogonal groups are used up."""
        assert closure is None
        for group in self.param_groups:
            if not group.get("orthogonal"):
                continue
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
                ahead = parameter.grad.lerp(state["momentum"], MOMENTUM)
                rows = ahead.reshape(len(ahead), -1)
                update = orthogonal(rows) * math.sqrt(max(1.0, rows.shape[0] / rows.shape[1]))
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update.view(parameter.shape), alpha=-group["lr"])
                parameter.grad = None  # AdamW passes by what has none
        super().step()


def orthogonal(matrix: Tensor) -> Tensor:
    """Nearly U Vᵀ of float[rows, columns] U S Vᵀ, of the same shape: all singular values of any size are near 1 in it.

    Five rounds of Newton and Schulz with the odd polynomial of degree five of Jordan et al., see `Muon`; what is below
    about a thousandth of the matrix's norm stays smaller, and a matrix of zeros is kept.
    """
    a, b, c = QUINTIC
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(ROUNDS):
        gram = x @ x.mT
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
