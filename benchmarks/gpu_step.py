"""A training step on a GPU: crops a second in bf16, and the share of the card's own bf16 rate that it reaches.

    python benchmarks/gpu_step.py            # on a machine with a GPU, about 5 minutes; writes results/gpu_step.json
    python benchmarks/gpu_step.py --quick    # any machine: a small network, few steps, prints only

facekd's own loop (`training.loop.fit`, SGD, softmax over 8,000 identities) under bf16 autocast, channels last, the
network through torch.compile. The crops lie on the card as uint8 and are flipped and made inputs there, so neither
disk nor CPU is measured; a run's own crops a second, views drawn on the CPU included, are in its time.json.

The card's rate is that of a bf16 product of two square matrices of 8,192, measured here. A step counts three times
the multiply-adds of the network (`nets.cost`), two operations each; norms, activations and the head are left out.
Networks take turns over the rounds; medians.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import torch
from _record import record
from accelerate import Accelerator
from torch import Tensor

from facekd.nets import build
from facekd.nets.cost import num_macs
from facekd.nets.heads import Head
from facekd.recipes.label_heads import head_loss
from facekd.training.loop import Batch, Plan, fit, make_optimizer
from facekd.training.speed import compiled

NETS = {"iresnet50": 512, "mobilefacenet": 1024}  # and the batch
CLASSES, DIM, CROPS = 8000, 512, 4096
WARM, STEPS, ROUNDS = 20, 60, 3
SIDE = 8192  # of the matrices


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    if not asked.quick and not torch.cuda.is_available():
        sys.exit("gpu_step: this machine has no GPU; --quick shows on the CPU that the benchmark runs")
    nets = {"mobilefacenet-half": 8} if asked.quick else NETS
    warm, steps, rounds, crops, side = (2, 3, 1, 32, 512) if asked.quick else (WARM, STEPS, ROUNDS, CROPS, SIDE)
    torch.backends.cudnn.benchmark = True
    accelerator = Accelerator(mixed_precision="bf16")
    device = accelerator.device
    result: dict[str, Any] = {"device": torch.cuda.get_device_name() if device.type == "cuda" else "CPU", "nets": {}}
    trainings = {name: Training(name, batch, crops, accelerator) for name, batch in nets.items()}
    taken: dict[str, list[float]] = {name: [] for name in nets}
    matrix: list[float] = []
    for _ in range(rounds):
        matrix.append(matrix_rate(side, device))
        for name, training in trainings.items():
            taken[name].append(training.crops_per_second(warm, steps))
    result["matrix_product_tflops"] = round(statistics.median(matrix) / 1e12, 1)
    for name, training in trainings.items():
        rate = statistics.median(taken[name])
        share = rate * 6 * training.macs / statistics.median(matrix)
        result["nets"][name] = {
            "batch": training.batch,
            "crops_per_second": round(rate, 1),
            "rounds": [round(one, 1) for one in taken[name]],
            "share_of_matrix_product": round(share, 4),
            "compiled": training.compiled,
        }
        print(f"{name}: {rate:.0f} crops/s, {100 * share:.1f} % of the rate of a bf16 matrix product")
    if not asked.quick:
        record("gpu_step", result)


class Training:
    """A network in training on crops that lie beside it."""

    def __init__(self, name: str, batch: int, crops: int, accelerator: Accelerator) -> None:
        torch.manual_seed(0)
        device = accelerator.device
        self.batch, self.accelerator, self.device, self.compiled = batch, accelerator, device, True
        self.macs = num_macs(build(name, dim=DIM))
        net: Any = build(name, dim=DIM).to(device, memory_format=torch.channels_last).train()
        self.modules = {"net": net, "head": Head("softmax", DIM, CLASSES).to(device)}
        self.crops_NHWC = torch.randint(256, (crops, 112, 112, 3), dtype=torch.uint8, device=device)
        self.labels_N = torch.randint(CLASSES, (crops,), device=device)
        with self.accelerator.autocast():
            self.forward = compiled(net, self.load(0).images_BCHW, self.not_compiled)

    def not_compiled(self, sentence: str) -> None:
        self.compiled = False
        print(sentence)

    def load(self, step: int) -> Batch:
        """A batch drawn, flipped and made input on the card."""
        rows = torch.randint(len(self.crops_NHWC), (self.batch,), device=self.device)
        images = self.crops_NHWC[rows].permute(0, 3, 1, 2).float().sub_(127.5).div_(127.5)
        mirrored = torch.rand(self.batch, 1, 1, 1, device=self.device) < 0.5
        images = torch.where(mirrored, images.flip(3), images).contiguous(memory_format=torch.channels_last)
        return Batch(images, self.labels_N[rows], ("",) * self.batch, step=step)

    def loss(self, given: Batch) -> dict[str, Tensor]:
        embeddings = self.forward(given.images_BCHW)
        head = self.modules["head"]
        return {"labels": head_loss(head, head(embeddings), embeddings, given.labels_B)}

    def crops_per_second(self, warm: int, steps: int) -> float:
        plan = Plan(steps=warm + steps, warmup=1, peak_lr=0.01, weight_decay=5e-4)
        rows: Iterator[Any] = fit(
            self.modules, make_optimizer(self.modules, plan), map(self.load, range(plan.steps)), self.loss, plan, 0,
            self.accelerator,
        )  # fmt: skip
        for _ in range(warm):
            next(rows)
        settled(self.device)
        began = time.perf_counter()
        for _ in rows:
            pass
        settled(self.device)
        return self.batch * steps / (time.perf_counter() - began)


def matrix_rate(side: int, device: torch.device) -> float:
    """Operations a second of a bf16 product of two square matrices."""
    a, b = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    settled(device)
    began, times = time.perf_counter(), 20
    for _ in range(times):
        a @ b
    settled(device)
    return 2 * side**3 * times / (time.perf_counter() - began)


def settled(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
