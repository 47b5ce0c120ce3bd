"""What the benchmarks on CelebA crops share: who is held out, sets written as Parquet, and what a training was.

``held_out_identities.txt`` names 15 % of the identities of ``celeba.parquet`` by their numbers; no benchmark trains on
them. ``split_identities(…, 0.15, seed=0)`` of facekd.crops.splits drew them once; from then on the list is what counts,
so that figures of today and of later are of the same people.
"""

from __future__ import annotations

import csv
import math
import shutil
import zipfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from _real import facekd, last_of_each, progress_of

from facekd.console import say
from facekd.core.files import atomic_write, read_json, write_json, write_text
from facekd.nets.saved import MODEL
from facekd.recipes.card import TIME

DATA = Path(__file__).parents[2] / "shared" / "data"
HELD_OUT = Path(__file__).parent / "held_out_identities.txt"
MOST_BYTES = 56 * 2**20  # of the images in a file, so that each travels alone where 64 MiB do
STOPPED = (143, -15)  # by SIGTERM: after a checkpoint, or before the first step
SHORT = 20.0  # seconds in which no training begins
QUICK_PEOPLE, QUICK_HELD, QUICK_FOLDS, QUICK_PAIRS = 60, 40, 2, 20
CURVE = 60  # points of a training's curve that a result keeps, beside those at which held-out people were judged


def held_out_identities() -> list[str]:
    """The identities that no benchmark trains on, in the order of the list."""
    return [line for line in HELD_OUT.read_text(encoding="utf-8").split("\n") if line and not line.startswith("#")]


def read_celeba(data: Path) -> pa.Table:
    """The columns image and identity of ``celeba.parquet`` in the folder `data`; every held-out identity is in it."""
    table = pq.read_table(data / "crops" / "celeba.parquet", columns=["image", "identity"])
    missing = set(held_out_identities()) - set(table["identity"].to_pylist())
    assert not missing, f"{len(missing)} identities of {HELD_OUT} are not in {data}"
    return table


def of_people(table: pa.Table, people: Collection[str]) -> pa.Table:
    """The rows of these identities, in the table's order."""
    return table.filter(pc.is_in(table["identity"], pa.array(sorted(people), pa.string())))


