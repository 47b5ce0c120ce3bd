"""What is to be embedded, crops or photos, and the rows that come out, a part of them at a time."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from facekd.core.types import Array, Embeddings
from facekd.crops.cropset import CropSet
from facekd.crops.read import read_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.faces.detect import weights_digest
from facekd.ingest.alignment import BATCH
from facekd.ingest.earlier import Asked, EmbedRow, failures_path
from facekd.ingest.photos import embed_batch
from facekd.photos.find import PhotoFile, file_stamp, stamp
from facekd.settings.group import flat
from facekd.settings.photos import FaceChoice

CROPS = 64  # crops embedded together
TEXTS = ("source", "identity", "sha256", "status", "reason", "id")


class Outcome(NamedTuple):
    """What became of a photo."""

    source: str
    status: str
    reason: str


@dataclass(frozen=True, slots=True)
class EmbedSummary:
    """The file, and the photos that are not in it."""

    out: Path
    model_id: str
    embeddings: int
    new: int  # photos or crops embedded by this run; an earlier one, or a killed one, had done the others
    duplicates: int  # photos whose very bytes came before
    failed: tuple[Outcome, ...]
    failures: Path  # the file of all photos without an embedding of their own

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0


def summary_of(
    out: Path, model_id: str, new: int, kept: Sequence[EmbedRow], without: Sequence[EmbedRow]
) -> EmbedSummary:
    """What became of all photos.

    Args:
        new: photos that this run embedded.
        without: photos that have no embedding of their own.
    """
    failed = tuple(Outcome(row.source, row.status, row.reason) for row in without if row.status != "duplicate")
    return EmbedSummary(out, model_id, len(kept), new, len(without) - len(failed), failed, failures_path(out))


@dataclass(frozen=True, slots=True)
class EmbedWork:
    """What is to be embedded, and how."""

    function: Callable[[Sequence[Any]], pa.Table]  # items to rows of `part_schema`; picklable
    items: Sequence[Any]  # photos, or places of crops
    asked: Sequence[Asked]  # what the items are
    by: str  # the column of their keys
    settings: dict[str, object]  # that the embeddings depend on
    batch: int  # items embedded together


def part_schema(dim: int) -> pa.Schema:
    """Of a part: a row for each face, and one without id for a photo that gave none."""
    return pa.schema([*((name, pa.string()) for name in TEXTS), ("embedding", pa.list_(pa.float32(), dim))])


def photo_work(
    files: Sequence[PhotoFile], embedder: CropEmbedder, make_embedder: Callable[[], CropEmbedder], faces: FaceChoice
) -> EmbedWork:
    """Photos to embed."""
    function = partial(_embed_files, make_embedder=make_embedder, faces=faces)
    digest = weights_digest(faces.detector_name, faces.weights)
    settings = {**flat(faces), "weights": digest, "model_id": embedder.model_id}
    asked = [Asked(file.source, file.source, file.identity, stamp(file)) for file in files]
    return EmbedWork(function, files, asked, "source", settings, BATCH)


def _embed_files(
    files: Sequence[PhotoFile], *, make_embedder: Callable[[], CropEmbedder], faces: FaceChoice
) -> pa.Table:
    """The rows of some photos."""
    rows: list[tuple[str | None, ...]] = []
    dim = make_embedder().contract.dim
    vectors = [np.zeros((0, dim), np.float32)]
    for photo in embed_batch(files, make_embedder, faces, faces.choose):
        record = photo.record
        common = (record.source, record.identity, record.sha256, record.status, record.reason)
        rows += [(*common, crop.crop_id) for crop in record.crops] if photo.ok else [(*common, None)]
        vectors.append(photo.vectors if photo.ok else np.zeros((1, dim), np.float32))
    return _table(rows, np.concatenate(vectors))


def crop_work(path: Path, embedder: CropEmbedder, make_embedder: Callable[[], CropEmbedder]) -> EmbedWork:
    """The crops at `path` to embed.

    Raises:
        UserError: crops of another size or template than the model's.
    """
    crops = _crops(path)
    crops.check_fits(embedder.contract)
    function = partial(_embed_crops, path=path, make_embedder=make_embedder)
    made = (path / "store.json").read_text(encoding="utf-8") if path.is_dir() else file_stamp(path)
    settings: dict[str, object] = {"made": made, "model_id": embedder.model_id}
    crop_rows = zip(crops.ids, crops.sources, crops.identities, strict=True)
    asked = [Asked(one, source, identity, "") for one, source, identity in crop_rows]  # an id is of one image
    return EmbedWork(function, range(len(crops)), asked, "id", settings, CROPS)


def _embed_crops(places: Sequence[int], *, path: Path, make_embedder: Callable[[], CropEmbedder]) -> pa.Table:
    """The rows of the crops at some places of a crop store or image Parquet."""
    crops, embedder = _crops(path), make_embedder()
    ids = tuple(crops.ids[place] for place in places)
    made = Embeddings(embedder.embed(crops.batch(np.asarray(places))), ids, embedder.model_id)
    return _table(
        [(crops.sources[place], crops.identities[place], None, "ok", "", crops.ids[place]) for place in places],
        made.vectors,
    )


def _crops(path: Path) -> CropSet:
    """The crops at `path`, opened once in each process."""
    changes = path / "ledger" if path.is_dir() else path
    return _opened(path, file_stamp(changes) if changes.exists() else "")


@functools.lru_cache(maxsize=1)
def _opened(path: Path, changed: str) -> CropSet:
    return read_crops(path)


def _table(rows: Sequence[tuple[str | None, ...]], vectors: Array) -> pa.Table:
    """Rows of `part_schema`: their texts, and float32[N, D]."""
    columns = [pa.array([row[place] for row in rows], pa.string()) for place in range(len(TEXTS))]
    without = pa.array([row[-1] is None for row in rows])
    dim = vectors.shape[1]
    columns.append(pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim, mask=without))
    return pa.Table.from_arrays(columns, schema=part_schema(dim))
