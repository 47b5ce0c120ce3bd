"""What one site does of a training across sites: a round of steps on its own crops, and the norms of the average."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from facekd.core.choices import Augment, Backend, OptimizerName
from facekd.core.contract import Contract
from facekd.core.types import Array
from facekd.crops.sites import dealt
from facekd.crops.training import TrainingCrops, read_training_crops
from facekd.engines.local import map_ordered
from facekd.errors import UserError
from facekd.recipes.begin import Learner
from facekd.recipes.goal import Goal, set_goal
from facekd.recipes.plan import MOST_WARMUP, batch_loader
from facekd.recipes.step import step_loss
from facekd.recipes.terms import needs_of
from facekd.recipes.train import SETTLING, judge_crops
from facekd.settings.training import Objective, StudentOptimization, Teaching
from facekd.training.loop import Batch, Plan, fit, make_optimizer
from facekd.training.norms import settle_norms
from facekd.training.samplers import shuffled

FORM = 1  # of an assignment and its answers; a site of another one refuses
TRAIN, SETTLE = "train", "settle"  # what a site is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """What all sites do alike; it travels as JSON."""

    net: str
    activation: str
    dim: int
    size: int  # of a crop, pixels
    template: str
    teacher: str  # the model_id of the one that each site has
    teacher_dim: int
    terms: dict[str, float]
    rounds: int
    steps: int  # in a round
    batch: int
    lr: float
    optimizer: OptimizerName
    weight_decay: float
    augment: Augment
    seed: int
    form: int = FORM

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        """What a coordinator sent.

        Raises:
            UserError: one of another form, as another version of facekd sends it.
        """
        values = json.loads(text)
        names = {field.name for field in dataclasses.fields(cls)}
        if values.get("form") != FORM or values.keys() != names:
            raise UserError(
                f"the coordinator speaks form {values.get('form')} of federated training and this site form {FORM}; "
                "install the same facekd on both"
            )
        return cls(**values)

    @property
    def contract(self) -> Contract:
        """The student's; its weights' digest is not known yet."""
        return Contract(dim=self.dim, size=self.size, template=self.template)

    @property
    def learner(self) -> Learner:
        """The student, to be built."""
        return Learner(self.net, self.contract, None, self.activation)

    @property
    def plan(self) -> Plan:
        """All rounds as one training."""
        total = self.rounds * self.steps
        return Plan(
            steps=total,
            warmup=min(max(1, total // 10), MOST_WARMUP),
            peak_lr=self.lr,
            weight_decay=self.weight_decay,
            optimizer=self.optimizer,
        )


@dataclass(frozen=True, slots=True)
class SiteFiles:
    """Where a site finds what it works on."""

    data: tuple[Path, ...]
    teacher: Path
    contract: Path | None = None
    backend: Backend | None = None
    held_out: float = 0.15
    minimum: int = 2
    seed: int = 0  # of the split
    dealt_to: int = 0  # sites that share the data, where they are simulated


def do(
    asked: str, text: str, step: int, arrays: Mapping[str, Array], place: SiteFiles, number: int = 0
) -> tuple[dict[str, Array], dict[str, float]]:
    """What a site answers.

    Args:
        asked: TRAIN, from `step` on, or SETTLE, the norms of the averaged weights.
        text: the assignment.
        arrays: the weights by name, as `weights_of`.
        number: of a simulated site, from 0.

    Returns:
        The arrays that changed, and numbers: ``crops`` and the mean ``loss``, or rates on people held out here.

    Raises:
        UserError: what this site can't do, in a sentence for the coordinator.
    """
    assignment = Assignment.from_json(text)
    crops = site_crops(place, number)
    if len(crops.train) < 2:
        raise UserError(f"{place.data[0]}: has {len(crops.train)} crops to train on; give two or more")
    goal = _goal(text, place)
    give_weights(goal.modules, arrays)
    accelerator = Accelerator(mixed_precision="no")
    device = accelerator.device
    for module in goal.modules.values():
        module.to(device)
    sample = shuffled(len(crops.train), assignment.batch, assignment.seed + 1 + number)
    taught = goal.teacher.contract
    load = batch_loader(
        crops, assignment.contract, sample, assignment.seed, augment=assignment.augment, teacher=taught
    )  # fmt: skip

    def move(batch: Batch) -> Batch:
        images, taught_images = batch.images_BCHW.to(device), batch.teacher_images_BCHW
        moved = None if taught_images is None else taught_images.to(device)
        return dataclasses.replace(
            batch, images_BCHW=images, labels_B=batch.labels_B.to(device), teacher_images_BCHW=moved
        )

    counted = {"crops": float(len(crops.train))}
    if asked == SETTLE:
        net = goal.modules["net"]
        settle_norms(net, (move(load(step + ahead)).images_BCHW for ahead in range(SETTLING)))
        rates = dict(judge_crops(crops.judged, assignment.contract)(net))
        return moments(weights_of(goal.modules), norm_names(goal.modules)), counted | rates
    plan = assignment.plan
    optimizer = accelerator.prepare(make_optimizer(goal.modules, plan))
    loss = step_loss(
        goal.terms, goal.rises(plan.steps), goal.tools, goal.projection, goal.tools.net, lambda _: assignment.size
    )
    batches = map(move, map_ordered(load, range(step, min(step + assignment.steps, plan.steps)), workers=1))
    losses = [row["loss"] for row in fit(goal.modules, optimizer, batches, loss, plan, step, accelerator)]
    return weights_of(goal.modules), counted | {"loss": sum(losses) / len(losses)}


def simulated(
    place: SiteFiles, asked: str, text: str, step: int, arrays: Mapping[str, Array], node: Mapping[str, Any]
) -> tuple[dict[str, Array], dict[str, float]]:
    """`do` for a site that Flower plays."""
    return do(asked, text, step, arrays, place, int(node["partition-id"]))


@lru_cache(maxsize=1)
def place_crops(place: SiteFiles) -> TrainingCrops:
    """All crops of a place.

    Raises:
        UserError: as `crops.training.read_training_crops`.
    """
    return read_training_crops(list(place.data), place.held_out, place.seed, place.minimum)


@lru_cache(maxsize=16)
def site_crops(place: SiteFiles, number: int = 0) -> TrainingCrops:
    """The crops of a site; of a simulated one its part of what all share.

    Raises:
        UserError: as `place_crops`, or too few people for so many sites.
    """
    crops = place_crops(place)
    return dealt(crops, place.dealt_to, place.seed)[number] if place.dealt_to else crops


@lru_cache(maxsize=1)
def _goal(text: str, place: SiteFiles) -> Goal:
    """The student and its teacher, kept from round to round; what they know is given anew each time.

    Raises:
        UserError: another teacher than the coordinator's, or one that these crops don't fit.
    """
    assignment = Assignment.from_json(text)
    terms = [f"{name}={weight!r}" for name, weight in assignment.terms.items()]
    teaching = Teaching(teacher=place.teacher, contract=place.contract, teacher_backend=place.backend)
    goal = set_goal(
        Objective(term=terms), teaching, StudentOptimization(),
        assignment.learner,
        place_crops(place), None, assignment.seed, Accelerator(mixed_precision="no").device, True,
    )  # fmt: skip
    if goal.teacher.contract.model_id != assignment.teacher:
        raise UserError(
            f"{place.teacher}: is model {goal.teacher.contract.model_id}, and all sites learn from model "
            f"{assignment.teacher}; give this site the same teacher"
        )
    return goal


def first_modules(assignment: Assignment) -> dict[str, nn.Module]:
    """What all sites share, with fresh weights: the student, and its map to a teacher of other dimensions."""
    modules: dict[str, nn.Module] = {"net": assignment.learner.build(assignment.seed)}
    if "map" in needs_of(assignment.terms) and assignment.dim != assignment.teacher_dim:
        modules["projection"] = nn.Linear(assignment.dim, assignment.teacher_dim, bias=False)
    return modules


def weights_of(modules: Mapping[str, nn.Module]) -> dict[str, Array]:
    """Each tensor of floating point that modules hold, float32, by the module's and its own name."""
    return {
        f"{name}.{key}": value.detach().cpu().float().numpy().copy()
        for name, module in modules.items()
        for key, value in module.state_dict().items()
        if value.is_floating_point()
    }


