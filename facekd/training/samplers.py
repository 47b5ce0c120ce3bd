"""Which crops make up a batch: pure functions of the step, so a resumed run goes on exactly."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from facekd.core.types import Array
from facekd.errors import UserError
from facekd.training.schedule import batch_indices

Sampler = Callable[[int], tuple[Array, Array]]  # step -> int64[batch] places and int64[batch] view numbers


def shuffled(count: int, batch: int, seed: int) -> Sampler:
    """Each crop once an epoch, the view's number the epoch's."""
    return lambda step: batch_indices(step, batch, count, seed)


def balanced(labels_N: Array, batch: int, per_person: int, seed: int) -> Sampler:
    """P × K: `per_person` crops of each of batch / per_person people, who come in shuffled rounds, each as often.

    A person with fewer crops gives some of them twice, as other views.

    Raises:
        UserError: crops without identity, or a batch that is not people × photos.
    """
    people = batch // per_person if per_person > 0 else 0
    if per_person < 2 or people * per_person != batch:
        raise UserError(f"--per-person {per_person}: use 2 or more that divide --batch {batch}")
    if (labels_N < 0).any():
        raise UserError(
            f"--sampler balanced: {int((labels_N < 0).sum())} crops have no identity to be balanced by; leave their "
            "--data out or use --sampler shuffled"
        )
    order = np.argsort(labels_N, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels_N[order])) + 1)
    if people > len(groups):
        raise UserError(f"--batch {batch}: is {people} people, the data has {len(groups)}; lower it")

    def sample(step: int) -> tuple[Array, Array]:
        chosen, _ = batch_indices(step, people, len(groups), seed)
        random = np.random.default_rng([seed, step, 1])
        places = [random.choice(groups[i], per_person, replace=len(groups[i]) < per_person) for i in chosen]
        return np.concatenate(places), _views(step, batch)

    return sample


def square_root(labels_N: Array, batch: int, seed: int) -> Sampler:
    """Drawn with replacement, a person with n crops √n times as often as one with a single crop.

    Halfway between each crop alike and each person alike; a crop without identity is a person of its own.
    Source: D. Mahajan et al., "Exploring the Limits of Weakly Supervised Pretraining", arXiv 1805.00932, section 2.2.
    """
    counts = np.bincount(labels_N[labels_N >= 0], minlength=1)
    weights = np.where(labels_N >= 0, 1 / np.sqrt(np.maximum(counts, 1))[np.maximum(labels_N, 0)], 1.0)
    borders = np.cumsum(weights)

    def sample(step: int) -> tuple[Array, Array]:
        drawn = np.random.default_rng([seed, step, 2]).random(batch) * borders[-1]
        places = np.searchsorted(borders, drawn, side="right")
        return np.minimum(places, len(labels_N) - 1).astype(np.int64), _views(step, batch)

    return sample


def in_turn(sample: Sampler, views: int) -> Sampler:
    """The same crops, shown in `views` views that come round again."""

    def turned(step: int) -> tuple[Array, Array]:
        places, numbers = sample(step)
        return places, numbers % views

    return turned


def _views(step: int, batch: int) -> Array:
    """A number for each place of a batch that no other one has, so that no view comes twice."""
    return np.arange(step * batch, (step + 1) * batch, dtype=np.int64)
