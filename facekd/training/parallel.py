"""Several processes train as one: each takes its part of every batch, and all of them take the same step.

Without a process group, as in a plain run, each function is the identity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from facekd.errors import UserError


def num_processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0; the first one writes."""
    return dist.get_rank() if num_processes() > 1 else 0


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Put the mean over all processes into every parameter's gradient.

    Raises:
        UserError: another process is gone.
    """
    if num_processes() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = _summed(torch.cat([gradient.flatten() for gradient in gradients])) / num_processes()
    place = 0
    for gradient in gradients:
        gradient.copy_(flat[place : place + gradient.numel()].view_as(gradient))
        place += gradient.numel()


def average_numbers(numbers: Mapping[str, float], device: torch.device) -> dict[str, float]:
    """The means over all processes; the names are the same in each.

    Raises:
        UserError: another process is gone.
    """
    if num_processes() == 1:
        return dict(numbers)
    values = _summed(torch.tensor(list(numbers.values()), dtype=torch.float64, device=device))
    return dict(zip(numbers, (values / num_processes()).tolist(), strict=True))


def whole_mean(mean: Tensor, count: Tensor) -> Tensor:
    """A mean over `count` of this process's crops, so weighted that the processes' average is the mean over all crops.

    It matters where each process may have another number of them, as of crops with a label.

    Raises:
        UserError: another process is gone.
    """
    if num_processes() == 1:
        return mean
    total = _summed(count.double()).clamp(min=1)
    return mean * (count * num_processes() / total).to(mean.dtype)


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

    It takes over the parameters and buffers of `norm`, so optimizers and state dicts stay as they are.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        self.weight, self.bias = norm.weight, norm.bias
        for name, value in norm.named_buffers():
            setattr(self, name, value)

    def _check_input_dim(self, input: Tensor) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """As torch's norms, for float[B, C] or float[B, C, H, W] of which each process has as many.

        Raises:
            UserError: another process is gone.
        """
        if not self.training:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        output: Tensor
        output, mean, variance = _Norm.apply(input, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        self._follow(mean, variance, input.numel() // input.shape[1] * num_processes())
        return output

    def _follow(self, mean: Tensor, variance: Tensor, count: int) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), share)
        unbiased = variance * count / (count - 1)  # as torch keeps it
        self.running_var.lerp_(unbiased.to(self.running_var), share)


class _Norm(torch.autograd.Function):
    """The normed input, and the mean and variance float64[C] that it was normed by.

    Sums run over the places of each crop in its own precision, at least float32, and then over the crops of all
    processes in float64: however a batch falls into processes, it is normed by the same numbers to the last bit or
    nearly so. A sum of all its places in float32 would differ in the sixth digit.
    """

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        values = _wide(input)
        mean_BC, variance_BC = values, torch.zeros_like(values)
        if input.ndim == 4:
            center = values.mean((2, 3), keepdim=True)
            mean_BC, variance_BC = center.flatten(1), (values - center).square_().mean((2, 3))
        mean_BC, variance_BC = mean_BC.double(), variance_BC.double()
        moments = _summed(torch.stack([mean_BC.mean(0), (variance_BC + mean_BC.square()).mean(0)])) / num_processes()
        mean = moments[0]
        variance = (moments[1] - mean.square()).clamp_(min=0)
        ctx.eps = eps
        ctx.save_for_backward(input, weight, mean, variance)
        ctx.mark_non_differentiable(mean, variance)
        output = F.batch_norm(input, mean.to(weight), variance.to(weight), weight, bias, False, 0.0, eps)
        return output, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        """With x̂ the normed input, w the weight and ⟨⟩ the mean over all places of all processes:
        dx = w / σ · (dy − ⟨dy⟩ − x̂ ⟨dy x̂⟩)."""
        input, weight, mean, variance = ctx.saved_tensors
        values, slope = _wide(input), _wide(gradient)
        shape = (1, -1, *([1] * (input.ndim - 2)))
        centered = values - mean.to(values).view(shape)
        sum_BC, product_BC = slope, slope * centered
        if input.ndim == 4:
            sum_BC, product_BC = sum_BC.sum((2, 3)), product_BC.sum((2, 3))
        own = torch.stack([sum_BC.double().sum(0), product_BC.double().sum(0)])
        # What this process put in counts in the loss of every process.
        count = input.numel() // input.shape[1] * num_processes()
        mean_slope, mean_product = _summed(own.clone()) / count
        inverse = torch.rsqrt(variance + ctx.eps)
        scale = weight.double() * inverse
        turned = centered.mul_((-scale * inverse.square() * mean_product).to(values).view(shape))
        turned.add_((-scale * mean_slope).to(values).view(shape)).addcmul_(slope, scale.to(values).view(shape))
        return (
            turned.to(input.dtype),
            (own[1] * inverse).to(weight) if ctx.needs_input_grad[1] else None,
            own[0].to(weight) if ctx.needs_input_grad[2] else None,
            None,
        )


def _wide(values: Tensor) -> Tensor:
    return values.float() if values.dtype.itemsize < 4 else values


def _summed(value: Tensor) -> Tensor:
    """`value`, replaced by its sum over all processes.

    Raises:
        UserError: another process is gone.
    """
    if num_processes() > 1:
        try:
            dist.all_reduce(value)
        except RuntimeError as error:  # of a sum nothing can go wrong but that somebody does not answer
            raise UserError(
                "another process of this run has ended, and says itself why unless it was killed; the same command "
                f"goes on from the last checkpoint ({str(error).splitlines()[0]})"
            ) from error
    return value
