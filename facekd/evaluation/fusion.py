"""Several photos as one template: a weighted mean of their unit embeddings, scaled to unit norm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import sparse

from facekd.console import progress
from facekd.core.types import Array, Embeddings
from facekd.errors import UserError
from facekd.evaluation.judged import JudgedModel
from facekd.gallery.people import template_of

TOGETHER = 1024  # photos whose embeddings are in memory at once

Fusion = Literal["mean", "media", "quality"]


def fusion_weights(template: Array, media: Array | None, quality: Array | None, usable: Array, how: Fusion) -> Array:
    """float64[R]: how much each photo counts in its template; of each template with a usable photo they sum to 1.

    ``mean``: each the same. ``media``: the photos of one medium, as a video's frames, count together as one photo.
    ``quality``: as that (without media each photo is its own), times the photo's quality, which is not made up for
    within a medium: a video of bad frames counts less. The last two are insightface's on IJB-B and IJB-C, without and
    with its detector's score (recognition/_evaluation_/ijb).

    Args:
        template: int[R], the template of each row.
        media: int[R], needed for ``media``.
        quality: float64[R], needed for ``quality``.
        usable: bool[R], whether there is an embedding; a row without counts nothing.
    """
    weights = usable.astype(np.float64)
    if how != "mean" and media is not None:
        _, medium = np.unique(media, return_inverse=True)
        _, group = np.unique(template.astype(np.int64) * (int(medium.max()) + 1) + medium, return_inverse=True)
        weights /= np.maximum(np.bincount(group, weights), 1)[group]
    if how == "quality":
        assert quality is not None
        weights *= quality
    total = np.bincount(template, weights)
    return np.asarray(weights / np.where(total > 0, total, 1)[template])


def fused(
    model: JudgedModel,
    crop_ids: Sequence[str],
    crop: Array,
    template: Array,
    weights: Array,
    names: Sequence[str],
    quiet: bool,
) -> Embeddings:
    """The templates that have a photo, as embeddings called by their names. Photos' embeddings are never all kept.

    Args:
        crop_ids: each once.
        crop: int[R], place in `crop_ids` of each row that weighs something.
        template: int[R], place in `names`.
        weights: see `fusion_weights`.

    Raises:
        UserError: embeddings of a template that cancel out.
    """
    rows = np.flatnonzero(weights > 0)
    rows = rows[np.argsort(crop[rows], kind="stable")]
    ends = np.searchsorted(crop[rows], np.arange(0, len(crop_ids) + TOGETHER, TOGETHER))
    totals = np.zeros((len(names), 0))
    for k, start in enumerate(
        progress(range(0, len(crop_ids), TOGETHER), len(crop_ids), f"embed by {model.name}", quiet, unit=TOGETHER)
    ):
        vectors = model.embed(crop_ids[start : start + TOGETHER]).vectors
        if k == 0:
            totals = np.zeros((len(names), vectors.shape[1]))
        here = rows[ends[k] : ends[k + 1]]
        touched, place = np.unique(template[here], return_inverse=True)
        shape = len(touched), len(vectors)
        totals[touched] += sparse.coo_array((weights[here], (place, crop[here] - start)), shape=shape).tocsr() @ vectors
    kept = np.unique(template[rows])
    found = []
    for place in kept.tolist():
        vector = template_of(totals[place])
        if vector is None:
            raise UserError(
                f"{model.name}: the embeddings of template {names[place]!r} cancel out, so it has no direction; leave "
                "it out"
            )
        found.append(vector)
    return Embeddings(np.stack(found), tuple(names[place] for place in kept.tolist()), model.model_id)
