"""Whether training is exact: two processes take the steps of one, a killed run ends in the bytes of a whole one.

    python benchmarks/exactness.py                            # about 25 minutes on two cores; results/exactness.json
    python benchmarks/exactness.py --data celeba.parquet      # the same on real crops
    python benchmarks/exactness.py --net mobilefacenet-half   # another network
    python benchmarks/exactness.py --quick                    # 32 pixels, 12 steps, 3 kills: two minutes, prints only

**Processes.** `facekd train-teacher` for 50 steps of 64 crops in fp32, alone, and by torchrun in two processes of 32
crops each; the largest relative difference of the loss over all steps. Beside it, what one process differs from itself
by when only its number of threads changes: the floor that sums of another order set. And two runs that change the
number of processes half-way, one to two and two to one, after a SIGTERM. Rounding grows from step to step, and the
faster the higher the learning rate, so --lr is 0.002 here and 0.05, train-teacher's own of SGD, is worth a look. With
--optimizer muon the result is results/exactness_muon.json.

**Kills.** A run is killed by SIGKILL at each of 20 random moments (seeded: a random step, and a random part of one
after it), gone on with by --resume, and its files compared byte by byte with those of an undisturbed run. A checkpoint
is written every half a second in place of every minute, so that most kills fall behind one.

Without --data the crops are patterns of 112 pixels, one for each person, with noise. What is done stays done: each
part is written to results/exactness.json when it ends.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _record import RESULTS, record

from facekd.core.files import read_json, sha256_file
from facekd.core.pixels import encode_crop
from facekd.core.run import environment, read_metrics

PEOPLE, PHOTOS = 40, 40
SETTINGS = {"held-out": 0.15, "seed": 0}
SEED = 12
LEFT = ("model.safetensors", "head.safetensors", "metrics.jsonl", "checkpoints/last.safetensors")

# The command itself, with a line for each step and checkpoints oftener.
RUNNER = """
import sys
from facekd.cli import main
from facekd.recipes import train as training_walk
training_walk.LOG_EVERY, training_walk.CHECKPOINT_SECONDS = 1, float(sys.argv[1])
main(sys.argv[2:])
"""


def write_crops(path: Path, size: int) -> Path:
    """Image Parquet of people who are patterns."""
    images, names = [], []
    for number in range(PEOPLE):
        pattern = np.random.default_rng([7, number]).integers(40, 216, (8, 8, 3))
        pattern = pattern.repeat(size // 8, 0).repeat(size // 8, 1)
        for photo in range(PHOTOS):
            noise = np.random.default_rng([7, number, photo]).normal(0, 24, pattern.shape)
            images.append({"bytes": encode_crop(np.clip(pattern + noise, 0, 255).astype(np.uint8)), "path": None})
            names.append(f"p{number:03d}")
    pq.write_table(pa.table({"image": images, "identity": names}), path)
    return path


class Trainer:
    """Starts the real command, in one process or by torchrun, and ends it by a signal where it is told to."""

    def __init__(self, home: Path, checkpoint_seconds: float) -> None:
        self.home, self.seconds = home, checkpoint_seconds
        (home / "runner.py").write_text(RUNNER)

    def start(self, tokens: list[str], processes: int, threads: int) -> subprocess.Popen[bytes]:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        command = [sys.executable, *(launcher if processes > 1 else []), str(self.home / "runner.py")]
        command += [str(self.seconds), "train-teacher", *tokens, "--quiet"]
        with open(self.home / "said.txt", "ab") as said:
            return subprocess.Popen(
                command, stdout=said, stderr=said, env={**os.environ, "OMP_NUM_THREADS": str(threads)}
            )

    def whole(self, tokens: list[str], processes: int = 1, threads: int = 1) -> float:
        """Train to the end; the seconds it took."""
        begun = time.monotonic()
        code = self.start(tokens, processes, threads).wait()
        if code != 0:
            sys.exit(f"train-teacher ended with {code}:\n{(self.home / 'said.txt').read_text()[-3000:]}")
        return time.monotonic() - begun

    def until(
        self, out: Path, tokens: list[str], step: int, end: signal.Signals, processes: int = 1
    ) -> tuple[int, int]:
        """Train, and send `end` a random moment after `step`; the last step logged and the exit code."""
        process = self.start(tokens, processes, 1)
        rows: list[dict[str, Any]] = []
        while process.poll() is None and (not rows or rows[-1]["step"] < step):
            time.sleep(0.002)
            rows = read_metrics(out)
        if end is signal.SIGKILL:
            time.sleep(random.uniform(0, 0.3))
        process.send_signal(end)
        code = process.wait()
        return int(read_metrics(out)[-1]["step"]), code


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in read_metrics(out) if "loss" in row]


def difference(one: list[float], two: list[float]) -> dict[str, Any]:
    """The largest relative difference of two loss curves, and where it is."""
    assert len(one) == len(two), (len(one), len(two))
    relative = [abs(b - a) / abs(a) for a, b in zip(one, two, strict=True)]
    worst = int(np.argmax(relative))
    by_step = {str(step + 1): relative[step] for step in range(0, len(one), max(1, len(one) // 10))}
    return {"largest": relative[worst], "at_step": worst + 1, "by_step": by_step}


def processes_part(trainer: Trainer, flags: list[str], steps: int, threads: int) -> dict[str, Any]:
    home = trainer.home
    alone, two = home / "alone", home / "two"
    seconds = {"alone": trainer.whole([*flags, "--out", str(alone)])}
    seconds["two processes"] = trainer.whole([*flags, "--out", str(two)], processes=2)
    curve = losses(alone)
    found = {
        "steps": len(curve), "first_loss": curve[0], "last_loss": curve[-1], "losses": curve,
        "two_processes": difference(curve, losses(two)),
    }  # fmt: skip
    if threads > 1:
        seconds[f"{threads} threads"] = trainer.whole([*flags, "--out", str(home / "threads")], threads=threads)
        found[f"one_process_{threads}_threads"] = difference(curve, losses(home / "threads"))
    for first, then in ((1, 2), (2, 1)):
        out = home / f"from-{first}-to-{then}"
        stopped, code = trainer.until(out, [*flags, "--out", str(out)], steps // 2, signal.SIGTERM, first)
        assert not (out / LEFT[0]).exists(), (stopped, code)
        trainer.whole(["--resume", str(out)], processes=then)
        found[f"from_{first}_to_{then}"] = {"stopped_after": stopped, **difference(curve, losses(out))}
    return {**found, "seconds": seconds}


def digests(out: Path) -> dict[str, str]:
    return {name: sha256_file(out / name) for name in LEFT}


def kill(trainer: Trainer, flags: list[str], out: Path, step: int, whole: dict[str, str]) -> dict[str, Any]:
    """Kill one run and go on with it."""
    shutil.rmtree(out, ignore_errors=True)
    reached, code = trainer.until(out, [*flags, "--out", str(out)], step, signal.SIGKILL)
    had_checkpoint = (out / LEFT[-1]).exists()
    trainer.whole(["--resume", str(out)])
    found = digests(out)
    return {
        "step": step,
        "reached": reached,
        "killed": code == -signal.SIGKILL,
        "after_a_checkpoint": had_checkpoint,
        "differ": [name for name in LEFT if found[name] != whole[name]],
    }


def kept_parts(kept_as: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What an earlier call with the same settings left of ``processes`` and ``kills``, each with what it was run by."""
    path = RESULTS / f"{kept_as}.json"
    earlier = read_json(path)["result"] if path.exists() else {}
    parts = {name: earlier.pop(name) for name in ("processes", "kills") if name in earlier}
    return parts if all(settings.get(name) == value for name, value in earlier.items()) else {}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--net", default="iresnet18-quarter")
    parser.add_argument("--head", default="softmax")
    parser.add_argument("--optimizer", default="sgd")
    parser.add_argument("--lr", type=float, default=0.002, help="of SGD, for which train-teacher's own is 0.05")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--parts", default="processes,kills")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    steps, batch, size = (12, 16, 32) if asked.quick else (50, 64, 112)
    kills = min(asked.kills, 3) if asked.quick else asked.kills
    random.seed(SEED)
    kept_as = "exactness" if asked.optimizer == "sgd" else f"exactness_{asked.optimizer}"
    result: dict[str, Any] = {
        "net": asked.net, "head": asked.head, "optimizer": asked.optimizer, "lr": asked.lr, "batch": batch, "size": size
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        data = asked.data or write_crops(home / "crops.parquet", size)
        settings = {
            "data": data, "net": asked.net, "head": asked.head, "optimizer": asked.optimizer, "lr": asked.lr,
            "batch": batch, "dim": 128, **SETTINGS,
        }  # fmt: skip
        flags = [token for name, value in settings.items() for token in (f"--{name}", str(value))]
        flags += ["--epochs", str(steps * batch / trained(data))]

        def keep(part: str, value: Any) -> None:
            result[part] = {**value, "measured": environment()}
            if not asked.quick:
                record(kept_as, {**kept_parts(kept_as, result), **result})

        if "processes" in asked.parts:
            found = processes_part(Trainer(home, 60.0), flags, steps, 1 if asked.quick else os.cpu_count() or 1)
            for name, value in found.items():
                if isinstance(value, dict) and "largest" in value:
                    print(f"{name:>24}: largest relative difference {value['largest']:.1e} at step {value['at_step']}")
            keep("processes", found)
        if "kills" in asked.parts:
            # A quarter of the batch: the kills are many, and how they end does not hang on it.
            flags[flags.index("--batch") + 1] = str(batch // 4)
            flags[flags.index("--epochs") + 1] = str(steps * (batch // 4) / trained(data))
            trainer, rows = Trainer(home, 0.5), []
            trainer.whole([*flags, "--out", str(home / "undisturbed")])
            whole = digests(home / "undisturbed")
            for number in range(kills):
                rows.append(kill(trainer, flags, home / "killed", random.randrange(1, steps), whole))
                print(f"kill {number + 1:>2}: {rows[-1]}")
                bit_equal = sum(row["killed"] and not row["differ"] for row in rows)
                keep("kills", {"batch": batch // 4, "kills": len(rows), "bit_equal": bit_equal, "rows": rows})
            print(f"{bit_equal} of {kills} killed runs end in the very bytes of the undisturbed one")


def trained(data: Path) -> int:
    """Crops that train-teacher trains on."""
    from facekd.crops.training import read_training_crops

    return len(read_training_crops([data], float(SETTINGS["held-out"]), int(SETTINGS["seed"])).train)


if __name__ == "__main__":
    main()
