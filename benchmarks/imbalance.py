"""What each sampler does for people with few photos: a long-tailed sub-sample of CelebA.

    python benchmarks/imbalance.py            # trains ARMS; writes results/imbalance.json
    python benchmarks/imbalance.py --quick    # few people, two epochs: does it run? writes into --work only

It goes on where it stopped when it is given again, with --minutes after as many minutes, and judges what is trained.
What it does not know itself goes to ``facekd train-teacher`` of every arm, such as --batch, --lr or --head. On one core
an arm of 300 people (1,089 photos) and 12 epochs takes 5 minutes, at 46 crops a second.

The k-th of K people has MOST × (LEAST / MOST)^(k / (K − 1)) photos to train on: exponential, as in Y. Cui et al.,
"Class-Balanced Loss Based on Effective Number of Samples", arXiv 1901.05555. CelebA's crops here are 5 to 14 of a
person, so MOST is 9. At least one and at most KEPT more photos of everybody are never trained on. People are taken in
an order that a hash of their names gives, each for the next place for which there are photos enough. All arms take as
many steps.

Judged, for the third of the people with most photos (head), with fewest (tail) and between:
- ``classified``: the network's own head names the person of a kept photo (rank 1 among all K);
- ``found``: a kept photo is nearer to one trained photo of its own person than to one of anybody else: one for each,
  so that the head is not better enrolled than the tail;
and on people whom no benchmark trains on the TAR at FAR 1e-2 and 1e-3 over all pairs. Intervals are 95 %, over people;
differences are to ``shuffled`` on the same people, bootstrapped, 1,000 resamples. With --seeds S there are S trainings
of each arm and their hits are pooled: one training each shows its luck as well, which no interval over people covers.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from _celeba import DATA, go_on, held_out_identities, of_people, read_celeba, training_json, write_set
from _real import until
from _record import record

from facekd.core.files import read_json, write_json
from facekd.core.types import Array
from facekd.crops.cropset import CropSet
from facekd.nets.saved import MODEL

ARMS: dict[str, list[str]] = {
    "shuffled": [],
    "balanced": ["--sampler", "balanced", "--per-person", "2"],
    "sqrt": ["--sampler", "sqrt"],
    "weights": ["--class-balance", "0.99"],
}
MOST, LEAST = 9, 1  # photos of a person to train on
KEPT = 4  # photos of a person that are judged, at most
STRANGERS = 300  # held-out people whose pairs are compared
FARS = (1e-2, 1e-3)
RESAMPLES, SEED = 1000, 0
GROUPS = ("head", "middle", "tail")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--net", default="iresnet18-quarter")
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--epochs", type=float, default=12)
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each arm")
    parser.add_argument("--arm", nargs="+", choices=ARMS, default=list(ARMS), help="what is trained now")
    parser.add_argument("--minutes", type=float, help="after these a training stops; the same command goes on")
    parser.add_argument("--work", type=Path, default=Path("runs/imbalance"), help="where sets and runs lie")
    parser.add_argument("--data", type=Path, default=DATA, help="has crops/celeba.parquet")
    parser.add_argument("--quick", action="store_true")
    given, flags = parser.parse_known_args()
    if given.quick:
        given.people, given.epochs = 40, 2
        given.work = given.work.with_name(given.work.name + "-quick")
    deadline = None if given.minutes is None else time.monotonic() + 60 * given.minutes
    if not (given.work / "about.json").exists():
        prepare(given.data, given.work, given.people)
    about = read_json(given.work / "about.json")
    if about["people"] != given.people:
        raise SystemExit(f"{given.work} holds {about['people']} people, not {given.people}; choose another --work")
    runs = {arm: [given.work / f"{arm}-{seed}" for seed in range(given.seeds)] for arm in ARMS}
    for seed in range(given.seeds):
        for arm in given.arm:
            words = ["train-teacher", "--data", str(given.work / "train.parquet"), "--held-out", "0", "--minimum", "1"]
            words += ["--optimizer", "sgd"]  # as the committed result was measured; flags of the caller count for more
            words += ["--net", given.net, "--epochs", f"{given.epochs:g}", "--seed", str(seed), *ARMS[arm], *flags]
            if not go_on(runs[arm][seed], words, until(deadline)):
                return 0
    trained = {arm: folders for arm, folders in runs.items() if all((one / "run" / MODEL).exists() for one in folders)}
    result = {key: value for key, value in about.items() if key != "order"} | judge(given.work, trained)
    if given.quick:
        write_json(given.work / "imbalance.json", result)
    else:
        record("imbalance", result)
    return 0


def long_tailed(photos: dict[str, int], people: int) -> dict[str, int]:
    """How many photos of each of `people` people are trained on, most first.

    Args:
        photos: how many there are of each person.
    """
    ranked = sorted(photos, key=lambda name: hashlib.sha256(f"{SEED}:{name}".encode()).digest())
    chosen: dict[str, int] = {}
    for place in range(people):
        count = round(MOST * (LEAST / MOST) ** (place / (people - 1)))
        name = next((name for name in ranked if name not in chosen and photos[name] > count), None)
        if name is None:
            raise SystemExit(f"no {place + 1} people have photos enough; lower --people")
        chosen[name] = count
    return chosen


def prepare(data: Path, work: Path, people: int) -> None:
    """Write the sets ``train``, ``kept`` and ``strangers``; ``about.json`` comes last."""
    table = read_celeba(data)
    held = held_out_identities()
    names = np.array(table["identity"].to_pylist())
    free, times = np.unique(names[~np.isin(names, held)], return_counts=True)
    chosen = long_tailed(dict(zip(free.tolist(), times.tolist(), strict=True)), people)
    trained, kept = [], []
    random = np.random.default_rng(SEED)
    for name, count in chosen.items():
        rows = random.permutation(np.flatnonzero(names == name))
        trained += rows[:count].tolist()
        kept += rows[count : count + KEPT].tolist()
    write_set(table.take(pa.array(sorted(trained))), work / "train.parquet")
    write_set(table.take(pa.array(sorted(kept))), work / "kept.parquet")
    write_set(of_people(table, held[: STRANGERS if people > STRANGERS else people]), work / "strangers.parquet")
    counts = list(chosen.values())
    about = {
        "people": people,
        "photos_trained_on": sum(counts),
        "photos_of_a_person": {"most": counts[0], "least": counts[-1], "imbalance": counts[0] / counts[-1]},
        "photos_kept": len(kept),
        "order": list(chosen),
    }
    write_json(work / "about.json", about)


def judge(work: Path, runs: dict[str, list[Path]]) -> dict[str, Any]:
    """What each arm's trainings were and their rates, and the differences to ``shuffled``."""
    from facekd.crops.read import read_crops
    from facekd.evaluation.lists import everyone, list_rates, pair_scores
    from facekd.evaluation.results import plain
    from facekd.rates.intervals import wilson_by_person
    from facekd.rates.persons import paired_differences

    sets = {name: read_crops(work / f"{name}.parquet") for name in ("train", "kept", "strangers")}
    order: list[str] = read_json(work / "about.json")["order"]
    compared = everyone(sets["strangers"], 10_000_000)
    thirds = dict(zip(GROUPS, np.array_split(np.arange(len(order)), len(GROUPS)), strict=True))
    arms: dict[str, Any] = {}
    hits: dict[str, dict[str, Array]] = {}  # by arm and measure: int64[people], of all trainings; people as in `order`
    place = {name: k for k, name in enumerate(order)}
    photos = np.bincount([place[str(name)] for name in sets["kept"].identities], minlength=len(order))
    scores: dict[str, list[Array]] = {}
    for arm, folders in runs.items():
        found = [hits_of(folder / "run", sets, order) for folder in folders]
        hits[arm] = {measure: np.sum([one[measure] for one in found], axis=0) for measure in found[0]}
        strangers = [outputs(folder / "run", sets["strangers"])[1] for folder in folders]
        scores[arm] = [pair_scores(one, one, compared) for one in strangers]
        rates: dict[str, Any] = {}
        for measure, hit in hits[arm].items():
            rates[measure] = {}
            for group, people in {**thirds, "all": np.arange(len(order))}.items():
                own, all_of = hit[people], len(folders) * photos[people]
                low, high = wilson_by_person(own, all_of)
                rates[measure][group] = {"rate": float(own.sum() / all_of.sum()), "low": low, "high": high}
        arms[arm] = {
            "trainings": [training_json(folder) for folder in folders],
            **rates,
            "strangers": [plain(list_rates(values, compared, FARS)) for values in scores[arm]],
        }
    differences: dict[str, Any] = {}
    for arm in runs:
        if arm == "shuffled" or "shuffled" not in runs:
            continue
        differences[arm] = {
            measure: {
                group: _difference((hit - hits["shuffled"][measure])[people], len(runs[arm]) * photos[people])
                for group, people in thirds.items()
            }
            for measure, hit in hits[arm].items()
        }
        differences[arm]["strangers"] = [
            [asdict(one) for one in paired_differences(own, other, compared.same, *compared.persons, FARS)]
            for own, other in zip(scores[arm], scores["shuffled"], strict=True)
        ]
    print_table(arms, differences)
    return {"arms": arms, "differences_to_shuffled": differences}


