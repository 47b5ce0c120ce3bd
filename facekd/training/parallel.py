"""Several processes train as one: each takes its part of every batch, and all of them take the same step.

Without a process group, as in a plain run, each function is the identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm


def num_processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0; the first one writes."""
    return dist.get_rank() if num_processes() > 1 else 0


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Put the mean over all processes into every parameter's gradient."""
    if num_processes() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= num_processes()
    place = 0
    for gradient in gradients:
        gradient.copy_(flat[place : place + gradient.numel()].view_as(gradient))
        place += gradient.numel()


def average_numbers(numbers: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """The means over all processes; the names are the same in each."""
    if num_processes() == 1:
        return dict(numbers)
    values = torch.tensor(list(numbers.values()), dtype=torch.float64, device=device)
    dist.all_reduce(values)
    return dict(zip(numbers, (values / num_processes()).tolist(), strict=True))


def share_norms(net: nn.Module) -> None:
    """Replace each batch norm within `net` by one that norms by the whole batch, not by this process's part."""
    if num_processes() == 1:
        return
    for module in list(net.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, SharedNorm):
                setattr(module, name, SharedNorm(child))


class SharedNorm(_BatchNorm):
    """A batch norm over all processes, on any device; torch's own SyncBatchNorm knows GPUs only.

    It takes over the parameters and buffers of `norm`, so optimisers and state dicts stay as they are.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        for name, value in norm.named_buffers():
            setattr(self, name, value)

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """As torch's norms, for float[B, C] or float[B, C, H, W] of which each process has as many."""
        if not self.training:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        axes = [axis for axis in range(input.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(input.ndim)]
        mean = _mean_of_all(input.mean(axes))
        centred = input - mean.view(shape)
        variance = _mean_of_all(centred.square().mean(axes))
        self._follow(mean.detach(), variance.detach(), input.numel() // input.shape[1] * num_processes())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return centred * scale.view(shape) + self.bias.view(shape)

    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * count / (count - 1), share)  # torch keeps the unbiased one


class _MeanOfAll(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _summed(value) / num_processes()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # What this process put in counts in the loss of every process.
        return _summed(gradient) / num_processes()


def _mean_of_all(value: Tensor) -> Tensor:
    mean: Tensor = _MeanOfAll.apply(value)  # type: ignore[no-untyped-call]
    return mean


def _summed(value: Tensor) -> Tensor:
    total = value.contiguous().clone()
    dist.all_reduce(total)
    return total
