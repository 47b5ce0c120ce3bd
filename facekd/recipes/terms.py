"""What facekd distill can minimize: one table from a term's name to its function and to what it needs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facekd.core.suggest import nearest
from facekd.errors import UserError
from facekd.losses import distillation as d
from facekd.losses import relations as r
from facekd.losses.centers import moved_centers, on_centers
from facekd.losses.distillation import likeliest
from facekd.losses.relations import FARS, evaluation_oriented, negative_thresholds
from facekd.losses.weights import shared_weights, weight_distance
from facekd.nets.heads import Head
from facekd.recipes.label_heads import head_loss
from facekd.teachers.teacher import Teacher

DEFAULTS = {"labels": 1.0, "logits": 1.0, "embedding": 10.0}  # of them, those that data and teacher can carry
EKD_MOMENTUM = 0.01  # of the running thresholds; the authors'


@dataclass(frozen=True, slots=True)
class Seen:
    """What both networks say of a batch; None where no term asks for it."""

    student_BD: Tensor  # embeddings
    mapped_BD: Tensor  # the same in as many dimensions as the teacher's
    labels_B: Tensor  # int64; -1 where a crop has no identity
    outputs: Tensor | None  # what the student's head gave
    logits_BC: Tensor | None
    teacher_BE: Tensor | None  # embeddings
    teacher_logits_BC: Tensor | None


@dataclass(frozen=True, slots=True)
class Tools:
    """What the terms work with besides the batch."""

    net: nn.Module  # the student
    head: Head | None  # the student's
    teacher: Teacher | None
    temperature: float
    top_k: int  # classes that logits are compared on; 0 is all
    weights_decay: float
    state: Mapping[str, nn.Module]  # what a term carries from step to step, by its name
    class_weights_C: Tensor | None = None  # of the labels' loss


@dataclass(frozen=True, slots=True)
class Term:
    """One objective, without its weight."""

    loss: Callable[[Seen, Tools], Tensor]
    # "labels": identities; "teacher": any; "logits": a teacher's head over the same identities; "net": a teacher's
    # weights; "finished": a teacher that does not learn in the same run; "head": the student's own; "map": the
    # student's embedding in the teacher's dimensions.
    needs: frozenset[str]


def term_table() -> dict[str, Term]:
    """Every term by its name."""

    # s: Seen, t: Tools. Any, because a term that needs something is only called where it is there.
    def term(loss: Callable[[Any, Any], Tensor], *needs: str) -> Term:
        return Term(loss, frozenset(needs))

    return {
        "labels": term(
            lambda s, t: head_loss(t.head, s.outputs, s.student_BD, s.labels_B, t.class_weights_C), "labels", "head"
        ),
        "logits": term(lambda s, t: d.softened_logits(*_both(s, t), t.temperature), "logits", "head"),
        "hard": term(lambda s, t: d.hard_targets(*_both(s, t)), "logits", "head"),
        "sigmoid": term(lambda s, t: d.sigmoid_targets(*_both(s, t)), "logits", "head"),
        "dkd": term(
            lambda s, t: d.decoupled(s.logits_BC, s.teacher_logits_BC, s.labels_B, t.temperature),
            "logits", "head", "labels",
        ),
        "gkd": term(lambda s, t: d.grouped(*_both(s, t), t.temperature), "logits", "head"),
        "embedding": term(lambda s, t: d.embedding_mse(s.mapped_BD, s.teacher_BE), "teacher", "map"),
        "embedding_raw": term(lambda s, t: d.embedding_mse_raw(s.mapped_BD, s.teacher_BE), "teacher", "map"),
        "cosine": term(lambda s, t: d.embedding_cosine(s.mapped_BD, s.teacher_BE), "teacher", "map"),
        "huber": term(lambda s, t: d.embedding_huber(s.mapped_BD, s.teacher_BE), "teacher", "map"),
        "rkd_distance": term(lambda s, t: r.rkd_distance(s.student_BD, s.teacher_BE), "teacher"),
        "rkd_angle": term(lambda s, t: r.rkd_angle(s.student_BD, s.teacher_BE), "teacher"),
        "similarity": term(lambda s, t: r.similarity_preserving(s.student_BD, s.teacher_BE), "teacher"),
        "ekd": term(_ekd, "teacher", "labels"),
        "proxyless": term(_proxyless, "logits", "labels", "map", "finished"),
        "adadistill": term(_adadistill, "teacher", "labels", "map"),
        "weights": term(_weights, "net"),
    }  # fmt: skip


def needs_of(terms: Mapping[str, float]) -> frozenset[str]:
    """All that these terms need, see `Term`."""
    table = term_table()
    return frozenset[str]().union(*(table[name].needs for name in terms))


def read_terms(asked: list[str] | None, flag: str = "--term") -> dict[str, float] | None:
    """``["labels=1", "ekd=0.02"]`` as numbers by name, in the table's order; None where nothing was asked for.

    Raises:
        UserError: no NAME=NUMBER, an unknown or repeated name, or a number below zero.
    """
    if not asked:
        return None
    table, found = term_table(), dict[str, float]()
    for text in asked:
        name, equals, number = text.partition("=")
        if name not in table:
            raise UserError(f"{flag} {text}: no term {name!r}{nearest(name, table)}")
        value = number_of(number) if equals else math.nan
        if not 0 <= value < math.inf:
            raise UserError(f"{flag} {text}: give NAME=NUMBER with zero or a number above it, such as {name}=1")
        if name in found:
            raise UserError(f"{flag} {text}: {name} is given twice; give it once")
        found[name] = value
    return {name: found[name] for name in table if name in found}


def read_ramps(asked: list[str] | None, terms: Mapping[str, float]) -> dict[str, float]:
    """Share of the run, in [0, 1], over which each term's weight rises.

    Raises:
        UserError: as `read_terms`; a share above 1, or of a term that is not in the run.
    """
    ramps = read_terms(asked, "--ramp") or {}
    for name, share in ramps.items():
        if name not in terms:
            raise UserError(f"--ramp {name}={share:g}: this run has no such term; add --term {name}=WEIGHT")
        if share > 1:
            raise UserError(f"--ramp {name}={share:g}: is a share of the run; use a number from 0 to 1")
    return ramps


def check_terms(terms: list[str] | None, ramps: list[str] | None) -> None:
    """Pass where both can be read, which is known before any crop or teacher is.

    Raises:
        UserError: as `read_terms` and `read_ramps`.
    """
    read_ramps(ramps, read_terms(terms) or DEFAULTS)


def number_of(text: str) -> float:
    """NaN where it is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan


def fit_terms(
    asked: Mapping[str, float] | None, teacher: Teacher | None, identities: tuple[str, ...], data: Path
) -> dict[str, float]:
    """The terms with weight; where none was asked for, those of DEFAULTS that data and teacher can carry.

    Args:
        identities: of the crops; empty where no crop has one.
        data: names the crops in errors.

    Raises:
        UserError: a term that this data or teacher can't carry, or nothing to learn from.
    """
    table = term_table()
    terms = {name: weight for name, weight in (DEFAULTS if asked is None else asked).items() if weight > 0}
    if asked is None:
        have = set()
        if identities:
            have |= {"labels"}
        if teacher is not None:
            have |= {"teacher"} | ({"logits"} if teacher.head is not None else set())
        terms = {name: w for name, w in terms.items() if table[name].needs <= have | {"head", "map"}}
    if not terms:
        raise UserError(
            f"{data}: nothing to learn from, the weights' sum is zero; give --teacher, crops with identities, or a "
            "--term NAME=WEIGHT above zero"
        )
    for name in terms:
        rest = [f"{other}={weight:g}" for other, weight in terms.items() if other != name]
        _check_term(name, table[name].needs, teacher, identities, data, rest)
    if teacher is not None and set(terms) <= {"labels"}:
        raise UserError(f"{teacher.path}: would teach nothing; add a term such as --term embedding=10, or leave it out")
    return terms


def _check_term(
    name: str, needs: frozenset[str], teacher: Teacher | None, identities: tuple[str, ...], data: Path, rest: list[str]
) -> None:
    leave = f"leave --term {name} out"
    if rest:
        leave += f" (name the others: {' '.join(f'--term {other}' for other in rest)})"
    if "labels" in needs and not identities:
        raise UserError(f"--term {name}: needs identities, and no crop of {data} has one; give named crops, or {leave}")
    if needs & {"teacher", "logits", "net"} and teacher is None:
        raise UserError(f"--term {name}: needs a teacher; give --teacher, or {leave}")
    if "net" in needs and teacher is not None and teacher.net is None:
        raise UserError(f"--term {name}: needs a facekd run as teacher, {teacher.path} {teacher.kind}; {leave}")
    if "finished" in needs and teacher is not None and teacher.learns:
        raise UserError(f"--term {name}: needs a finished teacher, {teacher.path} {teacher.kind}; {leave}")
    if "logits" in needs and teacher is not None:
        if teacher.head is None:
            kind = teacher.kind if teacher.net is None else "was kept without one, as every student is"
            raise UserError(
                f"--term {name}: needs a teacher's head, and {teacher.path} {kind}; give a run of train-teacher as "
                f"the one teacher, learn from --term embedding=10, or {leave}"
            )
        if identities and teacher.identities != identities:
            raise UserError(
                f"{teacher.path}: its head knows {len(teacher.identities)} identities, {data} has {len(identities)} "
                f"others; train it on this data with the same --held-out and --seed, or {leave}"
            )