def write_sets(table: pa.Table, folder: Path, name: str) -> list[Path]:
    """Write the rows in their order as ``NAME-1.parquet``, ``NAME-2.parquet`` …, each of at most MOST_BYTES."""
    sizes = pc.binary_length(pc.struct_field(table["image"], "bytes"))
    count = max(1, math.ceil(pc.sum(sizes).as_py() / MOST_BYTES))
    paths = [folder / f"{name}-{number + 1}.parquet" for number in range(count)]
    for number, path in enumerate(paths):
        first, end = (len(table) * k // count for k in (number, number + 1))
        write_set(table.slice(first, end - first), path)
    return paths


def write_set(table: pa.Table, path: Path) -> Path:
    """Write rows as one Parquet file, for its owner only."""
    with atomic_write(path) as file:
        pq.write_table(table, file, compression="none")  # the images are compressed
    return path


def prepare(data: Path, work: Path, quick: bool) -> None:
    """Write WORK/sets: ``train-*.parquet``, ``held_out.parquet``, LFW's crops ``lfw`` and its ``pairs.txt``.

    The training crops are those of nobody who is held out and of nobody whom `leak` finds among LFW's people. What is
    there already is kept; ``about.json``, which says how much there is of each, comes last.
    """
    from facekd.commands.align import align
    from facekd.commands.leak import leak

    sets, leaks = work / "sets", work / "leaks.csv"
    pairs, photos = sets / "pairs.txt", data / "lfw.zip"
    sets.mkdir(parents=True, exist_ok=True)
    table = read_celeba(data)
    held = held_out_identities()
    if quick:
        people = sorted(set(table["identity"].to_pylist()) - set(held))[:QUICK_PEOPLE]
        held = held[:QUICK_HELD]
        table = of_people(table, [*people, *held])
        photos = _few_photos(data, pairs, work / "few.zip")
    else:
        shutil.copyfile(data / "lfw_pairs.txt", pairs)
    align(photos, sets / "lfw", detector="yunet", weights=data / "weights" / "face_detection_yunet_2023mar.onnx")
    trained = of_people(table, set(table["identity"].to_pylist()) - set(held))
    if not (work / "leaks.json").exists():
        whole = write_set(trained, work / "whole.parquet")
        # LFW's own pairs say which cosine one in a million pairs of strangers reaches; a few pairs can't.
        limit = 0.5 if quick else None
        embedder = data / "weights" / "w600k_mbf.onnx"
        found = leak(whole, pairs, embedder=embedder, crops=sets / "lfw", threshold=limit, out=leaks)
        by_chance = None if quick else round(found.false_alarms)
        about_leaks = {"threshold": found.threshold, "crops_found": len(found.leaks), "pairs_by_chance": by_chance}
        write_json(work / "leaks.json", about_leaks)
        whole.unlink()
    with open(leaks, encoding="utf-8", newline="") as file:
        leaked = {row["identity"] for row in csv.DictReader(file)}
    kept = of_people(trained, set(trained["identity"].to_pylist()) - leaked)
    files = write_sets(kept, sets, "train")
    write_set(of_people(table, held), sets / "held_out.parquet")
    about = {
        "train": {"crops": len(kept), "identities": len(set(kept["identity"].to_pylist()))},
        "held_out": {"crops": len(of_people(table, held)), "identities": len(held)},
        "leaks": {
            **read_json(work / "leaks.json"),
            "identities_dropped": len(leaked),
            "crops_dropped": len(trained) - len(kept),
        },
        "files": [path.name for path in files],
    }
    write_json(sets / "about.json", about)


def go_on(folder: Path, words: Sequence[str], seconds: float | None) -> bool:
    """Run ``facekd WORDS --out FOLDER/run``, or go on with it; whether that training is finished.

    Args:
        words: of a flag that is given twice the last value counts.
        seconds: after them it is stopped at a checkpoint; None lets it end.
    """
    if (folder / "run" / MODEL).exists():
        return True
    if seconds is None or seconds > SHORT:
        code = facekd(last_of_each([*words, "--out", str(folder / "run")]), folder, seconds)
        if code == 0:
            say(f"{folder}: trained")
            return True
        if code not in STOPPED:
            raise SystemExit(code)
    say(f"{folder}: not finished; the same command goes on")
    return False


def training_json(folder: Path) -> dict[str, Any]:
    """What a training in ``FOLDER/run`` was: its command, settings, machine, curve and rate.

    ``crops_per_second`` is over all of its time: starting, judging and checkpoints included.
    """
    run = folder / "run"
    found = progress_of(run, folder)
    config = yaml.safe_load((run / "run.yaml").read_text(encoding="utf-8"))
    rate = found["step"] * config["batch"] / found["seconds"]
    return {
        **found,
        "crops_per_second": round(rate, 1),
        "config": config,
        "environment": read_json(run / "environment.json"),
        "curve": thinned(timed(found["curve"], read_json(run / TIME) if (run / TIME).exists() else [])),
    }


def timed(rows: Sequence[dict[str, Any]], pieces: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with the ``hours`` that the training had taken by each step, as far as ``time.json`` tells."""
    found = []
    for row in rows:
        done = [min(max((row["step"] - one["from"]) / (one["to"] - one["from"]), 0), 1) for one in pieces]
        seconds = sum(share * one["seconds"] for share, one in zip(done, pieces, strict=True))
        found.append({**row, "hours": seconds / 3600} if pieces else dict(row))
    return found


def thinned(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """CURVE of the rows, evenly, and every one with a held-out rate; numbers to five digits."""
    every = max(1, len(rows) // CURVE)
    kept = [
        row
        for place, row in enumerate(rows)
        if place % every == 0 or place == len(rows) - 1 or any(key.startswith("held_out") for key in row)
    ]
    return [
        {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in row.items()}
        for row in kept
    ]


def _few_photos(data: Path, pairs: Path, out: Path) -> Path:
    """The first pairs of the first folds of LFW's list, written to `pairs`, and a zip of their photos."""
    head, *lines = (data / "lfw_pairs.txt").read_text(encoding="utf-8").splitlines()
    _, per_kind = map(int, head.split())
    starts = [fold * 2 * per_kind + kind * per_kind for fold in range(QUICK_FOLDS) for kind in (0, 1)]
    kept = [line for start in starts for line in lines[start : start + QUICK_PAIRS]]
    write_text(pairs, "\n".join([f"{QUICK_FOLDS}\t{QUICK_PAIRS}", *kept]) + "\n")
    wanted = set()
    for line in kept:
        words = line.split("\t")
        names = [(words[0], words[1]), (words[0] if len(words) == 3 else words[2], words[-1])]
        wanted |= {f"{person}_{int(number):04d}.jpg" for person, number in names}
    with zipfile.ZipFile(data / "lfw.zip") as whole, zipfile.ZipFile(out, "w") as few:
        for name in whole.namelist():
            if name.rsplit("/", 1)[-1] in wanted:
                few.writestr(name, whole.read(name))
    return out
