"""A training step of facekd against the plain eager loop of the same network: crops a second, and the wait for data.

    python benchmarks/train_step.py            # about 15 minutes on two idle cores; writes results/train_step.json
    python benchmarks/train_step.py --nets mobilefacenet --rounds 1 --steps 3   # a part of it, which takes its place
    python benchmarks/train_step.py --quick    # one round of MobileFaceNet only, prints only

`plain` is the loop that everybody writes: float32, NCHW, eager, SGD with momentum, softmax cross-entropy over 8,000
identities, images at hand. The others are what --precision auto chooses from, with channels last and memory that is
kept: `fp32` and `bf16` through torch.compile, and `eager bf16`. `bf16 before` is bf16 with torch's own gradients of the
depthwise layers in place of facekd's (`nets.depthwise`). Each way runs in a process of its own, the ways taking turns;
ratios are of medians over the rounds.

Seconds are of the processor, all threads together (``time.process_time``), so that what else runs on the machine
counts little; crops a second by the clock stand beside them. `profile` is what a step's seconds went to, by
torch.profiler. `wait` is the share of a step that facekd's loop stands idle for the next batch, views with the full
augmentation being drawn beside it, from JPEG crops that the benchmark makes itself.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

NETS = {"mobilefacenet": 64, "iresnet50": 16}  # and the batch
WAYS = ("plain", "fp32", "eager bf16", "bf16 before", "bf16")
CLASSES, DIM = 8000, 512
QUIET_STEPS = 2  # before the clock runs: compilation, allocation
UNITS = ("avx2", "avx512_f", "avx512_vnni", "avx512_bf16", "amx_tile", "amx_bf16")  # of a processor
PROFILED = 6  # kinds of operators that a profile names


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--batch", type=int, help="in place of the networks' own")
    parser.add_argument("--one", nargs=4, metavar=("WAY", "NET", "BATCH", "STEPS"), help="one measurement, as JSON")
    asked = parser.parse_args()
    if asked.one:
        way, net, batch, steps = asked.one
        print(json.dumps((waiting if way == "wait" else speed)(way, net, int(batch), int(steps))))
        return
    if asked.quick:
        asked.nets, asked.rounds, asked.steps = ["mobilefacenet"], 1, 3
    result = {} if asked.quick else before()
    result["units"] = units()
    for net in asked.nets:
        result[net] = compared(net, asked.batch or NETS[net], asked.rounds, asked.steps)
        print(json.dumps(result[net], indent=1), flush=True)
        if not asked.quick:
            from _record import record

            record("train_step", result)


def compared(net: str, batch: int, rounds: int, steps: int) -> dict[str, Any]:
    """Every way of a network's step, in turns."""
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS if net == "mobilefacenet" or way != "bf16 before"}
    for number in range(rounds):
        for way, taken in found.items():
            taken.append(one(way, net, batch, steps))
            print(f"{net}, round {number + 1}: {way} {taken[-1]['seconds_of_processor']:.3f} s", flush=True)
    medians = {way: statistics.median(one["seconds_of_processor"] for one in taken) for way, taken in found.items()}
    return {
        "batch": batch,
        "threads": found["plain"][0]["threads"],
        "seconds_of_processor": {way: round(value, 3) for way, value in medians.items()},
        "times_plain": {way: round(medians["plain"] / value, 2) for way, value in medians.items()},
        "rounds": {way: [round(one["seconds_of_processor"], 3) for one in taken] for way, taken in found.items()},
        "crops_per_second_by_the_clock": {
            way: round(statistics.median(one["crops_per_second"] for one in taken), 1) for way, taken in found.items()
        },
        "profile": {way: taken[0]["profile"] for way, taken in found.items()},
        **one("wait", net, batch, 2 * steps),
    }


def before() -> dict[str, Any]:
    """What was found of networks that are not asked for now."""
    from _record import RESULTS

    path = RESULTS / "train_step.json"
    found = json.loads(path.read_text())["result"] if path.exists() else {}
    return {name: value for name, value in found.items() if name in NETS and "threads" in value}


def units() -> list[str]:
    """What of UNITS the processor has."""
    import torch

    found = torch.cpu.get_capabilities()
    return [name for name in UNITS if found.get(name)]


def one(way: str, net: str, batch: int, steps: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", way, net, str(batch), str(steps)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    read: dict[str, Any] = json.loads(found.stdout.splitlines()[-1])
    return read


def speed(way: str, name: str, batch: int, steps: int) -> dict[str, Any]:
    """Medians over `steps` steps on one batch that is at hand, and what one more of them is made of."""
    import torch

    from facekd.nets import build
    from facekd.nets.depthwise import StridedDepthwise
    from facekd.nets.mobilefacenet import GlobalDepthwise
    from facekd.training.speed import compiled, keep_memory

    torch.manual_seed(0)
    images, labels = torch.randn(batch, 3, 112, 112), torch.randint(CLASSES, (batch,))
    net: Any = build(name, dim=DIM).train()
    head = torch.nn.Linear(DIM, CLASSES)
    parameters = [p for p in [*net.parameters(), *head.parameters()] if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, nesterov=True, weight_decay=5e-4)
    if way in ("plain", "bf16 before"):
        for module in net.modules():
            if isinstance(module, StridedDepthwise | GlobalDepthwise):
                module.__class__ = torch.nn.Conv2d
    low = torch.autocast("cpu", torch.bfloat16) if "bf16" in way else contextlib.nullcontext()
    call = net
    if way != "plain":
        net, images = (x.to(memory_format=torch.channels_last) for x in (net, images))
        keep_memory()
    if way in ("fp32", "bf16 before", "bf16"):
        with low:
            call = compiled(net, images, lambda line: sys.exit(line))

    def step() -> None:
        with low:
            embeddings = call(images).float()
        loss = torch.nn.functional.cross_entropy(head(embeddings), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        float(loss.detach())

    own, clock = [], []
    for number in range(QUIET_STEPS + steps):
        began = time.process_time(), time.perf_counter()
        step()
        if number >= QUIET_STEPS:
            own.append(time.process_time() - began[0])
            clock.append(time.perf_counter() - began[1])
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
        step()
    return {
        "seconds_of_processor": statistics.median(own),
        "crops_per_second": batch / statistics.median(clock),
        "threads": torch.get_num_threads(),
        "profile": shares(profiled.key_averages()),
    }


def shares(events: Any) -> dict[str, float]:
    """The kinds of operators that took most, as shares of all; what torch.compile made is one kind."""
    taken: dict[str, float] = {}
    for event in events:
        name = "compiled norms, activations and sums" if "CompiledFxGraph" in event.key else event.key
        taken[name] = taken.get(name, 0.0) + event.self_cpu_time_total
    whole = sum(taken.values())
    most = sorted(taken.items(), key=lambda item: -item[1])[:PROFILED]
    return {name: round(value / whole, 3) for name, value in most}


def waiting(_: str, name: str, batch: int, steps: int) -> dict[str, float]:
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
    contract = Contract(dim=DIM)
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
