"""Crops dealt out to sites by person, to play a training across sites on one machine."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np

from facekd.crops.splits import classes
from facekd.crops.training import TrainingCrops
from facekd.errors import UserError


def dealt(crops: TrainingCrops, sites: int, seed: int) -> list[TrainingCrops]:
    """The training crops in `sites` parts, each person in one of them; crops without identity are dealt one by one.

    People are ranked by a hash of their names and `seed` and dealt in turn, so the parts are the same everywhere.
    Nobody is held out of a part: the held-out crops are the coordinator's.

    Raises:
        UserError: a site without a crop.
    """
    owners = [name if name is not None else f"\0{one}" for name, one in
              zip(crops.train.identities, crops.train.ids, strict=True)]  # fmt: skip
    ranked = sorted(set(owners), key=lambda name: hashlib.sha256(f"{seed}:site:{name}".encode()).digest())
    site_of = {name: place % sites for place, name in enumerate(ranked)}
    at = np.array([site_of[name] for name in owners], np.int64)
    if len(ranked) < sites:
        raise UserError(f"--simulate {sites}: {crops.train.path} has {len(ranked)} people to train on; use fewer sites")
    nobody = crops.held.take(np.zeros(0, np.int64))
    parts = []
    for site in range(sites):
        train = crops.train.take(np.flatnonzero(at == site))
        names, labels = classes(train.identities)
        parts.append(replace(crops, train=train, held=nobody, judged=nobody, names=names, labels=labels))
    return parts
