"""How far 45 minutes of a CPU go: recipes for a student of w600k_mbf, each for the same time on the clock.

    python benchmarks/cpu45.py --work DIR [--minutes 45] [--only ground narrow …] [--with "--precision bf16 --compile"]
    python benchmarks/cpu45.py --quick       # 1 recipe, half a minute, prints only

Each recipe is a ``facekd distill`` of MobileFaceNet on CelebA's crops (less 15 % of the people and everybody who is in
LFW too) and FairFace's. A probe of a minute measures how fast it goes here and what comes before its first step
(start, compilation, the cache where views are kept, all charged to the recipe); the whole run gets the steps that fit
into the time, so that its schedule ends with it. Judged on LFW and on all pairs of the people whom nobody saw. The
differences come from one run of each recipe: a point of LFW accuracy more or less tells nothing.

So many recipes take so many times --minutes and 4 minutes more each. It can be stopped: a finished recipe is not run
again, an unfinished one goes on. --recipe 'NAME=FLAGS' adds one; 'NAME=0.4: FLAGS | 0.6: FLAGS {before}' has two
phases with their shares of the time, {before} standing for the run folder of the phase before. A phase 'narrow' is
``facekd narrow``, takes what it takes, and leaves the rest to the others. Writes ``results/cpu45.json`` after each
recipe; ``results/cpu45_M.json`` where --minutes is another M.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _celeba import thinned
from _real import Judges, facekd, judged, keep, last_of_each, print_judged, progress_of, values_of
from _record import record
from _sets import Sets, sets_in

from facekd.console import say
from facekd.nets.saved import MODEL

DATA = Path(os.path.relpath(Path(__file__).parents[2] / "shared" / "data"))
ADAMW, MUON = "--optimizer adamw --lr 0.002", "--optimizer muon --lr 0.05"
NARROW = "narrow"
GROUND = f"--term cosine=1 {ADAMW} --batch 64 --augment flip"
# A high rate would undo what the layers were fitted to.
FITTED = f"{GROUND} --optimizer muon --lr 0.001 --batch 32 --init-from {{before}}"
RECIPES = {  # of a flag given twice the later counts
    "ground": GROUND,
    # Each differs from the ground in one thing.
    "plain-views": f"{GROUND} --augment plain",
    "cached": f"{GROUND} --views 2",
    "muon": f"{GROUND} {MUON}",
    "sgd": f"{GROUND} --optimizer sgd --lr 0.1",
    "growing": f"{GROUND} --resolution 64=0.6",
    "batch-32": f"{GROUND} --batch 32",
    "relations": f"{GROUND} --term rkd_angle=50",
    "relu": f"{GROUND} --activation relu",
    "ema": f"{GROUND} --ema 0.999",
    "all": f"{GROUND} {MUON} --batch 32 --resolution 64=0.4",
    "narrow": f"{NARROW} | {FITTED} --views 1",
    "narrow-live": f"{NARROW} | {FITTED}",
    # Each differs from narrow-live in one thing.
    "narrow-adamw": f"{NARROW} | {FITTED} --optimizer adamw --lr 0.0003",
    "narrow-high": f"{NARROW} | {FITTED} --lr 0.003",
    "narrow-batch-64": f"{NARROW} | {FITTED} --batch 64",
    "narrow-ema": f"{NARROW} | {FITTED} --ema 0.995",
    "narrow-relations": f"{NARROW} | {FITTED} --term rkd_angle=50",
}
MINUTES = 45
PROBE_SECONDS = 60.0  # of steps, after the first ones
ENDLESS = 1000.0  # epochs of a probe, which never ends by itself


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of crops/, weights/, lfw.zip, lfw_pairs.txt")
    parser.add_argument("--work", type=Path, help="where runs, caches and embeddings are kept and gone on with")
    parser.add_argument("--sets", type=Path, default=Path("runs/teachers_real"), help="whose sets/ holds the crops")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of each recipe, all that it needs included")
    parser.add_argument("--only", nargs="+", help="names of recipes; all unless given")
    parser.add_argument("--recipe", action="append", default=[], help="one more, as NAME=FLAGS")
    parser.add_argument("--with", dest="common", default="", help="more flags of distill, for all, as --with=--compile")
    parser.add_argument("--teacher", default="w600k_mbf.onnx", help="a file of --data/weights")
    parser.add_argument("--dim", type=int, default=512, help="of the student")
    parser.add_argument("--quick", action="store_true", help="one recipe for half a minute, prints only")
    asked = parser.parse_args()
    recipes = RECIPES | dict(text.split("=", 1) for text in asked.recipe)
    chosen = {name: recipes[name] for name in asked.only or recipes}
    if asked.quick:
        asked.minutes, chosen = 0.5, dict(list(chosen.items())[:1])
        asked.sets = asked.sets.with_name(f"{asked.sets.name}-quick")
        asked.common = f"--net mobilefacenet-half {asked.common}"
        with tempfile.TemporaryDirectory() as folder:
            run(asked, chosen, asked.work or Path(folder))
    elif asked.work is None:
        parser.error("--work DIR is where the recipes are kept; name it")
    else:
        run(asked, chosen, asked.work)


def run(asked: argparse.Namespace, recipes: dict[str, str], work: Path) -> None:
    """Each recipe in turn: probe, train, judge, write."""
    sets = sets_in(asked.sets, asked.data, asked.quick)
    judges = Judges.of(sets.pairs, sets.lfw, sets.held, work / "embeddings")
    crops = sets.count([*sets.named, *sets.nameless])
    rows: dict[str, Any] = {}
    for name, text in recipes.items():
        row = trained(name, text, asked, work, sets, crops)
        if row["model"] is not None:
            row["rates"] = judged(Path(row["model"]), judges)[0]
            print_judged(name, row["rates"])
        rows[name] = row
        if not asked.quick:
            name = "cpu45" if asked.minutes == MINUTES else f"cpu45_{asked.minutes:g}"
            record(name, {"minutes": asked.minutes, "crops": crops, "data": sets.about, "recipes": rows})


def trained(name: str, text: str, asked: argparse.Namespace, work: Path, sets: Sets, crops: int) -> dict[str, Any]:
    """Run a recipe's phases for their shares of the time; how far each came and how long it took."""
    phases, before, model, left = [], "", None, 60 * asked.minutes
    teacher = str(asked.data / "weights" / asked.teacher)
    crop_flags = [word for path in [*sets.named, *sets.nameless] for word in ("--data", str(path))]
    crop_flags += ["--held-out", "0"]
    for number, (share, own) in enumerate(phases_of(text)):
        folder = work / "recipes" / f"{name}-{asked.minutes:g}-{number}"
        if own == NARROW:
            if not (folder / "run" / MODEL).exists():
                net = values_of("--net", last_of_each(["distill", *shlex.split(asked.common)]))
                facekd(["narrow", teacher, *crop_flags, *net, "--out", str(folder / "run")], folder)
            phases.append({"flags": own, **progress_of(folder / "run", folder)})
            left -= phases[-1]["seconds"]
            before = str(folder / "run")
            continue
        words = ["distill", *crop_flags, "--teacher", teacher, "--dim", str(asked.dim)]
        words = last_of_each(words + shlex.split(f"{own} {asked.common}".replace("{before}", before)))
        if "--views" in words:
            words += ["--cache", str(folder / "cache")]
        seconds = left * share
        probe = keep(folder / "probe.json", lambda w=words, f=folder, s=seconds: paced(w, f, s))
        batch = int(words[words.index("--batch") + 1]) if "--batch" in words else 64
        steps = max(1, int((seconds - probe["before"]) * probe["steps_per_second"]))
        say(f"{name}: {probe['before']:.0f} s, then {probe['steps_per_second'] * batch:.0f} crops/s: {steps} steps")
        words += ["--epochs", f"{steps * batch / crops:.8g}", "--out", str(folder / "run")]
        if not (folder / "run" / MODEL).exists():
            facekd(words, folder)
        phases.append({"flags": own, "share": share, "probe": probe, **progress_of(folder / "run", folder)})
        phases[-1]["curve"] = thinned(phases[-1]["curve"])
        before = str(folder / "run")
        model = before if phases[-1]["finished"] else None
        if model is None:
            break
    return {"phases": phases, "model": model}


