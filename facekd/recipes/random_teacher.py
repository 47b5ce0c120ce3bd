"""The random teacher of 'facekd sweep': what a teacher's own knowledge adds is what it is better than this one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from facekd.core.contract import Contract
from facekd.core.pixels import to_input
from facekd.crops.cropset import CropSet
from facekd.nets import build
from facekd.nets.heads import HEAD, Head, save_head
from facekd.nets.saved import MODEL, digest, load_model, save_model
from facekd.teachers.teacher import Teacher
from facekd.training.norms import settle_norms

STAND_IN = "mobilefacenet"  # in place of an ONNX file, whose architecture is not ours to build
BATCH, BATCHES = 32, 8  # crops that its norms are settled on


def save_random_teacher(folder: Path, teacher: Teacher, crops: CropSet, seed: int) -> None:
    """An untrained network of a teacher's architecture, its norms settled on crops, and as untrained a head."""
    taught = teacher.contract
    known = None if teacher.net is None else load_model(teacher.path)  # it draws numbers too, so before the seed
    torch.manual_seed(seed + 1)  # with the seed itself it would be a student of its architecture before the first step
    if known is None:
        name, spec = STAND_IN, Contract(dim=taught.dim, size=taught.size, template=taught.template)
        net = build(name, dim=spec.dim, size=spec.size)
    else:
        name, spec = known.name, replace(taught, weights_sha256="")
        net = build(name, dim=spec.dim, size=spec.size, activation=str(getattr(known.net, "activation", "prelu")))
    # Untrained norms would let nearly all crops fall on one direction: a constant teaches less than noise does.
    drawn = np.random.default_rng(seed).permutation(len(crops))[: BATCH * BATCHES]
    batches = np.array_split(drawn, max(1, len(drawn) // BATCH))
    settle_norms(net, (torch.from_numpy(to_input(crops.batch(b), spec, template=crops.template)) for b in batches))
    net.eval()
    head = None
    if teacher.head is not None:
        kind = teacher.head
        head = Head(kind.name, spec.dim, len(teacher.identities), kind.margin, kind.scale)
    spec = replace(spec, weights_sha256=digest({f"net.{key}": value for key, value in net.state_dict().items()}))
    if head is not None:
        save_head(folder / HEAD, head, teacher.identities, spec.model_id)
    save_model(folder / MODEL, name, net, spec)  # last: where it lies the head does
