"""facekd compare: a teacher, a student alone and distilled students in; the share of the gap they close out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.core.process import hold_folder
from facekd.core.run import default_out, environment, start_run
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.evaluation import ComparedData, ComparedRates, ReportFiles, TeacherContract
from facekd.settings.group import flat

if TYPE_CHECKING:
    from facekd.evaluation.gap import GapReport

ROLES = ("teacher", "student alone")  # of the first two runs; all others are distilled


@dataclass(frozen=True, slots=True)
class NetworkComparison:
    """What came out."""

    out: Path
    report: GapReport


@door
def compare(
    runs: list[Path],
    *,
    data: ComparedData = ComparedData(),
    foreign: TeacherContract = TeacherContract(),
    asked: ComparedRates = ComparedRates(),
    files: ReportFiles = ReportFiles(),
    quiet: bool = False,
) -> NetworkComparison:
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
    from facekd.deploy.embedder import CropEmbedder
    from facekd.evaluation.comparison_report import comparison_page
    from facekd.evaluation.cost import cost_of
    from facekd.evaluation.gap import ComparedNetwork, GapReport, compare_on
    from facekd.evaluation.judged import labels
    from facekd.evaluation.lists import compared_lists, fit_network, training_of

    if len(runs) < 3:
        raise UserError(
            f"{len(runs)} networks to compare: give the teacher, the student trained without it, and one distilled "
            "student or more, in this order"
        )
    names = labels(runs)
    embedders = [CropEmbedder.load(path, foreign.contract if k == 0 else None) for k, path in enumerate(runs)]
    # The control's own held-out people come first, as far as it has a record; the teacher may be from elsewhere.
    records = [training_of(path) for path in (*runs[1:], runs[0])]
    lists = compared_lists(runs, [record for record in records if record is not None], data)
    for compared in lists:
        for name, embedder in zip(names, embedders, strict=True):
            fit_network(name, embedder.contract.size, embedder.contract.template, compared)

    out = files.out or default_out("compare")
    config = {"runs": runs, **flat(data, foreign, asked, files, out=out)}
    hold_folder(out)
    start_run(out, "compare", config, inputs=(*runs, *filter(None, [data.pairs, data.held])))
    networks = []
    for k, (path, record) in enumerate(zip(runs, (records[-1], *records[:-1]), strict=True)):
        role = ROLES[k] if k < len(ROLES) else "student distilled"
        trained_on = None if record is None else tuple(map(str, record.data))
        networks.append(ComparedNetwork(names[k], role, str(path), embedders[k].model_id, trained_on))
    report = GapReport(
        networks=tuple(networks),
        lists=tuple(compare_on(compared, names, embedders, asked.fars, quiet) for compared in lists),
        costs=tuple(cost_of(name, one) for name, one in zip(names, embedders, strict=True)),
        environment=environment(),
    )
    page = comparison_page(report, f"facekd compare --config {out}/run.yaml")
    page.publish(report, out, files.json, files.report, quiet)
    return NetworkComparison(out, report)
