"""What a student minimizes, and all that learns for it: settings, teachers and crops in, modules and terms out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from facekd.console import say
from facekd.core.pixels import unit
from facekd.crops.training import TrainingCrops
from facekd.errors import UserError
from facekd.nets.heads import Head
from facekd.recipes.begin import Learner, Start
from facekd.recipes.label_heads import balance_classes
from facekd.recipes.teachers import embed_by, fit_directions, fit_map, joint_teacher, learners, load_teachers
from facekd.recipes.terms import Tools, check_weights, fit_terms, make_state, needs_of, read_ramps, read_terms
from facekd.recipes.train import embed_crops, held_out_rates
from facekd.recipes.watch import teacher_warning
from facekd.settings.training import Objective, StudentOptimization, Teaching
from facekd.teachers.several import Together
from facekd.teachers.teacher import Teacher
from facekd.training.checkpoint import LAST


@dataclass(frozen=True, slots=True)
class Goal:
    """A student and what it is to become."""

    modules: dict[str, nn.Module]  # all that learns, and what terms carry on, by names in the checkpoint
    start: Start
    objective: Objective  # as asked, with the numbers that are used
    terms: dict[str, float]  # their weights
    ramps: dict[str, float]  # shares of the run over which they rise
    tools: Tools
    projection: nn.Module  # from the student's dimensions to the teacher's; never exported
    teachers: Together | None  # the finished ones

    def rises(self, steps: int) -> dict[str, int]:
        """Steps over which each term's weight rises from zero."""
        return {name: round(self.ramps.get(name, 0) * steps) for name in self.terms}

    @property
    def teacher(self) -> Teacher:
        """Who teaches, where somebody does."""
        assert self.tools.teacher is not None
        return self.tools.teacher

    @property
    def alone(self) -> list[str]:
        """What of it keeps a state of its own in each process, by the flags that ask for it."""
        head = ["--label-head adaface"] if self.objective.label_head == "adaface" else []
        return [*(f"--term {name}" for name in self.tools.state), *head]

    def about(self, class_balance: float) -> dict[str, str]:
        """What makes this run this run: a checkpoint of another is refused."""
        teacher, tools, asked = self.tools.teacher, self.tools, self.objective
        numbers = f"T={tools.temperature:g} top_k={tools.top_k} weights_decay={tools.weights_decay:g}"
        head = f"{asked.label_head} margin={asked.margin} scale={asked.scale} balance={class_balance:g}"
        taught = "none" if teacher is None else str(teacher.path) if teacher.learns else teacher.contract.model_id
        return {
            "teacher": taught,
            "terms": f"{self.terms} {self.ramps} {numbers}",
            "head": "none" if tools.head is None else head,
        }

    def said(self) -> str:
        """What is learned from, and whom, in a clause."""
        said = f"learns from {', '.join(f'{weight:g} {name}' for name, weight in self.terms.items())}"
        teacher = self.tools.teacher
        if teacher is None:
            return f"{said}, without a teacher"
        said += f"; teacher {teacher.path}"
        if isinstance(self.projection, nn.Linear):
            own, theirs = self.projection.in_features, self.projection.out_features
            said += f" ({theirs} dimensions, through a learned map from {own})"
        return said


