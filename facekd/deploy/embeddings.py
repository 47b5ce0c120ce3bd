"""Embeddings on disk: Parquet or ``.npz``, bound to the model that made them."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facekd.console import say
from facekd.core.contract import Contract
from facekd.core.files import atomic_write, sha256_file
from facekd.core.formats import FORMATS, KEY, METADATA
from facekd.core.types import Array, Embeddings
from facekd.deploy.ids import int_id, uuid_id
from facekd.deploy.vectors import MODEL_ID, Vectors, vectors_at
from facekd.errors import UserError

CONTRACT, RUN = "facekd.contract", "facekd.run"  # keys in the schema's metadata, beside MODEL_ID
GROUP = 4096  # rows written together
UNIT = 1e-3  # how far from 1 a norm may be


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings with what is known of their crops."""

    embeddings: Embeddings
    identities: tuple[str | None, ...]
    sources: tuple[str, ...]  # the photo of each
    sha256s: tuple[str | None, ...] = ()  # of the photos' bytes; empty where nothing is known
    stamps: tuple[str | None, ...] = ()  # of the photos' files: another one when the file changes; empty likewise

    def __post_init__(self) -> None:
        n = len(self.embeddings.ids)
        assert len(self.identities) == n, (n, len(self.identities))
        assert len(self.sources) == n, (n, len(self.sources))
        assert len(self.sha256s) in (0, n), (n, len(self.sha256s))
        assert len(self.stamps) in (0, n), (n, len(self.stamps))


def write_embeddings(
    path: Path,
    pieces: Iterable[Embedded],
    contract: Contract,
    run: str = "{}",
    made: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Write embeddings as they come; the file is there whole, when the last is written, or not at all.

    A ``.parquet`` file has the columns id, identity (null where unknown), source, embedding
    (FixedSizeList<float32>[D]), int_id and uuid (`deploy.ids`), sha256 and stamp (null where unknown), and a checksum
    in each of its pages. An ``.npz`` file has the arrays ids, identities, sources, embeddings, int_ids, uuids, sha256s
    and stamps (empty where unknown), model_id, contract and format. Of neither are all embeddings in memory at once.

    Args:
        run: JSON, how they were made; kept beside the contract in the Parquet file's metadata.
        made: more to keep beside it, by its name.

    Returns:
        How many there were.

    Raises:
        UserError: another suffix, or a file that can't be written.
    """
    check_out(path)
    with atomic_write(path) as file:
        if path.suffix == ".npz":
            return _write_npz(file, pieces, contract, path.parent, made)
        return _write_parquet(file, pieces, contract, {RUN: run, **{f"facekd.{key}": made[key] for key in made}})


def check_out(path: Path) -> None:
    """Refuse what embeddings are not written as, before they are made.

    Raises:
        UserError: another suffix than .parquet or .npz, or a folder of that name.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give the name of a file for the embeddings")
    if path.suffix not in (".parquet", ".npz"):
        raise UserError(f"{path}: embeddings are written as .parquet or .npz; give a name that ends in one of these")


def read_embeddings(path: Path, model_id: str | None = None, quiet: bool = False) -> Embedded:
    """The embeddings that `write_embeddings` wrote, or that another program did.

    Of others are read: a ``.npy`` of float[N, D] with its ids in a list of the same name beside it (``.txt``, one a
    line, or ``.csv`` with a column id); an ``.npz`` of arrays embeddings and ids; a Parquet file of columns id and
    embedding, lists of any kind and of any floats. Such a file names no model; it gets a name from its digest. Rows
    that are not of unit norm are normalized. What is changed is said.

    Args:
        model_id: the model they have to be of; None takes any.
        quiet: say nothing.

    Raises:
        UserError: no such file, no embeddings in it, those of another model, or a row that is zero or not finite.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of embeddings; make one with 'facekd embed --model MODEL SRC {path}'")
    found = vectors_at(path)
    if model_id is not None and found.model_id is None:
        raise UserError(
            f"{path}: does not say which model its embeddings are of, where those of model {model_id} are needed; "
            "embed the photos with 'facekd embed', or judge the file without a model"
        )
    if model_id is not None and found.model_id != model_id:
        raise UserError(
            f"{path}: embeddings of model {found.model_id}, where those of model {model_id} are needed; "
            "embed the photos again with that model"
        )
    vectors = _unit_rows(found, path, quiet)
    name = found.model_id or f"file-{sha256_file(path)[:12]}"
    people = found.identities or (None,) * len(found.ids)
    return Embedded(Embeddings(vectors, found.ids, name), people, found.sources or found.ids)


def _unit_rows(found: Vectors, path: Path, quiet: bool) -> Array:
    """float32[N, D] of unit norm. facekd's own files are as they were written; others are cast and normalized."""
    values = found.values
    if values.dtype == np.float32 and found.model_id is not None:
        return values
    if values.dtype != np.float32:
        say(f"{path}: its embeddings are {values.dtype}; taken as float32", quiet)
    wide = values.astype(np.float64)
    norms = np.linalg.norm(wide, axis=1, keepdims=True)
    bad = np.flatnonzero(~(np.isfinite(norms[:, 0]) & (norms[:, 0] > 0)))
    if len(bad):
        raise UserError(
            f"{path}: {len(bad)} of its {len(values)} embeddings are zero or not finite (first: {found.ids[bad[0]]}); "
            "leave them out: a photo of a list that the file lacks counts as one without a crop"
        )
    off = np.abs(norms[:, 0] - 1) > UNIT
    if off.any() and found.model_id is None:
        say(f"{path}: {int(off.sum())} of its {len(values)} embeddings are not of unit norm; normalized", quiet)
    elif found.model_id is not None:
        norms = np.where(off[:, None], 1.0, norms)  # of a known model: refused below, as damaged
    unit: Array = (wide / norms).astype(np.float32)
    return unit


def _write_parquet(file: IO[bytes], pieces: Iterable[Embedded], contract: Contract, about: Mapping[str, str]) -> int:
    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            ("identity", pa.string()),
            ("source", pa.string()),
            pa.field("embedding", pa.list_(pa.float32(), contract.dim), nullable=False),
            pa.field("int_id", pa.int64(), nullable=False),
            pa.field("uuid", pa.string(), nullable=False),
            ("sha256", pa.string()),
            ("stamp", pa.string()),
        ],
        metadata={
            METADATA: str(FORMATS["embeddings"]),
            MODEL_ID: contract.model_id,
            CONTRACT: contract.to_json(),
            **about,
        },
    )
    total = 0
    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(file, schema, use_dictionary=["identity"], write_page_checksum=True) as writer:
        for piece in pieces:
            assert piece.embeddings.model_id == contract.model_id
            waiting.append(_record_batch(piece, schema))
            total += waiting[-1].num_rows
            if sum(batch.num_rows for batch in waiting) >= GROUP:
                writer.write_table(pa.Table.from_batches(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting))
    return total


