"""What the teacher's and the student's recipes share before the first step: their crops, plan, sampler and folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from torch import Tensor, nn

from facekd.console import say
from facekd.core.choices import Augment, Precision
from facekd.core.contract import Contract
from facekd.core.pixels import to_input
from facekd.core.process import hold_folder
from facekd.core.run import default_out, refuse_other_run, start_run
from facekd.core.types import Array
from facekd.crops.training import TrainingCrops
from facekd.crops.views import view_batch
from facekd.errors import UserError
from facekd.recipes.step import resized
from facekd.recipes.terms import number_of
from facekd.settings.training import PEAK_LR, Optimization
from facekd.training import samplers
from facekd.training.loop import Batch, Plan
from facekd.training.parallel import num_processes, rank
from facekd.training.samplers import Sampler
from facekd.training.speed import compiled

BEGUN_SHARE = 0.05  # of these: a higher rate destroys what the network that a run begins at knows

# That trainings make in their own; through a link they would write into, and remove from, somebody else's.
FOLDERS = ("checkpoints", "plots", "tensorboard", "teacher")

Forward: TypeAlias = "Callable[[Tensor], Tensor]"

MOST_WARMUP = 500  # steps; a tenth of a short run


def make_plan(crops: int, asked: Optimization, begun: bool = False) -> Plan:
    """The steps in which `crops` crops are seen ``asked.epochs`` times; the first tenth of them warms up.

    Without a rate it is the optimizer's own of `PEAK_LR`, of which a network that is trained already gets BEGUN_SHARE.

    Args:
        begun: the run begins at a trained network.

    Raises:
        UserError: a batch that does not fall into the processes and their parts.
    """
    batch, accumulate, processes = asked.batch, asked.accumulate, num_processes()
    if batch % processes != 0:
        raise UserError(f"--batch {batch}: does not fall into {processes} processes; change it")
    if accumulate < 1 or batch % (accumulate * processes) != 0:
        raise UserError(
            f"--accumulate {accumulate}: does not divide --batch {batch} on {processes} processes; change one"
        )
    steps = round(asked.epochs * crops / batch)
    return Plan(
        steps=steps,
        warmup=min(max(1, steps // 10), MOST_WARMUP),
        peak_lr=PEAK_LR[asked.optimizer] * (BEGUN_SHARE if begun else 1.0) if asked.lr is None else asked.lr,
        weight_decay=asked.weight_decay,
        optimizer=asked.optimizer,
        schedule=asked.schedule,
        ema=asked.ema,
        accumulate=accumulate,
    )


def read_resolution(asked: list[str] | None, size: int) -> list[tuple[int, float]]:
    """Sides in pixels, and for which share of the run each, in their order.

    Raises:
        UserError: no SIDE=SHARE, a side that no network takes, or shares beyond the whole run.
    """
    phases = []
    for text in asked or []:
        pixels, _, number = text.partition("=")
        side, share = int(pixels) if pixels.isdecimal() else 0, number_of(number)
        if side % 16 or not 16 <= side < size or not 0 < share <= 1:
            raise UserError(
                f"--resolution {text}: write SIDE=SHARE, a multiple of 16 pixels below the crops' {size} and a share "
                "of the run above 0, such as 64=0.6"
            )
        phases.append((side, share))
    if sum(share for _, share in phases) > 1:
        raise UserError("--resolution: the shares are more than the whole run; make them sum to 1 or less")
    return phases


def join(precision: Precision | None) -> PartialState:
    """The device, and the other processes of this run: from here on they know of each other.

    Raises:
        UserError: fp16 without a GPU.
    """
    if precision == "fp16" and not torch.cuda.is_available():
        raise UserError("--precision fp16: needs a GPU; leave it out, or use bf16")
    return PartialState()


def accelerate(precision: Precision | None) -> Accelerator:
    """Hugging Face's Accelerate, in the precision that a launcher or `precision`, which is not auto, asks for."""
    assert precision != "auto"
    return Accelerator(mixed_precision=None if precision is None else precision.replace("fp32", "no"))


