"""A MobileFaceNet taught by networks of others on faces of others: how much of the gap to its teachers it closes.

    python benchmarks/distill_real.py --work DIR [--parts w600k sface both alone] [--epochs 20] [--minutes 9]
    python benchmarks/distill_real.py --work DIR --own RUN [--parts own own-logits own-embedding alone]
    python benchmarks/distill_real.py --quick       # 600 crops, a few steps, prints only; about 2 minutes on one core

MobileFaceNet (512 numbers 1.19 M parameters, 128 0.99 M) learns on CelebA's crops, less 15 % of the people and
everybody who is in LFW too, and on FairFace's, from w600k_mbf alone, from sface alone, from both; the control learns
CelebA's labels alone, for as many steps. Each is one ``facekd distill`` whose command is kept beside its log. What
each then knows is judged on LFW and on all pairs of the people whom none saw, and the share of the gap closed is
(student - alone) / (teacher - alone), with people resampled. A few further people of the training set are held out by
facekd itself for the curves; nothing is chosen by the people that judge. By request (--parts gated gated-all) the
gated MobileFaceNet learns, begun at the default model's layers.

With --own RUN a teacher of our own teaches, a run of ``train-teacher`` on the same crops of CelebA, and students and
control see these alone: labels and logits, labels and embeddings, all three, labels alone, from the same random
weights, and all three begun at the default model's layers (own-se). That is ``results/distill_own.json``.

It can be stopped and goes on: --minutes ends the training after so long, and the same command goes on with it. Only a
finished part is judged, of the others the result says how far they are. The parts that w600k_mbf teaches begin at its
own layers, by ``facekd narrow``. --begin NAME=RUN begins a part at the weights of an earlier run, of this program or of
another, which the result then tells too. An epoch is 98 k crops: 30 to 60 minutes on
two cores, seconds to a minute on a GPU; 20 epochs want a GPU or a day for each part. Judging takes 15 minutes on two
cores, once for each network. Writes ``results/distill_real.json`` and its curves as ``.svg``.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from _celeba import thinned
from _picture import write_picture
from _real import Judges, closed, facekd, judged, last_of_each, print_judged, progress_of, until, values_of
from _record import RESULTS, record
from _sets import Sets, sets_in

from facekd.console import say
from facekd.core.files import read_json, write_json
from facekd.crops.training import read_training_crops
from facekd.evaluation.text import p_text
from facekd.nets.saved import MODEL
from facekd.rates.allpairs import AllPairs
from facekd.recipes.card import TIME
from facekd.recipes.random_teacher import save_random_teacher
from facekd.reports import plots
from facekd.teachers.teacher import load_teacher

DATA = Path(os.path.relpath(Path(__file__).parents[2] / "shared" / "data"))
WEIGHTS = {"w600k": "w600k_mbf.onnx", "sface": "sface_2021dec.onnx", "reid": "reid_retail_0095.onnx"}
COMMON = "--net mobilefacenet --optimizer muon --batch 32 --augment flip --weight-decay 0.01"
COSINE, GROWING, NARROWED = "--term cosine=1 --lr 0.02", "--resolution 64=0.5", "--term cosine=1 --lr 0.001"
GATED = "--net mobilefacenet-se --term cosine=1 --lr 0.0002"
# Teachers of each part, the length of its embedding (its teacher's, so that the student's cosines are those that it is
# taught) and its flags. The parts that w600k_mbf teaches begin at that network's own layers, made narrower.
PARTS: dict[str, tuple[tuple[str, ...], int, str]] = {
    "w600k": (("w600k",), 512, NARROWED),
    "sface": (("sface",), 128, f"{COSINE} {GROWING}"),
    "both": (("w600k", "sface"), 512, f"{NARROWED} --combine average"),
    "alone": ((), 512, f"--term labels=1 --lr 0.01 {GROWING}"),
    # By request: the gated network, begun at the layers of facekd's default model, by w600k_mbf and by three.
    "gated": (("w600k",), 256, GATED),
    "gated-all": (("w600k", "sface", "reid"), 256, GATED),
    # Of --own: the method's own terms, each beside the labels.
    "own": (("own",), 512, f"--term labels=1 --term logits=1 --term embedding=10 --lr 0.01 {GROWING}"),
    "own-logits": (("own",), 512, f"--term labels=1 --term logits=1 --lr 0.01 {GROWING}"),
    "own-embedding": (("own",), 512, f"--term labels=1 --term embedding=10 --lr 0.01 {GROWING}"),
    "own-se": (("own",), 256, "--net mobilefacenet-se --lr 0.0002 --term labels=1 --term logits=1 --term embedding=10"),
    # By request: an untrained network as a control.
    "random": (("random",), 512, f"{COSINE} {GROWING}"),
}
OF_OTHERS, OF_OURS = ["w600k", "sface", "both", "alone"], ["own", "own-logits", "own-embedding", "alone"]
WATCHED = 0.02  # share of the training people that the curves are drawn on


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One training: its name, where it lies and what it is asked."""

    name: str
    folder: Path  # holds the run, its log and its sessions
    words: list[str]

    @property
    def run(self) -> Path:
        return self.folder / "run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of crops/, weights/, lfw.zip, lfw_pairs.txt")
    parser.add_argument("--work", type=Path, help="where runs, caches and embeddings are kept and gone on with")
    parser.add_argument("--begin", action="append", default=[], help="NAME=RUN: a part and where its weights begin")
    parser.add_argument("--sets", type=Path, default=Path("runs/teachers_real"), help="whose sets/ holds the crops")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="what is trained")
    parser.add_argument("--own", type=Path, help="the teacher of our own, a run folder")
    parser.add_argument("--epochs", type=float, default=20, help="times that a taught student sees each crop")
    parser.add_argument("--minutes", type=float, help="end the training after so long; the same command goes on")
    parser.add_argument("--no-judge", action="store_true", help="train only")
    parser.add_argument(
        "--with", dest="common", default="", help="more flags of distill, for all parts, as --with=--compile"
    )
    parser.add_argument("--with-taught", default="", help="more, for all but the control, such as '--views 1'")
    parser.add_argument("--flags", action="append", default=[], help="NAME=FLAGS: a part's, in place of its own")
    parser.add_argument("--quick", action="store_true", help="a few steps on a few crops, prints only")
    asked = parser.parse_args()
    asked.parts = asked.parts or (OF_OTHERS if asked.own is None else OF_OURS)
    if asked.quick:
        asked.sets = asked.sets.with_name(f"{asked.sets.name}-quick")
        asked.epochs, asked.common = 0.1, f"--net mobilefacenet-half --batch 16 {asked.common}"
        with tempfile.TemporaryDirectory() as folder:
            run(asked, asked.work or Path(folder))
    elif asked.work is None:
        parser.error("--work DIR is where the training goes on; name it")
    else:
        run(asked, asked.work)


