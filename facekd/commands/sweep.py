"""facekd sweep: a grid of distillations at equal budget in, with their controls; one table and one plot out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from facekd.commands.sweep_grid import ALONE, RANDOM, Cell, plain, read_grid
from facekd.console import say
from facekd.core.files import read_json, write_bytes, write_json
from facekd.core.process import hold_folder
from facekd.core.run import default_out, environment, start_run
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.training import Teaching

if TYPE_CHECKING:
    from facekd.core.types import Array
    from facekd.crops.training import TrainingCrops
    from facekd.evaluation.lists import Compared
    from facekd.evaluation.sweep_report import SweepReport
    from facekd.teachers.teacher import Teacher

FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
MOST_PAIRS = 1_000_000  # of held-out crops; 'facekd compare' judges more
CELL = "cell.json"  # in a cell's folder: its flags, and what a step of it took


@dataclass(frozen=True, slots=True)
class Sweep:
    """What came out."""

    out: Path
    report: SweepReport

    @property
    def exit_code(self) -> int:
        return 1 if any(cell.failed for cell in self.report.cells) else 0


@door
def sweep(
    grid: Path,
    *,
    out: Path | None = None,
    json: Path | None = None,
    report: Path | None = None,
    quiet: bool = False,
) -> Sweep:
    """Train a student for each cell of a grid over terms, weights or any flag of distill, and judge them all alike.

    Two controls are always trained first: the student alone, at the same schedule, and a student of a random teacher,
    which is an untrained network of the teacher's architecture (for an ONNX teacher a MobileFaceNet) that teaches with
    the flags of the first cell that has a teacher. Data, epochs, held-out people and seed are the same in all cells.
    All are judged on all pairs of the held-out people: TAR at the lowest FAR that these support, with an interval over
    people, the gap to the teacher closed, a paired test against the student alone, and the median time of a step.
    Writes sweep.json, report.md and report.html. A cell is a run folder below OUT/cells: the same command skips those
    that are done and goes on with a killed one. Exits with 1 when a cell failed.

    GRID.yaml has flags common to all under base, cells by name with their own flags, and a grid, whose flags' values
    are combined each with each; term.NAME is the weight of one term:

    base: {data: [crops/], teacher: runs/teacher, epochs: 20, views: 8, term: {labels: 1}}

    cells: {logits: {term: {labels: 1, logits: 1}}, adaface: {term: {labels: 1}, teacher: null, label-head: adaface}}

    grid: {term.embedding: [7, 32, 128], dim: [128, 512]}

    With views the teacher sees each view once, for all cells together.

    Example: facekd sweep grid.yaml --out runs/sweep

    Args:
        grid: The YAML file; its flags are those of 'facekd distill'.
        out: The folder of the cells and the report.
        json: Write the result here too.
        report: Write the HTML report here too.
        quiet: Print nothing.
    """
    from facekd.evaluation.lists import everyone
    from facekd.evaluation.sweep_report import sweep_page
    from facekd.recipes.plan import one_process

    one_process(["facekd sweep"])
    out = out or default_out("sweep")
    cells = read_grid(grid, out / RANDOM)
    for cell in cells:
        _refuse_other_cell(out, cell)
    data = _data(cells)
    teachers = _teachers(cells, data, out, quiet)
    hold_folder(out)
    start_run(out, "sweep", {"grid": grid, "out": out, "json": json, "report": report}, inputs=(grid,))
    _fill_caches(cells, data, quiet)
    failed = {}
    for number, cell in enumerate(cells, 1):
        say(f"cell {number} of {len(cells)}: {cell.name}", quiet)
        why = _train(out, cell, quiet)
        if why is not None:
            failed[cell.name] = why
            say(f"{cell.name}: failed: {why}", quiet)

    found = _judge(out, cells, failed, teachers, everyone(data.held, MOST_PAIRS), grid.read_text("utf-8"), quiet)
    sweep_page(found, out).publish(found, out, json, report, quiet, "sweep.json")
    return Sweep(out, found)


def _data(cells: Sequence[Cell]) -> TrainingCrops:
    """The crops that all cells share.

    Raises:
        UserError: as `read_training_crops`, or nobody is held out by name.
    """
    from facekd.crops.training import read_training_crops

    asked = cells[0].arguments
    data = read_training_crops(asked["data"], asked["held_out"], asked["seed"], asked["minimum"], asked["drop"])
    if len(set(data.held.identities)) < 2:
        raise UserError(
            f"{asked['data'][0]}: a sweep is judged on held-out people, and of these {len(data.held)} held-out crops "
            "none says who it shows; add crops with identities to base's data, or raise held_out"
        )
    return data


@dataclass(frozen=True, slots=True)
class Reference:
    """The network that a cell's student is judged against: its teacher, of several the first."""

    path: Path
    contract: Path | None


