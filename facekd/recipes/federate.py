"""The coordinator of a training across sites: rounds of steps at each site, then the average of their weights.

Source: H. B. McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data" (FedAvg),
arXiv 1602.05629, algorithm 1, with every site in every round. A site's optimizer begins anew in each round, its
learning rate follows one schedule over all of them. What comes is checked: a site can leave, be of another version,
send what is no number, or say that it has more crops than it has, and the round goes on with the others.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from statistics import median_low

import numpy as np
import torch
from torch import nn

from facekd.console import say, say_first
from facekd.core.contract import Contract
from facekd.core.run import append_metrics, wrong_metric
from facekd.core.types import Array
from facekd.engines.answers import Ask, SiteAnswer
from facekd.errors import UserError
from facekd.nets.saved import SavedModel
from facekd.recipes.begin import read_source
from facekd.recipes.plan import BEGUN_SHARE
from facekd.recipes.site import (
    SETTLE,
    TRAIN,
    Assignment,
    first_modules,
    from_moments,
    give_weights,
    moments,
    norm_names,
    weights_of,
)
from facekd.recipes.terms import needs_of, read_terms
from facekd.recipes.train import FAR, forget_after, save_trained
from facekd.recipes.watch import held_out, losses
from facekd.settings.federation import SharedStudent, SharedTeacher, SiteOptimization, Sites
from facekd.settings.training import PEAK_LR
from facekd.teachers.teacher import load_teacher
from facekd.training.checkpoint import LAST, restore, save_checkpoint

DEFAULT = {"embedding": 10.0}
SHOWN = 8  # sites that have a line of their own in each round
# Times the median, of an even number the lower one, for of two sites that would be what the greedier of them says: more
# crops than that no site counts for, and no site moves the weights, or what the norms see, farther.
MOST = 3.0
LARGEST = 1e30  # of a number that a site measured: sums of more are none
TOLD = {"crops", "loss", "held_out_eer", f"held_out_tar@{FAR:g}"}  # what a site may say beside its arrays


def begin_at(student: SharedStudent, out: Path | None) -> SavedModel | None:
    """The network whose weights all sites begin at, where one is asked for.

    Raises:
        UserError: none of facekd's, another network than --net, or one that learns in another form.
    """
    if student.init_from is None:
        return None
    source = read_source(student.init_from, out)
    saved = source.saved
    if saved is None or source.folded:
        raise UserError(f"{source.flag}: is a network without norms; give a run folder of 'facekd narrow' or 'distill'")
    plain = Contract(dim=saved.contract.dim)
    for what, here, there in (
        ("net", student.net, saved.name),
        ("dim", student.dim or saved.contract.dim, saved.contract.dim),
        ("activation", student.activation, getattr(saved.net, "activation", "prelu")),
        ("mean, std and channels", *((one.mean, one.std, one.channels) for one in (plain, saved.contract))),
    ):
        if here != there:
            raise UserError(f"{source.flag}: has {what} {there}, this run {here}; ask for the same")
    return saved


def assign(
    sites: Sites, teaching: SharedTeacher, student: SharedStudent, asked: SiteOptimization, seed: int,
    begun: SavedModel | None = None,
) -> Assignment:  # fmt: skip
    """What all sites are to do, as the settings ask; the teacher is looked at for what it expects of a crop.

    Args:
        begun: the network that all begin at.

    Raises:
        UserError: no such teacher or network, or a term that needs more than the teacher's embeddings.
    """
    terms = {name: weight for name, weight in (read_terms(asked.term) or DEFAULT).items() if weight > 0}
    for name in terms:
        if more := needs_of({name: 1.0}) & {"labels", "logits", "net", "head"}:
            raise UserError(
                f"--term {name}: needs {', '.join(sorted(more))}, and sites share a teacher's embeddings alone; choose "
                "embedding, cosine, huber, rkd_distance, rkd_angle or similarity"
            )
    if not terms:
        raise UserError("--term: nothing to learn; give a weight above zero, such as embedding=10")
    teacher = load_teacher(teaching.teacher, teaching.contract, torch.device("cpu"), teaching.teacher_backend)
    expected = teacher.contract
    return Assignment(
        net=student.net,
        activation=student.activation,
        dim=begun.contract.dim if begun else expected.dim if student.dim is None else student.dim,
        size=expected.size,
        template=expected.template,
        teacher=expected.model_id,
        teacher_dim=expected.dim,
        terms=terms,
        rounds=sites.rounds,
        steps=sites.steps,
        batch=asked.batch,
        lr=PEAK_LR[asked.optimizer] * (BEGUN_SHARE if begun else 1.0) if asked.lr is None else asked.lr,
        optimizer=asked.optimizer,
        weight_decay=asked.weight_decay,
        augment=asked.augment,
        seed=seed,
    )


def federate_rounds(
    ask: Ask,
    assignment: Assignment,
    judge: Callable[[nn.Module], Mapping[str, float]],
    out: Path,
    about: Mapping[str, str],
    least: int,
    quiet: bool,
    begun: SavedModel | None = None,
) -> str:
    """Go through the rounds from the last checkpoint, or the beginning; the student lies in `out`, its id comes back.

    Args:
        ask: puts a task with weights to all sites and gives what they answered.
        judge: the student's rates on people whom no site has.
        about: what makes this run this run; a checkpoint of another is refused.
        least: sites that a round needs.
        begun: the network that all begin at; else fresh weights.

    Raises:
        UserError: fewer than `least` sites gave what can be used.
    """
    modules = first_modules(assignment)
    if begun is not None:
        modules["net"].load_state_dict(begun.net.state_dict())
    idle = torch.optim.SGD([parameter for module in modules.values() for parameter in module.parameters()])
    done = restore(out / LAST, modules, idle, about)
    forget_after(out, done)
    if done:
        say(f"goes on after round {done} of {assignment.rounds}", quiet)
    norms, ledger = norm_names(modules), Admission()
    for round_ in range(done, assignment.rounds):
        before = weights_of(modules)
        step = round_ * assignment.steps
        answers = ledger.sound(ask(TRAIN, before, step), before, set(before), quiet)
        _enough(answers, least, round_, out)
        averaged = average(answers, before, weights=before.keys() - norms.keys() - set(norms.values()))
        averaged |= {name: np.maximum(averaged[name], 0) for name in norms}  # variances, whatever a site says
        settled = ledger.sound(ask(SETTLE, averaged, step), averaged, norms.keys() | set(norms.values()), quiet)
        if settled:
            averaged |= from_moments(average(settled, moments(averaged, norms)), norms)
        give_weights(modules, averaged)
        rates = dict(judge(modules["net"])) or mean_numbers(settled, "held_out")
        row = {"step": round_ + 1, "sites": sum(one.sites for one in answers), **mean_numbers(answers, "loss"), **rates}
        append_metrics(out, row)
        save_checkpoint(out / LAST, round_ + 1, modules, idle, about)
        told = f"round {round_ + 1} of {assignment.rounds}: {row['sites']} sites, {losses(row)}"
        say(told + (f", held out: {found}" if (found := held_out(row)) else ""), quiet)
        say_first(by_site(answers, settled), SHOWN, quiet, f"; {out / 'metrics.jsonl'} has the means")
    net = modules["net"].eval()
    contract = save_trained(out, assignment.net, net, assignment.contract)  # last: a run that has it is done
    say(f"{out}: student trained across sites, model {contract.model_id}; next: facekd export {out} model.onnx", quiet)
    return contract.model_id


def by_site(answers: Sequence[SiteAnswer], settled: Sequence[SiteAnswer]) -> list[str]:
    """Of each site that spoke for itself, not in a sum, a line: its crops, its loss, the rates on its own people."""
    rates = {one.site: held_out(one.numbers) for one in settled}
    return [
        f"{one.site}: {one.numbers['crops']:.0f} crops"
        + (f", loss {one.numbers['loss']:.4g}" if "loss" in one.numbers else "")
        + (f", its own held out: {rates[one.site]}" if rates.get(one.site) else "")
        for one in answers
        if one.sites == 1
    ]


@dataclasses.dataclass
class Admission:
    """What is remembered of each site: how many crops it said it has. `sound` is asked once for each answer."""

    crops: dict[str, float] = dataclasses.field(default_factory=dict)

    def sound(
        self, answers: Sequence[SiteAnswer], sent: Mapping[str, Array], wanted: set[str], quiet: bool
    ) -> list[SiteAnswer]:
        """The answers that can be used, by the sites' names in order; a sentence is said of each other one."""
        good = []
        for answer in sorted(answers, key=lambda one: one.site):
            problem = answer.problem or self._fault(answer, sent, wanted)
            if problem:
                say(f"{answer.site} is left out: {problem}", quiet)
            else:
                good.append(answer)
        return good

    def _fault(self, answer: SiteAnswer, sent: Mapping[str, Array], wanted: set[str]) -> str:
        arrays, count = answer.arrays, answer.numbers.get("crops", math.nan)
        if arrays.keys() != wanted or any(value.shape != sent[name].shape for name, value in arrays.items()):
            return "its weights are of another network"
        if any(value.dtype != np.float32 for value in arrays.values()):
            return "its weights are of another type than float32"
        bad = [name for name, value in arrays.items() if not np.isfinite(value).all()]
        if bad:
            return f"its weights are no finite numbers ({len(bad)} of {len(arrays)} tensors, such as {bad[0]})"
        if answer.sites == 1 and _below_zero(arrays, moments=arrays.keys() != sent.keys()):
            return "of what its norms saw, a variance is below zero"
        if not (math.isfinite(count) and count >= 1 and count == round(count)):
            return f"it says that it has {count:g} crops"
        if not answer.numbers.keys() <= TOLD or max(map(abs, answer.numbers.values())) > LARGEST:
            return "it measured something else than it was asked for"
        if wrong := wrong_metric({"step": 0, **answer.numbers}):
            return f"of what it measured, {wrong}"
        known = self.crops.setdefault(answer.node or answer.site, count)
        if known != count:
            return f"it said that it has {known:g} crops, and now says {count:g}"
        return ""