def outputs(run: Path, crops: CropSet) -> tuple[Array, Array]:
    """float32[N, D] twice: what the network of `run` gives for each crop, and that at unit norm."""
    from facekd.core.pixels import to_input, unit
    from facekd.deploy.embedder import CropEmbedder

    embedder = CropEmbedder.load(run)
    pieces = [
        embedder.network.run(to_input(crops.batch(np.arange(start, min(start + 256, len(crops)))), embedder.contract))
        for start in range(0, len(crops), 256)
    ]
    raw = np.concatenate(pieces)
    return raw, unit(raw)


def hits_of(run: Path, sets: dict[str, CropSet], order: Sequence[str]) -> dict[str, Array]:
    """By measure, int64[people]: how many kept photos were given their own person's name; people as in `order`."""
    import torch

    from facekd.nets.heads import HEAD, load_head

    kept, train = sets["kept"], sets["train"]
    raw, probes = outputs(run, kept)
    saved = load_head(run / HEAD)
    with torch.no_grad():
        logits = saved.head.logits(saved.head(torch.from_numpy(raw)))
    named = np.array(saved.identities)[logits.argmax(1).numpy()]
    people = np.array(train.identities)
    enrolled = outputs(run, train.take(np.array([np.flatnonzero(people == name)[0] for name in order])))[1]
    nearest = np.array(order)[(probes @ enrolled.T).argmax(1)]
    truth = np.array(kept.identities)
    right = {"classified": named == truth, "found": nearest == truth}
    return {name: np.array([hit[truth == person].sum() for person in order]) for name, hit in right.items()}


