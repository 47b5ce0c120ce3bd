"""Teachers on real people: softmax cross-entropy against ArcFace on the same budget.

    python benchmarks/teachers_real.py --net iresnet18-half --epochs 10
    python benchmarks/teachers_real.py --net iresnet50 --epochs 20 --minutes 9 --batch 512 --lr 0.2
    python benchmarks/teachers_real.py --net iresnet50 --epochs 20 --batch 64 --work DIR --part softmax --minutes 60
    python benchmarks/teachers_real.py --quick    # few people, two epochs: does it run? writes into --work only

It goes on where it stopped when it is given again, with --minutes after as many minutes; --part does a part of it.
What it does not know itself goes to ``facekd train-teacher`` of both heads, such as --batch, --lr or --held-out.

``prepare`` aligns LFW, looks for its people in ``celeba.parquet`` (``facekd leak``, embedder w600k_mbf) and writes
WORK/sets: the crops to train on, without the held-out identities (``held_out_identities.txt``) and without LFW's
people; the held-out ones; LFW's crops and pairs. Each file there is less than 64 MiB, and the other parts read nothing
else, so the folder can be carried to a machine with a GPU. 10 to 15 minutes on two cores.

``softmax``, ``arcface`` train the same network from the same seed on the same crops and views for the same steps. One
core took 46 crops a second through iresnet18-quarter, 18 through iresnet18-half and 6 through iresnet18, plain float32;
an epoch is at most 50,000 crops, so 18 minutes, 45 minutes and two hours.

``judge`` takes LFW's 10-fold accuracy and TAR at FAR 1e-2 and 1e-3, the TAR at 1e-3, 1e-4 and 1e-5 over all pairs of
the held-out people, with 95 % intervals over people, and the difference between the two heads on the same pairs with
its interval (of at most ten million pairs of held-out people). Minutes. It judges what is trained so far, adds it to
``results/teachers_real.json`` under the network's name, and draws ``results/teachers_real.svg``. One training each:
the intervals say who was judged, not how another seed would have trained.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _celeba import DATA, go_on, prepare, training_json
from _picture import write_picture
from _real import Judges, judged, print_judged, until, vectors
from _record import RESULTS, record

from facekd.console import say
from facekd.core.files import read_json, write_json
from facekd.nets.saved import MODEL

HEADS = ("softmax", "arcface")
PARTS = ("prepare", *HEADS, "judge")
FARS = (1e-2, 1e-3, 1e-4, 1e-5)  # of the difference between the heads
MOST_PAIRS = 10_000_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="iresnet18-half")
    parser.add_argument("--epochs", type=float, default=10)
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--minutes", type=float, help="after these a training stops; the same command goes on")
    parser.add_argument("--work", type=Path, default=Path("runs/teachers_real"), help="where sets and runs lie")
    parser.add_argument(
        "--data", type=Path, default=DATA, help="crops/celeba.parquet, lfw.zip, lfw_pairs.txt, weights/"
    )
    parser.add_argument("--quick", action="store_true")
    given, flags = parser.parse_known_args()
    deadline = None if given.minutes is None else time.monotonic() + 60 * given.minutes
    if given.quick:
        given.net, given.epochs = "iresnet18-quarter", 2
        given.work = given.work.with_name(given.work.name + "-quick")
    # In the run some people are judged too, to draw a curve; none of them is trained on, in either run.
    flags = ["--held-out", "0.1" if given.quick else "0.02", *flags]
    sets = given.work / "sets"
    if "prepare" in given.part and not (sets / "about.json").exists():
        prepare(given.data, given.work, given.quick)
    for head in HEADS:
        if head in given.part and not train(given.work, given.net, head, given.epochs, flags, deadline):
            return 0
    if "judge" in given.part:
        entry = judge(given.work, given.net)
        path = given.work / "teachers_real.json" if given.quick else RESULTS / "teachers_real.json"
        teachers = read_json(path)["result"] if path.exists() else {}
        teachers[given.net] = entry
        if given.quick:
            write_json(path, {"result": teachers})
        else:
            record("teachers_real", teachers)
        write_picture(path.with_suffix(".svg"), drawn(teachers), "Teachers on real people")
    return 0


def train(work: Path, net: str, head: str, epochs: float, flags: list[str], deadline: float | None) -> bool:
    """Train, or go on with, one teacher in WORK/NET-HEAD/run; whether it is finished."""
    sets = work / "sets"
    data = [word for name in read_json(sets / "about.json")["files"] for word in ("--data", str(sets / name))]
    words = ["train-teacher", *data, "--net", net, "--head", head, "--epochs", f"{epochs:g}", *flags]
    return go_on(work / f"{net}-{head}", words, until(deadline))


def judge(work: Path, net: str) -> dict[str, Any]:
    """The result of a network: what each head's training was, its rates, and the difference between the two."""
    from facekd.deploy.embedder import CropEmbedder

    sets = work / "sets"
    runs = {head: work / f"{net}-{head}" / "run" for head in HEADS}
    runs = {head: run for head, run in runs.items() if (run / MODEL).exists()}
    if not runs:
        raise SystemExit(f"{work}: no training of {net} is finished; give --part {' '.join(HEADS)} first")
    judges = Judges.of(sets / "pairs.txt", sets / "lfw", sets / "held_out.parquet", work / "judged")
    network = CropEmbedder.load(next(iter(runs.values()))).network
    entry: dict[str, Any] = {
        "sets": read_json(sets / "about.json"),
        "parameters": network.parameters,
        "macs": network.macs,
        "heads": {},
    }
    for head, run in runs.items():
        rates, _ = judged(run, judges)
        entry["heads"][head] = {"training": training_json(run.parent), **rates}
        print_judged(f"{net} {head}", rates)
    if len(runs) == len(HEADS):
        entry["difference"] = difference(runs, judges)
    return entry


