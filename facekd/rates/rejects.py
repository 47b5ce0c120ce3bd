"""Error versus reject: does a quality number point out the pairs that fail?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facekd.core.types import Array
from facekd.rates.counts import check_scores


@dataclass(frozen=True, slots=True)
class Kept:
    """The errors of the pairs that are left after those of lowest quality were rejected."""

    rejected: float  # share of all pairs; at most the share asked, less where pairs tie at the cut
    fnmr: float | None  # None where no genuine pair is left
    far: float | None
    n_genuine: int
    n_impostor: int


def error_vs_reject(
    values: Array, same: Array, quality: Array, threshold: float, shares: Sequence[float]
) -> list[Kept]:
    """FNMR and FAR at a fixed threshold after each share of the pairs is rejected, those of lowest quality first.

    Pairs of equal quality are rejected together or not at all, so the order of the list has no say.

    Args:
        values: float[P], scores; -inf for a pair without one.
        same: bool[P].
        quality: float[P], of a pair that of its worse side; higher is better, -inf where a photo gave no crop.
        shares: in [0, 1).

    Source: P. Grother, E. Tabassi, "Performance of biometric quality measures", PAMI 29(4), 2007.
    """
    values, same = check_scores(values, same)
    assert quality.shape == values.shape, quality.shape
    assert not np.isnan(quality).any()
    accepted = values >= threshold
    rising = np.sort(quality)
    found = []
    for share in shares:
        kept = quality >= rising[int(share * len(rising))]
        genuine, impostor = kept & same, kept & ~same
        found.append(
            Kept(
                rejected=1 - float(kept.mean()),
                fnmr=float((~accepted[genuine]).mean()) if genuine.any() else None,
                far=float(accepted[impostor].mean()) if impostor.any() else None,
                n_genuine=int(genuine.sum()),
                n_impostor=int(impostor.sum()),
            )
        )
    return found