def set_goal(
    objective: Objective, teaching: Teaching, optimization: StudentOptimization, learner: Learner,
    crops: TrainingCrops, out: Path | None, seed: int, device: torch.device, quiet: bool,
) -> Goal:  # fmt: skip
    """Load the teachers, build the student and what learns beside it.

    Args:
        out: the run's folder, where it is known: a run that goes on has learned its map to the teacher already.

    Raises:
        UserError: settings that this data or these teachers can't carry.
    """
    asked = read_terms(objective.term)
    teachers = load_teachers(teaching, crops, seed, device, quiet)
    teacher = None if teachers is None else teachers.teacher
    if teaching.joint is not None:
        numbers = objective.label_head, objective.margin, objective.scale
        teacher = joint_teacher(teaching.joint, learner.contract, *numbers, crops, seed)
    terms = fit_terms(asked, teacher, crops.names, crops.train.path)
    ramps = read_ramps(objective.ramp, terms)
    needs = needs_of(terms)
    _refuse_unused(needs, terms, objective, optimization, teaching)
    student = learner.build(seed)
    names = crops.names or (() if teacher is None else teacher.identities)  # the classes, also of nameless crops
    head: Head | None = None
    modules: dict[str, nn.Module] = {"net": student}
    if "head" in needs:
        head = modules["head"] = Head(
            objective.label_head, learner.contract.dim, len(names), objective.margin, objective.scale
        )
        objective = replace(objective, margin=head.margin, scale=head.scale)
    start = learner.begin(student, head, crops)
    projection: nn.Module = torch.nn.Identity()
    if "map" in needs and teacher is not None and teacher.contract.dim != learner.contract.dim:
        projection = modules["projection"] = _map(learner, student, teacher, crops, out, seed, quiet)
    if "net" in needs and teacher is not None:
        check_weights(student, head, teacher)
    state = {name: module.to(device) for name, module in make_state(terms, len(names), teacher).items()}
    modules |= state | learners(teacher)
    balance = balance_classes(optimization.class_balance, crops.labels)
    tools = Tools(
        student, head, teacher, objective.temperature, objective.top_k, objective.weights_decay, state,
        None if balance is None else balance.to(device),
    )  # fmt: skip
    # As the run's folder is to hold them.
    objective = replace(
        objective,
        term=[f"{name}={weight:.12g}" for name, weight in terms.items()],
        ramp=[f"{name}={share:.12g}" for name, share in ramps.items()] or None,
    )
    return Goal(modules, start, objective, terms, ramps, tools, projection, teachers)


def judged_by(
    goal: Goal, crops: TrainingCrops, learner: Learner, quiet: bool
) -> Callable[[nn.Module], Mapping[str, float]]:
    """A function that gives a student's rates on the held-out crops that are judged, and how like its teacher it is."""
    taught = None
    if goal.teachers is not None and "map" in needs_of(goal.terms):
        said = embed_by(goal.teachers.teacher, crops.judged, quiet, "teacher on held-out crops")
        if sentence := teacher_warning(
            str(goal.teachers.teacher.path), held_out_rates(unit(said), crops.judged.identities)
        ):
            say(f"warning: {sentence}", quiet)
        taught = torch.from_numpy(said)

    def judge(student: nn.Module) -> Mapping[str, float]:
        vectors = embed_crops(student, crops.judged, learner.contract)
        rates = held_out_rates(vectors, crops.judged.identities)
        if taught is not None and len(vectors):
            device = next(student.parameters()).device
            with torch.no_grad():
                mapped = goal.projection(torch.from_numpy(vectors).to(device)).cpu()
            rates["held_out_cosine"] = float(torch.nn.functional.cosine_similarity(mapped, taught).mean())
        return rates

    return judge


def _map(
    learner: Learner,
    student: nn.Module,
    teacher: Teacher,
    crops: TrainingCrops,
    out: Path | None,
    seed: int,
    quiet: bool,
) -> nn.Linear:
    """What maps the student onto a teacher of other dimensions: of a student that is trained already, solved for; of a
    fresh one, the teacher's principal directions, or, where it has the room, what keeps the teacher whole."""
    projection = torch.nn.Linear(learner.contract.dim, teacher.contract.dim, bias=False)
    goes_on = out is not None and (out / LAST).exists()
    if teacher.learns or goes_on:
        return projection
    if learner.source is not None:
        fit_map(projection, student, learner.contract, teacher, crops.train, seed, quiet)
    elif learner.contract.dim < teacher.contract.dim:
        fit_directions(projection, teacher, crops.train, seed, quiet)
    else:
        torch.nn.init.orthogonal_(projection.weight)
    return projection


def _refuse_unused(
    needs: frozenset[str], terms: Mapping[str, float], objective: Objective, optimization: StudentOptimization,
    teaching: Teaching,
) -> None:  # fmt: skip
    balance, head = optimization.class_balance, objective.label_head
    if balance and "labels" not in terms:
        raise UserError(f"--class-balance {balance:g}: is of the labels' loss; add --term labels=1, or leave it out")
    unused = [
        (objective.top_k > 0 and not {"logits", "head"} <= needs, f"--top-k {objective.top_k}", "logits=1"),
        (
            objective.weights_decay > 0 and "net" not in needs,
            f"--weights-decay {objective.weights_decay:g}",
            "weights=0.001",
        ),
        (head != "softmax" and "head" not in needs and teaching.joint is None, f"--label-head {head}", "labels=1"),
    ]
    for wrong, flag, example in unused:
        if wrong:
            raise UserError(f"{flag}: no term of this run uses it; add --term {example}, or leave it out")
