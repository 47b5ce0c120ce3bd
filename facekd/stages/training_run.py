"""What the teacher's and the student's recipes share: their crops, the walk through the steps, the held-out rates."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.core.run import append_metrics, read_metrics
from facekd.stages.console import progress, say

if TYPE_CHECKING:
    from torch import Tensor, nn

    from facekd.core.contract import Contract
    from facekd.core.types import Array
    from facekd.crops.read import CropSet
    from facekd.training.loop import Batch, Plan

LOG_EVERY = 10  # steps between lines of metrics.jsonl
EVALUATIONS = 20  # times the held-out crops are judged during a run, at most
FEWEST_STEPS = 50  # between two of them
CHECKPOINT_SECONDS = 60.0  # what a kill can cost
MOST_JUDGED = 1024  # held-out crops judged during a run; more would cost more than they tell
MOST_WARMUP = 500  # steps; a tenth of a short run
SETTLING = 8  # batches over which the norms' statistics are taken before the network is judged
FAR = 1e-2  # of the TAR shown while training; what a small held-out set can carry


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Crops to learn from and crops that no training sees."""

    train: CropSet
    held: CropSet
    judged: CropSet  # those of `held` that are judged while training: at most MOST_JUDGED, person by person
    names: tuple[str, ...]  # identities of `train`, the classes
    labels: Array  # int64[len(train)], -1 where a crop has no identity


def read_training_data(data: list[Path], held_out: float, seed: int, minimum: int = 2) -> TrainingData:
    """Read crops and split them by identity; where there are none, by crop.

    Identities with fewer than `minimum` crops are left out: a class of one photo teaches nothing about
    what stays the same between two.

    Raises:
        UserError: as `crops.read` and `crops.splits`; or a share or a seed out of range.
    """
    import numpy as np

    from facekd.crops.read import merge, read_crops
    from facekd.crops.splits import classes, frequent, split_identities
    from facekd.errors import UserError

    if not 0 <= held_out < 1:
        raise UserError(f"held out share {held_out}: use a number from 0 up to, but not, 1")
    if seed < 0:
        raise UserError(f"--seed {seed}: use a whole number from 0 up")
    crops = merge([read_crops(path) for path in data])
    if any(name is not None for name in crops.identities):
        nameless = np.flatnonzero([name is None for name in crops.identities])
        kept = np.sort(np.concatenate([frequent(crops.identities, minimum), nameless]))
        crops = crops.take(kept)
        if len(set(crops.identities) - {None}) < 2:
            raise UserError(
                f"{data[0]}: fewer than two identities have {minimum} crops; give more photos of each person"
            )
        train, held = split_identities(crops.identities, held_out, seed)
    else:
        order = np.random.default_rng(seed).permutation(len(crops))
        count = min(round(len(crops) * held_out), MOST_JUDGED)
        train, held = np.sort(order[count:]), np.sort(order[:count])
    by_person = sorted(held.tolist(), key=lambda i: crops.identities[i] or "")
    judged = np.sort(np.array(by_person[:MOST_JUDGED], np.int64))
    train_set = crops.take(train)
    names, labels = classes(train_set.identities)
    return TrainingData(train_set, crops.take(held), crops.take(judged), names, labels)


