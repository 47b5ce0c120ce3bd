"""A gallery of half of the people whom no training saw, and who is named by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from facekd.core.types import Embeddings
from facekd.crops.cropset import CropSet
from facekd.crops.store import CropStore
from facekd.deploy.embedder import CropEmbedder
from facekd.enrollment.calibration import own_scores, promise
from facekd.enrollment.identification import identify_vectors
from facekd.gallery.gallery import GalleryTable, template_of
from facekd.gallery.meta import GalleryMeta
from facekd.gallery.people import Person


def name_people(
    where: Path, embedder: CropEmbedder, held: CropSet, crops: Path, calibrated: Mapping[float, float]
) -> dict[str, Any]:
    """Enroll every other person with half of their crops, then identify all crops that were not enrolled.

    People that were not enrolled have to come out as unknown. The gallery is left at `where`, and keeps its promise of
    an FPIR there as any other does.

    Args:
        held: two people or more.
        crops: the store of these crops, which says how faces were looked for.
        calibrated: FAR -> cosine of one comparison by this embedder.
    """
    vectors = embedder.embed(held.batch(np.arange(len(held))))
    names = np.array([str(name) for name in held.identities])
    enrolled: list[Person] = []
    probes: list[int] = []
    for number, name in enumerate(sorted(set(names))):
        places = np.flatnonzero(names == name)
        own = places[: len(places) // 2] if number % 2 == 0 else places[:0]
        template = template_of(vectors[own].astype(np.float64).sum(axis=0)) if len(own) else None
        if template is not None:
            enrolled.append(Person(str(name), template, tuple(held.sources[i] for i in own)))
        probes += [int(i) for i in places[len(own) :]]
    aligned = CropStore.open(crops).settings
    meta = GalleryMeta(
        contract=embedder.contract,
        model=str(embedder.network.path.resolve()),
        detector=aligned["detector"],
        min_face=aligned["min_face"],
        weights_sha256=aligned.get("weights_sha256"),
        calibrated=calibrated,
    )
    gallery = GalleryTable.create(where, meta)
    with gallery.writing():
        gallery.upsert(enrolled)
        gallery.keep(replace(meta, own=own_scores(gallery, None)))
    kept = promise(gallery.meta, len(gallery))
    if kept is None:
        return {"skipped": "too few impostor pairs, or people to enroll, for a threshold that keeps an FPIR"}
    known = {person.person_id for person in enrolled}
    sources = [held.sources[i] for i in probes]
    faces = Embeddings(vectors[probes], tuple(held.ids[i] for i in probes), embedder.model_id)
    found = identify_vectors(gallery, faces, sources, kept.named_from).table["person"].to_pylist()
    asked = [(str(held.identities[i]), person) for i, person in zip(probes, found, strict=True)]
    return {
        "threshold": kept.threshold,
        "fpir": kept.fpir,
        "said": kept.said(),
        "people": len(known),
        "probes_of_enrolled": sum(name in known for name, _ in asked),
        "named_right": sum(name in known and found == name for name, found in asked),
        "named_wrong": sum(name in known and found not in (None, name) for name, found in asked),
        "probes_of_strangers": sum(name not in known for name, _ in asked),
        "strangers_unknown": sum(name not in known and found is None for name, found in asked),
    }
