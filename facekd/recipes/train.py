"""What the teacher's and the student's recipes share: the walk through the steps, the held-out rates, what is kept."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from facekd.console import progress, say
from facekd.core.contract import Contract
from facekd.core.files import write_json, write_text
from facekd.core.pixels import to_input, unit
from facekd.core.run import read_metrics
from facekd.core.types import Array
from facekd.crops.cropset import CropSet
from facekd.engines.local import map_ordered
from facekd.errors import UserError
from facekd.nets.forward import forward
from facekd.nets.heads import HEAD, Head, save_head
from facekd.nets.saved import MODEL, digest, save_model
from facekd.rates.counts import curve
from facekd.rates.rates import eer, rate_at
from facekd.recipes.artifacts import keep_if_best, kept_best, leave, note_time, recording, settle_best
from facekd.recipes.card import Subject, times
from facekd.recipes.watch import Movement, Shown, Watched, chance_warning, judged, losses
from facekd.training.average import averaged_copy, follow
from facekd.training.checkpoint import LAST, restore, save_checkpoint
from facekd.training.loop import Batch, NotFiniteError, Plan, fit, make_optimizer
from facekd.training.norms import settle_norms
from facekd.training.parallel import average_numbers, rank, share_norms
from facekd.training.speed import KeptScale, keep_memory
from facekd.training.stop import TERMINATED, asked_to_stop

LOG_EVERY = 10  # steps between lines of metrics.jsonl
EVALUATIONS = 20  # times the held-out crops are judged during a run, at most
FEWEST_STEPS = 50  # between two of them
CHECKPOINT_SECONDS = 60.0  # what a kill can cost
SETTLING = 8  # batches over which the norms' statistics are taken before the network is judged
NOT_FINITE = "not_finite_{}.json"  # in a run folder: the batch that ended it, of each process
FAR = 1e-2  # of the TAR shown while training; what a small held-out set can carry


def train(
    out: Path,
    modules: Mapping[str, nn.Module],
    loss: Callable[[Batch], Mapping[str, Tensor]],
    load: Callable[[int], Batch],
    plan: Plan,
    about: Mapping[str, str],
    evaluate: Callable[[nn.Module], Mapping[str, float]],
    *,
    subject: Subject,
    watched: Watched | None = None,
    label: str,
    quiet: bool,
) -> nn.Module:
    """Walk from the last checkpoint, or the beginning, to the end of the plan; the network to keep comes back.

    Args:
        modules: all that learns; ``net`` is the network, the others are dropped after the training.
        about: what makes this run this run; a checkpoint of another is refused.
        evaluate: a network's rates on held-out crops, for metrics.jsonl.
        subject: what the best network and the card say of it all.
        watched: what is known of its steps, to speak of them while they are taken.
    """
    keep_memory()
    watched = watched or Watched()
    accelerator = Accelerator()
    optimizer = make_optimizer(modules, plan)
    share_norms(modules["net"])
    stored = dict(modules)
    if plan.ema:
        stored["ema"] = averaged_copy(modules["net"]).to(accelerator.device)
    kept_net = stored["ema" if plan.ema else "net"]
    for module in modules.values():
        module.to(accelerator.device)
    optimizer = accelerator.prepare(optimizer)
    path, writes = out / LAST, rank() == 0
    about = {**about, **{key: str(value) for key, value in dataclasses.asdict(plan).items()}}
    scale = KeptScale()
    if accelerator.scaler is not None:
        stored["scaler"] = scale
    start = restore(path, stored, optimizer, about)
    if accelerator.scaler is not None:
        scale.give(accelerator.scaler)
    if start == plan.steps:
        say(f"{label}: trained already", quiet)
        if writes and not (out / MODEL).exists():  # killed before it had left everything
            settle_best(out, start)
            leave(out, subject, about, plan, start, kept_net)
        return kept_net
    accelerator.wait_for_everyone()  # before the first process writes another checkpoint
    if writes:
        times(out)  # what is damaged is said before the first step, not after the last
        kept_best(out)
        forget_after(out, start)
        settle_best(out, start)
    if start:
        say(f"{label}: goes on after step {start} of {plan.steps}", quiet)
    every = max(FEWEST_STEPS, math.ceil(plan.steps / EVALUATIONS))
    saved = timed = time.monotonic()

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
        net = kept_net
        trailing = [buffer.clone() for buffer in net.buffers()]
        settle_norms(net, (move(load(ahead)).images_BCHW for ahead in range(step, step + SETTLING)))
        rates = evaluate(net) if writes else {}
        if writes:
            keep_if_best(out, {"step": step, **rates}, subject, net)
        for module in modules.values():
            module.train()
        if step < plan.steps:
            for buffer, value in zip(net.buffers(), trailing, strict=True):
                buffer.copy_(value)
        return rates

    shown, movement = Shown(watched.batch), Movement(max(plan.warmup, watched.rising, start), watched.weights)
    batches = map(move, map_ordered(load, range(start, plan.steps), workers=1))
    rows = fit(modules, optimizer, batches, loss, plan, start, accelerator)
    kept = start  # the step of the last checkpoint
    with asked_to_stop() as asked, recording(out, quiet) as record:
        if start == 0:
            record({"step": 0, **judge(0)})
        try:
            for row in progress(rows, plan.steps, label, quiet, before=start, cost=watched.cost, tell=shown.words):
                step = int(row["step"])
                for sentence in movement.see(row):
                    say(f"{label}: warning: {sentence}", quiet)
                if plan.ema:
                    follow(kept_net, modules["net"], plan.ema, step)
                last = step == plan.steps
                # Early on much changes: steps 64, 128, 256 … are judged too.
                due = last or step % every == 0 or (step >= FEWEST_STEPS and step.bit_count() == 1)
                if due:
                    row.update(judge(step))
                    if words := judged(row):
                        say(f"{label}: {words}; {losses(row)}", quiet)
                    if last and (sentence := chance_warning(row)):
                        say(f"{label}: warning: {sentence}", quiet)
                shown.see(row)
                # Every process is to stop after the same step, whenever the signal reached it.
                stop = average_numbers({"asked": bool(asked)}, accelerator.device)["asked"] > 0
                if writes and (due or step % LOG_EVERY == 0):
                    record(row)
                if not last and (grown := watched.grown(step)):
                    say(f"{label}: step {step}: {grown}", quiet)
                if writes and (last or stop or time.monotonic() - saved > CHECKPOINT_SECONDS):
                    now = time.monotonic()
                    note_time(out, kept, step, now - timed, accelerator.device)
                    if accelerator.scaler is not None:
                        scale.take(accelerator.scaler)
                    save_checkpoint(path, step, stored, optimizer, about)
                    settle_best(out, step)
                    saved, timed, kept = time.monotonic(), now, step
                    if last or stop:
                        leave(out, subject, about, plan, step, kept_net)
                if stop and not last:
                    by = "Ctrl-C" if signal.SIGINT in asked else "SIGTERM"
                    say(f"{label}: stopped by {by} after step {step}; the same command goes on from there", quiet)
                    raise KeyboardInterrupt if signal.SIGINT in asked else SystemExit(TERMINATED)
        except NotFiniteError as error:
            named = out / NOT_FINITE.format(rank())
            write_json(named, {"step": error.step, "crop_ids": error.crop_ids, "last_checkpoint": kept})
            where = f"the last checkpoint is of step {kept}" if kept else "no checkpoint was written yet"
            raise UserError(f"{error}; the whole batch is named in {named}, {where}") from error
    return kept_net


def save_trained(
    out: Path, name: str, net: nn.Module, contract: Contract, head: Head | None = None, names: tuple[str, ...] = ()
) -> Contract:
    """Write a run's ``model.safetensors``, and before it its head: where the one lies the other does.

    Args:
        names: the head's classes.

    Returns:
        The contract with the digest of the weights.
    """
    weights_sha256 = digest({f"net.{key}": value for key, value in net.state_dict().items()})
    contract = dataclasses.replace(contract, weights_sha256=weights_sha256)
    if rank() > 0:
        return contract
    if head is not None:
        save_head(out / HEAD, head, names, contract.model_id)
    return save_model(out / MODEL, name, net, contract)


def embed_crops(net: nn.Module, crops: CropSet, contract: Contract, batch: int = 64) -> Array:
    """Unit embeddings float32[N, dim] of stored crops, without views; the net is left in eval mode."""
    net.eval()
    device = next(net.parameters()).device
    vectors = [np.zeros((0, contract.dim), np.float32)]
    for start in range(0, len(crops), batch):
        indices = np.arange(start, min(start + batch, len(crops)))
        inputs = torch.from_numpy(to_input(crops.batch(indices), contract, template=crops.template))
        inputs = inputs.to(device, memory_format=torch.channels_last)
        vectors.append(unit(forward(net, inputs).cpu().numpy()))
    return np.concatenate(vectors)


def judge_crops(crops: CropSet, contract: Contract) -> Callable[[nn.Module], Mapping[str, float]]:
    """A function that gives a network's rates on held-out crops."""
    return lambda net: held_out_rates(embed_crops(net, crops, contract), crops.identities)


def held_out_rates(vectors: Array, identities: tuple[str | None, ...]) -> dict[str, float]:
    """TAR at FAR over all pairs of held-out crops; empty where they have no identities."""
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


def forget_after(out: Path, step: int) -> None:
    """Drop the metrics of steps that a killed run had done after its last checkpoint: they are done again.

    Without a checkpoint (`step` 0) that is all of them, the first judgment too.
    """
    rows = [row for row in read_metrics(out) if step > 0 and row["step"] <= step]
    write_text(out / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