def give_weights(modules: Mapping[str, nn.Module], arrays: Mapping[str, Array]) -> None:
    """Put weights as `weights_of` gives them into modules.

    Raises:
        UserError: those of other modules.
    """
    own: dict[str, Tensor] = {
        f"{name}.{key}": value
        for name, module in modules.items()
        for key, value in module.state_dict().items()
        if value.is_floating_point()
    }
    if own.keys() != arrays.keys() or any(tuple(value.shape) != arrays[name].shape for name, value in own.items()):
        raise UserError("the weights that came are of another network; install the same facekd on all sides")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(torch.from_numpy(arrays[name].copy()))


def norm_names(modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """The names of batch norms' running variances, as of `weights_of`, and of the mean that belongs to each."""
    found = {}
    for name, module in modules.items():
        for inner, child in module.named_modules():
            if isinstance(child, _BatchNorm) and child.running_mean is not None:
                stem = ".".join(part for part in (name, inner) if part)
                found[f"{stem}.running_var"] = f"{stem}.running_mean"
    return found


def moments(arrays: Mapping[str, Array], norms: Mapping[str, str]) -> dict[str, Array]:
    """The first two moments of what each norm saw, in place of its mean and variance: those of all sites are the mean
    of the sites' own."""
    return {mean: arrays[mean] for mean in norms.values()} | {
        variance: arrays[variance] + arrays[mean] ** 2 for variance, mean in norms.items()
    }


def from_moments(arrays: Mapping[str, Array], norms: Mapping[str, str]) -> dict[str, Array]:
    """Means and variances again, from `moments`."""
    return {mean: arrays[mean] for mean in norms.values()} | {
        variance: np.maximum(arrays[variance] - arrays[mean] ** 2, 0) for variance, mean in norms.items()
    }
