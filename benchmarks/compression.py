"""The same bytes spent three ways: a pruned teacher, a quantized teacher, a distilled student.

    python benchmarks/compression.py --teacher RUN --student RUN [--held CROPS] [--pairs LIST --crops STORE]
    python benchmarks/compression.py --quick [--work DIR]       # toys, prints only; under two minutes on one core

Writes ``results/compression.json`` and, for each list that is judged, a forest plot of TAR beside it. The lists:
all pairs of the people in --held, or else of those whom neither run trained on, and --pairs. TAR at FAR with 95 %
intervals over people, and each network's difference to the teacher, paired. Every network is judged as the ONNX file
that it would be used as.

Quantized: ``facekd export`` in fp16 and int8. Pruned by magnitude (`_prune.py`): ``channels`` are taken out, so the
network is smaller and quicker wherever it runs; ``weights`` are set to zero, and the size is what bits or compressed
rows would take, while a runtime computes it as if nothing had been pruned. Both are pruned to the bytes of the fp32
student and to those of the int8 teacher, at one go, and judged with the statistics of their norms taken anew; then
again after as many steps as the student's distillation had (--steps), on the same crops and views, taught by the
unpruned teacher through the embedding term (AdamW). A teacher that is an ONNX file is quantized only: cutting channels
out of anybody's graph is not done here.

Numbers and multiply-adds are those of the graph as it runs; an int8 export has more, its PReLU split in two.

Each network is kept in --work when it is done, a fine-tuning also on its way: a stopped run goes on. The fine-tunings
take the time: a step of ``weights`` costs what a step of training the teacher costs, on two cores about 15 s for an
IResNet-50 and a batch of 64, so give a small --steps there (the result says it), or use a GPU. All else is judging:
half a minute for each thousand crops and network of the teacher's size.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from _crop_files import write_parquet
from _nets import pictures
from _picture import write_picture
from _prune import NUMBER, check
from _record import RESULTS, record
from _tune import Facts, Recipe, cost_of, pruned

from facekd.commands.distill import distill
from facekd.commands.export import export
from facekd.commands.train_teacher import train_teacher
from facekd.console import say, table
from facekd.core.files import atomic_write, read_json, write_json
from facekd.core.pixels import encode_crop
from facekd.core.run import read_metrics, refuse_other_run, start_run
from facekd.crops.read import read_crops
from facekd.crops.training import TrainingCrops, read_training_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.errors import UserError
from facekd.evaluation.judged import embed_crops
from facekd.evaluation.lists import (
    Compared,
    held_out_people,
    list_rates,
    listed,
    pair_scores,
    training_of,
)
from facekd.evaluation.results import plain
from facekd.evaluation.text import far_name, tar_text
from facekd.nets.cost import num_parameters
from facekd.nets.iresnet import IResNet
from facekd.nets.saved import load_model
from facekd.rates.persons import paired_differences
from facekd.reports.forest import Row, forest

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
SEED = 0
MOST_PAIRS = 3_000_000  # of held-out people: 30 false accepts at a FAR of 1e-5
CALIBRATION = 512  # training crops that int8 takes its ranges from
ROUNDS, FACES = 7, 8  # of the latency: each network in turn, so many faces at a time


@dataclass(frozen=True, slots=True)
class Bench:
    """What all networks are made from and judged on."""

    work: Path
    data: TrainingCrops
    lists: Mapping[str, Compared]
    calibration: Path
    rows: dict[str, Facts]  # what is known of each network, by its name

    def file(self, name: str) -> Path:
        return self.work / f"{name.replace(' ', '-').replace(',', '')}.onnx"

    def add(self, name: str, make: Callable[[Path], Facts]) -> None:
        """Make a network's file and judge it, unless an earlier run did."""
        path = self.file(name)
        if not path.with_suffix(".json").exists():
            say(f"{name} …")
            start = time.monotonic()
            facts: Facts = {"seconds_to_make": 0.0, **make(path)}
            facts["seconds_to_make"] = round(time.monotonic() - start, 1)
            if path.exists():
                facts["lists"] = {key: self.judge(name, compared, key) for key, compared in self.lists.items()}
            write_json(path.with_suffix(".json"), facts)
        self.rows[name] = read_json(path.with_suffix(".json"))

    def judge(self, name: str, compared: Compared, key: str) -> Facts:
        """Rates on a list, and the difference to the teacher's."""
        embedder = CropEmbedder.load(self.file(name))
        vectors = embed_crops(name, embedder, compared.crops, compared.ids, quiet=False).vectors
        scores = pair_scores(vectors, vectors, compared)
        kept = self.work / f"teacher-{key}.npy"
        if name == "teacher":
            with atomic_write(kept) as file:
                np.save(file, scores)
        found = plain(list_rates(scores, compared, FARS))
        if name != "teacher":
            pairs = (compared.same, *compared.persons)
            against = paired_differences(scores, np.load(kept), *pairs, FARS)
            found["minus_teacher"] = [
                {key: getattr(one, key) for key in ("far_asked", "difference", "low", "high", "p_value")}
                for one in against
            ]
        return found