def difference(runs: dict[str, Path], judges: Judges) -> dict[str, Any]:
    """TAR of the second head minus TAR of the first on the same pairs, with its 95 % interval and p-value."""
    from facekd.evaluation.lists import everyone, pair_scores
    from facekd.rates.persons import paired_differences

    first, second = HEADS
    found: dict[str, Any] = {"of": f"{second} minus {first}"}
    for name, compared in (("LFW", judges.lfw), ("held-out people", everyone(judges.held, MOST_PAIRS))):
        crops, ids = (judges.lfw.crops, judges.lfw.ids) if compared is judges.lfw else (judges.held, judges.held.ids)
        place = {crop_id: row for row, crop_id in enumerate(ids)}
        rows = [place[crop_id] for crop_id in compared.ids]
        scores = {}
        for head in HEADS:
            own = vectors(runs[head], crops, ids, judges)[rows]
            scores[head] = pair_scores(own, own, compared)
        rates = paired_differences(scores[second], scores[first], compared.same, *compared.persons, FARS)
        found[name] = {"about": compared.about, "tar": [asdict(one) for one in rates]}
        for one in rates:
            if one.difference is not None and one.low is not None and one.high is not None:
                points = ", ".join(f"{100 * value:+.2f}" for value in (one.low, one.high))
                say(f"{name}: {found['of']} at FAR {one.far_asked:g}: {100 * one.difference:+.2f} points ({points})")
    return found


def drawn(teachers: dict[str, Any]) -> str:
    """Loss, and TAR of people held out of the training, over the steps and the hours: a row of two plots for
    each network, as SVG."""
    from facekd.reports.plots import training

    width, height, parts = 450, 340, []
    for row, (net, entry) in enumerate(teachers.items()):
        curves = {f"{net} {head}": values["training"]["curve"] for head, values in entry["heads"].items()}
        tar = next((key for rows in curves.values() for line in rows for key in line if "tar@" in key), None)
        shown = [("loss", "Training loss"), *([(tar, f"Held-out TAR at FAR {tar.split('@')[1]}")] if tar else [])]
        for column, (y, label) in enumerate(shown):
            place = f'<svg x="{column * width}" y="{row * height}" width="{width}" height="{height}" '
            known = all("hours" in line for rows in curves.values() for line in rows)
            x = "hours" if known and column else "step"
            parts.append(training(curves, x=x, y=y, y_label=label).replace("<svg ", place, 1))
    box = f"0 0 {2 * width} {height * len(teachers)}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">{"".join(parts)}</svg>'


if __name__ == "__main__":
    sys.exit(main())
