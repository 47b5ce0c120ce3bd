"""What each objective of facekd distill costs a step, and what it is worth on real crops.

    python benchmarks/objectives.py            # about 3 minutes on two idle cores; writes results/objectives.json
    python benchmarks/objectives.py --sweep    # 30 minutes on one idle core; results/objectives_sweep.json and .svg
    python benchmarks/objectives.py --quick    # either of them small, prints only

Cost: each term is computed with its gradient on the student's embeddings, logits included where it needs them; the
student's step is forward, cross-entropy and backward of MobileFaceNet at 112 pixels, without its optimizer. All take
turns in one run, medians. What a live teacher costs is in teacher_cache.py.

Worth: a ``facekd sweep`` of every objective at equal budget, on some people of CelebA, judged on others whom nobody
trained on; see _objectives_sweep.py. With --out a stopped sweep goes on.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _objectives_sweep import add_sweep_flags, run_sweep
from _record import record
from torch import Tensor

from facekd.core.contract import Contract
from facekd.nets import build
from facekd.nets.heads import Head
from facekd.recipes.terms import Seen, Tools, make_state, term_table
from facekd.teachers.teacher import Teacher

DIM, TEACHER_DIM = 128, 512


def steps(batch: int, classes: int, top_k: int) -> dict[str, Callable[[], object]]:
    """The student's step, and each term's part of one, on random embeddings of `batch` crops."""
    torch.manual_seed(0)
    student = build("mobilefacenet", dim=DIM).to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, 112, 112).to(memory_format=torch.channels_last)
    head, taught_head = Head("softmax", DIM, classes), Head("softmax", TEACHER_DIM, classes).requires_grad_(False)
    projection = torch.nn.Linear(DIM, TEACHER_DIM, bias=False)
    same = build("mobilefacenet", dim=DIM).requires_grad_(False)
    names = tuple(map(str, range(classes)))
    teacher = Teacher(Path("none"), Contract(dim=TEACHER_DIM), lambda x: x, same, taught_head, names)
    table = term_table()
    state = make_state(dict.fromkeys(table, 1.0), classes, teacher)
    labels = torch.arange(batch) // 4 % classes  # four crops of each person, so that there are genuine pairs
    embeddings, taught = torch.randn(batch, DIM), torch.randn(batch, TEACHER_DIM)

    def own_step() -> None:
        loss = torch.nn.functional.cross_entropy(head(student(images)), labels)
        torch.autograd.grad(loss, [*student.parameters(), *head.parameters()], allow_unused=True)

    def one(name: str, classes_compared: int = 0) -> Callable[[], object]:
        tools = Tools(student, head, teacher, 4.0, classes_compared, 0.0, state)
        needs = table[name].needs

        def run() -> None:
            given = embeddings.clone().requires_grad_()
            outputs = head(given) if "head" in needs else None
            logits = head.logits(outputs) if outputs is not None else None
            taught_logits: Tensor | None = teacher.logits(taught) if "logits" in needs else None
            mapped = projection(given) if "map" in needs else given
            loss = table[name].loss(Seen(given, mapped, labels, outputs, logits, taught, taught_logits), tools)
            inputs = list(student.parameters()) if name == "weights" else [given]
            torch.autograd.grad(loss, inputs, allow_unused=True)

        return run

    found: dict[str, Callable[[], object]] = {"student's step": own_step}
    found |= {name: one(name) for name in table}
    found[f"logits, top {top_k}"] = one("logits", top_k)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small, prints only")
    add_sweep_flags(parser)
    asked = parser.parse_args()
    if asked.sweep:
        run_sweep(asked)
    else:
        cost(asked.quick)


def cost(quick: bool) -> None:
    """Time every term's part of a step."""
    batch, classes, rounds = (16, 500, 2) if quick else (64, 8000, 15)
    todo = steps(batch, classes, top_k=100)
    taken: dict[str, list[float]] = {name: [] for name in todo}
    for number in range(rounds + 1):
        for name, run in todo.items():
            start = time.perf_counter()
            run()
            if number:  # the first round warms up
                taken[name].append(1000 * (time.perf_counter() - start))
    times = {name: statistics.median(values) for name, values in taken.items()}
    whole = times["student's step"]
    for name, value in times.items():
        print(f"{name:>16}  {value:9.2f} ms  {100 * value / whole:6.2f} % of the student's step")
    if not quick:
        shape = {"batch": batch, "classes": classes, "dim": DIM, "teacher_dim": TEACHER_DIM, "rounds": rounds}
        shares = {name: value / whole for name, value in times.items()}
        record("objectives", {**shape, "milliseconds": times, "share_of_the_students_step": shares})


if __name__ == "__main__":
    main()
