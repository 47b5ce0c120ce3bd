"""What a teacher costs a distillation: with its embeddings kept, live, and while they are computed.

    python benchmarks/teacher_cache.py [--data CROPS] [--only PART ...] [--bf16]   # writes results/teacher_cache.json
    python benchmarks/teacher_cache.py --quick                                     # small, prints only

MobileFaceNet of 512 dimensions, batches of 64 views, the embedding term; batches, steps and cache are those of ``facekd
distill --compile`` itself. Teachers: an IResNet-50 with random weights, which do not change its speed, and the public
ONNX files that are there. Rivals take turns; ratios are medians of each round's. Each part is saved when it is done. On
two idle cores, in minutes: ``building`` 10, ``epochs`` 12, ``losses`` 6.

``building``: the teacher alone over inputs that are ready, the views alone on all cores (decoded, drawn and made
inputs), and `fill_cache`, which does both. Where the two share the cores the most that they allow is 1 / (1 / teacher +
1 / views); where the teacher has a device of its own it is the slower one's rate. Opening a whole cache checks it: that
takes as long for few rows as for many and is stated apart.

``epochs``: an epoch of the student alone (the same views, a loss that costs nothing), with kept embeddings, and with
each teacher live; and the time to read a batch's rows, which a thread does ahead of the step.

``losses``: 30 steps of a training of which each batch's loss is taken by the live and by the kept embeddings of the
same views, on the same weights; and the losses of runs of ``facekd distill`` that show the same views in the same
order, one with ``--views``, one with the teacher live. From random weights a training amplifies any rounding from step
to step: how much, the live run says that is done again on one thread (on one core it is the same run).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _crop_files import write_parquet
from _nets import WEIGHTS, pictures
from _record import RESULTS, record
from accelerate import Accelerator

from facekd.commands.distill import distill
from facekd.core.contract import Contract
from facekd.core.pixels import encode_crop, to_input
from facekd.core.run import read_metrics
from facekd.core.system import cores
from facekd.crops.cropset import CropSet
from facekd.crops.read import read_crops
from facekd.crops.training import read_training_crops
from facekd.crops.views import view_batch
from facekd.engines.local import map_ordered
from facekd.losses.distillation import embedding_mse
from facekd.nets import build
from facekd.nets.saved import MODEL, save_model
from facekd.recipes import train as training_walk
from facekd.recipes.cache import fill_cache
from facekd.recipes.plan import batch_loader, make_plan, make_sampler, stepper
from facekd.settings.training import Optimization
from facekd.teachers.teacher import Teacher, load_teacher
from facekd.training.loop import Batch, fit, make_optimizer
from facekd.training.norms import settle_norms

DATA = WEIGHTS.parent / "crops" / "fairface.parquet"
ONNX = ("w600k_mbf", "sface_2021dec")
DIM, SEED = 512, 0
EPOCHS, LR = 2, 1e-3  # of the part losses
ROWS_READ = 200  # batches whose rows are read for their time


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--data", type=Path, default=DATA, help="crops; patterns are drawn where there are none")
    parser.add_argument("--bf16", action="store_true", help="the student's step in bfloat16, teachers as they are")
    parser.add_argument("--quick", action="store_true", help="small numbers: does it run?")
    arguments = parser.parse_args()
    name = "teacher_cache_bf16" if arguments.bf16 else "teacher_cache"
    path = RESULTS / f"{name}.json"
    result = json.loads(path.read_text())["result"] if path.exists() and not arguments.quick else {}
    for part in arguments.only:
        with tempfile.TemporaryDirectory() as folder:
            result[part] = PARTS[part](Path(folder), arguments.data, arguments.quick, arguments.bf16)
        print(part, json.dumps(result[part], indent=2))
        if not arguments.quick:
            record(name, result)


def building(home: Path, data: Path, quick: bool, _bf16: bool) -> dict[str, Any]:
    """The rates of a teacher alone, of views alone and of both, for each teacher."""
    rounds, batch = (2, 16) if quick else (4, 64)
    found: dict[str, Any] = {"cores": cores(), "crops": data.name if data.exists() else "patterns"}
    teachers = {name: path for name, path in all_teachers(home, quick).items() if name != "sface_2021dec"}
    for name, path in teachers.items():
        teacher = load_teacher(path, None, Accelerator().device)
        count = 32 if quick else 512 if name.startswith("iresnet") else 3072
        crops = read_crops(subset(data, home / f"{count}.parquet", count))
        tasks = np.split(np.arange(count), range(batch, count, batch))
        ready = [torch.from_numpy(to_input(crops.batch(task), teacher.contract)) for task in tasks]
        taken = in_turns(
            {
                "teacher": lambda _, ready=ready, teacher=teacher: [teacher.embed(x).cpu() for x in ready],
                "views": lambda number, tasks=tasks, teacher=teacher, crops=crops: draw(crops, tasks, number, teacher),
                # Another seed is another cache; the second call finds it whole and only checks it.
                "build": lambda number, t=teacher, crops=crops: fill_cache(t, crops, number, 1, home / "cache", True),
                "open": lambda number, t=teacher, crops=crops: fill_cache(t, crops, number, 1, home / "cache", True),
            },
            rounds,
        )
        rates = {what: [count / seconds for seconds in taken[what]] for what in ("teacher", "views")}
        rates["build"] = [count / (a - b) for a, b in zip(taken["build"], taken["open"], strict=True)]
        shared = [1 / (1 / a + 1 / b) for a, b in zip(rates["teacher"], rates["views"], strict=True)]
        found[name] = {
            "crops": count,
            "crops_per_second": {what: round(statistics.median(values), 1) for what, values in rates.items()},
            "seconds_to_open_and_check": round(statistics.median(taken["open"]), 3),
            "build_of_the_teacher_alone (>= 0.95)": ratio(rates["build"], rates["teacher"]),
            "most_that_shared_cores_allow": ratio(shared, rates["teacher"]),
            "build_of_what_shared_cores_allow": ratio(rates["build"], shared),
            "views_of_the_teacher_alone": ratio(rates["views"], rates["teacher"]),
        }
    return found


def draw(crops: CropSet, tasks: list[np.ndarray], seed: int, teacher: Teacher) -> None:
    """One view of each crop as the teacher takes it, on all cores."""

    def inputs(task: np.ndarray) -> np.ndarray:
        return to_input(view_batch(crops, seed, task, np.zeros_like(task), "plain"), teacher.contract)

    for _ in map_ordered(inputs, tasks, cores()):
        pass


def epochs(home: Path, data: Path, quick: bool, bf16: bool) -> dict[str, Any]:
    """An epoch alone, with kept embeddings and with each teacher live; and the reading of kept rows."""
    rounds, batch, count = (2, 8, 16) if quick else (6, 64, 512)
    crops = read_training_crops([subset(data, home / "epochs.parquet", count)], 0.0, SEED)
    accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no")
    teachers = {name: load_teacher(path, None, accelerator.device) for name, path in all_teachers(home, quick).items()}
    first = next(iter(teachers.values()))  # the IResNet, of as many dimensions as the student
    kept = fill_cache(first, crops.train, SEED, 1, home / "cache", True)[0]
    rivals: dict[str, Callable[[int], object]] = {
        "alone": one_epoch(crops, batch, accelerator, None, None),
        "kept": one_epoch(crops, batch, accelerator, first, kept.rows),
    }
    rivals |= {f"live {name}": one_epoch(crops, batch, accelerator, one, None) for name, one in teachers.items()}
    taken = in_turns(rivals, rounds)
    steps = count // batch
    seconds = {name: statistics.median(values) / steps for name, values in taken.items()}
    sample = make_sampler(Optimization(sampler="shuffled", batch=batch, per_person=2), crops, SEED, views=1)
    reading = []
    for step in range(ROWS_READ):
        places, numbers = sample(step)
        start = time.perf_counter()
        torch.from_numpy(kept.rows(places, numbers))
        reading.append(time.perf_counter() - start)
    read = statistics.median(reading)
    return {
        "crops": count,
        "batch": batch,
        "rounds": rounds,
        "student": f"mobilefacenet {DIM}-d, {'bf16' if bf16 else 'fp32'}, compiled",
        "seconds_a_step": {name: round(value, 4) for name, value in seconds.items()},
        "kept_of_alone (<= 1.15)": ratio(taken["kept"], taken["alone"]),
        "live_of_kept (>= 4 for iresnet50)": {name: ratio(taken[f"live {name}"], taken["kept"]) for name in teachers},
        "milliseconds_to_read_a_batch": round(1e3 * read, 4),
        "reading_of_a_step (< 0.02)": round(read / seconds["kept"], 6),
    }


def one_epoch(
    data: Any, batch: int, accelerator: Accelerator, teacher: Teacher | None, rows: Any
) -> Callable[[int], object]:
    """A call that trains a student of its own for an epoch, as `facekd distill` does between two judgments."""
    torch.manual_seed(SEED)
    contract = Contract(dim=DIM, size=data.train.size, template=data.train.template)
    student = build("mobilefacenet", dim=DIM, size=contract.size).to(memory_format=torch.channels_last)
    modules = {"net": student.to(accelerator.device)}
    shape = (batch, 3, contract.size, contract.size)
    forward = stepper(student, compile=True, shape=shape, accelerator=accelerator, quiet=False)
    assert forward is not student, "the rates are those of compiled students"
    if teacher is not None and teacher.contract.dim != DIM:
        modules["projection"] = torch.nn.Linear(DIM, teacher.contract.dim, bias=False).to(accelerator.device)
    plan = make_plan(len(data.train), Optimization(epochs=1, batch=batch, lr=1e-3, weight_decay=4e-5))
    optimizer = accelerator.prepare(make_optimizer(modules, plan))
    sample = make_sampler(Optimization(sampler="shuffled", batch=batch, per_person=2), data, SEED, views=1)
    seen_by = None if teacher is None else teacher.contract
    load = batch_loader(data, contract, sample, SEED, teacher=seen_by, kept=rows)

    def move(given: Batch) -> Batch:
        def there(images: Any) -> Any:
            return images if images is None else images.to(accelerator.device, memory_format=torch.channels_last)

        kept = given.teacher_BD
        return Batch(
            there(given.images_BCHW),
            given.labels_B,
            given.crop_ids,
            there(given.teacher_images_BCHW),
            kept if kept is None else kept.to(accelerator.device),
            given.step,
        )

    def loss(given: Batch) -> Mapping[str, torch.Tensor]:
        embeddings = forward(given.images_BCHW).float()
        if teacher is None:
            return {"nothing": embeddings.square().mean()}
        if "projection" in modules:
            embeddings = modules["projection"](embeddings).float()
        taught = given.teacher_BD if rows is not None else teacher.embed(given.teacher_images_BCHW)
        return {"embedding": 10 * embedding_mse(embeddings, taught)}

    def epoch(_number: int) -> None:
        batches = map(move, map_ordered(load, range(plan.steps), workers=1))
        for _ in fit(modules, optimizer, batches, loss, plan, 0, accelerator):
            pass

    return epoch


def losses(home: Path, data: Path, quick: bool, _bf16: bool) -> dict[str, Any]:
    """How far losses by kept and by live embeddings are apart: on the same weights, and of runs of their own."""
    batch, count = (8, 32) if quick else (64, 960)
    crops = subset(data, home / "losses.parquet", count)
    teachers = all_teachers(home, quick)
    name = ONNX[0] if ONNX[0] in teachers and not quick else next(iter(teachers))
    training_walk.LOG_EVERY = 1
    threads = torch.get_num_threads()
    rows = {}
    # As many epochs as views: a live run numbers its views by the epoch, a kept one by the epoch modulo the views.
    for what, views in (("kept", EPOCHS), ("live", 0), ("live, one thread", 0)):
        torch.set_num_threads(1 if "one thread" in what else threads)
        run = distill(
            data=[crops],
            teacher=teachers[name],
            out=home / what.replace(" ", "-"),
            dim=DIM,
            term=["embedding=10"],
            epochs=EPOCHS,
            batch=batch,
            optimizer="adamw",
            lr=LR,
            views=views,
            cache=home / "cache",
            held_out=0.0,
            seed=SEED,
            quiet=True,
        ).out
        rows[what] = {int(row["step"]): row["loss"] for row in read_metrics(run) if "loss" in row}
    torch.set_num_threads(threads)
    assert all(list(one) == list(rows["live"]) for one in rows.values())

    def apart(one: str) -> list[float]:
        """Relative differences to the live run, the largest so far, after 1, 2, 4, … steps."""
        each = [abs(rows[one][step] - value) / value for step, value in rows["live"].items()]
        return [max(each[: 2**k]) for k in range(len(each).bit_length())] + [max(each)]

    return {
        "teacher": name,
        "batch": batch,
        "steps": len(rows["live"]),
        "first_and_last_loss": [rows["live"][min(rows["live"])], rows["live"][max(rows["live"])]],
        "largest_relative_difference_on_the_same_weights (<= 1e-3)": on_the_same_weights(
            crops, teachers[name], batch, home / "cache"
        ),
        "of_runs_of_their_own_after_1_2_4_steps": {one: apart(one) for one in rows if one != "live"},
    }


def on_the_same_weights(path: Path, of_teacher: Path, batch: int, home: Path) -> float:
    """The largest relative difference of a batch's loss by kept and by live embeddings, while the live ones train."""
    accelerator = Accelerator()
    crops, teacher = read_training_crops([path], 0.0, SEED), load_teacher(of_teacher, None, accelerator.device)
    kept = fill_cache(teacher, crops.train, SEED, EPOCHS, home, True)[0]
    torch.manual_seed(SEED)
    student = build("mobilefacenet", dim=DIM).to(accelerator.device, memory_format=torch.channels_last)
    plan = make_plan(
        len(crops.train), Optimization(epochs=EPOCHS, batch=batch, lr=LR, weight_decay=4e-5, optimizer="adamw")
    )
    sample = make_sampler(Optimization(sampler="shuffled", batch=batch, per_person=2), crops, SEED, views=EPOCHS)
    load = batch_loader(crops, Contract(dim=DIM), sample, SEED, teacher=teacher.contract)
    apart = []

    def loss(given: Batch) -> Mapping[str, torch.Tensor]:
        embeddings = student(given.images_BCHW.to(accelerator.device)).float()
        live = embedding_mse(embeddings, teacher.embed(given.teacher_images_BCHW))
        stored = torch.from_numpy(kept.rows(*sample(given.step))).to(accelerator.device)
        apart.append(abs(float((embedding_mse(embeddings, stored) / live).detach()) - 1))
        return {"embedding": 10 * live}

    modules = {"net": student}
    optimizer = accelerator.prepare(make_optimizer(modules, plan))
    batches = map_ordered(load, range(plan.steps), workers=1)
    for _ in fit(modules, optimizer, batches, loss, plan, 0, accelerator):
        pass
    assert len(apart) == plan.steps
    return max(apart)


