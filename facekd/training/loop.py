"""The loop that trains teachers and students: modules, batches and a loss come in as arguments."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from facekd.errors import UserError
from facekd.training.muon import Muon
from facekd.training.parallel import average_gradients, average_numbers
from facekd.training.schedule import learning_rate

ADAMW_SHARE = 0.1  # of Muon's learning rate, for what takes AdamW's steps beside it


@dataclass(frozen=True, slots=True)
class Batch:
    """Views of crops, as the networks take them."""

    images_BCHW: Tensor  # float32, the input of the network that is trained
    labels_B: Tensor  # int64; -1 where a crop has no identity
    crop_ids: tuple[str, ...]
    teacher_images_BCHW: Tensor | None = None  # the same views as the teacher takes them
    teacher_BD: Tensor | None = None  # or what it said of them, where that was kept
    step: int = 0  # of the training, from 0

    def parts(self, count: int) -> list[Batch]:
        """The same crops as `count` batches of equal size."""
        size = len(self.crop_ids) // count
        spans = [slice(i * size, (i + 1) * size) for i in range(count)]
        whole = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        rows: dict[str, Any] = {name: value for name, value in whole.items() if isinstance(value, Tensor | tuple)}
        return [dataclasses.replace(self, **{name: value[span] for name, value in rows.items()}) for span in spans]


class NotFiniteError(UserError):
    """A step whose loss or gradient is no number.

    Args:
        step: steps done before it.
        crop_ids: the batch.
    """

    def __init__(self, sentence: str, step: int, crop_ids: tuple[str, ...]) -> None:
        super().__init__(sentence)
        self.step, self.crop_ids = step, crop_ids


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long and how hard to train."""

    steps: int
    warmup: int  # steps
    peak_lr: float
    weight_decay: float
    momentum: float = 0.9
    clip: float = 5.0  # largest norm of the gradient
    optimizer: str = "sgd"  # or adamw, muon
    accumulate: int = 1  # parts of a batch that go through the networks one after another
    ema: float = 0.0  # decay of the average of the weights that is kept in place of the last ones; 0 keeps the last
    schedule: str = "cosine"  # or poly: the learning rate's way down

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UserError("the training has no step: give more --epochs or more crops")


def make_optimizer(modules: Mapping[str, nn.Module], plan: Plan) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum, AdamW or Muon; norms, PReLU slopes and biases are not decayed.

    Muon is for the filters that mix channels. Depthwise filters, linear layers and heads take AdamW's steps beside it,
    at a tenth of its rate.
    """
    parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if plan.optimizer == "muon":
        mix: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for parameter in groups[0]["params"]:
            (mix if parameter.ndim == 4 and parameter.shape[1] > 1 else rest).append(parameter)
        return Muon(
            [
                {**groups[0], "params": mix, "orthogonal": True},
                {**groups[0], "params": rest, "share": ADAMW_SHARE},
                {**groups[1], "share": ADAMW_SHARE},
            ],
            lr=plan.peak_lr,
        )
    if plan.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=plan.peak_lr)
    return torch.optim.SGD(groups, lr=plan.peak_lr, momentum=plan.momentum, nesterov=True)


def fit(
    modules: Mapping[str, nn.Module],
    optimizer: torch.optim.Optimizer,
    batches: Iterable[Batch],
    loss: Callable[[Batch], Mapping[str, Tensor]],
    plan: Plan,
    start: int,
    accelerator: Accelerator,
) -> Iterator[dict[str, float]]:
    """Train from step `start` to the plan's end; a row comes out after each step.

    Args:
        modules: all that learns, by name, on the accelerator's device; `optimizer` comes from `accelerator.prepare`.
        batches: one for each step from `start` on.
        loss: the weighted terms of a batch, by name; their sum is minimized.

    Yields:
        ``step`` (steps done), ``lr``, ``loss`` and each term, means over the processes where there are several.

    Raises:
        NotFiniteError: the loss or its gradient is not finite; no such step is taken.
    """
    parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    for module in modules.values():
        module.train()
    for step, batch in enumerate(batches, start):
        rate = learning_rate(step, plan.steps, plan.warmup, plan.peak_lr, plan.schedule)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        optimizer.zero_grad(set_to_none=True)
        row = Counter[str]()
        for part in batch.parts(plan.accumulate) if plan.accumulate > 1 else [batch]:
            with accelerator.autocast():
                terms = loss(part)
            total = torch.stack(list(terms.values())).sum() / plan.accumulate
            accelerator.backward(total)
            row.update({"loss": float(total.detach())})
            row.update({name: float(term.detach()) / plan.accumulate for name, term in terms.items()})
        average_gradients(parameters)
        norm = accelerator.clip_grad_norm_(parameters, plan.clip)
        # In fp16 a gradient out of range is no accident: the scaler skips the step and goes down.
        if not math.isfinite(row["loss"]) or (accelerator.scaler is None and not torch.isfinite(norm)):
            parts = ", ".join(f"{name} {value:g}" for name, value in row.items() if name != "loss")
            what = "gradient" if math.isfinite(row["loss"]) else "loss"
            raise NotFiniteError(
                f"the {what} is not finite at step {step} ({parts}; crops {', '.join(batch.crop_ids[:4])} …): "
                "lower --lr and choose another --out",
                step,
                batch.crop_ids,
            )
        optimizer.step()
        yield {"step": step + 1, "lr": rate, **average_numbers(row, accelerator.device)}
