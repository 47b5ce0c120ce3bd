"""A training step of facekd against the plain eager loop of the same network: crops a second, and the wait for data.

    python benchmarks/train_step.py            # about 7 minutes on two idle cores; writes results/train_step.json
    python benchmarks/train_step.py --quick    # one round of MobileFaceNet only, prints only

`plain` is the loop that everybody writes: float32, NCHW, eager, SGD with momentum, softmax cross-entropy over 8,000
identities, images at hand. `facekd` is what `--compile` makes of it: channels last, torch.compile and memory that is
kept. Each way runs in a process of its own, the two taking turns; ratios are of medians over the rounds. `wait` is
the share of a step that facekd's loop stands idle for the next batch, views with the full augmentation being drawn
beside it, from JPEG crops that the benchmark makes itself.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

NETS = {"mobilefacenet": 64, "iresnet18": 32}  # and the batch
WAYS = ("plain", "facekd")
CLASSES, DIM = 8000, 512
QUIET_STEPS = 2  # before the clock runs: compilation, allocation


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "NET", "STEPS"), help="one measurement, as JSON")
    asked = parser.parse_args()
    if asked.one:
        way, net, steps = asked.one
        print(json.dumps(waiting(net, int(steps)) if way == "wait" else speed(way, net, int(steps))))
        return
    rounds, steps = (1, 3) if asked.quick else (3, 5)
    result: dict[str, Any] = {}
    for net in list(NETS)[:1] if asked.quick else NETS:
        taken: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(rounds):
            for way in WAYS:
                taken[way].append(one(way, net, steps)["crops_per_second"])
                print(f"{net}, round {number + 1}: {way} {taken[way][-1]:.1f} crops/s", flush=True)
        medians = {way: statistics.median(values) for way, values in taken.items()}
        result[net] = {
            "batch": NETS[net],
            "crops_per_second": {way: round(value, 1) for way, value in medians.items()},
            "times_plain": {way: round(value / medians["plain"], 2) for way, value in medians.items()},
            "rounds": {way: [round(value, 1) for value in values] for way, values in taken.items()},
            **one("wait", net, 4 * steps),
        }
        print(json.dumps(result[net], indent=1), flush=True)
    if not asked.quick:
        from _record import record

        record("train_step", result)


def one(way: str, net: str, steps: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", way, net, str(steps)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    read: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    return read


def speed(way: str, name: str, steps: int) -> dict[str, float]:
    """Median over `steps` steps on one batch that is at hand."""
    import torch

    from facekd.nets import build
    from facekd.training.speed import compiled, keep_memory

    torch.manual_seed(0)
    batch = NETS[name]
    images, labels = torch.randn(batch, 3, 112, 112), torch.randint(CLASSES, (batch,))
    net: Any = build(name, dim=DIM).train()
    head = torch.nn.Linear(DIM, CLASSES)
    parameters = [p for p in [*net.parameters(), *head.parameters()] if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    if way == "facekd":
        net, images = (x.to(memory_format=torch.channels_last) for x in (net, images))
        keep_memory()
        net = compiled(net, images, lambda line: sys.exit(line))
    taken = []
    for step in range(QUIET_STEPS + steps):
        began = time.perf_counter()
        loss = torch.nn.functional.cross_entropy(head(net(images)), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        float(loss.detach())
        if step >= QUIET_STEPS:
            taken.append(time.perf_counter() - began)
    return {"crops_per_second": batch / statistics.median(taken)}


def waiting(name: str, steps: int) -> dict[str, float]:
    """facekd's own loop over its own batches: crops a second, and the share of the time it waits for a batch."""
    import numpy as np
    import torch
    from _nets import pictures
    from accelerate import Accelerator

    from facekd.core.contract import Contract
    from facekd.core.pixels import encode_crop, to_input
    from facekd.crops.views import view
    from facekd.engines.local import map_ordered
    from facekd.nets import build
    from facekd.nets.heads import Head
    from facekd.recipes.label_heads import head_loss
    from facekd.training.loop import Batch, Plan, fit, make_optimizer
    from facekd.training.speed import compiled, keep_memory

    keep_memory()
    torch.manual_seed(0)
    batch, contract = NETS[name], Contract(dim=DIM)
    crops = [encode_crop(pixels) for pixels in pictures(256)]
    net: Any = build(name, dim=DIM).to(memory_format=torch.channels_last).train()
    modules = {"net": net, "head": Head("softmax", DIM, CLASSES)}
    empty = torch.zeros(batch, 3, 112, 112).to(memory_format=torch.channels_last)
    forward = compiled(net, empty, lambda line: sys.exit(line))
    plan = Plan(steps=QUIET_STEPS + steps, warmup=1, peak_lr=0.01, weight_decay=5e-4)

    def load(step: int) -> Batch:
        from facekd.core.pixels import decode_crop

        places = [(step * batch + i) % len(crops) for i in range(batch)]
        views = np.stack([view(decode_crop(crops[place]), 0, place, step) for place in places])
        images = torch.from_numpy(to_input(views, contract)).contiguous(memory_format=torch.channels_last)
        return Batch(images, torch.tensor(places), tuple(map(str, places)), step=step)

    waited: list[float] = []

    def timed() -> Iterator[Batch]:
        batches = map_ordered(load, range(plan.steps), workers=1)
        while True:
            began = time.perf_counter()
            try:
                found = next(batches)
            except StopIteration:
                return
            waited.append(time.perf_counter() - began)
            yield found

    def loss(given: Batch) -> dict[str, torch.Tensor]:
        embeddings = forward(given.images_BCHW)
        head = modules["head"]
        return {"labels": head_loss(head, head(embeddings), embeddings, given.labels_B)}

    done = []
    for _ in fit(modules, make_optimizer(modules, plan), timed(), loss, plan, 0, Accelerator(cpu=True)):
        done.append(time.perf_counter())
    whole = done[-1] - done[QUIET_STEPS - 1]
    return {
        "with_data_crops_per_second": round(batch * steps / whole, 1),
        "waiting_share": round(sum(waited[QUIET_STEPS:]) / whole, 4),
    }


if __name__ == "__main__":
    main()
