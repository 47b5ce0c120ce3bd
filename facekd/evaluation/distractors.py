"""Distractors: people whom no probe shows, by whom a gallery grows until it is as large as MegaFace's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facekd.core.types import Array
from facekd.crops.read import read_crops
from facekd.deploy.embeddings import read_embeddings
from facekd.errors import UserError
from facekd.evaluation.identification import GalleryPlan
from facekd.evaluation.judged import JudgedModel, embed_crops
from facekd.evaluation.search_results import Crowd

SEED = 0  # of their order, in which the gallery grows


@dataclass(frozen=True, slots=True)
class Distractors:
    """Photos that are enrolled for nobody."""

    path: Path
    ids: tuple[str, ...]  # in the order in which they are enrolled
    persons: tuple[str, ...]  # one for each; a photo of nobody named is a person of its own
    left_out: dict[str, int]  # by why
    embedded: bool  # whether `path` is a file of embeddings


def read_distractors(path: Path, plan: GalleryPlan, embedded: bool) -> Distractors:
    """The distractors of a store of crops, or of a file of embeddings, whom no probe and no gallery photo shows.

    Args:
        embedded: whether `path` is a file of embeddings.

    Raises:
        UserError: as `crops.read.read_crops` or `deploy.embeddings.read_embeddings`, or nobody left.
    """
    if embedded:
        stored = read_embeddings(path)
        ids, identities = stored.embeddings.ids, stored.identities
    else:
        crops = read_crops(path)
        ids, identities = crops.ids, crops.identities
    judged = {*plan.gallery_persons, *plan.probe_persons, *plan.missing, *plan.failed_mated, *plan.failed_unmated}
    photos = {*plan.gallery, *plan.probes}
    kept = [
        (crop_id, name)
        for crop_id, name in zip(ids, identities, strict=True)
        if name not in judged and crop_id not in photos
    ]
    if not kept:
        raise UserError(f"{path}: of its {len(ids)} photos none is of a person whom the gallery and probes don't show")
    order = np.random.default_rng(SEED).permutation(len(kept))
    chosen = [kept[k] for k in order]
    persons = tuple(f"photo {crop_id}" if name is None else f"person {name}" for crop_id, name in chosen)
    left_out = {"distractors of judged people": len(ids) - len(kept)} if len(kept) < len(ids) else {}
    return Distractors(path, tuple(crop_id for crop_id, _ in chosen), persons, left_out, embedded)


def crowd_of(found: Distractors, model: JudgedModel, quiet: bool) -> Crowd:
    """The distractors' embeddings by one model.

    Raises:
        UserError: a file of another model's embeddings.
    """
    if found.embedded:
        stored = read_embeddings(found.path, model.model_id).embeddings
        place = {crop_id: k for k, crop_id in enumerate(stored.ids)}
        vectors: Array = stored.vectors[[place[crop_id] for crop_id in found.ids]]
    else:
        assert model.embedder is not None
        vectors = embed_crops(
            f"embed by {model.name}", model.embedder, read_crops(found.path), found.ids, quiet
        ).vectors
    return Crowd(vectors, found.persons)
