"""What `facekd distill` gains with its defaults in a few steps: a student of somebody else's network against one alone.

    python benchmarks/distill_defaults.py --work DIR             # 250 steps of 32 each; goes on where it stopped
    python benchmarks/distill_defaults.py --work BF16 --with='--precision bf16 --compile' --train-only
    python benchmarks/distill_defaults.py --work DIR --beside BF16   # and what bf16 changes
    python benchmarks/distill_defaults.py --quick                # a few steps, prints only

Two runs of the same command, crops, seed, views and steps: ``facekd distill --teacher w600k_mbf.onnx`` with every
setting left out but --batch 32 and the number of steps, and the same without the teacher, on the labels alone. They
learn on CelebA without the held-out people (``held_out_identities.txt``) and are judged on all pairs of those of them
that four million pairs hold: TAR at FAR 1e-2 and 1e-3, and the paired difference with its 95 % interval over people and
its p-value. Writes ``results/distill_defaults.json``. On two idle cores about 20 minutes.
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from _celeba import DATA, go_on, held_out_identities, of_people, read_celeba, write_set
from _real import MOST_PAIRS, progress_of, until
from _record import record

from facekd.core.files import read_yaml
from facekd.core.run import read_metrics
from facekd.core.types import Array
from facekd.crops.read import read_crops
from facekd.evaluation.lists import Compared, everyone, pair_scores
from facekd.nets.saved import MODEL, load_model
from facekd.rates.persons import paired_differences, person_rates
from facekd.recipes.train import embed_crops

STEPS, BATCH = 250, 32
WATCHED = 0.02  # share of the training people that the curves are drawn on
FARS = (1e-2, 1e-3)
PARTS = ("alone", "taught")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of crops/ and weights/")
    parser.add_argument("--work", type=Path, help="where the runs are kept and gone on with")
    parser.add_argument("--teacher", default="w600k_mbf.onnx", help="a file of weights/")
    parser.add_argument("--minutes", type=float, help="end the training after so long; the same command goes on")
    parser.add_argument("--with", dest="more", default="", help="more flags of distill, for both")
    parser.add_argument("--train-only", action="store_true", help="judge and write nothing")
    parser.add_argument("--beside", type=Path, help="a --work of other flags: its students less these, same pairs")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    if asked.quick:
        with tempfile.TemporaryDirectory() as folder:
            run(asked, Path(folder), steps=4)
    elif asked.work is None:
        parser.error("--work DIR is where the training goes on; name it")
    else:
        run(asked, asked.work, STEPS)


def run(asked: argparse.Namespace, work: Path, steps: int) -> None:
    """Train what is not finished, and judge both where they are."""
    deadline = None if asked.minutes is None else time.monotonic() + 60 * asked.minutes
    train, held = sets(asked.data, work)
    words = ["distill", "--data", str(train), "--held-out", f"{WATCHED:g}", "--batch", str(BATCH)]
    words += ["--epochs", f"{steps * BATCH / taught_crops(train):.6g}", *shlex.split(asked.more)]
    of = {"alone": [], "taught": ["--teacher", str(asked.data / "weights" / asked.teacher)]}
    finished = [go_on(work / name, [*words, *of[name]], until(deadline)) for name in PARTS]
    if not all(finished) or asked.train_only:
        return
    result = judge({name: work / name / "run" for name in PARTS}, held)
    if asked.beside is not None:
        result["beside"] = beside(work, asked.beside, held)
    for name in PARTS:
        training = progress_of(work / name / "run", work / name)
        result[name]["training"] = {key: value for key, value in training.items() if key != "curve"}  # the run has it
    if not asked.quick:
        record("distill_defaults", {"teacher": asked.teacher, "steps": steps, "batch": BATCH, **result})


def sets(data: Path, work: Path) -> tuple[Path, Path]:
    """The crops to learn from and those of the held-out people, written once."""
    train, held = work / "train.parquet", work / "held_out.parquet"
    if not (train.exists() and held.exists()):
        work.mkdir(parents=True, exist_ok=True)
        table, kept_out = read_celeba(data), held_out_identities()
        write_set(of_people(table, set(table["identity"].to_pylist()) - set(kept_out)), train)
        write_set(of_people(table, kept_out), held)
    return train, held


def taught_crops(train: Path) -> int:
    """Crops that a training on this file sees in an epoch."""
    from facekd.crops.training import read_training_crops

    return len(read_training_crops([train], WATCHED, 0).train)


def judge(runs: dict[str, Path], held: Path) -> dict[str, Any]:
    """Each run's rates, and how much higher the taught student's are on the same pairs."""
    compared = everyone(read_crops(held), MOST_PAIRS)
    scores = {name: _scores(run, compared) for name, run in runs.items()}
    found: dict[str, Any] = {"judged_on": compared.about}
    for name, values in scores.items():
        rates = person_rates(values, compared.same, *compared.persons, FARS)
        found[name] = {
            "tar": [asdict(one) for one in rates],
            "cosine": read_metrics(runs[name])[-1].get("held_out_cosine"),
        }
        shown = ", ".join(f"{100 * one.tar:.2f} % at FAR {one.far_asked:g}" for one in rates if one.tar is not None)
        print(f"{name}: TAR {shown}")
    found["difference"] = _difference("taught minus alone", scores["taught"], scores["alone"], compared)
    return found


def beside(work: Path, other: Path, held: Path) -> dict[str, Any]:
    """How much higher the rates of another work's students are, each against the same student of this one."""
    compared = everyone(read_crops(held), MOST_PAIRS)
    found: dict[str, Any] = {}
    for name in PARTS:
        theirs, ours = (_scores(folder / name / "run", compared) for folder in (other, work))
        settings = read_yaml(other / name / "run" / "run.yaml", "give a finished --work")
        found[name] = {
            "precision": settings["precision"],
            "compile": settings["compile"],
            "difference": _difference(f"{name}, {settings['precision']} minus these", theirs, ours, compared),
        }
    return found


def _difference(name: str, first: Array, second: Array, compared: Compared) -> list[dict[str, Any]]:
    """Of the rates on the same pairs, for each of FARS."""
    found = paired_differences(first, second, compared.same, *compared.persons, FARS)
    for one in found:
        print(f"{name} at FAR {one.far_asked:g}: {one.difference} ({one.low} to {one.high}), p {one.p_value}")
    return [asdict(one) for one in found]


def _scores(run: Path, compared: Compared) -> Array:
    saved = load_model(run / MODEL)
    vectors = embed_crops(saved.net, compared.crops, saved.contract)
    assert np.isfinite(vectors).all()
    return pair_scores(vectors, vectors, compared)


if __name__ == "__main__":
    main()
