"""PReLU or ReLU: two students trained alike, what each knows afterwards and what each costs.

    python benchmarks/activation.py [--crops 6000] [--epochs 2] [--lfw STORE] [--out DIR]

MobileFaceNet of 512 dimensions, with the paper's PReLU and with ``--activation relu``, both distilled from w600k_mbf on
the same crops of CelebA, in the same order, as the same views, by the same schedule. Both are exported in fp32 and
int8, and judged on all pairs of people held out and, with a store of LFW's crops, on LFW; differences are paired, their
intervals resample people. 15 minutes on two idle cores; a stopped run goes on in --out. Writes
``results/activation.json``. So short a training says how the two compare at the beginning, not where they end.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from _record import record

from facekd.commands.distill import distill
from facekd.commands.export import export
from facekd.commands.verify import verify
from facekd.crops.read import read_crops
from facekd.crops.training import read_training_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.evaluation.results import plain

DATA = Path(__file__).parents[2] / "shared" / "data"
TEACHER = DATA / "weights" / "w600k_mbf.onnx"
ACTIVATIONS = ("prelu", "relu")
HELD_OUT, SEED = 0.15, 0
ROUNDS = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--crops", type=int, default=6000, help="the first crops of celeba.parquet")
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--lfw", type=Path, help="a store of LFW's crops")
    parser.add_argument("--out", type=Path, help="where the runs are kept; a temporary folder unless given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = arguments.out or Path(folder)
        out.mkdir(parents=True, exist_ok=True)
        result = measure(out, arguments.crops, arguments.epochs, arguments.lfw)
    record("activation", result)
    print(json.dumps(result, indent=2))


def measure(out: Path, crops: int, epochs: float, lfw: Path | None) -> dict[str, Any]:
    """Train, export, judge and time both students."""
    data, held = out / "celeba.parquet", out / "held.parquet"
    pq.write_table(pq.read_table(DATA / "crops" / "celeba.parquet").slice(0, crops), data)
    files: list[Path] = []
    seconds: dict[str, float] = {}
    for activation in ACTIVATIONS:
        start = time.perf_counter()
        run = distill(
            data=[data],
            teacher=TEACHER,
            out=out / activation,
            dim=512,
            activation=activation,  # type: ignore[arg-type]
            term=["embedding=10"],
            epochs=epochs,
            optimizer="adamw",
            lr=2e-3,
            views=2,
            cache=out / "cache",
            held_out=HELD_OUT,
            seed=SEED,
        ).out
        seconds[activation] = time.perf_counter() - start
        for precision in ("fp32", "int8"):
            files.append(out / f"{activation}-{precision}.onnx")
            export(run, files[-1], precision=precision, crops=data, quiet=True)  # type: ignore[arg-type]
    rows = read_training_crops([data], HELD_OUT, SEED).held.rows
    pq.write_table(pq.read_table(data).take(rows), held)
    judged = {
        "held-out people, all pairs": rates(files, out / "held-verify", crops=held, all_pairs=True, far=[1e-2, 1e-3])
    }
    if lfw is not None:
        judged["LFW"] = rates(
            files, out / "lfw-verify", crops=lfw, pairs=DATA / "lfw_pairs.txt", far=[1e-2, 1e-3], no_faces=True
        )
    return {
        "crops": crops,
        "epochs": epochs,
        "training_seconds": {name: round(value) for name, value in seconds.items()},
        "crops_per_second": speeds(files, held),
        "bytes": {file.stem: file.stat().st_size for file in files},
        "rates": judged,
    }


def rates(files: list[Path], out: Path, **flags: Any) -> dict[str, Any]:
    """Each model's TAR with its interval, and the differences to the first model."""
    result = plain(verify(model=files, out=out, quiet=True, **flags).report)
    return {
        "models": {
            one["model"]: {
                "accuracy": (one.get("accuracy") or {}).get("mean"),
                "tar": {f"{rate['far_asked']:g}": [rate["tar"], rate["low"], rate["high"]] for rate in one["tar"]},
            }
            for one in result["models"]
        },
        "differences": result["differences"],
    }


def speeds(files: list[Path], held: Path) -> dict[str, float]:
    """Crops a second of each, the median of rounds in turns."""
    crops = read_crops(held)
    batch = crops.batch(np.arange(min(64, len(crops))))
    embedders = {file.stem: CropEmbedder.load(file) for file in files}
    taken: dict[str, list[float]] = {name: [] for name in embedders}
    for _ in range(ROUNDS):
        for name, embedder in embedders.items():
            start = time.perf_counter()
            for _ in range(4):
                embedder.embed(batch)
            taken[name].append((time.perf_counter() - start) / 4 / len(batch))
    return {name: round(1 / statistics.median(values), 1) for name, values in taken.items()}


if __name__ == "__main__":
    main()