def average(
    answers: Sequence[SiteAnswer], before: Mapping[str, Array] | None = None, weights: Collection[str] | None = None
) -> dict[str, Array]:
    """The mean of the sites' arrays, each counting by its crops, in float64 and in the order of `answers`.

    With `before`, what they began at, no site's change is longer than MOST times the median of all: a longer one is
    shortened to that. No site counts for more than MOST times the median number of crops.

    Args:
        weights: the names whose change is measured so; any other is bounded by itself. All, unless given.
    """
    counts = [answer.numbers["crops"] for answer in answers]
    capped = np.minimum(counts, MOST * median_low(counts))
    shares = capped / capped.sum()
    every = list(answers[0].arrays)
    kinds = [every] if weights is None else [[n for n in every if n in weights], [n for n in every if n not in weights]]
    mean = {}
    for names in kinds:
        lengths = [1.0] * len(answers)
        if before is not None:
            changes = [_length(answer.arrays, before, names) for answer in answers]
            longest = MOST * median_low(changes)
            lengths = [min(1.0, longest / change) if change > 0 else 1.0 for change in changes]
        for name in names:
            base = np.zeros(()) if before is None else before[name].astype(np.float64)
            moved = sum(
                share * length * (answer.arrays[name].astype(np.float64) - base)
                for answer, share, length in zip(answers, shares, lengths, strict=True)
            )
            mean[name] = np.asarray(base + moved, np.float32)
    return {name: mean[name] for name in every}