def _teachers(cells: Sequence[Cell], data: TrainingCrops, out: Path, quiet: bool) -> dict[str, Reference]:
    """What each cell is judged against, by its name; without a teacher, or with the random one, the first cell's.

    Checks each cell's terms against its teachers, and leaves the random teacher in its folder.

    Raises:
        UserError: a teacher that can't be loaded, or a term that it or the data can't carry.
    """
    from accelerate import Accelerator

    from facekd.deploy.embedder import CropEmbedder
    from facekd.nets.saved import MODEL
    from facekd.recipes.random_teacher import save_random_teacher
    from facekd.recipes.teachers import load_teachers
    from facekd.recipes.terms import fit_terms, read_terms

    loaded: dict[tuple[Reference, ...], Teacher] = {}  # one for each choice of teachers
    own: dict[str, tuple[Reference, Teacher]] = {}
    for cell in cells:
        parts = _taught_by(cell)
        if not parts or cell.name == RANDOM:
            continue
        key = tuple(parts)
        if key not in loaded:
            paths, contracts = ([getattr(part, side) for part in parts] for side in ("path", "contract"))
            # Concatenated whatever --combine says: only what the teachers are able to carry is asked here.
            teaching = Teaching(teacher=paths, contract=list(filter(None, contracts)) or None)
            found = load_teachers(teaching, data, 0, Accelerator().device, quiet)
            assert found is not None
            loaded[key] = found.teacher
            CropEmbedder.load(parts[0].path, parts[0].contract)  # as it will be judged
        own[cell.name] = parts[0], loaded[key]
    first, head = next(iter(own.values()))
    for cell in cells:
        asked = cell.arguments
        taught = head if cell.name == RANDOM else own[cell.name][1] if cell.name in own else None
        if asked["joint"] is not None:
            continue  # its teacher is not there yet; distill itself says what it can't carry
        try:
            fit_terms(read_terms(asked["term"]), taught, data.names, asked["data"][0])
        except UserError as error:
            raise UserError(f"cell {cell.name}: {error}") from error
    if not (out / RANDOM / MODEL).exists():
        save_random_teacher(out / RANDOM, head, data.train, cells[0].arguments["seed"])
    return {cell.name: own[cell.name][0] if cell.name in own else first for cell in cells}


def _taught_by(cell: Cell) -> list[Reference]:
    """A cell's finished teachers."""
    from facekd.teachers.several import pair_contracts

    asked = Teaching(teacher=cell.arguments["teacher"], contract=cell.arguments["contract"])
    paths = asked.teachers
    return [Reference(*pair) for pair in zip(paths, pair_contracts(paths, asked.contracts), strict=True)]


def _fill_caches(cells: Sequence[Cell], data: TrainingCrops, quiet: bool) -> None:
    """Let each teacher see its views before any cell is timed."""
    from accelerate import Accelerator

    from facekd.recipes.cache import fill_cache
    from facekd.teachers.teacher import load_teacher

    asked = {
        (part, a["views"], a["augment"], a["cache"]): a["seed"]
        for cell, a in ((cell, cell.arguments) for cell in cells)
        for part in _taught_by(cell)
        if a["views"] > 0
    }
    for (part, views, augment, home), seed in asked.items():
        teacher = load_teacher(part.path, part.contract, Accelerator().device)
        fill_cache(teacher, data.train, seed, views, home, quiet, augment=augment)


def _train(out: Path, cell: Cell, quiet: bool) -> str | None:
    """Train a cell unless it is done, and note how long a step took; why it failed comes back, if it did."""
    from facekd.commands.distill import distill
    from facekd.nets.saved import MODEL

    folder = _folder(out, cell)
    if (folder / MODEL).exists():
        return None
    if not (folder / CELL).exists():
        write_json(folder / CELL, {"flags": plain(cell.arguments), "seconds_per_step": None})
    with _steps_timed() as ends:
        try:
            distill(**cell.arguments, out=folder, quiet=quiet)
        except UserError as error:
            return str(error)
        finally:
            if len(ends) > 1:
                seconds = median(after - before for before, after in pairwise(ends))
                write_json(folder / CELL, {"flags": plain(cell.arguments), "seconds_per_step": seconds})
    return None


