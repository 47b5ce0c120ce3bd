"""Embeddings as other programs write them: ``.npy`` with its ids, ``.npz``, Parquet of pandas, polars, DuckDB."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facekd.core.formats import KEY, METADATA, check_format
from facekd.core.types import Array
from facekd.crops.columns import read_csv
from facekd.errors import UserError

MODEL_ID = "facekd.model_id"  # key in the schema's metadata
LARGE, PACKED = 1 << 28, 200  # bytes of an array from which on it may not have been packed so tightly
VECTORS = ("embeddings", "embedding", "vectors", "features")  # what the arrays of an .npz may be called
IDS = ("ids", "id", "names")
PEOPLE = ("identities", "identity", "persons")
PHOTOS = ("sources", "source", "photos")
KNOWN = {*VECTORS, *IDS, *PEOPLE, *PHOTOS, KEY, "model_id"}
LIST = "a column id, and if wanted identity and source"


class Vectors(NamedTuple):
    """What a file holds, as it holds it."""

    values: Array  # any float[N, D]
    ids: tuple[str, ...]
    identities: tuple[str | None, ...] | None
    sources: tuple[str, ...] | None
    model_id: str | None  # None where no file of facekd's


def vectors_at(path: Path) -> Vectors:
    """The embeddings in a file, by its suffix.

    Raises:
        UserError: no embeddings in it, or no ids.
    """
    if path.suffix == ".npz":
        return _of_npz(path)
    return _of_npy(path) if path.suffix == ".npy" else _of_parquet(path)


def _of_parquet(path: Path) -> Vectors:
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowException, UnicodeDecodeError, MemoryError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({_line(error)}); embed again") from error
    metadata = table.schema.metadata or {}
    check_format("embeddings", metadata.get(METADATA.encode()), path)
    model_id = metadata.get(MODEL_ID.encode())
    if len(set(table.column_names)) < len(table.column_names):
        raise UserError(f"{path}: two columns have the same name; rename one")
    for name in ("embedding", "id"):
        if name in table.column_names:
            continue
        if name == "embedding" and model_id is None:
            raise UserError(
                f"{path}: holds no embeddings, which would be a column embedding of lists of floats; if it holds "
                f"images, embed them first: facekd embed --model MODEL {path} EMBEDDINGS.parquet"
            )
        raise UserError(f"{path}: has no column {name!r}; add it, or embed again with 'facekd embed'")
    texts = {
        name: _texts(table[name], path, name) for name in ("id", "identity", "source") if name in table.column_names
    }
    return _checked(
        path,
        _as_vectors(table["embedding"], path),
        texts["id"],
        texts.get("identity"),
        texts.get("source"),
        None if model_id is None else model_id.decode("utf-8", "backslashreplace"),
    )


def _texts(column: pa.ChunkedArray, path: Path, name: str) -> list[str | None]:
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    try:
        found: list[str | None] = column.cast(pa.string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: its column {name} holds {column.type}, not texts; correct it") from error
    return found


def _as_vectors(column: pa.ChunkedArray, path: Path) -> Array:
    """float[N, D] of a column of lists, as any writer of Parquet has them.

    Raises:
        UserError: a null, no lists of floats, or lists of several lengths.
    """
    kind = column.type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if not lists or not pa.types.is_floating(kind.value_type):
        raise UserError(f"{path}: its column embedding holds {kind}, not lists of float32; embed again")
    if column.null_count:
        raise UserError(
            f"{path}: {column.null_count} rows have no embedding; leave them out: a photo of a list that the file "
            "lacks counts as one without a crop"
        )
    if pa.types.is_fixed_size_list(kind):
        dim = kind.list_size
    else:
        lengths = pc.unique(pc.list_value_length(column)).to_pylist()
        if len(lengths) > 1:
            raise UserError(f"{path}: its embeddings are of {len(lengths)} lengths; give those of one model")
        dim = lengths[0] if lengths else 1
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    found: Array = values.reshape(len(column), dim)
    return found


def _of_npz(path: Path) -> Vectors:
    found = _loaded(path)
    assert isinstance(found, dict)
    strange = next((name for name, one in found.items() if not isinstance(one, np.ndarray)), None)
    if strange is not None:
        raise UserError(f"{path}: {strange} is no array; embed again")
    check_format("embeddings", found.get(KEY), path)
    vectors, ids, people, photos = (_named(found, names) for names in (VECTORS, IDS, PEOPLE, PHOTOS))
    if vectors is None or (ids is None and "model_id" in found):
        raise UserError(
            f"{path}: holds no embeddings, which would be arrays embeddings [N, D] and ids [N]; it has "
            f"{_line(', '.join(found)) or 'none'}; embed again"
        )
    if ids is None:
        listed = _listed(path)
        return _checked(path, vectors, *listed, None)
    model_id = None if "model_id" not in found else str(found["model_id"])
    texts = [None if one is None else _flat(one, path) for one in (ids, people, photos)]
    assert texts[0] is not None
    people_or_none = None if texts[1] is None else [name or None for name in texts[1]]
    return _checked(path, vectors, texts[0], people_or_none, texts[2], model_id)


def _of_npy(path: Path) -> Vectors:
    found = _loaded(path)
    if not isinstance(found, np.ndarray):
        raise UserError(f"{path}: holds several arrays; call it .npz")
    if isinstance(found, np.memmap) and found.offset + found.nbytes != path.stat().st_size:
        raise UserError(f"{path}: is longer than its header says; write it again")
    return _checked(path, found, *_listed(path), None)


def _loaded(path: Path) -> Any:
    """An array, or the arrays of an archive by their names; nothing in them is executed."""
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: a length may say more than there is
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:  # numpy leaves a damaged one open
            return {name: arrays[name] for name in arrays.files if name in KNOWN and _fits(arrays.zip, name)}
    except Exception as error:  # of a damaged file numpy and zipfile raise what they come by
        why = "objects, which would have to be executed" if "allow_pickle" in str(error) else _line(error)
        raise UserError(f"{path}: holds no embeddings that can be read ({why}); embed again") from error


def _fits(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether an array unpacks to no more than embeddings or their ids do.

    Raises:
        ValueError: it does not.
    """
    found = archive.getinfo(f"{name}.npy")
    if found.file_size > LARGE and found.file_size > PACKED * found.compress_size:
        raise ValueError(f"{name} unpacks to {found.file_size >> 20} MiB of {found.compress_size >> 10} KiB")
    return True