def _record_batch(piece: Embedded, schema: pa.Schema) -> pa.RecordBatch:
    vectors = np.ascontiguousarray(piece.embeddings.vectors, np.float32)
    columns = [
        pa.array(piece.embeddings.ids, pa.string()),
        pa.array(piece.identities, pa.string()),
        pa.array(piece.sources, pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), schema.field("embedding").type.list_size),
        pa.array(map(int_id, piece.embeddings.ids), pa.int64()),
        pa.array(map(uuid_id, piece.embeddings.ids), pa.string()),
        pa.array(piece.sha256s or [None] * len(vectors), pa.string()),
        pa.array(piece.stamps or [None] * len(vectors), pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _write_npz(
    file: IO[bytes], pieces: Iterable[Embedded], contract: Contract, folder: Path, made: Mapping[str, str]
) -> int:
    ids: list[str] = []
    texts: dict[str, list[str]] = {"identities": [], "sources": [], "sha256s": [], "stamps": []}
    # An array's header says how long it is, and comes first: the embeddings wait in a file without a name.
    with tempfile.TemporaryFile(dir=folder) as waiting, zipfile.ZipFile(file, "w") as archive:
        for piece in pieces:
            assert piece.embeddings.model_id == contract.model_id
            ids += piece.embeddings.ids
            for name, column in texts.items():
                column += (text or "" for text in getattr(piece, name) or ("",) * len(piece.sources))
            waiting.write(np.ascontiguousarray(piece.embeddings.vectors, np.float32).data)
        waiting.seek(0)
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(ids), contract.dim)}
            np.lib.format.write_array_header_1_0(member, header)
            shutil.copyfileobj(waiting, member)
        texts |= {"ids": ids, "uuids": [uuid_id(one) for one in ids]}
        arrays = {name: np.array(values, np.str_) for name, values in texts.items()}
        arrays["int_ids"] = np.array([int_id(one) for one in ids], np.int64)
        about = {KEY: FORMATS["embeddings"], "model_id": contract.model_id, "contract": contract.to_json(), **made}
        arrays |= {name: np.array(value) for name, value in about.items()}
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return len(ids)