def run(asked: argparse.Namespace, work: Path) -> None:
    """Prepare, train what is not finished, judge what is, write what came out."""
    deadline = None if asked.minutes is None else time.monotonic() + 60 * asked.minutes
    sets = sets_in(asked.sets, asked.data, asked.quick)
    parts = [part_of(name, asked, work, sets) for name in asked.parts]
    for part in parts:
        left = until(deadline)
        if (part.run / MODEL).exists() or left == 0:
            continue
        begin = narrowed(part.folder)
        if str(begin) in part.words and not (begin / MODEL).exists():
            facekd(narrow_words(part, asked), begin.parent, left)
        say(f"{part.name}: facekd {shlex.join(part.words)}")
        facekd(part.words, part.folder, left)
    trained = {part.name: progress_of(part.run, part.folder) for part in parts}
    for name, one in trained.items():
        say(f"{name}: step {one['step']} of {one['steps'] or '?'}, {one['seconds'] / 60:.1f} minutes")
    if asked.no_judge:
        return
    judges = Judges.of(sets.pairs, sets.lfw, sets.held, work / "embeddings")
    teachers = {name for part in parts for name in PARTS[part.name][0]} - {"random"}
    result, found = judge(parts, judges, {name: teacher_path(name, asked) for name in sorted(teachers)})
    kept = {part.name: told(part.run) for part in parts}
    if "own" in teachers:
        kept["own (teacher)"] = told(teacher_path("own", asked))
    result |= {"epochs": asked.epochs, "trained": kept, "data": sets.about}
    path = (work if asked.quick else RESULTS) / ("distill_real" if asked.own is None else "distill_own")
    if asked.quick:
        write_json(path.with_suffix(".json"), result)
    else:
        record(path.name, result)
    draw({name: one["curve"] for name, one in trained.items()}, found, path)


def draw(curves: dict[str, Any], found: dict[str, AllPairs], path: Path) -> None:
    """How the students got on, and the ROC of all networks on the held-out people."""
    watched = "held_out_tar@0.01"
    if any(watched in row for rows in curves.values() for row in rows):
        svg = plots.training(curves, y=watched, y_label="TAR at FAR 1e-2 on watched people")
        write_picture(path.with_suffix(".svg"), svg, "TAR on watched people while training")
    roc = plots.roc({name: one.curve for name, one in found.items()}, {name: one.band for name, one in found.items()})
    write_picture(path.with_name(f"{path.name}_roc.svg"), roc, "Teachers and students on held-out people")