def make_state(terms: Mapping[str, float], classes: int, teacher: Teacher | None) -> dict[str, nn.Module]:
    """The buffers that terms carry from step to step; they go into the checkpoint, not into the model."""
    state: dict[str, torch.nn.Module] = {}
    if "ekd" in terms:
        state["ekd"] = _buffers(student=torch.zeros(len(FARS)), teacher=torch.zeros(len(FARS)), seen=torch.zeros(()))
    if "adadistill" in terms and teacher is not None:
        state["adadistill"] = _buffers(centres=torch.zeros(classes, teacher.contract.dim))  # as in older checkpoints
    return state


def check_weights(net: nn.Module, head: nn.Module | None, teacher: Teacher) -> tuple[str, ...]:
    """The names of the parameters that student and teacher share.

    Raises:
        UserError: none has the same name and shape in both.
    """
    student, taught = _parameters(net, head), _parameters(teacher.net, teacher.head)
    shared = shared_weights(student, taught)
    if not shared:
        one, two = (
            ", ".join(f"{name} {tuple(value.shape)}" for name, value in list(side.items())[:3])
            for side in (student, taught)
        )
        raise UserError(
            f"--term weights: the student ({one} …) and {teacher.path} ({two} …) share no parameter of one name and "
            "shape; choose the teacher's --net and --dim, or leave the term out"
        )
    return shared


def _both(seen: Seen, tools: Tools) -> tuple[Tensor, Tensor]:
    """The student's and the teacher's logits, on the likeliest classes where only some are asked for."""
    assert seen.logits_BC is not None
    assert seen.teacher_logits_BC is not None
    if tools.top_k:
        return likeliest(seen.logits_BC, seen.teacher_logits_BC, tools.top_k)
    return seen.logits_BC, seen.teacher_logits_BC


def _ekd(seen: Seen, tools: Tools) -> Tensor:
    """EKD with thresholds that follow those of the batches, plainly averaged at first."""
    assert seen.teacher_BE is not None
    state = dict(tools.state["ekd"].named_buffers())
    with torch.no_grad():
        now = [negative_thresholds(side, seen.labels_B) for side in (seen.student_BD, seen.teacher_BE)]
        if not now[0].isnan().any():  # the batch has a pair of different people
            state["seen"] += 1
            momentum = max(EKD_MOMENTUM, 1 / float(state["seen"]))
            state["student"].lerp_(now[0].to(state["student"]), momentum)
            state["teacher"].lerp_(now[1].to(state["teacher"]), momentum)
    return evaluation_oriented(seen.student_BD, seen.teacher_BE, seen.labels_B, state["student"], state["teacher"])


def _proxyless(seen: Seen, tools: Tools) -> Tensor:
    """The teacher's head, frozen, judges the student's embeddings: W. Shi et al., "ProxylessKD", arXiv 2011.00265."""
    assert tools.teacher is not None
    head = tools.teacher.head
    assert head is not None
    return head_loss(head, head(seen.mapped_BD), seen.mapped_BD, seen.labels_B)


def _adadistill(seen: Seen, tools: Tools) -> Tensor:
    assert seen.teacher_BE is not None
    centers = tools.state["adadistill"].get_buffer("centres")
    identities, moved = moved_centers(centers, seen.mapped_BD, seen.teacher_BE, seen.labels_B)
    centers[identities] = moved
    return on_centers(seen.mapped_BD, centers, seen.labels_B)


def _weights(seen: Seen, tools: Tools) -> Tensor:
    assert tools.teacher is not None
    student, taught = _parameters(tools.net, tools.head), _parameters(tools.teacher.net, tools.teacher.head)
    return weight_distance(student, taught, shared_weights(student, taught), tools.weights_decay)


def _parameters(net: nn.Module | None, head: nn.Module | None) -> dict[str, Tensor]:
    return {
        f"{room}.{name}": value
        for room, module in (("net", net), ("head", head))
        if module is not None
        for name, value in module.named_parameters()
    }


def _buffers(**tensors: Tensor) -> nn.Module:
    module = torch.nn.Module()
    for name, value in tensors.items():
        module.register_buffer(name, value)
    return module
