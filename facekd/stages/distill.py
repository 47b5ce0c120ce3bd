"""facekd distill: a teacher and crops in, a MobileFaceNet student out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from facekd.errors import UserError
from facekd.stages.cache import HOME, fill_cache
from facekd.stages.console import progress, say
from facekd.stages.distill_terms import (
    Seen,
    Tools,
    check_weights,
    fit_terms,
    make_state,
    read_ramps,
    read_resolution,
    read_terms,
    term_table,
)
from facekd.stages.label_heads import HeadName, check_head
from facekd.stages.teacher import Trained
from facekd.stages.training_run import OptimizerName, SamplerName

if TYPE_CHECKING:
    from torch import Tensor

    from facekd.core.types import Array
    from facekd.crops.cropset import CropSet
    from facekd.teachers.teacher import Teacher
    from facekd.training.loop import Batch


def distill(
    *,
    data: list[Path],
    teacher: Path | None = None,
    contract: Path | None = None,
    out: Path | None = None,
    net: str = "mobilefacenet",
    dim: int = 128,
    activation: Literal["prelu", "relu"] = "prelu",
    term: list[str] | None = None,
    ramp: list[str] | None = None,
    temperature: float = 4.0,
    top_k: int = 0,
    weights_decay: float = 0.0,
    label_head: HeadName = "softmax",
    margin: float | None = None,
    scale: float | None = None,
    epochs: float = 20,
    batch: int = 64,
    lr: float = 0.1,
    optimizer: OptimizerName = "sgd",
    sampler: SamplerName = "shuffled",
    per_person: int = 4,
    views: int = 0,
    cache: Path = HOME,
    ema: float = 0.0,
    weight_decay: float = 4e-5,
    resolution: list[str] | None = None,
    compile: bool = False,
    teacher_backend: Literal["onnxruntime", "openvino"] | None = None,
    held_out: float = 0.15,
    drop: list[Path] | None = None,
    seed: int = 0,
    quiet: bool = False,
) -> Trained:
    """Train a student on what a teacher says of each view, on labels, or on both: a weighted sum of terms.

    On labels: labels. On the teacher's logits, which a facekd teacher has whose identities are those of the data:
    logits, hard, sigmoid, dkd, gkd. On its embeddings, which any teacher has: embedding, embedding_raw, cosine, huber.
    On how embeddings stand to each other, under torchrun within each process's part of a batch: rkd_distance,
    rkd_angle, similarity, ekd. On class centres: proxyless, adadistill. On the teacher's weights: weights.

    Without --term it is labels=1, logits=1, embedding=10, or those of them that data and teacher can carry. Crops
    without identities count for the terms that need none. Without a teacher the labels alone train the student: the
    control.

    A killed run goes on where its last checkpoint is when the same command, with the same --out, or --resume RUN
    is given.

    Example: facekd distill --teacher runs/teacher --data crops/ --term embedding=128 --out runs/student

    Args:
        data: Crop store, image Parquet or .rec; give it again for more. One name in two of them is one person.
        teacher: Run folder of a trained teacher, or an ONNX embedder.
        contract: What an ONNX teacher expects of a crop, where facekd does not know it.
        out: The run folder.
        net: One of the networks of 'facekd nets'.
        dim: Length of the embedding; the paper's is 128, 512 stays under 1.2 M parameters.
        activation: Of MobileFaceNet: prelu is the paper's, relu is quicker on some runtimes.
        term: NAME=WEIGHT of a term, such as embedding=128; give it again for more.
        ramp: NAME=SHARE of the run over which a term's weight rises from zero; give it again for more.
        temperature: T that softens both sides' logits in logits, dkd and gkd.
        top_k: Logits are compared on the teacher's likeliest K classes, dkd excepted; 0 is all.
        weights_decay: Of the term weights: it adds this half times the square of the shared weights.
        label_head: What labels are learnt by; all but softmax work on cosines, see 'facekd train-teacher'.
        margin: Of the label head: radians, for cosface a difference of cosines; the paper's unless given.
        scale: Of the label head: the factor on cosines; 64 unless given.
        epochs: Times each crop is seen, each time as another view.
        batch: Crops in a step.
        lr: Highest learning rate.
        weight_decay: On convolutions and linear layers.
        optimizer: sgd with momentum, or adamw, which wants a --lr of about 0.001.
        sampler: shuffled: each crop alike; balanced: each person alike, several crops of one in a batch; sqrt: halfway.
        per_person: Crops of one person in a balanced batch.
        views: Views of a crop, shown in turn, of which the teacher's embeddings are kept; 0 is a new one each time.
        cache: Where 'facekd cache build' and --views keep them.
        ema: Decay of a running average of the weights, such as 0.999, that is kept in place of the last; 0 is none.
        resolution: SIDE=SHARE of the run in which the student sees images of fewer pixels, such as 64=0.6; give it
            again for a next part. MobileFaceNet only; the rest of the run is of full size.
        compile: Train through torch.compile: a minute of waiting, then quicker steps. Needs a C++ compiler.
        teacher_backend: What runs an ONNX teacher; onnxruntime unless given. openvino can be much quicker.
        held_out: Share of the identities (of the crops, where they have none) that training never sees.
        drop: CSV of crops or people to do without, as leak and audit write; give it again for more.
        seed: Of the split, the initialisation, the order and the views.
        quiet: Print nothing.
    """
    import torch
    from accelerate import Accelerator

    from facekd.core.contract import Contract
    from facekd.nets import build
    from facekd.nets.cost import num_macs, num_parameters
    from facekd.nets.heads import Head
    from facekd.stages.training_run import batch_loader, begin, make_plan, make_sampler, one_process, read_training_data
    from facekd.stages.training_walk import embed_crops, held_out_rates, save_trained, train
    from facekd.teachers.teacher import load_teacher
    from facekd.training.parallel import num_processes, rank
    from facekd.training.schedule import ramp as rise
    from facekd.training.schedule import side_at
    from facekd.training.speed import compiled

    if contract is not None and teacher is None:
        raise UserError(f"--contract {contract}: is for a teacher; give --teacher too, or leave it out")
    if views < 0 or (views and teacher is None):
        raise UserError(f"--views {views}: keeps what a teacher says of so many views; give --teacher too, or 0")
    asked = read_terms(term)
    check_head(label_head, margin, scale)
    _check_numbers(temperature, top_k, weights_decay)
    accelerator = Accelerator()
    device = accelerator.device
    quiet = quiet or rank() > 0
    crops = read_training_data(data, held_out, seed, drop=drop)
    plan = make_plan(
        len(crops.train), epochs=epochs, batch=batch, lr=lr, weight_decay=weight_decay, optimizer=optimizer, ema=ema
    )
    sample = make_sampler(sampler, crops, batch, per_person, seed, views)
    master = None if teacher is None else load_teacher(teacher, contract, device, teacher_backend)
    terms = fit_terms(asked, master, crops.names, data[0])
    ramps = read_ramps(ramp, terms)
    phases = read_resolution(resolution, net, crops.train.size)
    judged_taught = None if master is None else _teach(master, crops.judged, quiet)
    spec = Contract(dim=dim, size=crops.train.size, template=crops.train.template)
    torch.manual_seed(seed)
    student = build(net, dim=dim, size=spec.size, activation=activation).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    table = term_table()
    needs = frozenset[str]().union(*(table[name].needs for name in terms))
    rises = {name: round(ramps.get(name, 0) * plan.steps) for name in terms}
    _refuse_unused(needs, top_k, weights_decay, label_head)
    names = crops.names or (() if master is None else master.identities)  # the classes, also of crops without people
    modules: dict[str, torch.nn.Module] = {"net": student}
    head = Head(label_head, dim, len(names), margin, scale) if "head" in needs else None
    if head is not None:
        modules["head"] = head
        margin, scale = head.margin, head.scale
    # Where the dimensions differ, the student learns to be mapped onto the teacher; the map is never exported.
    projection: torch.nn.Module = torch.nn.Identity()
    if "map" in needs and master is not None and master.contract.dim != dim:
        projection = torch.nn.Linear(dim, master.contract.dim, bias=False)
        modules["projection"] = projection
    if "net" in needs and master is not None:
        check_weights(student, head, master)
    state = {name: module.to(device) for name, module in make_state(terms, len(names), master).items()}
    modules |= state
    one_process([*(f"--term {name}" for name in state), *(["--label-head adaface"] if label_head == "adaface" else [])])
    tools = Tools(student, head, master, temperature, top_k, weights_decay, state)

    # Begun only once every setting is known to be good: a run folder refuses other settings.
    term = [f"{name}={weight:.12g}" for name, weight in terms.items()]
    ramp = [f"{name}={share:.12g}" for name, share in ramps.items()] or None
    config = {k: v for k, v in locals().items() if k in CONFIG}
    out = begin(out, "distill", config, (*data, *filter(None, [teacher, contract])))
    say(
        f"{net}: {num_parameters(student) / 1e6:.2f} M parameters, {num_macs(student, spec.size) / 1e6:.0f} M MACs; "
        f"{crops.said()}; learns from {', '.join(f'{weight:g} {name}' for name, weight in terms.items())}",
        quiet,
    )

    forward: Callable[[Tensor], Tensor] = student
    if compile:
        side = phases[0][0] if phases else spec.size
        example = torch.zeros(batch // num_processes(), 3, side, side, device=device)
        forward = compiled(student, example.to(memory_format=torch.channels_last), lambda line: say(line, quiet))

    def see(batch: Batch) -> Seen:
        images_BCHW = batch.images_BCHW
        side = side_at(batch.step, plan.steps, phases, spec.size)
        if side != spec.size:
            images_BCHW = torch.nn.functional.interpolate(images_BCHW, (side, side), mode="area")
        embeddings = forward(images_BCHW.contiguous(memory_format=torch.channels_last)).float()
        outputs = logits = taught = taught_logits = None
        if head is not None:
            outputs = head(embeddings).float()
            logits = head.logits(outputs)
        if batch.teacher_BD is not None:
            taught = batch.teacher_BD
        elif master is not None and batch.teacher_images_BCHW is not None:
            taught = master.embed(batch.teacher_images_BCHW)
        if master is not None and taught is not None and "logits" in needs:
            taught_logits = master.logits(taught).float()
        return Seen(embeddings, projection(embeddings).float(), batch.labels_B, outputs, logits, taught, taught_logits)

    def loss(batch: Batch) -> Mapping[str, Tensor]:
        seen = see(batch)
        with torch.autocast(device.type, enabled=False):  # terms are sums of small differences
            return {
                name: weight * rise(batch.step, rises[name]) * table[name].loss(seen, tools)
                for name, weight in terms.items()
            }

    def evaluate(judged: torch.nn.Module) -> Mapping[str, float]:
        vectors = embed_crops(judged, crops.judged, spec)
        rates = held_out_rates(vectors, crops.judged.identities)
        if judged_taught is not None and "map" in needs and len(vectors):
            with torch.no_grad():
                mapped = projection(torch.from_numpy(vectors).to(device)).cpu()
            cosine = torch.nn.functional.cosine_similarity(mapped, torch.from_numpy(judged_taught))
            rates["held_out_cosine"] = float(cosine.mean())
        return rates

    about = {
        "net": f"{net} {activation}",
        "dim": str(dim),
        "data": crops.train.digest(),
        "teacher": "none" if master is None else master.contract.model_id,
        "resolution": f"{phases}",
        "terms": f"{terms} {ramps} T={temperature:g} top_k={top_k} weights_decay={weights_decay:g}",
        "head": "none" if head is None else f"{label_head} margin={margin} scale={scale}",
        "batch": f"{batch} {sampler} {per_person} {views}",
        "seed": str(seed),
    }
    kept = None
    if master is not None and views:
        with accelerator.main_process_first():  # the others find it filled
            kept = fill_cache(master, crops.train, seed, views, cache, quiet)[0].rows
    seen_by = None if master is None else master.contract
    load = batch_loader(crops, spec, sample, seed, teacher=seen_by, kept=kept)
    trained = train(out, modules, loss, load, plan, about, evaluate, label="student", quiet=quiet)
    spec = save_trained(out, net, trained, spec)
    say(f"{out}: student trained; next: facekd export {out} model.onnx", quiet)
    return Trained(out, spec.model_id)


CONFIG = (
    "data", "teacher", "contract", "out", "net", "dim", "activation", "term", "ramp", "temperature", "top_k",
    "weights_decay", "label_head", "margin", "scale", "epochs", "batch", "lr", "weight_decay", "optimizer",
    "sampler", "per_person", "views", "cache", "ema", "resolution", "compile", "teacher_backend", "held_out", "drop",
    "seed",
)  # fmt: skip


def _check_numbers(temperature: float, top_k: int, weights_decay: float) -> None:
    if not 0 < temperature < math.inf:
        raise UserError(f"--temperature {temperature}: use a number above zero, such as 4")
    if top_k < 0 or top_k == 1:
        raise UserError(f"--top-k {top_k}: use 2 classes or more, or 0 for all of them")
    if not 0 <= weights_decay < math.inf:
        raise UserError(f"--weights-decay {weights_decay}: use zero or a number above it")


def _refuse_unused(needs: frozenset[str], top_k: int, weights_decay: float, label_head: HeadName) -> None:
    unused = [
        (top_k > 0 and not {"logits", "head"} <= needs, f"--top-k {top_k}", "logits=1"),
        (weights_decay > 0 and "net" not in needs, f"--weights-decay {weights_decay:g}", "weights=0.001"),
        (label_head != "softmax" and "head" not in needs, f"--label-head {label_head}", "labels=1"),
    ]
    for wrong, flag, example in unused:
        if wrong:
            raise UserError(f"{flag}: no term of this run uses it; add --term {example}, or leave it out")


def _teach(teacher: Teacher, crops: CropSet, quiet: bool, batch: int = 64) -> Array:
    """float32[N, D]: what the teacher says of stored crops, without views."""
    import numpy as np
    import torch

    from facekd.core.pixels import to_input

    taught = [np.zeros((0, teacher.contract.dim), np.float32)]
    for start in progress(range(0, len(crops), batch), len(crops), "teacher on held-out crops", quiet, unit=batch):
        indices = np.arange(start, min(start + batch, len(crops)))
        inputs = to_input(crops.batch(indices), teacher.contract, template=crops.template)
        taught.append(teacher.embed(torch.from_numpy(inputs)).cpu().numpy())
    return np.concatenate(taught)