PARTS = {"building": building, "epochs": epochs, "losses": losses}


def all_teachers(home: Path, quick: bool) -> dict[str, Path]:
    """The IResNet's run folder first, then the public files that are there."""
    name = "iresnet18-half" if quick else "iresnet50"
    if not (home / name).exists():
        torch.manual_seed(SEED)
        net, contract = build(name, dim=DIM), Contract(dim=DIM)
        # Unless its norms have seen pictures, random weights grow beyond what half precision holds.
        settle_norms(net, [torch.from_numpy(to_input(pictures(16, seed=1), contract))])
        save_model(home / name / MODEL, name, net, contract)
    public = {each: WEIGHTS / f"{each}.onnx" for each in ONNX if (WEIGHTS / f"{each}.onnx").exists()}
    for each in set(ONNX) - set(public):
        print(f"{WEIGHTS / each}.onnx is not there: measured without it")
    return {name: home / name, **public}


def subset(data: Path, path: Path, count: int) -> Path:
    """The first `count` crops of `data` as image Parquet without identities; patterns where there is no data."""
    if data.exists():
        crops = read_crops(data)
        images = [crops.encoded(i) for i in range(min(count, len(crops)))]
    else:
        images = [encode_crop(one) for one in pictures(count)]
    assert len(images) == count, f"{data} holds {len(images)} crops, {count} are needed"
    return write_parquet(path, images, [None] * count)


def in_turns(rivals: Mapping[str, Callable[[int], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each rival in each round, after one round that warms up; a rival is told the round's number."""
    taken: dict[str, list[float]] = {name: [] for name in rivals}
    for number in range(rounds + 1):
        for name, run in rivals.items():
            start = time.perf_counter()
            run(number)
            if number:
                taken[name].append(time.perf_counter() - start)
    return taken


def ratio(above: list[float], below: list[float]) -> float:
    """The median of the rounds' ratios."""
    return round(statistics.median(a / b for a, b in zip(above, below, strict=True)), 4)


if __name__ == "__main__":
    main()
