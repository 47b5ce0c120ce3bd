"""facekd compare: a teacher, a student alone and distilled students in; the share of the gap they close out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facekd.console import say
from facekd.core.run import default_out, environment, start_run
from facekd.errors import UserError
from facekd.evaluation.lists import (
    Compared,
    Training,
    fit_network,
    held_out_people,
    listed,
    lowest_far,
    pair_scores,
    rates_json,
    training_of,
)
from facekd.settings.door import door
from facekd.settings.evaluation import ComparedData, ComparedRates, ReportFiles, TeacherContract
from facekd.settings.group import flat

if TYPE_CHECKING:
    from facekd.core.types import Array
    from facekd.deploy.embedder import Embedder
    from facekd.rates.counts import Curve

RESAMPLES, SEED = 1000, 0  # of the persons
SHARED = 0.1  # by how much the cosine of one crop in two networks has to exceed that of two people in one space
ROLES = ("teacher", "student alone")  # of the first two runs; all others are distilled


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came out."""

    out: Path
    result: dict[str, Any]  # as in report.json


@door
def compare(
    runs: list[Path],
    *,
    data: ComparedData = ComparedData(),
    foreign: TeacherContract = TeacherContract(),
    asked: ComparedRates = ComparedRates(),
    files: ReportFiles = ReportFiles(),
    quiet: bool = False,
) -> Comparison:
    """Say how much of the gap between a student alone and its teacher each distilled student closes.

    The first run is the teacher, the second the student that was trained without it (the control), all others are
    distilled students: give three or more. All are judged on all pairs of the people whom none of the runs trained
    on, as their run folders say, or of the people in --held, and on --pairs where it is given.

    Gives the TAR at each FAR; the gap closed, (student - alone) / (teacher - alone), with a 95 % interval for which
    the people are resampled, once for all networks, and no share where the teacher's lead can not be told from
    nothing; a paired test of each student against the student alone; how far student and teacher agree, down to
    students' probes against the teacher's gallery; and what each costs. Writes report.json, report.md and
    report.html.

    Example: facekd compare runs/teacher runs/alone runs/student --pairs pairs.csv --crops lfw-crops/

    Args:
        runs: Teacher, student alone, students: run folders or ONNX files. At least one has to be a run folder, or
            --held or --no-held-out given.
        quiet: Print nothing.
    """
    from facekd.commands.verify import labels
    from facekd.core.files import write_json
    from facekd.deploy.embedder import Embedder
    from facekd.evaluation.comparison_report import print_comparison, write_comparison
    from facekd.evaluation.cost import cost_of

    if len(runs) < 3:
        raise UserError(
            f"{len(runs)} networks to compare: give the teacher, the student trained without it, and one distilled "
            "student or more, in this order"
        )
    pairs, held, fars = data.pairs, data.held, asked.fars
    names = labels(runs)
    embedders = [Embedder.load(path, foreign.contract if k == 0 else None) for k, path in enumerate(runs)]
    lists = _lists(runs, pairs, data.crops, held, data.no_held_out)
    for compared in lists:
        for name, embedder in zip(names, embedders, strict=True):
            fit_network(name, embedder.contract.size, embedder.contract.template, compared)

    out = files.out or default_out("compare")
    start_run(
        out,
        "compare",
        {"runs": runs, **flat(data, foreign, asked, files, out=out)},
        inputs=(*runs, *filter(None, [pairs, held])),
    )
    judged = [judge(compared, names, embedders, fars, quiet) for compared in lists]
    result: dict[str, Any] = {
        "networks": [
            {"model": name, "role": _role(k), "file": str(path), "model_id": embedder.model_id, "trained_on": _on(path)}
            for k, (name, path, embedder) in enumerate(zip(names, runs, embedders, strict=True))
        ],
        "lists": [values for values, _ in judged],
        "costs": [{"model": name, **cost_of(one)} for name, one in zip(names, embedders, strict=True)],
        "environment": environment(),
    }
    for path in filter(None, [out / "report.json", files.json]):
        write_json(path, result)
    pages = [out / "report.html", *filter(None, [files.report])]
    write_comparison(
        pages, out / "report.md", result, [curves for _, curves in judged], f"facekd compare --config {out}/run.yaml"
    )
    print_comparison(result, quiet)
    say(f"report: {pages[-1]}", quiet)
    return Comparison(out, result)


