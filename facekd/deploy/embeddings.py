"""Embeddings on disk: Parquet or ``.npz``, bound to the model that made them."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facekd.core.contract import Contract
from facekd.core.files import atomic_write
from facekd.core.formats import FORMATS, KEY, METADATA, check_format
from facekd.core.types import Array, Embeddings
from facekd.errors import UserError

MODEL_ID, CONTRACT, RUN = "facekd.model_id", "facekd.contract", "facekd.run"  # keys in the schema's metadata
GROUP = 4096  # rows written together


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings with what is known of their crops."""

    embeddings: Embeddings
    identities: tuple[str | None, ...]
    sources: tuple[str, ...]  # the photo of each

    def __post_init__(self) -> None:
        n = len(self.embeddings.ids)
        assert len(self.identities) == n, (n, len(self.identities))
        assert len(self.sources) == n, (n, len(self.sources))


def write_embeddings(path: Path, pieces: Iterable[Embedded], contract: Contract, run: str = "{}") -> int:
    """Write embeddings as they come; the file is there whole, when the last is written, or not at all.

    A ``.parquet`` file has the columns id, identity (null where unknown), source and embedding
    (FixedSizeList<float32>[D]). An ``.npz`` file has the arrays ids, identities (empty where unknown), sources,
    embeddings, model_id, contract and format. Of neither are all embeddings in memory at once.

    Args:
        run: JSON, how they were made; kept beside the contract in the Parquet file's metadata.

    Returns:
        How many there were.

    Raises:
        UserError: another suffix, or a file that can't be written.
    """
    check_suffix(path)
    with atomic_write(path) as file:
        if path.suffix == ".npz":
            return _write_npz(file, pieces, contract, path.parent)
        return _write_parquet(file, pieces, contract, run)


def check_suffix(path: Path) -> None:
    """Refuse names of files that embeddings are not written as.

    Raises:
        UserError: another suffix than .parquet or .npz.
    """
    if path.suffix not in (".parquet", ".npz"):
        raise UserError(f"{path}: embeddings are written as .parquet or .npz; give a name that ends in one of these")


def vectors_of(rows: pa.Table) -> Array:
    """float32[N, D], the column ``embedding`` of a table, which has no nulls."""
    dim = rows.schema.field("embedding").type.list_size
    vectors: Array = rows["embedding"].combine_chunks().flatten().to_numpy().reshape(len(rows), dim)
    return vectors