def make_plan(crops: int, *, epochs: float, batch: int, lr: float, weight_decay: float) -> Plan:
    """The steps in which `crops` crops are seen `epochs` times; the first tenth of them warms up.

    Raises:
        UserError: a number out of its range, or not one step.
    """
    from facekd.errors import UserError
    from facekd.training.loop import Plan

    problems = [
        (not 0 < epochs < math.inf, f"--epochs {epochs}: use a number above zero"),
        (batch < 2, f"--batch {batch}: use 2 or more, a norm over one crop is undefined"),
        (not 0 < lr < math.inf, f"--lr {lr}: use a number above zero, such as 0.1"),
        (not 0 <= weight_decay < math.inf, f"--weight-decay {weight_decay}: use zero or a number above it"),
    ]
    for wrong, sentence in problems:
        if wrong:
            raise UserError(sentence)
    steps = round(epochs * crops / batch)
    warmup = min(max(1, steps // 10), MOST_WARMUP)
    return Plan(steps=steps, warmup=warmup, peak_lr=lr, weight_decay=weight_decay)


def batch_loader(
    data: TrainingData, contract: Contract, teacher: Contract | None, batch: int, seed: int
) -> Callable[[int], Batch]:
    """A pure function from step to batch; several threads may call it."""
    import numpy as np
    import torch

    from facekd.core.pixels import to_input
    from facekd.crops.views import view
    from facekd.training.loop import Batch
    from facekd.training.schedule import batch_indices

    def load(step: int) -> Batch:
        places, numbers = batch_indices(step, batch, len(data.train), seed)
        views = np.stack(
            [view(data.train.pixels(i), seed, i, v) for i, v in zip(places.tolist(), numbers.tolist(), strict=True)]
        )
        return Batch(
            torch.from_numpy(to_input(views, contract, template=data.train.template)),
            torch.from_numpy(data.labels[places]),
            tuple(data.train.ids[i] for i in places),
            None if teacher is None else torch.from_numpy(to_input(views, teacher, template=data.train.template)),
        )

    return load


def train(
    out: Path,
    modules: Mapping[str, nn.Module],
    loss: Callable[[Batch], Mapping[str, Tensor]],
    load: Callable[[int], Batch],
    plan: Plan,
    about: Mapping[str, str],
    evaluate: Callable[[], Mapping[str, float]],
    *,
    label: str,
    quiet: bool,
) -> None:
    """Walk from the last checkpoint, or the beginning, to the end of the plan.

    Args:
        modules: all that learns; ``net`` is the network, the others are dropped after the training.
        about: what makes this run this run; a checkpoint of another is refused.
        evaluate: rates on held-out crops, for metrics.jsonl.
    """
    import torch
    from accelerate import Accelerator

    from facekd.engines.local import map_ordered
    from facekd.training.checkpoint import LAST, restore, save_checkpoint
    from facekd.training.loop import Batch, fit, make_optimizer
    from facekd.training.norms import settle_norms

    accelerator = Accelerator()
    optimizer = make_optimizer(modules, plan)
    prepared = {name: accelerator.prepare(module) for name, module in modules.items()}
    optimizer = accelerator.prepare(optimizer)
    path = out / LAST
    about = {**about, **{key: str(value) for key, value in dataclasses.asdict(plan).items()}}
    start = restore(path, modules, optimizer, about)
    if start == plan.steps:
        say(f"{label}: trained already", quiet)
        return
    _forget_after(out, start)
    if start:
        say(f"{label}: goes on after step {start} of {plan.steps}", quiet)
    every = max(FEWEST_STEPS, math.ceil(plan.steps / EVALUATIONS))
    saved = time.monotonic()

    def move(batch: Batch) -> Batch:
        device = accelerator.device
        moved = {f.name: getattr(batch, f.name) for f in dataclasses.fields(batch)}
        for key, value in moved.items():
            if isinstance(value, torch.Tensor):
                layout = torch.channels_last if value.ndim == 4 else torch.preserve_format
                moved[key] = value.to(device, memory_format=layout)
        return Batch(**moved)

    def judge(step: int) -> Mapping[str, float]:
        """The rates of the network as it would be if training ended here, its norms settled."""
        net = modules["net"]
        trailing = [buffer.clone() for buffer in net.buffers()]
        settle_norms(net, (move(load(ahead)).images_BCHW for ahead in range(step, step + SETTLING)))
        rates = evaluate()
        for module in modules.values():
            module.train()
        if step < plan.steps:
            for buffer, value in zip(net.buffers(), trailing, strict=True):
                buffer.copy_(value)
        return rates

    if start == 0:
        append_metrics(out, {"step": 0, **judge(0)})
    batches = map(move, map_ordered(load, range(start, plan.steps), workers=1))
    rows = fit(prepared, optimizer, batches, loss, plan, start, accelerator)
    for row in progress(rows, plan.steps - start, label, quiet):
        step = int(row["step"])
        last = step == plan.steps
        # Early on much changes: steps 64, 128, 256 … are judged too.
        due = last or step % every == 0 or (step >= FEWEST_STEPS and step.bit_count() == 1)
        if due:
            row.update(judge(step))
        if due or step % LOG_EVERY == 0:
            append_metrics(out, row)
        if last or time.monotonic() - saved > CHECKPOINT_SECONDS:
            save_checkpoint(path, step, modules, optimizer, about)
            saved = time.monotonic()


def embed_crops(net: nn.Module, crops: CropSet, contract: Contract, batch: int = 64) -> Array:
    """Unit embeddings float32[N, dim] of stored crops, without views; the net is left in eval mode."""
    import numpy as np
    import torch

    from facekd.core.pixels import to_input, unit

    net.eval()
    device = next(net.parameters()).device
    vectors = [np.zeros((0, contract.dim), np.float32)]
    with torch.no_grad():
        for start in range(0, len(crops), batch):
            indices = np.arange(start, min(start + batch, len(crops)))
            inputs = torch.from_numpy(to_input(crops.batch(indices), contract, template=crops.template))
            inputs = inputs.to(device, memory_format=torch.channels_last)
            vectors.append(unit(net(inputs).float().cpu().numpy()))
    return np.concatenate(vectors)


def held_out_rates(vectors: Array, identities: tuple[str | None, ...]) -> dict[str, float]:
    """TAR at FAR over all pairs of held-out crops; empty where they have no identities."""
    import numpy as np

    from facekd.rates.counts import curve
    from facekd.rates.rates import eer, rate_at

    names = np.array([name or "" for name in identities])
    if len(names) == 0 or not names.all():
        return {}
    left, right = np.triu_indices(len(names), 1)
    same = names[left] == names[right]
    if same.all() or not same.any():
        return {}
    counts = curve((vectors @ vectors.T)[left, right], same)
    rate = rate_at(counts, FAR)
    found = {"held_out_eer": eer(counts)}
    if rate.tar is not None:
        found[f"held_out_tar@{FAR:g}"] = rate.tar
    return found


def _forget_after(out: Path, step: int) -> None:
    """Drop the metrics of steps that a killed run had done after its last checkpoint: they are done again.

    Without a checkpoint (`step` 0) that is all of them, the first judgement too.
    """
    import json

    from facekd.core.files import write_text

    rows = [row for row in read_metrics(out) if step > 0 and row["step"] <= step]
    write_text(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
