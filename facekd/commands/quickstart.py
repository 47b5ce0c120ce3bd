"""facekd quickstart: the whole line once, from photos to a report."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from facekd.console import say, table
from facekd.core.files import read_json, write_json
from facekd.core.printable import percent
from facekd.core.process import hold_folder
from facekd.core.run import environment, refuse_other_run, start_run
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.evaluation import WholeLine
from facekd.settings.group import flat

PEOPLE, PHOTOS = 100, 8  # drawn where no photos are given
HELD_OUT = 0.3  # share of the identities that no training sees
TEACHER_NET, STUDENT_NET, DIM = "iresnet18-quarter", "mobilefacenet", 128
FARS = (1e-1, 1e-2, 1e-3)
MODELS = {"teacher": "teacher", "student_alone": "student-alone", "student": "student", "student_onnx": "student.onnx"}
BATCH = 32
STEPS = {
    "synth": f"drawing {PEOPLE} people who do not exist, {PHOTOS} photos of each",
    "align": "finding the faces and cutting the crops",
    "teacher": f"a teacher, {TEACHER_NET}, learns most of the people; the others are kept aside to judge by",
    "student_alone": f"a small student, {STUDENT_NET}, learns the same people without a teacher: the control",
    "student": "the same student learns from the teacher",
    "student_onnx": "the student becomes one ONNX file, which is compared with it",
    "verify": "all of them are judged on the people whom nobody saw",
    "gallery": "half of those people's photos are enrolled, the others are asked for",
}


@dataclass(frozen=True, slots=True)
class Quickstart:
    """Where everything lies."""

    out: Path
    summary: dict[str, Any]


@door
def quickstart(*, line: WholeLine = WholeLine(), quiet: bool = False) -> Quickstart:
    """Run the whole line once: photos, crops, a teacher, a student with and one without it, rates, export, a gallery.

    Without --photos it draws people who do not exist. The rates are of people whom no training saw. A killed run
    goes on where it stopped; a finished one is not done again. Takes two to three minutes on two cores.

    Example: facekd quickstart --photos people.zip --out runs/mine

    Args:
        quiet: Print nothing.
    """
    import torch  # noqa: F401  # where it is missing this is said now, not after the photos are aligned

    from facekd.commands.align import align
    from facekd.commands.distill import distill
    from facekd.commands.export import export
    from facekd.commands.synth import synth
    from facekd.commands.train_teacher import train_teacher
    from facekd.crops.training import read_training_crops
    from facekd.deploy.embedder import CropEmbedder
    from facekd.enrollment.held_out import name_people
    from facekd.evaluation.quickstart import headline, judge_all, summary_rows, thresholds_of, write_report

    photos, seed = line.photos, line.seed
    out = line.out or Path("runs") / f"quickstart-{time.strftime('%Y%m%d')}"
    hold_folder(out)
    refuse_other_run(out, flat(line, out=out))
    start_run(out, "quickstart", flat(line, out=out), inputs=() if photos is None else (photos,))
    clock = Clock(out / "seconds.json", photos is None, quiet)

    if photos is None:
        with clock("synth"):
            synth(out / "synth", people=PEOPLE, photos=PHOTOS, seed=seed, quiet=quiet)
        photos = out / "synth" / "photos"
    with clock("align"):
        aligned = align(photos, out / "crops", quiet=quiet)
    if (done := _done(out, aligned.new)) is not None:
        say(f"{out}: nothing has changed since this run was finished, so nothing is done", quiet)
        _print(done, quiet)
        return Quickstart(out, done)

    crops = out / "crops"
    data = read_training_crops([crops], HELD_OUT, seed)
    if not data.names:
        raise UserError(f"{photos}: no photo lies in a folder named for its person; give a folder for each person")
    shared = {"data": [crops], "dim": DIM, "batch": BATCH, "held_out": HELD_OUT, "seed": seed, "quiet": quiet}
    teacher = {**shared, "net": TEACHER_NET, "epochs": line.teacher_views / len(data.train)}
    student = {**shared, "net": STUDENT_NET, "epochs": line.student_views / len(data.train)}
    with clock("teacher"):
        train_teacher(out=out / "teacher", **teacher)
    with clock("student_alone"):
        distill(out=out / "student-alone", **student)
    with clock("student"):
        distill(out=out / "student", teacher=out / "teacher", **student)
    with clock("student_onnx"):
        exported = export(out / "student", out / "student.onnx", crops=crops, quiet=quiet)

    with clock("verify"):
        models = {name: CropEmbedder.load(out / file) for name, file in MODELS.items()}
        judged, gap = judge_all(out, models, data.held, FARS, seed, quiet)
    with clock("gallery"):
        student_onnx, gallery = models["student_onnx"], out / "people.gallery"
        named = name_people(gallery, student_onnx, data.held, crops, thresholds_of(judged[-1].rates))

    held_out = len(set(data.held.identities))
    summary = {
        "headline": headline({one.name: one.rates for one in judged}, gap, held_out),
        "gap_closed": asdict(gap),
        "rows": summary_rows(judged, models, clock.seconds),
        "align": aligned.statuses,
        "identities": {"trained": len(data.names), "held_out": held_out},
        "crops": {"trained": len(data.train), "held_out": len(data.held)},
        "export_least_cosine": exported.least_cosine,
        "gallery": named,
        "seconds": dict(clock.seconds),
        "total_seconds": sum(clock.seconds.values()),
        "environment": environment(),
    }
    write_report(out, summary, judged, data.held)
    write_json(out / "summary.json", summary)  # last: it says that the run is finished
    _print(summary, quiet)
    say(f"report: {out / 'report.html'}", quiet)
    return Quickstart(out, summary)


class Clock:
    """Seconds spent on each step, kept in a file so that a resumed run adds to them; and which step it is, said.

    Args:
        drawn: the photos are drawn, which is a step more.
    """

    def __init__(self, path: Path, drawn: bool, quiet: bool) -> None:
        self.path, self.quiet = path, quiet
        self.steps = {step: text for step, text in STEPS.items() if drawn or step != "synth"}
        self.seconds: dict[str, float] = read_json(path) if path.exists() else {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        say(f"[{list(self.steps).index(step) + 1} of {len(self.steps)}] {self.steps[step]}", self.quiet)
        start = time.monotonic()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - start
        write_json(self.path, self.seconds)


def _done(out: Path, newly_aligned: int) -> dict[str, Any] | None:
    """The summary of a finished run whose photos are still the same.

    Raises:
        UserError: photos were added or replaced since; what was trained on the others stays as it is.
    """
    if not (out / "summary.json").exists():
        return None
    if newly_aligned:
        raise UserError(f"{out}: {newly_aligned} photos are new since this run was finished; choose another --out")
    summary: dict[str, Any] = read_json(out / "summary.json")
    return summary


def _print(summary: dict[str, Any], quiet: bool) -> None:
    from facekd.evaluation.text import far_name

    rows = []
    for name, row in summary["rows"].items():
        tars = [percent(rate["tar"], 1) for rate in row["tar"]]
        cost = [f"{row['parameters'] / 1e6:.2f} M", f"{row['macs'] / 1e6:.0f} M", f"{row['seconds']:.0f} s"]
        rows.append([name, percent(row["eer"], 1), *tars, *cost])
    columns = ["model", "EER", *(f"TAR@{far_name(far)}" for far in FARS), "parameters", "MACs", "trained in"]
    people = summary["identities"]["held_out"]
    if "headline" in summary:  # those of before have none
        say(summary["headline"], quiet)
    table(f"{people} people whom no training saw; {summary['total_seconds']:.0f} s in all", columns, rows, quiet)
