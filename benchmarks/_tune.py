"""A pruned teacher that learns again as the student learned, and the ONNX file it becomes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _prune import cut_to, masks_to, nonzero, sparse_size, zero
from accelerate import Accelerator

from facekd.console import progress
from facekd.core.contract import Contract
from facekd.core.files import write_bytes
from facekd.core.pixels import to_input, unit
from facekd.crops.training import TrainingCrops
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.export import prepared, serialized
from facekd.deploy.traced import to_onnx
from facekd.engines.local import map_ordered
from facekd.losses.distillation import embedding_mse
from facekd.nets.cost import num_parameters
from facekd.nets.iresnet import IResNet
from facekd.nets.onnx_cost import onnx_macs
from facekd.nets.saved import digest, load_model
from facekd.recipes.cache import fill_cache
from facekd.recipes.plan import batch_loader, make_sampler
from facekd.settings.training import Optimization
from facekd.teachers.teacher import load_teacher
from facekd.training.checkpoint import restore, save_checkpoint
from facekd.training.loop import Batch, Plan, fit, make_optimizer
from facekd.training.norms import settle_norms

SETTLING = 8  # batches over which the norms' statistics are taken
WEIGHT = 10.0  # of the embedding term
CHECKPOINT_SECONDS = 120.0

Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Recipe:
    """What the student had."""

    teacher: Path  # that is pruned, and that teaches
    data: TrainingCrops
    settings: Mapping[str, Any]  # of the student's run
    steps: int
    lr: float


def pruned(recipe: Recipe, way: str, size: int, graph: int, tuned: bool) -> Callable[[Path], Facts]:
    """Write the teacher pruned to `size` bytes, fine-tuned or not.

    Args:
        way: channels or weights.
        graph: of these bytes, those that are not numbers.
    """

    def make(path: Path) -> Facts:
        saved = load_model(recipe.teacher)
        net = saved.net
        assert isinstance(net, IResNet)
        facts: Facts = {"budget_bytes": size, "steps": recipe.steps if tuned else 0}
        masks: dict[str, torch.Tensor] = {}
        if way == "channels":
            small = cut_to(net, size - graph)
            if small is None:
                return facts | {"refused": f"its fewest channels take more than {size} bytes"}
            net, facts["share_of_channels"] = small
        else:
            sparse = masks_to(net, size - graph)
            if sparse is None:
                return facts | {"refused": f"one weight a layer takes more than {size} bytes"}
            masks = sparse
            zero(net, masks)
            facts["share_of_numbers"] = nonzero(net, masks) / num_parameters(net)
        learn(recipe, net, masks, saved.contract, path.with_suffix(".checkpoint") if tuned else None)
        write_network(net, saved.contract, path, recipe.data)
        facts |= cost_of(path)
        if masks:
            facts |= {"bytes": graph + sparse_size(net, masks), "parameters": nonzero(net, masks)}
            facts["bytes_as_it_runs"] = path.stat().st_size
        return facts

    return make


def learn(
    recipe: Recipe, net: torch.nn.Module, masks: Mapping[str, torch.Tensor], contract: Contract, kept_at: Path | None
) -> None:
    """Train `net` toward the teacher's embeddings of the student's views, then settle its norms.

    Args:
        contract: the teacher's, which is the pruned network's too: both take the same images.
        kept_at: where the training goes on after a stop; None settles the norms alone.
    """
    accelerator = Accelerator()
    device = accelerator.device
    data, settings = recipe.data, recipe.settings
    seed, batch, views = settings["seed"], settings["batch"], settings["views"]
    augment = settings.get("augment", "plain")
    sample = make_sampler(
        Optimization(sampler=settings["sampler"], batch=batch, per_person=settings["per_person"]), data, seed, views
    )
    # With channels cut to 4, 12, 24 or 44, oneDNN's backward of channels_last writes past its memory (torch 2.13).
    layout = torch.channels_last if masks else torch.contiguous_format
    net.to(device, memory_format=layout)

    def images(one: Batch) -> torch.Tensor:
        return one.images_BCHW.to(device, memory_format=layout)

    if kept_at is not None:
        master = load_teacher(recipe.teacher, None, device)
        kept = None
        if views:
            home = Path(settings["cache"])
            kept = fill_cache(master, data.train, seed, views, home, False, augment=augment)[0].rows
        load = batch_loader(data, contract, sample, seed, augment=augment, teacher=contract, kept=kept)
        steps = recipe.steps
        plan = Plan(steps=steps, warmup=max(1, steps // 10), peak_lr=recipe.lr, weight_decay=4e-5, optimizer="adamw")
        modules = {"net": net}
        optimizer = accelerator.prepare(make_optimizer(modules, plan))
        about = {"numbers": str(nonzero(net, masks)), "steps": str(steps), "lr": str(recipe.lr)}
        start = restore(kept_at, modules, optimizer, about)

        def loss(one: Batch) -> Mapping[str, torch.Tensor]:
            taught = one.teacher_BD.to(device) if kept is not None else master.embed(one.teacher_images_BCHW)
            return {"embedding": WEIGHT * embedding_mse(net(images(one)).float(), taught)}

        batches = map_ordered(load, range(start, steps), workers=1)
        saved = time.monotonic()
        for row in progress(fit(modules, optimizer, batches, loss, plan, start, accelerator), steps, kept_at.stem):
            zero(net, masks)
            if time.monotonic() - saved > CHECKPOINT_SECONDS or row["step"] == steps:
                save_checkpoint(kept_at, int(row["step"]), modules, optimizer, about)
                saved = time.monotonic()
    plain = batch_loader(data, contract, sample, seed, augment=augment)
    settle_norms(net, (images(plain(step)) for step in range(SETTLING)))
    net.cpu().eval()


def write_network(net: torch.nn.Module, contract: Contract, path: Path, data: TrainingCrops) -> None:
    """A network as `facekd export` would write it, compared with what torch gives."""
    own = replace(contract, weights_sha256=digest(dict(net.state_dict())))
    made = prepared(to_onnx(net, own), own, "fp32", None, None)
    write_bytes(path, serialized(made, own, own, "fp32", {}))
    crops = data.train.batch(np.arange(8))
    with torch.no_grad():
        wanted = unit(net(torch.from_numpy(to_input(crops, own))).numpy())
    least = float((CropEmbedder.load(path).embed(crops) * wanted).sum(1).min())
    assert least > 0.9999, (path, least)


def cost_of(path: Path) -> Facts:
    """Bytes, numbers and multiply-adds of an ONNX file."""
    embedder = CropEmbedder.load(path)
    size = embedder.contract.size
    macs = onnx_macs(path, (1, 3, size, size))
    return {"bytes": path.stat().st_size, "parameters": embedder.network.parameters, "macs": macs}