def phases_of(text: str) -> list[tuple[float, str]]:
    """``0.4: FLAGS | 0.6: FLAGS`` as shares and flags; FLAGS alone is one phase."""
    phases = []
    for part in text.split("|"):
        found = re.fullmatch(r"\s*([\d.]+)\s*:\s*(.*)", part)
        phases.append((float(found[1]), found[2]) if found else (1.0, part.strip()))
    return phases


def paced(words: list[str], folder: Path, seconds: float) -> dict[str, float]:
    """As `probed`; where images grow each of the two sizes is probed, and counts by its share of the steps."""
    probe = probed(words, folder, seconds)
    if "--resolution" not in words:
        return probe
    at = words.index("--resolution")
    share = float(words[at + 1].partition("=")[2])
    full = probed(words[:at] + words[at + 2 :], folder, seconds)
    took = share / probe["steps_per_second"] + (1 - share) / full["steps_per_second"]
    return {key: probe[key] + full[key] for key in probe} | {"steps_per_second": 1 / took}


def probed(words: list[str], folder: Path, seconds: float) -> dict[str, float]:
    """What a recipe needs before its steps go on evenly, in seconds, and its steps a second from then on."""
    for left in ("probe", "cache"):  # of a probe that was stopped: what it left is to be charged too
        shutil.rmtree(folder / left, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "probe.txt"
    words = [*words, "--epochs", str(ENDLESS), "--out", str(folder / "probe")]
    start, seen = time.monotonic(), list[tuple[float, int]]()
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen([sys.executable, "-m", "facekd", *words], stdout=file, stderr=subprocess.STDOUT)
    try:
        while process.poll() is None:
            time.sleep(0.05)
            done = [int(n) for n in re.findall(r"^student: (\d+) of \d+, \d+ s$", log.read_text(), re.MULTILINE)]
            if len(done) > len(seen):
                seen.append((time.monotonic() - start, done[-1]))
            if len(seen) > 1 and seen[-1][0] - seen[0][0] > min(PROBE_SECONDS, seconds / 2):
                break
        else:
            last = log.read_text(encoding="utf-8").splitlines()[-1:]
            raise SystemExit(f"{log}: facekd ended with {process.returncode}: {''.join(last)}")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait()
    shutil.rmtree(folder / "probe")
    (first, steps), (last, more) = seen[0], seen[-1]
    rate = (more - steps) / (last - first)
    return {"before": max(0.0, first - steps / rate), "steps_per_second": rate, "probe_seconds": last}


if __name__ == "__main__":
    main()
