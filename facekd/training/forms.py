"""In which precision, and compiled or not, a network's steps are quickest on this machine: by trying."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facekd.training.speed import compiled

TIMED, WARM = 3, 1  # steps of each form, in turns
CLASSES, SCALE = 64, 16.0  # of the trial's loss: as many fixed directions, and what cosines to them are multiplied by
LOSS_APART = 0.01  # share of the loss in float32, at most
# Length of the difference as a share of float32's gradient. bfloat16 comes to under 0.1 in an IResNet, to 0.3 to 0.4
# in a fresh MobileFaceNet, to which all faces look much the same: trainings that began so ended no worse than float32's
# (benchmarks/distill_defaults.py --beside). What computes something else comes to 1 and more.
GRADIENT_APART = 0.5


class Form(NamedTuple):
    """A way to compute a step."""

    precision: Literal["fp32", "bf16"]
    compiled: bool

    def __str__(self) -> str:
        return self.precision + (" through torch.compile" if self.compiled else "")


PLAIN = Form("fp32", False)


@dataclass(frozen=True, slots=True)
class Tried:
    """What a form was found to be."""

    form: Form
    seconds: float  # of a step, the quickest of TIMED
    begin: float  # seconds before its first step
    loss_apart: float  # from float32's, as a share
    gradient_apart: float

    @property
    def agrees(self) -> bool:
        """Whether it computes what float32 does, within LOSS_APART and GRADIENT_APART; NaN does not."""
        return self.loss_apart <= LOSS_APART and self.gradient_apart <= GRADIENT_APART


def has_bf16(device: torch.device) -> bool:
    """Whether the device multiplies matrices of bfloat16 itself: AMX, AVX512-BF16, Arm's or a GPU's."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    if device.type != "cpu":
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16", "arm_bf16"))


def try_forms(
    net: nn.Module, images_BCHW: Tensor, forms: Sequence[Form], tell: Callable[[str], None]
) -> dict[Form, Tried]:
    """Steps of `net`, forward and backward, in each form; the net is left as it was.

    Every form is held against float32 without torch.compile, on the same crops and a loss of fixed directions. What
    can't be compiled here is left out, and told.

    Args:
        net: in train mode, on the images' device.
        images_BCHW: of the batch that is trained on.
    """
    kept = [buffer.clone() for buffer in net.buffers()]
    with torch.random.fork_rng(devices=[]):
        calls: dict[Form, tuple[Callable[[Tensor], Tensor], float]] = {}
        for form in forms:
            began = time.monotonic()
            call: Callable[[Tensor], Tensor] = net
            if form.compiled:
                with _autocast(form, images_BCHW.device):
                    call = compiled(net, images_BCHW, tell)
                if call is net:
                    continue
            calls[form] = call, time.monotonic() - began
        loss, gradient = _step(net, net, images_BCHW, PLAIN)
        found = {}
        for form, (call, _) in calls.items():
            own_loss, own_gradient = _step(net, call, images_BCHW, form)
            apart = float((own_gradient - gradient).norm() / gradient.norm())
            found[form] = (abs(own_loss - loss) / abs(loss), apart)
        times: dict[Form, list[float]] = {form: [] for form in calls}
        for number in range(WARM + TIMED):
            for form, (call, _) in calls.items():
                began = time.monotonic()
                _step(net, call, images_BCHW, form)
                if number >= WARM:
                    times[form].append(time.monotonic() - began)
    for buffer, value in zip(net.buffers(), kept, strict=True):
        buffer.copy_(value)
    return {form: Tried(form, min(times[form]), begin, *found[form]) for form, (_, begin) in calls.items()}


def quickest(tried: Sequence[Tried], steps: int) -> Tried:
    """Of the forms that agree with float32 the one that is done soonest with `steps` steps, its beginning counted."""
    return min((one for one in tried if one.agrees), key=lambda one: one.begin + steps * one.seconds)


def _step(net: nn.Module, call: Callable[[Tensor], Tensor], images_BCHW: Tensor, form: Form) -> tuple[float, Tensor]:
    """The loss and its gradient, all parameters in a row, float32; no gradient is left in the net."""
    draw = torch.Generator().manual_seed(0)
    parameters = [p for p in net.parameters() if p.requires_grad]
    with _autocast(form, images_BCHW.device):
        embeddings = call(images_BCHW).float()
    directions = F.normalize(torch.randn(CLASSES, embeddings.shape[1], generator=draw)).to(embeddings.device)
    labels = torch.arange(len(embeddings), device=embeddings.device) % CLASSES
    loss = F.cross_entropy(SCALE * F.linear(F.normalize(embeddings), directions), labels)
    torch.autograd.backward(loss)
    gradient = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])
    net.zero_grad(set_to_none=True)
    return float(loss.detach()), gradient  # float() waits for a GPU


def _autocast(form: Form, device: torch.device) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=form.precision == "bf16")