def part_of(name: str, asked: argparse.Namespace, work: Path, sets: Sets) -> Part:
    """A part's run of distill; who learns labels alone sees CelebA alone, as often as makes the same number of steps,
    and beside a teacher of our own all do."""
    teachers, dim, own = PARTS[name]
    own = dict(text.split("=", 1) for text in asked.flags).get(name, own)
    files, epochs = [*sets.named, *sets.nameless], asked.epochs
    if asked.own is not None:
        files = sets.named
    elif not teachers:
        epochs *= sets.count(files) / sets.count(sets.named)
        files = sets.named
    folder = work / "parts" / f"{name}-{dim}"
    words = ["distill", *flags("--data", files), "--dim", str(dim)]
    if "random" in teachers:
        words += flags("--teacher", [random_teacher(work / "random-teacher", teacher_path("w600k", asked), files)])
    else:
        words += flags("--teacher", [teacher_path(teacher, asked) for teacher in teachers])
    watched = "0.1" if asked.quick else str(WATCHED)
    words += ["--epochs", f"{epochs:.6g}", "--held-out", watched, "--out", str(folder / "run")]
    words += shlex.split(f"{COMMON} {own} {asked.with_taught if teachers else ''} {asked.common}")
    if "--views" in words:
        words += ["--cache", str(work / "teacher-cache")]
    begin = dict(text.split("=", 1) for text in asked.begin)
    if name in begin:
        words += ["--init-from", begin[name]]
    elif "mobilefacenet-se" in words:
        words += ["--init-from", str(teacher_path("reid", asked))]
    elif "w600k" in teachers:
        words += ["--init-from", str(narrowed(folder))]
    return Part(name, folder, last_of_each(words))


def narrowed(folder: Path) -> Path:
    """The run of facekd narrow at which a part begins."""
    return folder / "narrowed" / "run"


def narrow_words(part: Part, asked: argparse.Namespace) -> list[str]:
    """The part's facekd narrow: the same net, crops and held-out people, as many numbers as w600k_mbf gives."""
    taken = [word for flag in ("--data", "--net", "--held-out") for word in values_of(flag, part.words)]
    return ["narrow", str(teacher_path("w600k", asked)), *taken, "--out", str(narrowed(part.folder))]


def told(run: Path) -> dict[str, Any]:
    """How far a run is, what it took and its curve; the same of the run at whose weights it began."""
    found = progress_of(run, run.parent)
    if not found["sessions"] and run.exists():  # trained by hand
        found["command"] = shlex.join(read_json(run / "environment.json")["command"])
        found["seconds"] = None  # unless its own file says
    if (run / TIME).exists():  # of a session that was killed the run itself tells, less what came before its first step
        found["seconds"] = max(found["seconds"] or 0.0, round(sum(row["seconds"] for row in read_json(run / TIME)), 1))
    found["curve"] = thinned(found["curve"])
    config = run / "run.yaml"
    begun_at = yaml.safe_load(config.read_text(encoding="utf-8")).get("init_from") if config.exists() else None
    return found if begun_at is None else {**found, "before": told(Path(begun_at))}


def teacher_path(name: str, asked: argparse.Namespace) -> Path:
    """The file of a public teacher, or the run folder of our own."""
    path: Path | None = asked.own if name == "own" else asked.data / "weights" / WEIGHTS[name]
    if path is None:
        raise SystemExit("the part own needs --own RUN, a run folder of train-teacher")
    return path


def random_teacher(folder: Path, like: Path, files: list[Path]) -> Path:
    """An untrained network that takes and gives what `like` does, its norms settled on crops; made once."""
    if not (folder / MODEL).exists():
        crops = read_training_crops(files, WATCHED, 0).train
        save_random_teacher(folder, load_teacher(like, None, torch.device("cpu")), crops, seed=0)
    return folder


def flags(name: str, values: Any) -> list[str]:
    return [word for value in values for word in (name, str(value))]


def judge(parts: list[Part], judges: Judges, masters: dict[str, Path]) -> tuple[dict[str, Any], dict[str, AllPairs]]:
    """The rates of teachers and finished students, and the gaps closed where the control is finished."""
    done = {part.name: part.run for part in parts if (part.run / MODEL).exists()}
    teachers = {f"{name} (teacher)": path for name, path in masters.items()}
    rates: dict[str, Any] = {}
    found: dict[str, AllPairs] = {}
    for name, path in (teachers | done).items():
        rates[name], found[name] = judged(path, judges)
        print_judged(name, rates[name])
    gaps: dict[str, Any] = {}
    for name, path in teachers.items():
        of = {name.split()[0], "random"} if name.startswith("w600k") else {name.split()[0]}
        taught = {part: run for part, run in done.items() if of & set(PARTS[part][0])}
        if taught and "alone" in done:
            gaps[name] = closed(path, done["alone"], taught, judges)
            print_gaps(name, gaps[name])
    return {"rates": rates, "gap_closed": gaps}, found


def print_gaps(teacher: str, gaps: dict[str, Any]) -> None:
    """A line for each student and FAR."""
    for where, rows in gaps.items():
        for row in rows:
            share = f"no share ({row['why']})"
            if row["share"] is not None:
                share = f"{100 * row['share']:.0f} % ({100 * row['low']:.0f} to {100 * row['high']:.0f})"
            gain = (
                ""
                if row["p_value"] is None
                else f", {100 * row['gain']:+.2f} points over alone, p {p_text(row['p_value'])}"
            )
            say(f"gap to {teacher} closed by {row['model']} on {where} at FAR {row['far_asked']:.0e}: {share}{gain}")


if __name__ == "__main__":
    main()
