"""facekd federate: one student of one teacher, trained on crops that stay at their sites."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.console import say
from facekd.core.run import Trained, default_out
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.federation import SharedStudent, SharedTeacher, SiteOptimization, Sites
from facekd.settings.group import flat

if TYPE_CHECKING:
    from facekd.engines.answers import Ask


@door
def federate(
    *,
    sites: Sites = Sites(),
    teacher: SharedTeacher,
    student: SharedStudent = SharedStudent(),
    optimization: SiteOptimization = SiteOptimization(),
    out: Path | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Trained | None:
    """Train one student on crops of several sites, which stay there: only the student's weights travel.

    Each site has its own copy of the teacher. In each round it takes some steps on its own crops, from the weights that
    all share; then these are averaged, each site counting by its crops, none for more than three times the median.
    Flower (pip install 'facekd[federated]') carries the weights.

    --simulate N plays N sites on this machine. --app DIR writes an app for real ones, and says what to run where.

    What a site sends is checked. One that leaves, is of another version or has another teacher, sends no numbers, or
    changes what it says of itself is left out with a sentence, and the round goes on with the others. A killed run goes
    on after its last round when the same command is given again.

    Example: facekd federate --simulate 4 --teacher teacher.onnx --data crops/ --out runs/federated

    Args:
        out: The run folder.
        seed: Of the split, the initialization, the order and the views.
        quiet: Print nothing.
    """
    from facekd.recipes.federate import assign, begin_at, federate_rounds
    from facekd.recipes.plan import begin
    from facekd.recipes.site import SiteFiles, place_crops, simulated, site_crops
    from facekd.recipes.train import judge_crops

    sites.check_chosen()
    begun = begin_at(student, out)
    assignment = assign(sites, teacher, student, optimization, seed, begun)
    if sites.app is not None:
        if begun is not None:
            raise UserError(f"--init-from {student.init_from}: is for --simulate so far; leave it out")
        from facekd.recipes.federated_app import write_app

        for line in write_app(sites.app, assignment, sites, out or default_out("federate")):
            say(line, quiet)
        return None
    from facekd.engines.flower import simulate

    place = SiteFiles(
        tuple(path.absolute() for path in sites.data or []), teacher.teacher.absolute(),
        None if teacher.contract is None else teacher.contract.absolute(), teacher.teacher_backend,
        sites.held_out, sites.minimum, seed, sites.count,
    )  # fmt: skip
    whole = place_crops(place)
    whole.train.check_fits(assignment.contract)
    sizes = [len(site_crops(place, number).train) for number in range(sites.count)]
    used = replace(sites, least=sites.needed)
    out = begin(out, "federate", flat(used, teacher, student, optimization, out=out, seed=seed), place.data)
    say(f"{whole.said()}; dealt to {sites.count} sites of {min(sizes)} to {max(sizes)} crops", quiet)
    about = {"assignment": assignment.to_json(), "data": whole.train.digest(), "sites": f"{sites.count}"}
    if begun is not None:
        about["init"] = begun.contract.model_id
    ids: list[str] = []

    def coordinate(ask: Ask) -> None:
        judge = judge_crops(whole.judged, assignment.contract)
        ids.append(federate_rounds(ask, assignment, judge, out, about, sites.needed, quiet, begun))

    work = partial(simulated, place)
    simulate(sites.count, assignment.to_json(), coordinate, work, sites.patience, sites.secure)
    return Trained(out, ids[0])
