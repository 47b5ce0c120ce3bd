"""Every objective of facekd distill as a row of one ``facekd sweep`` on real crops, at equal budget.

The crops are those of some people of CelebA, shrunk so that a budget of about a minute of one core for each row goes
further. Rows stand beside the sweep's two controls, the student alone and the student of a random teacher; all are
judged on all pairs of people whom neither student nor teacher saw, with an interval for which people are resampled.
Only a teacher with a head over the same identities can carry every term: unless --teacher names one, an IResNet is
trained first on the same people. It is a small one and so short a training tells how the objectives compare at the
beginning, not where they end.
"""

from __future__ import annotations

import argparse
import inspect
import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from _picture import write_picture
from _record import RESULTS, record

from facekd.commands.distill import distill
from facekd.commands.sweep import MOST_PAIRS, sweep
from facekd.commands.sweep_grid import ALONE
from facekd.commands.train_teacher import train_teacher
from facekd.core.files import atomic_write, write_text
from facekd.core.types import Array
from facekd.crops.read import read_crops
from facekd.crops.training import read_training_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.evaluation.gap import gap_rows
from facekd.evaluation.lists import everyone, pair_scores
from facekd.evaluation.results import plain
from facekd.nets.saved import MODEL
from facekd.reports.forest import Row, forest

CELEBA = Path(__file__).parents[2] / "shared" / "data" / "crops" / "celeba.parquet"
HELD_OUT, SEED, DIM = 0.25, 0, 128
FAR = 1e-2  # of the printed table: after so little training lower FARs, which sweep.json has, tell less


def add_sweep_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sweep", action="store_true", help="what each objective is worth")
    parser.add_argument("--data", type=Path, default=CELEBA, help="crops with identities, image Parquet or store")
    parser.add_argument("--people", type=int, default=450, help="the first so many people of --data; 0 is all")
    parser.add_argument("--size", type=int, default=64, help="side to which crops are shrunk; 112 leaves them")
    parser.add_argument("--net", default="mobilefacenet-half", help="the student")
    parser.add_argument("--epochs", type=float, default=3, help="of each row")
    parser.add_argument("--teacher", type=Path, help="a run of train-teacher on exactly these crops and this split")
    parser.add_argument("--teacher-net", default="iresnet18-quarter", help="trained first where no --teacher is given")
    parser.add_argument("--teacher-epochs", type=float, default=20)
    parser.add_argument("--with", dest="base", default="{}", help="more flags of distill for all rows, as YAML")
    parser.add_argument("--out", type=Path, help="where the sweep is kept; a temporary folder unless given")


def run_sweep(asked: argparse.Namespace) -> None:
    """Shrink the crops, train the teacher, sweep, and write what came out."""
    if asked.quick:
        asked.people, asked.epochs, asked.teacher_epochs = min(asked.people, 30), 0.5, 1
    with tempfile.TemporaryDirectory() as folder:
        out = asked.out or Path(folder)
        data = shrunk(asked.data, asked.people, asked.size, out / f"people-{asked.people}-{asked.size}.parquet")
        teacher = asked.teacher or out / "teacher"
        if not (teacher / MODEL).exists():
            train_teacher(
                data=[data], out=teacher, net=asked.teacher_net, dim=DIM, epochs=asked.teacher_epochs,
                held_out=HELD_OUT, seed=SEED, optimizer="sgd",
            )  # fmt: skip
        base = {
            "data": [str(data)],
            "teacher": str(teacher),
            "net": asked.net,
            "dim": DIM,
            "epochs": asked.epochs,
            "batch": 32,
            "optimizer": "adamw",
            "lr": 0.002,
            "held_out": HELD_OUT,
            "seed": SEED,
            "views": max(1, round(asked.epochs)),
            "cache": str(out / "cache"),
        }
        grid = {"base": base | yaml.safe_load(asked.base), "cells": rows()}
        write_text(out / "grid.yaml", yaml.safe_dump(grid, sort_keys=False))
        result = plain(sweep(out / "grid.yaml", out=out / "sweep").report)
        set_of = read_crops(data)
        about = {"crops": len(set_of), "people": len(set(set_of.identities)), "size": asked.size}
        shown = told(result, gaps(result, data, teacher, out / "sweep"))
        for row in shown:
            print(row["line"])
        if not asked.quick:
            record("objectives_sweep", {**about, "rows": shown, "sweep": without_machine(result)})
        folder = out if asked.quick else RESULTS
        write_picture(folder / "objectives_sweep.svg", plot(shown), "Every term at one small budget")


