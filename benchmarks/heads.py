"""The heads against the two ways they are written elsewhere: how true their gradient is, and what it costs.

    python benchmarks/heads.py            # about 2 minutes on two idle cores; writes results/heads.json
    python benchmarks/heads.py --quick    # a twentieth of the size, prints only

ArcFace is compared on the same cosines with `acos` (θ by acos, cos(θ + m), cosines clamped a little within ±1) and
`in_place` (the margin put into the caller's logits without a gradient, so that the slope is always 1). The truth is
float64 and angles, sin(θ + m) / sin θ. Times are of loss and gradient, the rivals taking turns, medians.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from _record import record
from torch import Tensor
from torch.nn import functional as F

from facekd.losses.heads import adaface, arcface, cosface, normsoftmax, subarcface

MARGIN, SCALE = 0.5, 64.0
Loss = Callable[[Tensor, Tensor], Tensor]


def by_acos(cosines: Tensor, labels: Tensor) -> Tensor:
    theta = cosines.clamp(-1 + 1e-7, 1 - 1e-7).acos()
    margin = F.one_hot(labels, cosines.shape[1]) * MARGIN
    return F.cross_entropy((theta + margin).cos() * SCALE, labels)


def in_place(cosines: Tensor, labels: Tensor) -> Tensor:
    rows = torch.arange(len(labels))
    own = cosines.detach()[rows, labels]
    moved = (own.clamp(-1, 1).acos() + MARGIN).cos() - own
    return F.cross_entropy((cosines + F.one_hot(labels, cosines.shape[1]) * moved[:, None]) * SCALE, labels)


ARCFACE: dict[str, Loss] = {
    "facekd": lambda c, y: arcface(c, y, margin_rad=MARGIN, scale=SCALE),
    "acos": by_acos,
    "in_place": in_place,
}


def slopes(loss: Loss, angles: Tensor, dtype: torch.dtype) -> Tensor:
    """d own logit / d own cosine at each angle: the slope of the loss over what a slope of 1 would give it."""
    found = []
    for angle in angles:
        cosines = torch.tensor([[math.cos(float(angle)), 0.9]], dtype=dtype, requires_grad=True)
        value = loss(cosines, torch.tensor([0]))
        (slope,) = torch.autograd.grad(value, cosines)
        # What falls on the own logit rises on the other: their ratio is free of the softmax.
        found.append(float(-slope[0, 0] / slope[0, 1]) if float(slope[0, 1]) else math.nan)
    return torch.tensor(found, dtype=torch.float64)


def truth_table() -> list[dict[str, Any]]:
    """The largest relative error of the slope, and how many are not finite, by the range of the angle."""
    ranges = {
        "at 0": torch.zeros(1),
        "0.001 to 0.1": torch.linspace(0.001, 0.1, 50),
        "0.1 to 2.6": torch.linspace(0.1, 2.6, 200),
    }
    rows = []
    for name, loss in ARCFACE.items():
        for where, angles in ranges.items():
            found = slopes(loss, angles.double(), torch.float32)
            seen = angles.double().cos().float().double().acos()  # the angle that a float32 cosine still tells
            true = torch.sin(seen + MARGIN) / torch.sin(seen)
            error = ((found - true) / true).abs()[torch.isfinite(true) & torch.isfinite(found)]
            rows.append(
                {
                    "form": name,
                    "angle": where,
                    "largest_relative_error": float(error.max()) if len(error) else None,
                    "slope_at_0": float(found[0]) if where == "at 0" and math.isfinite(float(found[0])) else None,
                    "not_finite": int((~torch.isfinite(found)).sum()),
                }
            )
    return rows


def timed(losses: dict[str, tuple[Loss, tuple[int, ...]]], rounds: int) -> dict[str, float]:
    """Milliseconds of loss and gradient, medians; the losses take turns."""
    generator = torch.Generator().manual_seed(0)
    taken: dict[str, list[float]] = {name: [] for name in losses}
    for number in range(rounds + 1):
        for name, (loss, shape) in losses.items():
            cosines = (torch.rand(shape, generator=generator) - 0.5).requires_grad_()
            labels = torch.randint(shape[1], (shape[0],), generator=generator)
            start = time.perf_counter()
            torch.autograd.grad(loss(cosines, labels), cosines)
            if number:  # the first round warms up
                taken[name].append(1000 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    batch, classes, rounds = (64, 1000, 3) if quick else (128, 20_000, 25)
    truth = truth_table()
    for row in truth:
        error = row["largest_relative_error"]
        said = f"{error:.1e}" if error is not None else f"slope {row['slope_at_0']}"
        print(f"{row['form']:>9}  θ {row['angle']:<13} largest error {said}, {row['not_finite']} not finite")
    shape = (batch, classes)
    quality = torch.linspace(-1, 1, batch)
    times = timed({**{f"arcface {name}": (loss, shape) for name, loss in ARCFACE.items()}}, rounds)
    times |= timed(
        {
            "softmax": (F.cross_entropy, shape),
            "normsoftmax": (lambda c, y: normsoftmax(c, y, scale=SCALE), shape),
            "cosface": (lambda c, y: cosface(c, y, margin=0.35, scale=SCALE), shape),
            "arcface": (ARCFACE["facekd"], shape),
            "adaface": (lambda c, y: adaface(c, y, quality, margin_rad=0.4, scale=SCALE), shape),
            "subarcface": (lambda c, y: subarcface(c, y, margin_rad=MARGIN, scale=SCALE), (*shape, 3)),
        },
        rounds,
    )
    for name, value in times.items():
        print(f"{name:>18}  {value:8.2f} ms")
    result = {"batch": batch, "classes": classes, "rounds": rounds, "slopes": truth, "milliseconds": times}
    ratio = times["arcface acos"] / times["arcface facekd"]
    print(f"acos / facekd: {ratio:.2f}")
    if not quick:
        record("heads", {**result, "acos_over_facekd": ratio})


if __name__ == "__main__":
    main()