@contextmanager
def _steps_timed() -> Iterator[list[float]]:
    """When each step of an optimizer ended, in seconds."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    ends: list[float] = []
    handle = register_optimizer_step_post_hook(lambda *_: ends.append(time.monotonic()))
    try:
        yield ends
    finally:
        handle.remove()


def _refuse_other_cell(out: Path, cell: Cell) -> None:
    """Pass where a cell's folder is empty or was begun with the same flags."""
    path = _folder(out, cell) / CELL
    if not path.exists():
        return
    found, asked = read_json(path)["flags"], plain(cell.arguments)
    for key, value in asked.items():
        if found.get(key) != value and not (cell.name == RANDOM and key == "teacher"):
            raise UserError(
                f"{path.parent}: holds a cell with other flags ({key} was {found.get(key)!r} and is {value!r}); rename "
                "the cell, or choose another --out"
            )


def _judge(
    out: Path,
    cells: Sequence[Cell],
    failed: dict[str, str],
    teachers: dict[str, Reference],
    compared: Compared,
    grid: str,
    quiet: bool,
) -> SweepReport:
    """Rates of every cell on all pairs of the held-out people, and of the teachers."""
    from facekd.evaluation.gap import GapRow, gap_rows
    from facekd.evaluation.lists import list_rates
    from facekd.evaluation.results import lowest_far
    from facekd.evaluation.sweep_report import SweepReport, SweptCell, SweptTeacher

    taught = {
        one: _scores(out, one.path, one.contract, str(one.path), compared, quiet)
        for one in dict.fromkeys(teachers.values())
    }
    trained = [cell for cell in cells if cell.name not in failed]
    scores = {cell.name: _scores(out, _folder(out, cell), None, cell.name, compared, quiet) for cell in trained}
    rates = {name: list_rates(values, compared, FARS) for name, values in scores.items()}
    of_teachers = tuple(
        SweptTeacher(str(one.path), list_rates(values, compared, FARS)) for one, values in taught.items()
    )
    far = lowest_far(of_teachers[0].rates.tar)
    closed: dict[str, GapRow] = {}
    if far is not None and ALONE in scores:
        for one, values in taught.items():
            students = {name: scores[name] for name in scores if teachers[name] == one and name != ALONE}
            rows = gap_rows(values, scores[ALONE], students, compared, [far])
            closed |= {row.model: row for row in rows}
    swept = []
    for cell in cells:
        note = read_json(_folder(out, cell) / CELL)
        swept.append(
            SweptCell(
                cell=cell.name,
                control=cell.name in (ALONE, RANDOM),
                failed=failed.get(cell.name),
                teacher=" + ".join(str(part.path) for part in _taught_by(cell)) or None,
                flags=note["flags"],
                seconds_per_step=note["seconds_per_step"],
                rates=rates.get(cell.name),
                closed=closed.get(cell.name),
            )
        )
    return SweepReport(grid, compared.about, compared.left_out, far, of_teachers, tuple(swept), environment())


def _scores(out: Path, path: Path, contract: Path | None, name: str, compared: Compared, quiet: bool) -> Array:
    """float32[P]: a network's scores of the held-out pairs; its embeddings are kept below `out`."""
    import io

    import numpy as np

    from facekd.deploy.embedder import CropEmbedder
    from facekd.evaluation.judged import embed_crops
    from facekd.evaluation.lists import fit_network, pair_scores

    embedder = CropEmbedder.load(path, contract)
    fit_network(name, embedder.contract.size, embedder.contract.template, compared)
    kept = out / "held_out" / f"{embedder.model_id}-{compared.crops.image_digest()[:16]}.npy"
    if not kept.exists():
        file = io.BytesIO()
        np.save(file, embed_crops(f"embed by {name}", embedder, compared.crops, compared.ids, quiet).vectors)
        write_bytes(kept, file.getvalue())
    vectors = np.load(kept)
    return pair_scores(vectors, vectors, compared)


def _folder(out: Path, cell: Cell) -> Path:
    return out / "cells" / cell.name