def rows() -> dict[str, dict[str, Any]]:
    """Every cell: each term beside the labels, the label heads by themselves, and what may be varied about them."""
    terms = {
        "logits": 1, "hard": 1, "sigmoid": 1, "dkd": 1, "gkd": 1, "embedding_raw": 1, "cosine": 10, "huber": 10,
        "rkd_distance": 25, "rkd_angle": 50, "similarity": 100, "proxyless": 1, "adadistill": 1, "weights": 0.001,
    }  # fmt: skip
    cells: dict[str, dict[str, Any]] = {
        f"{name}={weight:g}": {"term": {"labels": 1, name: weight}} for name, weight in terms.items()
    }
    for weight in (1, 10, 128):
        cells[f"embedding={weight}"] = {"term": {"labels": 1, "embedding": weight}}
    cells["ekd=0.02,balanced"] = {"term": {"labels": 1, "ekd": 0.02}, "sampler": "balanced"}
    cells["logits=1,T=1"] = {"term": {"labels": 1, "logits": 1}, "temperature": 1.0}
    cells["logits=1,top-20"] = {"term": {"labels": 1, "logits": 1}, "top-k": 20}
    cells["logits+embedding"] = {"term": {"labels": 1, "logits": 1, "embedding": 10}}
    cells["embedding-without-labels"] = {"term": {"embedding": 10}}
    for head in ("normsoftmax", "cosface", "arcface", "adaface", "subarcface"):
        cells[f"labels-{head}"] = {"teacher": None, "term": {"labels": 1}, "label-head": head}
    if "augment" in inspect.signature(distill).parameters:
        cells["embedding=10,occluded"] = {"term": {"labels": 1, "embedding": 10}, "augment": "occluded"}
    return cells


def shrunk(path: Path, people: int, size: int, out: Path) -> Path:
    """The crops of the first `people` people as an image Parquet, `size` pixels wide; written once."""
    if out.exists():
        return out
    crops = read_crops(path)
    names = sorted({name for name in crops.identities if name is not None})
    kept = set(names[:people] if people else names)
    rows = []
    for index in np.flatnonzero([name in kept for name in crops.identities]):
        pixels = crops.pixels(int(index))
        if size != crops.size:
            pixels = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
        whole, encoded = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        assert whole
        image = {"bytes": encoded.tobytes(), "path": None}
        rows.append({"image": image, "identity": crops.identities[index]})
    kind = pa.schema([("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("identity", pa.string())])
    with atomic_write(out) as file:
        pq.write_table(pa.Table.from_pylist(rows, kind), file)
    return out


def gaps(result: dict[str, Any], data: Path, teacher: Path, out: Path) -> dict[str, dict[str, Any]]:
    """For each trained cell but the student alone: the gap closed at FAR, and the paired test against that student."""
    compared = everyone(read_training_crops([data], HELD_OUT, SEED).held, MOST_PAIRS)
    cells = {one["cell"]: out / "cells" / one["cell"] for one in result["cells"] if one["failed"] is None}

    def scores(run: Path) -> Array:
        """Of the embeddings that the sweep has kept."""
        (kept,) = (out / "held_out").glob(f"{CropEmbedder.load(run).model_id}-*.npy")
        vectors = np.load(kept)
        return pair_scores(vectors, vectors, compared)

    alone = scores(cells.pop(ALONE))
    students = {name: scores(run) for name, run in cells.items()}
    found = gap_rows(scores(teacher), alone, students, compared, [FAR])
    return {row.model: plain(row) for row in found}


def told(result: dict[str, Any], closed: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The teacher, the controls and the rows, best first: TAR at FAR, gain over the student alone, time of a step."""

    def at(rates: dict[str, Any], far: float) -> dict[str, Any]:
        return next(rate for rate in rates["tar"] if rate["far_asked"] == far)

    found = [{"name": "teacher", "rate": at(result["teachers"][0], FAR), "ms": None, "failed": None, "closed": None}]
    for one in result["cells"]:
        rate = None if one["rates"] is None else at(one["rates"], FAR)
        seconds = one["seconds_per_step"]
        found.append(
            {
                "name": f"{one['cell']} (control)" if one["control"] else one["cell"],
                "rate": rate,
                "ms": None if seconds is None else round(1e3 * seconds, 1),
                "failed": one["failed"],
                "closed": closed.get(one["cell"]),
            }
        )
    found[1:] = sorted(found[1:], key=lambda row: -(row["rate"]["tar"] or 0) if row["rate"] else 1)
    for row in found:
        rate, one = row["rate"], row["closed"]
        tar, gain = "–", ""
        if rate is not None and rate["tar"] is not None:
            tar = f"{100 * rate['tar']:5.1f} ({100 * rate['low']:.1f}–{100 * rate['high']:.1f})"
        if one is not None and one["gain"] is not None:
            low, high = 100 * one["gain_low"], 100 * one["gain_high"]
            gain = f"{100 * one['gain']:+.1f} ({low:+.1f} to {high:+.1f}) over alone"
        row["line"] = (
            f"{row['name']:>28}  TAR at FAR {FAR:g} {tar}  {gain}  {row['ms'] or '–'} ms  {row['failed'] or ''}"
        )
    return found


def plot(shown: list[dict[str, Any]]) -> str:
    """TAR by row; the teacher and the controls are what the others are measured by."""
    rows = [
        Row(row["name"], row["rate"]["tar"], row["rate"]["low"], row["rate"]["high"], row["ms"] is None or control(row))
        for row in shown
        if row["rate"] is not None and row["rate"]["tar"] is not None
    ]
    return forest(rows, x_label=f"TAR at FAR {FAR:g}, held-out people")


def control(row: dict[str, Any]) -> bool:
    return str(row["name"]).endswith("(control)")


def without_machine(result: dict[str, Any]) -> dict[str, Any]:
    """The sweep's result without what `record` writes again."""
    return {key: json.loads(json.dumps(value)) for key, value in result.items() if key != "environment"}
