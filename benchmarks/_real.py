"""What distill_real.py and cpu45.py share: facekd as a process with an end, and networks judged once each."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors

from facekd.commands.export import export
from facekd.console import say
from facekd.core.files import write_bytes, write_json
from facekd.core.run import read_metrics
from facekd.core.types import Array, Scores
from facekd.crops.cropset import CropSet
from facekd.crops.read import read_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.evaluation.gap import gap_rows
from facekd.evaluation.judged import embed_crops
from facekd.evaluation.lists import Compared, everyone, list_rates, listed, pair_scores
from facekd.evaluation.protocols import read_list
from facekd.evaluation.results import plain
from facekd.nets.saved import MODEL
from facekd.rates.allpairs import AllPairs, measure_all_pairs
from facekd.rates.folds import accuracy
from facekd.training.checkpoint import LAST, RUN

ON_LFW, ON_HELD = (1e-2, 1e-3), (1e-3, 1e-4, 1e-5)  # FARs
MOST_PAIRS = 4_000_000  # of held-out crops whose people are resampled; the rates themselves are over all pairs
SESSIONS = "sessions.jsonl"  # beside a run folder's log: what each session of it took


def facekd(words: Sequence[str], folder: Path, seconds: float | None = None) -> int:
    """Run ``facekd WORDS``; what it says goes to ``log.txt`` in `folder`, what it took to SESSIONS.

    Args:
        seconds: after them it is asked to stop by SIGTERM, so that the same command goes on.

    Returns:
        The exit code; 143 or -15 of one that was stopped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` below is reached: nothing stays behind
    start = time.monotonic()
    with open(folder / "log.txt", "a", encoding="utf-8") as log:
        log.write(f"$ facekd {shlex.join(words)}\n")
        log.flush()
        process = subprocess.Popen([sys.executable, "-m", "facekd", *words], stdout=log, stderr=subprocess.STDOUT)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            code = process.wait()
        finally:
            if process.poll() is None:  # we are interrupted ourselves
                process.terminate()
                process.wait()
    row = {
        "command": f"facekd {shlex.join(words)}",
        "seconds": round(time.monotonic() - start, 1),
        "exit_code": code,
        "cores": len(os.sched_getaffinity(0)),
        "ended": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
    }
    with open(folder / SESSIONS, "a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    if code not in (0, 143, -signal.SIGTERM):
        tail = (folder / "log.txt").read_text(encoding="utf-8").splitlines()[-3:]
        print(f"{folder}: facekd ended with {code}: {' / '.join(tail)}", file=sys.stderr)
    return code


def last_of_each(words: list[str]) -> list[str]:
    """The words with only the last value of a flag that takes one: what is given later wins."""
    several = ("--data", "--drop", "--teacher", "--contract", "--term", "--ramp")
    pairs: list[list[str]] = []
    for word in words[1:]:
        if word.startswith("--"):
            pairs.append([word])
        else:
            pairs[-1].append(word)
    kept = {(pair[0], k if pair[0] in several else 0): pair for k, pair in enumerate(pairs)}
    return [words[0], *(word for pair in kept.values() for word in pair)]


def values_of(flag: str, words: list[str]) -> list[str]:
    """The flag with each of its values, as often as the words have it."""
    places = [place for place, word in enumerate(words) if word == flag]
    return [word for place in places for word in words[place : place + 2]]


def progress_of(run: Path, beside: Path) -> dict[str, Any]:
    """How far a run of distill is: its step, steps in all, crops seen, seconds spent and its metrics by step."""
    step = steps = 0
    if (run / LAST).exists():
        with safetensors.safe_open(run / LAST, "np") as file:
            about = json.loads((file.metadata() or {})[RUN])
        step, steps = int(about["step"]), int(about["about"]["steps"])
    path = beside / SESSIONS
    sessions = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {
        "finished": (run / MODEL).exists(),
        "step": step,
        "steps": steps or None,
        "seconds": round(sum(one["seconds"] for one in sessions), 1),
        "sessions": len(sessions),
        "command": sessions[-1]["command"] if sessions else None,
        "curve": read_metrics(run),
    }


@dataclass(frozen=True, slots=True)
class Judges:
    """LFW and people whom no network trained on, and where embeddings of both are kept."""

    lfw: Compared
    folds: Array  # int16[P] of LFW's pairs
    held: CropSet
    drawn: Compared  # all pairs of some of the people in `held`
    kept: Path

    @classmethod
    def of(cls, pairs: Path, lfw: Path, held: Path, kept: Path) -> Judges:
        """The judges by LFW's pair list, the store of its crops and the held-out people's crops."""
        crops = read_crops(held)
        folds = read_list(pairs, read_crops(lfw), lfw).pairs.fold
        return cls(listed(pairs, lfw), folds, crops, everyone(crops, MOST_PAIRS), kept)


def vectors(network: Path, crops: CropSet, ids: tuple[str, ...], judges: Judges) -> Array:
    """float32[N, D]: a network's embeddings of the crops called `ids`, computed once for each network.

    A run is embedded by as its exported file, which agrees with it and is several times as quick.
    """
    import io

    embedder = CropEmbedder.load(network)
    file = judges.kept / f"{embedder.model_id}-{crops.digest()[:16]}.npy"
    if not file.exists():
        if network.is_dir():
            deployed = judges.kept / f"{embedder.model_id}.onnx"
            if not deployed.exists():
                export(network, deployed, quiet=True)
            embedder = CropEmbedder.load(deployed)
        stream = io.BytesIO()
        np.save(
            stream,
            embed_crops(network.parent.name if network.is_dir() else network.stem, embedder, crops, ids, False).vectors,
        )
        write_bytes(file, stream.getvalue())
    found: Array = np.load(file)
    return found


def judged(network: Path, judges: Judges) -> tuple[dict[str, Any], AllPairs]:
    """A network's rates: LFW's ten folds and TAR, and TAR over all pairs of held-out people."""
    values = _scores(network, judges.lfw, judges)
    pairs = judges.lfw
    blank = ("",) * len(values)
    folds = accuracy(Scores(values, pairs.same, blank, blank, judges.folds))
    assert folds is not None
    on_lfw = plain(list_rates(values, pairs, ON_LFW))
    on_lfw["accuracy"] = {"mean": folds.mean, "std": folds.std, "standard_error": folds.standard_error}
    names = np.array([str(name) for name in judges.held.identities])
    found = measure_all_pairs(vectors(network, judges.held, judges.held.ids, judges), names, ON_HELD)
    counted = {"genuine": found.curve.n_genuine, "impostor": found.curve.n_impostor}
    held = {"tar": plain(found.rates), "pairs": counted, "interval": "identities"}
    return {"LFW": on_lfw, "held-out people, all pairs": held}, found


def closed(teacher: Path, alone: Path, students: dict[str, Path], judges: Judges) -> dict[str, Any]:
    """By list: each student's share of the gap with its interval, and the paired test against the student alone."""
    found = {}
    for name, compared, fars in (
        ("LFW", judges.lfw, ON_LFW),
        (f"held-out people, {judges.drawn.about}", judges.drawn, ON_HELD),
    ):
        of_teacher, of_alone = _scores(teacher, compared, judges), _scores(alone, compared, judges)
        scores = {student: _scores(path, compared, judges) for student, path in students.items()}
        found[name] = plain(gap_rows(of_teacher, of_alone, scores, compared, fars))
    return found


def until(deadline: float | None) -> float | None:
    """Seconds left, at least 0; None where there is no end."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def keep(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` gives, computed once and kept in a JSON file."""
    if not path.exists():
        write_json(path, make())
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def tars(rates: dict[str, Any]) -> str:
    """``99.1 (98.8–99.4) at 1e-3`` for each FAR that a list shows."""
    shown = []
    for rate in rates["tar"]:
        if rate["tar"] is None:
            shown.append(f"– at {rate['far_asked']:.0e}")
            continue
        low, high = 100 * rate["low"], 100 * rate["high"]
        shown.append(f"{100 * rate['tar']:.2f} ({low:.2f}–{high:.2f}) at {rate['far_asked']:.0e}")
    return ", ".join(shown)


def print_judged(name: str, rates: dict[str, Any]) -> None:
    """A network's rates as two lines."""
    on_lfw = rates["LFW"]
    say(f"{name}: LFW {100 * on_lfw['accuracy']['mean']:.2f} %, TAR {tars(on_lfw)}")
    say(f"{name}: held-out people, TAR {tars(rates['held-out people, all pairs'])}")


def _scores(network: Path, compared: Compared, judges: Judges) -> Array:
    """float32[P]; the drawn people's embeddings are taken out of those of all held-out people."""
    if compared is judges.drawn:
        place = {crop_id: row for row, crop_id in enumerate(judges.held.ids)}
        whole = vectors(network, judges.held, judges.held.ids, judges)
        found = whole[[place[crop_id] for crop_id in compared.ids]]
    else:
        found = vectors(network, compared.crops, compared.ids, judges)
    return pair_scores(found, found, compared)