def read_embeddings(path: Path, model_id: str | None = None) -> Embedded:
    """The embeddings that `write_embeddings` wrote.

    Args:
        model_id: the model they have to be of; None takes any.

    Raises:
        UserError: no such file, no embeddings in it, or those of another model.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file of embeddings; make one with 'facekd embed --model MODEL SRC {path}'")
    embedded = _read_npz(path) if path.suffix == ".npz" else _read_parquet(path)
    if model_id is not None and embedded.embeddings.model_id != model_id:
        raise UserError(
            f"{path}: embeddings of model {embedded.embeddings.model_id}, where those of model {model_id} are needed; "
            "embed the photos again with that model"
        )
    return embedded


def _write_parquet(file: IO[bytes], pieces: Iterable[Embedded], contract: Contract, run: str) -> int:
    schema = pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            ("identity", pa.string()),
            ("source", pa.string()),
            pa.field("embedding", pa.list_(pa.float32(), contract.dim), nullable=False),
        ],
        metadata={
            METADATA: str(FORMATS["embeddings"]),
            MODEL_ID: contract.model_id,
            CONTRACT: contract.to_json(),
            RUN: run,
        },
    )
    total = 0
    waiting: list[pa.RecordBatch] = []
    with pq.ParquetWriter(file, schema, use_dictionary=["identity"]) as writer:
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
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _write_npz(file: IO[bytes], pieces: Iterable[Embedded], contract: Contract, folder: Path) -> int:
    ids: list[str] = []
    identities: list[str] = []
    sources: list[str] = []
    # An array's header says how long it is, and comes first: the embeddings wait in a file without a name.
    with tempfile.TemporaryFile(dir=folder) as waiting, zipfile.ZipFile(file, "w") as archive:
        for piece in pieces:
            assert piece.embeddings.model_id == contract.model_id
            ids += piece.embeddings.ids
            identities += (identity or "" for identity in piece.identities)
            sources += piece.sources
            waiting.write(np.ascontiguousarray(piece.embeddings.vectors, np.float32).data)
        waiting.seek(0)
        with archive.open("embeddings.npy", "w", force_zip64=True) as member:
            header = {"descr": "<f4", "fortran_order": False, "shape": (len(ids), contract.dim)}
            np.lib.format.write_array_header_1_0(member, header)
            shutil.copyfileobj(waiting, member)
        texts = {"ids": ids, "identities": identities, "sources": sources}
        arrays = {name: np.array(values, np.str_) for name, values in texts.items()}
        about = {KEY: FORMATS["embeddings"], "model_id": contract.model_id, "contract": contract.to_json()}
        arrays |= {name: np.array(value) for name, value in about.items()}
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return len(ids)


def _read_parquet(path: Path) -> Embedded:
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error}); embed again") from error
    metadata = table.schema.metadata or {}
    check_format("embeddings", metadata.get(METADATA.encode()), path)
    if MODEL_ID.encode() not in metadata:
        raise UserError(
            f"{path}: holds no embeddings of facekd's; if it holds images, embed them first: "
            f"facekd embed --model MODEL {path} EMBEDDINGS.parquet"
        )
    for name in ("id", "identity", "source", "embedding"):
        if name not in table.column_names:
            raise UserError(f"{path}: has no column {name!r}; add it, or embed again with 'facekd embed'")
    vectors = _as_vectors(table["embedding"], path)
    embeddings = Embeddings(vectors, tuple(table["id"].to_pylist()), metadata[MODEL_ID.encode()].decode())
    return Embedded(embeddings, tuple(table["identity"].to_pylist()), tuple(table["source"].to_pylist()))


def _as_vectors(column: pa.ChunkedArray, path: Path) -> Array:
    """float32[N, D] of a column of lists, as any writer of Parquet has them.

    Raises:
        UserError: a null, no lists of floats, or lists of several lengths.
    """
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not pa.types.is_floating(kind.value_type):
        raise UserError(f"{path}: its column embedding holds {kind}, not lists of float32; embed again")
    if column.null_count:
        raise UserError(f"{path}: {column.null_count} rows have no embedding; leave them out, or embed again")
    if pa.types.is_fixed_size_list(kind):
        dim = kind.list_size
    else:
        lengths = pc.unique(pc.list_value_length(column)).to_pylist()
        if len(lengths) > 1:
            raise UserError(f"{path}: its embeddings are of {len(lengths)} lengths; give those of one model")
        dim = lengths[0] if lengths else 1
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return _as_float32(values.reshape(len(column), dim), path)


def _as_float32(values: Array, path: Path) -> Array:
    """The same numbers as float32, which is what scores are computed in.

    Raises:
        UserError: other than floats.
    """
    if values.dtype.kind != "f":
        raise UserError(f"{path}: its embeddings are {values.dtype}, not floats; embed again")
    return values.astype(np.float32, copy=False)


def _read_npz(path: Path) -> Embedded:
    try:
        with np.load(path, allow_pickle=False) as file:
            check_format("embeddings", file.get(KEY), path)
            ids, identities, sources = (tuple(file[key].tolist()) for key in ("ids", "identities", "sources"))
            vectors, model_id = _as_float32(file["embeddings"], path), str(file["model_id"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: holds no embeddings of facekd's ({error}); embed again") from error
    return Embedded(Embeddings(vectors, ids, model_id), tuple(name or None for name in identities), sources)