def mean_numbers(answers: Sequence[SiteAnswer], prefix: str) -> dict[str, float]:
    """The plain means over the sites of the numbers whose names begin so."""
    names = [name for answer in answers for name in answer.numbers if name.startswith(prefix)]
    given = {name: [a.numbers[name] for a in answers if name in a.numbers] for name in dict.fromkeys(names)}
    return {name: sum(values) / len(values) for name, values in given.items()}


def _length(arrays: Mapping[str, Array], before: Mapping[str, Array], names: Sequence[str]) -> float:
    """How far these moved."""
    return math.sqrt(sum(float(np.square(arrays[name].astype(np.float64) - before[name]).sum()) for name in names))


def _below_zero(arrays: Mapping[str, Array], moments: bool) -> bool:
    """Whether a norm's variance is, or of its second moment what is left without the square of its mean."""
    for name in filter(lambda name: name.endswith("running_var"), arrays):
        squared = arrays[name.removesuffix("var") + "mean"].astype(np.float64) ** 2
        if (arrays[name] < (squared * 0.999 - 1e-6 if moments else 0)).any():
            return True
    return False


def _enough(answers: Sequence[SiteAnswer], least: int, done: int, out: Path) -> None:
    found = sum(one.sites for one in answers)
    if found < least:
        kept = f"the same command goes on after round {done}" if done else "nothing was averaged yet"
        raise UserError(
            f"{out}: round {done + 1} has usable weights of {found} of the {least} sites that --least asks for; start "
            f"it again when more of them answer: {kept}"
        )