def _lead(rates: list[Facts]) -> float | None:
    """The lowest FAR that a list estimates, or else bounds."""
    for support in ("estimate", "bound"):
        fars = [rate["far_asked"] for rate in rates if rate["support"] == support]
        if fars:
            return min(fars)
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path, help="run folder of an IResNet; or an ONNX file, to quantize only")
    parser.add_argument("--contract", type=Path, help="of an ONNX teacher that facekd does not know")
    parser.add_argument("--student", type=Path, help="run folder of facekd distill: its crops and steps are taken")
    parser.add_argument("--held", type=Path, help="crops of people whom neither run trained on")
    parser.add_argument("--pairs", type=Path, help="a pair list to judge too")
    parser.add_argument("--crops", type=Path, help="the store of its photos")
    parser.add_argument("--steps", type=int, help="of each fine-tuning; the student's unless given")
    parser.add_argument("--lr", type=float, default=1e-3, help="of each fine-tuning")
    parser.add_argument("--work", type=Path, help="where networks are kept; runs/compression unless given")
    parser.add_argument("--quick", action="store_true", help="toys: does it run?")
    given = parser.parse_args()
    given.work = given.work or Path("runs/compression-quick" if given.quick else "runs/compression")
    if given.quick:
        check()
        given.work.mkdir(parents=True, exist_ok=True)
        given.teacher, given.student = toys(given.work)
    if given.teacher is None or given.student is None:
        parser.error("give --teacher and --student, or --quick")
    result, plotted = measure(given)
    show(result)
    for number, (heading, drawing) in enumerate(plotted.items()):
        folder = given.work if given.quick else RESULTS
        path = folder / ("compression.svg" if number == 0 else f"compression_{number + 1}.svg")
        write_picture(path, drawing, f"Distill, prune or quantize: {heading}")
        print(f"written: {path}: {heading}")
    if not given.quick:
        record("compression", result)


def measure(given: argparse.Namespace) -> tuple[Facts, dict[str, str]]:
    """The whole table, and a plot for each list."""
    made = training_of(given.student)
    if made is None:
        raise UserError(f"{given.student}: not the folder of a distillation; its crops and steps are needed")
    settings = yaml.safe_load((given.student / "run.yaml").read_text())
    steps = given.steps or max(int(row["step"]) for row in read_metrics(given.student))
    teacher = CropEmbedder.load(given.teacher, given.contract)
    asked: Facts = {
        "teacher_id": teacher.model_id,
        "student_id": load_model(given.student).contract.model_id,
        "steps": steps,
        "lr": given.lr,
    }
    data = read_training_crops(list(made.data), made.held_out, made.seed, drop=list(made.drop))
    lists = {}
    if given.held is not None or data.names:
        records = [one for one in (made, training_of(given.teacher)) if one is not None]
        held = None if given.held is None else read_crops(given.held)
        lists["held-out"] = held_out_people(records, MOST_PAIRS, held=held)
    if given.pairs is not None:
        lists["pairs"] = listed(given.pairs, given.crops or made.data[0])
    if not lists:
        raise UserError(
            f"{given.student}: its crops have no identities to judge by; give --held, or --pairs and --crops"
        )
    asked["lists"] = [f"{key}: {one.about}" for key, one in lists.items()]
    refuse_other_run(given.work, asked)
    start_run(given.work, "benchmarks/compression.py", asked)
    bench = Bench(given.work, data, lists, calibration(data, given.work), {})

    precisions = {"teacher": "fp32", "teacher fp16": "fp16", "teacher int8": "int8"}
    for name, precision in precisions.items():
        bench.add(name, exported(bench, given.teacher, given.contract, precision))
    bench.add("student", exported(bench, given.student, None, "fp32"))
    bench.add("student int8", exported(bench, given.student, None, "int8"))
    net = None if teacher.network.path.suffix == ".onnx" else load_model(given.teacher).net
    if isinstance(net, IResNet):
        recipe = Recipe(given.teacher, data, settings, steps, given.lr)
        # What a file holds besides its numbers: the same layers, so about the same for a pruned network.
        graph = bench.file("teacher").stat().st_size - NUMBER * num_parameters(net)
        budgets = {"student": bench.file("student").stat().st_size}
        if bench.file("teacher int8").exists() and not given.quick:
            budgets["int8 teacher"] = bench.file("teacher int8").stat().st_size
        for label, size in budgets.items():
            for way in ("channels", "weights"):
                for tuned in (False, True):
                    name = f"{way} to {label}" + (", tuned" if tuned else "")
                    bench.add(name, pruned(recipe, way, size, graph, tuned))
        about = "pruned: channels in every layer alike, weights by layer-adaptive magnitude"
    else:
        about = "not pruned: the teacher is no facekd IResNet"
    latencies(bench)
    leads = {key: _lead(bench.rows["teacher"]["lists"][key]["tar"]) for key in lists}
    result = {
        **asked,
        "pruning": about,
        "lists": {
            key: {"heading": one.heading, "about": one.about, "left_out": one.left_out, "lead_far": leads[key]}
            for key, one in lists.items()
        },
        "networks": bench.rows,
    }
    plotted = {lists[key].heading: plot(bench.rows, key, leads[key]) for key in lists if leads[key] is not None}
    return result, plotted


