"""The faces that are to be clustered: crops, photos or a file of embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facekd.console import progress, say
from facekd.core.calibration import calibration_of
from facekd.core.types import Array, Embeddings
from facekd.crops.cropset import CropSet
from facekd.crops.read import crops_at, read_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.embeddings import read_embeddings
from facekd.deploy.thresholds import model_thresholds, usual_far
from facekd.deploy.vectors import MODEL_ID
from facekd.errors import UserError
from facekd.ingest.embedding import CROPS
from facekd.ingest.photos import load_embedder, own_model
from facekd.settings.clustering import OnePerson
from facekd.settings.photos import ModelFile

SLOW = 20_000  # crops whose embedding takes minutes


@dataclass(frozen=True, slots=True)
class Gathered:
    """Faces of whoever, their embeddings, and the thresholds of the network that made these."""

    embeddings: Embeddings
    sources: tuple[str, ...]  # the photo of each
    crops: CropSet | None  # what they look like, in the same order
    thresholds: Mapping[float, float]  # FAR -> cosine; may be empty


def holds_embeddings(path: Path) -> bool:
    """Whether a file is one of 'facekd embed'; a Parquet file may hold images instead."""
    if path.suffix == ".npz":
        return True
    if path.suffix != ".parquet" or not path.is_file():
        return False
    try:
        return MODEL_ID.encode() in (pq.read_schema(path).metadata or {})
    except (OSError, pa.ArrowException):
        return False  # what it is, its reader says


def is_photos(path: Path) -> bool:
    """Whether a path is neither crops nor embeddings, and so photos, if anything."""
    return crops_at(path) is None and path.suffix != ".npz"


def faces_of_crops(
    path: Path, network: ModelFile, embeddings: Path | None, decision: OnePerson, quiet: bool
) -> Gathered:
    """The crops at `path`, embedded now or taken from a file.

    Raises:
        UserError: no crops, crops that the network does not take, embeddings that are not of these crops or model, or
            no threshold known or given.
    """
    crops = read_crops(path)
    if embeddings is not None:
        return _matched(crops, faces_of_embeddings(embeddings, network, decision), embeddings)
    model = network.model or own_model(quiet)
    embedder = load_embedder(model, network.contract)
    crops.check_fits(embedder.contract)
    known = _enough(model_thresholds(model, embedder.contract), model, decision)  # before the work
    if len(crops) > SLOW:
        say(
            f"{len(crops)} crops: 'facekd embed {path} FILE.parquet' first, and --embeddings FILE.parquet here, "
            "embeds them once for several runs",
            quiet,
        )
    pieces = [np.zeros((0, embedder.contract.dim), np.float32)]
    for start in progress(range(0, len(crops), CROPS), len(crops), "embed", quiet, unit=CROPS):
        pieces.append(embedder.embed(crops.batch(np.arange(start, min(start + CROPS, len(crops))))))
    vectors = Embeddings(np.concatenate(pieces), crops.ids, embedder.model_id)
    return Gathered(vectors, crops.sources, crops, known)


def faces_of_embeddings(path: Path, network: ModelFile, decision: OnePerson) -> Gathered:
    """The embeddings in a file; their thresholds are those of the named model, else those carried for theirs.

    Raises:
        UserError: no such file, no embeddings in it, those of another model than the one named, or no threshold known
            or given.
    """
    if network.model is None:
        found = read_embeddings(path)
        carried = calibration_of(found.embeddings.model_id)
        known = _enough({} if carried is None else carried.by_far(), path, decision)
        return Gathered(found.embeddings, found.sources, None, known)
    contract = CropEmbedder.load(network.model, network.contract).contract
    found = read_embeddings(path, contract.model_id)
    known = _enough(model_thresholds(network.model, contract), network.model, decision)
    return Gathered(found.embeddings, found.sources, None, known)


def _enough(known: Mapping[float, float], whose: Path, decision: OnePerson) -> Mapping[float, float]:
    """The thresholds that are known, where they are needed and can be used.

    Raises:
        UserError: none is known, or none above 0, and none is given.
    """
    if decision.threshold is not None:
        return known
    if not known or known[usual_far(known)] <= 0:
        raise UserError(
            f"{whose}: no threshold is known for its network, so one person can't be told from two; give --threshold, "
            "or measure with 'facekd verify' and give its thresholds.json to 'facekd export --thresholds'"
        )
    return known


def _matched(crops: CropSet, found: Gathered, path: Path) -> Gathered:
    """Embeddings in the crops' order."""
    place = {crop_id: row for row, crop_id in enumerate(found.embeddings.ids)}
    missing = [crop_id for crop_id in crops.ids if crop_id not in place]
    if missing or len(place) != len(crops):
        raise UserError(
            f"{path}: its {len(place)} embeddings are not those of the {len(crops)} crops of {crops.path} "
            f"({len(missing)} have none); embed them again with 'facekd embed {crops.path} {path}'"
        )
    rows: Array = np.array([place[crop_id] for crop_id in crops.ids])
    vectors = Embeddings(found.embeddings.vectors[rows], crops.ids, found.embeddings.model_id)
    return Gathered(vectors, crops.sources, crops, found.thresholds)
