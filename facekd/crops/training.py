"""The crops that a training learns from, and those that it never sees."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facekd.core.types import Array
from facekd.crops.cropset import CropSet
from facekd.crops.drop import without
from facekd.crops.read import merge, read_crops
from facekd.crops.splits import classes, frequent, refuse_twins, split_identities
from facekd.errors import UserError

MOST_JUDGED = 1024  # held-out crops judged during a run; more would cost more than they tell


@dataclass(frozen=True, slots=True)
class TrainingCrops:
    """Crops to learn from and crops that no training sees."""

    train: CropSet
    held: CropSet
    judged: CropSet  # those of `held` that are judged while training: at most MOST_JUDGED, person by person
    names: tuple[str, ...]  # identities of `train`, the classes
    labels: Array  # int64[len(train)], -1 where a crop has no identity
    shared: int  # identities, trained or held out, that lie in more than one of the sets
    dropped: int  # crops that a list of --drop names
    idle: int  # rows of such lists that name no crop of the sets

    def said(self) -> str:
        """What it holds, in a line."""
        nameless = int((self.labels < 0).sum())
        parts = [
            f"{len(self.train)} crops" + (f" ({nameless} without identity)" if self.names and nameless else ""),
            f"{len(self.names)} identities",
            f"{len(self.held)} crops held out",
        ]
        if self.shared:
            parts.append(f"{self.shared} names lie in several sets and are taken as one person each")
        if self.dropped or self.idle:
            parts.append(f"{self.dropped} crops dropped ({self.idle} rows of --drop name none)")
        return ", ".join(parts)


def read_training_crops(
    data: list[Path], held_out: float, seed: int, minimum: int = 2, drop: list[Path] | None = None
) -> TrainingCrops:
    """Read crops into one label space and split them by identity; where there are none, by crop.

    The same identity name in two sets is the same person; names that differ only by case or Unicode form are
    refused. Crops without identity train beside those with one. Identities with fewer than `minimum` crops are left
    out: a class of one photo teaches nothing about what stays the same between two.

    Args:
        drop: lists of crops and people to do without, as `crops.drop` reads them.

    Raises:
        UserError: as `crops.read`, `crops.drop` and `crops.splits`; a share, a seed or a minimum out of range; or
            fewer than two people.
    """
    if not 0 <= held_out < 1:
        raise UserError(f"held out share {held_out}: use a number from 0 up to, but not, 1")
    if seed < 0:
        raise UserError(f"--seed {seed}: use a whole number from 0 up")
    if minimum < 1:
        raise UserError(f"--minimum {minimum}: use 1 or more photos of a person")
    sets = [read_crops(path) for path in data]
    crops = merge(sets)
    whole, idle = len(crops), 0
    for path in drop or []:
        crops, unknown = without(crops, path)
        idle += unknown
    dropped = whole - len(crops)
    occurrences = Counter(name for part in sets for name in set(part.identities) - {None})
    shared = sum(count > 1 for count in occurrences.values())
    people = {name for name in crops.identities if name is not None}
    refuse_twins({path: people.intersection(part.identities) for path, part in zip(data, sets, strict=True)})
    if people:
        nameless = np.flatnonzero([name is None for name in crops.identities])
        kept = np.sort(np.concatenate([frequent(crops.identities, minimum), nameless]))
        crops = crops.take(kept)
        if len(people) == 1:
            raise UserError(
                f"{data[0]}: all its identities are one, {people.pop()!r}; telling people apart takes photos of two or "
                "more"
            )
        if len(set(crops.identities) - {None}) < 2:
            raise UserError(
                f"{data[0]}: fewer than two identities have {minimum} crops; give more photos of each person"
            )
        train, held = split_identities(crops.identities, held_out, seed)
    else:
        order = np.random.default_rng(seed).permutation(len(crops))
        count = min(round(len(crops) * held_out), MOST_JUDGED)
        train, held = np.sort(order[count:]), np.sort(order[:count])
    by_person = sorted(held.tolist(), key=lambda i: crops.identities[i] or "")
    judged = np.sort(np.array(by_person[:MOST_JUDGED], np.int64))
    train_set = crops.take(train)
    names, labels = classes(train_set.identities)
    return TrainingCrops(train_set, crops.take(held), crops.take(judged), names, labels, shared, dropped, idle)