def _named(arrays: Mapping[str, Array], names: tuple[str, ...]) -> Array | None:
    return next((arrays[name] for name in names if name in arrays), None)


def _flat(values: Array, path: Path) -> list[str]:
    if values.ndim != 1 or values.dtype.kind not in "USiu":
        raise UserError(f"{path}: its ids are {values.dtype} of shape {values.shape}, not a list of texts; correct it")
    if values.dtype.kind == "S":
        return [value.decode("utf-8", "backslashreplace") for value in values.tolist()]
    return [str(value) for value in values.tolist()]


def _listed(path: Path) -> tuple[list[str], list[str | None] | None, list[str] | None]:
    """Ids, identities and sources in the list beside a file: ``NAME.txt``, one id a line, or ``NAME.csv``."""
    text, table = path.with_suffix(".txt"), path.with_suffix(".csv")
    if text.is_file() == table.is_file():
        both = f"both {text.name} and {table.name} lie beside it" if text.is_file() else "says of no row whose it is"
        raise UserError(
            f"{path}: {both}; put one list of ids beside it, {text.name} with one id a line, or {table.name} with "
            f"{LIST}"
        )
    beside = text if text.is_file() else table
    try:
        if beside == text:
            return beside.read_text(encoding="utf-8-sig").splitlines(), None, None
        with open(beside, encoding="utf-8-sig", newline="") as file:
            columns = read_csv(beside, file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{beside}: not readable as UTF-8 text ({error}); save it as UTF-8") from error
    if "id" not in columns:
        raise UserError(f"{beside}: has no column 'id'; a list of ids has {LIST}")
    people = [name or None for name in columns["identity"]] if "identity" in columns else None
    return list(columns["id"]), people, list(columns["source"]) if "source" in columns else None


def _checked(
    path: Path,
    values: Array,
    ids: list[str] | list[str | None],
    identities: list[str | None] | None,
    sources: list[str] | list[str | None] | None,
    model_id: str | None,
) -> Vectors:
    if values.dtype.kind != "f":
        raise UserError(f"{path}: its embeddings are {values.dtype}, not floats; embed again")
    if values.ndim != 2 or values.shape[1] == 0:
        raise UserError(f"{path}: its embeddings are of shape {values.shape}, not one row for each of some ids")
    for what, column in (("ids", ids), ("identities", identities), ("sources", sources)):
        if column is not None and len(column) != len(values):
            raise UserError(f"{path}: {len(column)} {what} for {len(values)} embeddings; give one for each")
    empty = next((row for row, one in enumerate(ids) if one is None or one == ""), None)
    if empty is not None:
        raise UserError(f"{path}: row {empty + 1} has no id; add it")
    names = tuple(str(one) for one in ids)
    photos = None if sources is None else tuple(one or names[row] for row, one in enumerate(sources))
    return Vectors(values, names, None if identities is None else tuple(identities), photos, model_id)


def _line(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else text[:200] + "…"
