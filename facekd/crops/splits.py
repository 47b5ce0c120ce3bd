"""Splits by identity: no person is on both sides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from facekd.core.types import Array
from facekd.errors import UserError


def split_identities(identities: Sequence[str | None], held_out: float, seed: int) -> tuple[Array, Array]:
    """Places of the training crops and of the held-out crops.

    Which identities are held out depends on their names and `seed` alone: they are ranked by a hash, so the
    split is the same on every machine. Crops without an identity train.

    Args:
        held_out: share of the identities, in [0, 1).

    Returns:
        Two int64 arrays, ascending.

    Raises:
        UserError: another share, or too few identities for both sides.
    """
    if not 0 <= held_out < 1:
        raise UserError(f"held out share {held_out}: use a number from 0 up to, but not, 1")
    names = sorted({name for name in identities if name is not None})
    count = round(len(names) * held_out)
    if held_out > 0 and (count < 2 or len(names) - count < 2):
        raise UserError(
            f"{len(names)} identities are too few to hold out {held_out:.0%} of them: at least two must be on each side"
        )
    ranked = sorted(names, key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    held = set(ranked[:count])
    is_held = np.array([name in held for name in identities], bool)
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def classes(identities: Sequence[str | None]) -> tuple[tuple[str, ...], Array]:
    """The identities in order of their names, and int64[N] labels; -1 where a crop has no identity."""
    names = tuple(sorted({name for name in identities if name is not None}))
    place = {name: i for i, name in enumerate(names)}
    return names, np.array([-1 if name is None else place[name] for name in identities], np.int64)


def frequent(identities: Sequence[str | None], minimum: int) -> Array:
    """Places of the crops whose identity has at least `minimum` crops; int64, ascending."""
    counts = Counter(identities)
    return np.flatnonzero([name is not None and counts[name] >= minimum for name in identities])