def first_crops(data: TrainingCrops, contract: Contract, shape: tuple[int, ...]) -> Tensor:
    """float32 of `shape`: crops as the network takes them, without views; what a step is tried on."""
    places = np.arange(shape[0]) % len(data.train)
    images_BCHW = torch.from_numpy(to_input(data.train.batch(places), contract, template=data.train.template))
    return resized(images_BCHW, shape[-1])


def stepper(
    net: nn.Module, compile: bool | None, shape: tuple[int, ...], accelerator: Accelerator, quiet: bool
) -> Forward:
    """The call that training makes of `net`: itself, or through torch.compile for images of `shape`."""
    if not compile:
        return net
    images_BCHW = torch.zeros(shape, device=accelerator.device).to(memory_format=torch.channels_last)
    net.to(accelerator.device)
    with accelerator.autocast():  # as in training: another precision would be compiled anew
        return compiled(net, images_BCHW, lambda line: say(line, quiet))


def begin(out: Path | None, command: str, config: Mapping[str, Any], inputs: tuple[Path, ...]) -> Path:
    """The run's folder, begun and held until the command ends; of several processes the first one does that.

    Raises:
        UserError: another command writes the folder, it holds a run with other settings or a link in place of a folder
            of a run's own, or several processes have no folder named.
    """
    if out is None and num_processes() > 1:
        raise UserError("several processes train one run: name its folder with --out")
    out = out or default_out(command)
    if rank() == 0:
        hold_run(out)
    refuse_other_run(out, config)
    if rank() == 0:
        start_run(out, command, {**config, "out": out}, inputs)
    return out


def hold_run(out: Path) -> None:
    """Be the one command that writes a run's folder, until this one ends.

    Raises:
        UserError: another command writes it, or a link or a file lies in place of one of FOLDERS.
    """
    hold_folder(out)
    for folder in (out / name for name in FOLDERS):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise UserError(f"{folder}: is no folder of the run's own; remove it, or choose another --out")


def one_process(parts: Sequence[str]) -> None:
    """Pass where nothing trains that keeps a state of its own in each process.

    Raises:
        UserError: several processes, and parts that would drift apart.
    """
    if parts and num_processes() > 1:
        raise UserError(f"{', '.join(parts)}: trains in one process so far; start it without torchrun")


def make_sampler(asked: Optimization, data: TrainingCrops, seed: int, views: int = 0) -> Sampler:
    """The sampler that is asked for over the training crops.

    Args:
        views: how many views of a crop there are, shown in turn; 0 is one for each time.

    Raises:
        UserError: as `training.samplers`.
    """
    if asked.sampler == "balanced":
        sample = samplers.balanced(data.labels, asked.batch, asked.per_person, seed)
    elif asked.sampler == "sqrt":
        sample = samplers.square_root(data.labels, asked.batch, seed)
    else:
        sample = samplers.shuffled(len(data.train), asked.batch, seed)
    return samplers.in_turn(sample, views) if views else sample


def batch_loader(
    data: TrainingCrops,
    contract: Contract,
    sample: Sampler,
    seed: int,
    *,
    augment: Augment = "plain",
    teacher: Contract | None = None,
    kept: Callable[[Array, Array], Array] | None = None,
) -> Callable[[int], Batch]:
    """A pure function from step to batch; several threads may call it. Of several processes each gets its part.

    Args:
        augment: the kind of views, as `crops.views.view_batch`.
        teacher: of the network that is to see the same views.
        kept: crops and view numbers, int64[B] each -> float32[B, D]: what a teacher said of them, in place of that.
    """

    def load(step: int) -> Batch:
        places, numbers = (np.array_split(whole, num_processes())[rank()] for whole in sample(step))
        views = view_batch(data.train, seed, places, numbers, augment)
        return Batch(
            images_BCHW=torch.from_numpy(to_input(views, contract, template=data.train.template)),
            labels_B=torch.from_numpy(data.labels[places]),
            crop_ids=tuple(data.train.ids[i] for i in places),
            teacher_images_BCHW=None
            if teacher is None or kept is not None
            else torch.from_numpy(to_input(views, teacher, template=data.train.template)),
            teacher_BD=None if kept is None else torch.from_numpy(kept(places, numbers)),
            step=step,
        )

    return load