def _difference(apart: Array, photos: Array) -> dict[str, float]:
    """The difference of two rates with the 95 % interval of people drawn anew.

    Args:
        apart: int64[people], hits of each under the one minus those under the other.
        photos: int64[people], of each.
    """
    drawn = np.random.default_rng(SEED).integers(0, len(apart), (RESAMPLES, len(apart)))
    low, high = np.percentile(apart[drawn].sum(1) / photos[drawn].sum(1), [2.5, 97.5])
    return {"difference": float(apart.sum() / photos.sum()), "low": float(low), "high": float(high)}


def print_table(arms: dict[str, Any], differences: dict[str, Any]) -> None:
    """A line for each arm and measure, in percent."""
    for arm, values in arms.items():
        for measure in ("classified", "found"):
            cells = []
            for group in GROUPS:
                one = values[measure][group]
                cells.append(f"{group} {100 * one['rate']:.1f} ({100 * one['low']:.1f}–{100 * one['high']:.1f})")
                if arm in differences:
                    apart = differences[arm][measure][group]
                    low, high = 100 * apart["low"], 100 * apart["high"]
                    cells[-1] += f" {100 * apart['difference']:+.1f} ({low:+.1f} to {high:+.1f})"
            print(f"{arm:>9} {measure:>10}  {'; '.join(cells)}")
        tars = [rate["tar"] for rates in values["strangers"] for rate in rates["tar"][-1:] if rate["tar"] is not None]
        if tars:
            shown = ", ".join(f"{100 * tar:.1f}" for tar in tars)
            print(f"{arm:>9}  strangers  TAR at FAR {FARS[-1]:g} by seed: {shown} %")


if __name__ == "__main__":
    sys.exit(main())