def judge(
    compared: Compared, names: Sequence[str], embedders: Sequence[Embedder], fars: Sequence[float], quiet: bool
) -> tuple[dict[str, Any], dict[str, Curve]]:
    """All that one list says of the networks, for JSON, and each one's ROC."""
    from facekd.evaluation.protocols import embed_crops
    from facekd.rates.counts import curve

    vectors = [
        embed_crops(name, embedder, compared.crops, compared.ids, quiet).vectors
        for name, embedder in zip(names, embedders, strict=True)
    ]
    scores = [pair_scores(one, one, compared) for one in vectors]
    models = [
        {"model": name, **rates_json(values, compared, fars, RESAMPLES, SEED)}
        for name, values in zip(names, scores, strict=True)
    ]
    values = {
        "heading": compared.heading,
        "about": compared.about,
        "crops": str(compared.crops.path),
        "left_out": compared.left_out,
        "lead_far": lowest_far(models[0]["tar"]),
        "models": models,
        "closed": closed_json(scores[0], scores[1], scores[2:], names[2:], compared, fars, RESAMPLES),
        "agreement": [
            {"model": name, **_agreement(student, vectors[0], compared, fars)}
            for name, student in zip(names[2:], vectors[2:], strict=True)
        ],
    }
    return values, {name: curve(one, compared.same) for name, one in zip(names, scores, strict=True)}


def closed_json(
    teacher: Array,
    alone: Array,
    students: Sequence[Array],
    names: Sequence[str],
    compared: Compared,
    fars: Sequence[float],
    resamples: int,
) -> list[dict[str, Any]]:
    """For each student and FAR: the share of the gap closed, why there is none, and the paired test against alone."""
    from dataclasses import asdict

    from facekd.rates.persons import paired_differences
    from facekd.rates.retention import gap_closed

    pairs = compared.same, *compared.persons
    found = gap_closed(teacher, alone, students, *pairs, fars, resamples=resamples, seed=SEED)
    rows = []
    for name, values, closed in zip(names, students, found, strict=True):
        tested = paired_differences(values, alone, *pairs, fars, resamples=resamples, seed=SEED)
        for one, test in zip(closed, tested, strict=True):
            gain = {"gain": test.difference, "gain_low": test.low, "gain_high": test.high, "p_value": test.p_value}
            why = None
            if one.gap is None or one.gap_low is None:
                why = "too few pairs"
            elif one.gap <= 0:
                why = "the teacher is not ahead"
            elif one.share is None:
                why = "the teacher's lead is not told from nothing"
            rows.append({"model": name, **asdict(one), "why": why, **gain})
    return rows


def _agreement(student: Array, teacher: Array, compared: Compared, fars: Sequence[float]) -> dict[str, Any]:
    """Mean cosine of the two embeddings of a crop, and TAR with students' probes against the teacher's gallery."""
    import numpy as np

    nothing = {"cosine": None, "cosine_of_others": None, "cross": None}
    if student.shape[1] != teacher.shape[1]:
        why = f"not comparable: {student.shape[1]} numbers against the teacher's {teacher.shape[1]}"
        return {**nothing, "why": why}
    cosine = float(np.einsum("nd,nd->n", student, teacher).mean())
    crossed = pair_scores(student, teacher, compared)
    apart = crossed[~compared.same]
    others = float(apart[np.isfinite(apart)].mean(dtype=np.float64))
    cosines = {"cosine": cosine, "cosine_of_others": others}
    if cosine - others < SHARED:
        return {**nothing, **cosines, "why": "not comparable: the two do not share a space"}
    return {**cosines, "cross": rates_json(crossed, compared, fars, RESAMPLES, SEED), "why": None}


def _lists(
    runs: Sequence[Path], pairs: Path | None, crops: Path | None, held: Path | None, no_held_out: bool
) -> list[Compared]:
    """The held-out people first, then the pair list."""
    from facekd.crops.read import read_crops

    # The control's own held-out people, as far as it has a record; the teacher may have been trained elsewhere.
    records = [record for record in map(training_of, (*runs[1:], runs[0])) if record is not None]
    lists = []
    if not no_held_out:
        if not records and held is None:
            raise UserError(
                f"{', '.join(map(str, runs))}: none is the folder of a training, so nothing says who was held out; "
                "give --held CROPS, or --pairs LIST, --crops STORE and --no-held-out"
            )
        lists.append(held_out_people(records, held=None if held is None else read_crops(held)))
    if pairs is not None:
        if crops is None and not records:
            raise UserError(f"{pairs}: give --crops, the store of its photos")
        lists.append(listed(pairs, crops or records[0].data[0]))
    return lists


def _role(place: int) -> str:
    return ROLES[place] if place < len(ROLES) else "student distilled"


def _on(path: Path) -> list[str] | None:
    """The data a run was trained on; None of a file that does not say."""
    record: Training | None = training_of(path)
    return None if record is None else [str(data) for data in record.data]