def exported(bench: Bench, source: Path, contract: Path | None, precision: str) -> Callable[[Path], Facts]:
    """`facekd export`; what it refuses to hand over is a finding."""

    def make(path: Path) -> Facts:
        try:
            done = export(source, path, precision=precision, contract=contract, crops=bench.calibration, quiet=True)
        except UserError as error:
            if precision == "fp32":
                raise
            return {"refused": str(error)}
        return {"median_cosine": done.median_cosine, **cost_of(path)}

    return make


def latencies(bench: Bench) -> None:
    """The median time of one face from uint8 crop to unit embedding on one core, the networks taking turns."""
    names = [name for name in bench.rows if bench.file(name).exists()]
    embedders = {name: CropEmbedder.load(bench.file(name), threads=1) for name in names}
    size = bench.data.train.size
    crops = np.random.default_rng(SEED).integers(0, 256, (FACES, size, size, 3), np.uint8)
    taken: dict[str, list[float]] = {name: [] for name in names}
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    for number in range(ROUNDS + 1):
        for name, embedder in embedders.items():
            for crop in crops:
                start = time.perf_counter()
                embedder.embed(crop[None])
                if number:
                    taken[name].append(time.perf_counter() - start)
    os.sched_setaffinity(0, allowed)
    for name in names:
        bench.rows[name]["p50_ms_one_core"] = round(1e3 * statistics.median(taken[name]), 3)


def calibration(data: TrainingCrops, work: Path) -> Path:
    """Some training crops: int8's ranges are to know nothing of those that are judged."""
    path = work / "calibration.parquet"
    drawn = np.random.default_rng(SEED).permutation(len(data.train))[:CALIBRATION]
    write_parquet(path, [data.train.encoded(int(i)) for i in np.sort(drawn)], [None] * len(drawn))
    return path


def plot(networks: Mapping[str, Facts], key: str, far: float) -> str:
    """TAR of each network, the largest file first."""
    rows = []
    for name, facts in sorted(networks.items(), key=lambda one: -one[1].get("bytes", 0)):
        if "lists" in facts:
            rate = next(one for one in facts["lists"][key]["tar"] if one["far_asked"] == far)
            label = f"{name}: {facts['bytes'] / 1e6:.1f} MB"
            rows.append(Row(label, rate["tar"], rate["low"], rate["high"], measure=name == "teacher"))
    return forest(rows, x_label=f"TAR at FAR {far_name(far)}")


def show(result: Facts) -> None:
    """The table at the terminal."""
    lists = {key: one["lead_far"] for key, one in result["lists"].items()}
    columns = ["network", "MB", "M numbers", "M MACs", "p50 ms"]
    for key, far in lists.items():
        columns += [f"{key}: TAR" if far is None else f"{key}: TAR at {far_name(far)}", "minus teacher"]
    rows = []
    for name, facts in result["networks"].items():
        if "refused" in facts:
            print(f"{name}: {facts['refused']}")
            continue
        macs = "–" if facts["macs"] is None else f"{facts['macs'] / 1e6:.0f}"
        row = [name, f"{facts['bytes'] / 1e6:.2f}", f"{facts['parameters'] / 1e6:.3f}", macs]
        row.append(f"{facts['p50_ms_one_core']:.2f}")
        for key, far in lists.items():
            found = facts["lists"][key]
            rates = [one for one in found["tar"] if one["far_asked"] == far]
            against = [one for one in found.get("minus_teacher", []) if one["far_asked"] == far]
            row.append(tar_text(rates[0]) if rates else "–")
            known = against and against[0]["difference"] is not None
            row.append(f"{100 * against[0]['difference']:+.2f}" if known else "–")
        rows.append(row)
    table(result["pruning"], columns, rows)
    print(json.dumps({name: facts["seconds_to_make"] for name, facts in result["networks"].items()}))


def toys(work: Path) -> tuple[Path, Path]:
    """Runs of a small teacher and its student on patterns."""
    rng, images, people = np.random.default_rng(SEED), [], []
    for number, pattern in enumerate(pictures(20, size=32)):
        for _ in range(8):
            noisy = np.clip(pattern + rng.normal(0, 40, pattern.shape), 0, 255).astype(np.uint8)
            images.append(encode_crop(noisy))
            people.append(f"p{number:02d}")
    data = work / "toys.parquet"
    if not data.exists():
        write_parquet(data, images, people)
    flags: dict[str, Any] = {"data": [data], "dim": 32, "batch": 16, "held_out": 0.4, "epochs": 6, "quiet": True}
    teacher = train_teacher(**flags, net="iresnet18-quarter", out=work / "toy-teacher").out
    student = distill(
        **flags,
        net="mobilefacenet-half",
        teacher=teacher,
        term=["embedding=10"],
        optimizer="adamw",
        lr=2e-3,
        views=2,
        cache=work / "cache",
        out=work / "toy-student",
    ).out
    return teacher, student


if __name__ == "__main__":
    main()
