"""facekd distill: a teacher and crops in, a MobileFaceNet student out."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.core.run import default_out, refuse_other_run, start_run
from facekd.errors import UserError
from facekd.stages.console import progress, say
from facekd.stages.teacher import Trained

if TYPE_CHECKING:
    from torch import Tensor

    from facekd.core.types import Array
    from facekd.crops.read import CropSet
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
    labels: float = 1.0,
    logits: float = 1.0,
    temperature: float = 4.0,
    embedding: float = 10.0,
    epochs: float = 20,
    batch: int = 64,
    lr: float = 0.1,
    weight_decay: float = 4e-5,
    held_out: float = 0.15,
    seed: int = 0,
    quiet: bool = False,
) -> Trained:
    """Train a student on what a teacher says of each view: its softened logits and its embedding.

    The loss is labels * cross-entropy + logits * T² KL(teacher ‖ student) + embedding * ‖ŝ − t̂‖². Logits need a
    facekd teacher whose identities are those of the data; an ONNX teacher gives its embedding only; crops
    without identities leave the label term out. Without a teacher the labels alone train the student: the control.

    A killed run goes on where its last checkpoint is when the same command, with the same --out, or --resume RUN
    is given.

    Example: facekd distill --teacher runs/teacher --data crops/ --out runs/student

    Args:
        data: Crop store or image Parquet; give it again for more.
        teacher: Run folder of a trained teacher, or an ONNX embedder.
        contract: What an ONNX teacher expects of a crop, where facekd does not know it.
        out: The run folder.
        net: One of the networks of facekd.nets.
        dim: Length of the embedding; the paper's is 128, 512 stays under 1.2 M parameters.
        labels: Weight of softmax cross-entropy on the identities.
        logits: Weight of the teacher's softened logits.
        temperature: T that softens both sides' logits.
        embedding: Weight of the squared distance between unit embeddings.
        epochs: Times each crop is seen, each time as another view.
        batch: Crops in a step.
        lr: Highest learning rate.
        weight_decay: On convolutions and linear layers.
        held_out: Share of the identities (of the crops, where they have none) that training never sees.
        seed: Of the split, the initialisation, the order and the views.
        quiet: Print nothing.
    """
    import torch
    from accelerate import Accelerator

    from facekd.core.contract import Contract
    from facekd.losses.distillation import embedding_mse, softened_logits
    from facekd.losses.softmax import softmax_cross_entropy
    from facekd.nets import build
    from facekd.nets.cost import num_macs, num_parameters
    from facekd.nets.saved import MODEL, save_model
    from facekd.stages.training_run import (
        batch_loader,
        embed_crops,
        held_out_rates,
        make_plan,
        read_training_data,
        train,
    )
    from facekd.teachers.teacher import load_teacher

    if contract is not None and teacher is None:
        raise UserError(f"--contract {contract}: is for a teacher; give --teacher too, or leave it out")
    if not 0 < temperature < math.inf:
        raise UserError(f"--temperature {temperature}: use a number above zero, such as 4")
    crops = read_training_data(data, held_out, seed)
    plan = make_plan(len(crops.train), epochs=epochs, batch=batch, lr=lr, weight_decay=weight_decay)
    device = Accelerator().device
    master = None if teacher is None else load_teacher(teacher, contract, device)
    terms = _terms(labels, logits, embedding, master, crops.names, data[0])
    judged_taught = None if master is None else _teach(master, crops.judged, quiet)
    spec = Contract(dim=dim, size=crops.train.size, template=crops.train.template)
    torch.manual_seed(seed)
    student = build(net, dim=dim, size=spec.size).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    # Begun only once every setting is known to be good: a run folder refuses other settings.
    out = out or default_out("distill")
    config = {k: v for k, v in locals().items() if k in CONFIG}
    refuse_other_run(out, config)
    start_run(out, "distill", config, inputs=(*data, *filter(None, [teacher, contract])))
    modules: dict[str, torch.nn.Module] = {"net": student}
    head = torch.nn.Linear(dim, len(crops.names)) if {"labels", "logits"} & set(terms) else None
    if head is not None:
        modules["head"] = head
    # Where the dimensions differ, the student learns to be mapped onto the teacher; the map is never exported.
    projection: torch.nn.Module = torch.nn.Identity()
    if "embedding" in terms and master is not None and master.contract.dim != dim:
        projection = torch.nn.Linear(dim, master.contract.dim, bias=False)
        modules["projection"] = projection
    say(
        f"{net}: {num_parameters(student) / 1e6:.2f} M parameters, {num_macs(student, spec.size) / 1e6:.0f} M MACs; "
        f"{len(crops.train)} crops, {len(crops.names)} identities, {len(crops.held)} crops held out; "
        f"learns from {', '.join(f'{weight:g} {name}' for name, weight in terms.items())}",
        quiet,
    )

    def loss(batch: Batch) -> Mapping[str, Tensor]:
        embeddings = student(batch.images_BCHW)
        guessed = None if head is None else head(embeddings)
        found: dict[str, Tensor] = {}
        if guessed is not None and "labels" in terms:
            found["labels"] = terms["labels"] * softmax_cross_entropy(guessed, batch.labels_B)
        if master is not None and batch.teacher_images_BCHW is not None:
            taught = master.embed(batch.teacher_images_BCHW)
            if guessed is not None and "logits" in terms:
                found["logits"] = terms["logits"] * softened_logits(guessed, master.logits(taught), temperature)
            if "embedding" in terms:
                found["embedding"] = terms["embedding"] * embedding_mse(projection(embeddings), taught)
        return found

    def evaluate() -> Mapping[str, float]:
        vectors = embed_crops(student, crops.judged, spec)
        rates = held_out_rates(vectors, crops.judged.identities)
        if judged_taught is not None and "embedding" in terms and len(vectors):
            with torch.no_grad():
                mapped = projection(torch.from_numpy(vectors).to(device)).cpu()
            cosine = torch.nn.functional.cosine_similarity(mapped, torch.from_numpy(judged_taught))
            rates["held_out_cosine"] = float(cosine.mean())
        return rates

    about = {
        "net": net,
        "dim": str(dim),
        "data": crops.train.digest(),
        "teacher": "none" if master is None else master.contract.model_id,
        "terms": f"{terms} T={temperature:g}",
        "batch": str(batch),
        "seed": str(seed),
    }
    load = batch_loader(crops, spec, None if master is None else master.contract, batch, seed)
    train(out, modules, loss, load, plan, about, evaluate, label="student", quiet=quiet)
    spec = save_model(out / MODEL, net, student, spec)
    say(f"{out}: student trained; next: facekd export {out} model.onnx", quiet)
    return Trained(out, spec.model_id)


CONFIG = (
    "data", "teacher", "contract", "out", "net", "dim", "labels", "logits", "temperature", "embedding", "epochs",
    "batch", "lr", "weight_decay", "held_out", "seed",
)  # fmt: skip


def _terms(
    labels: float, logits: float, embedding: float, teacher: Teacher | None, names: tuple[str, ...], data: Path
) -> dict[str, float]:
    """The weights of the terms that this data and teacher can carry.

    Raises:
        UserError: a weight below zero, a teacher whose identities are not the data's, or nothing to learn from.
    """
    for name, weight in (("labels", labels), ("logits", logits), ("embedding", embedding)):
        if not 0 <= weight < math.inf:
            raise UserError(f"--{name} {weight}: use zero or a weight above it")
    terms = {"labels": labels if names else 0.0}
    if teacher is not None:
        terms["embedding"] = embedding
        if teacher.head is not None and names and logits:
            if teacher.identities != names:
                raise UserError(
                    f"{teacher.path}: its head knows {len(teacher.identities)} identities, {data} has {len(names)} "
                    "others; train it on this data with the same --held-out and --seed, or give --logits 0"
                )
            terms["logits"] = logits
    terms = {name: weight for name, weight in terms.items() if weight > 0}
    if not terms:
        raise UserError(f"{data}: nothing to learn from: give --teacher, identities, or a weight above zero")
    if teacher is not None and not {"logits", "embedding"} & set(terms):
        raise UserError(f"{teacher.path}: would teach nothing: give --embedding above zero, or leave --teacher out")
    return terms


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
