"""The pairs that a model finds hardest, as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from facekd.crops.cropset import CropSet
    from facekd.evaluation.model_rates import Judged
    from facekd.reports.document import Pictures

HARDEST = 8  # pairs shown of each kind


def hardest(one: Judged, crops: CropSet) -> list[Pictures]:
    """The least alike genuine and the most alike impostor pairs, as pictures."""
    import numpy as np

    from facekd.core.pixels import encode_crop
    from facekd.reports.document import Picture, Pictures

    place = {crop_id: i for i, crop_id in enumerate(crops.ids)}
    scores = one.scores
    found = []
    for same, caption in ((True, "Genuine pairs that score lowest"), (False, "Impostor pairs that score highest")):
        of_kind = np.flatnonzero((scores.same == same) & np.isfinite(scores.values))
        order = np.argsort(scores.values[of_kind], kind="stable")
        chosen = of_kind[order if same else order[::-1]][:HARDEST]
        items = [
            Picture(encode_crop(crops.pixels(crop)), f"{scores.values[pair]:.3f} {crops.sources[crop]}")
            for pair in chosen
            for crop in (place[scores.left[pair]], place[scores.right[pair]])
        ]
        found.append(Pictures(f"{caption}, by {one.name}; two neighbours are one pair", tuple(items)))
    return found
