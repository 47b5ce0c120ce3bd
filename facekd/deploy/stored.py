"""Embeddings that stay on the disk: their texts are read at once, their vectors when they are wanted."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facekd.core.types import Array

Columns = dict[str, list[str | None]]


class StoredRows:
    """The rows of a Parquet file, or of a ``.npz``, whose vectors are all in memory.

    Bytes that are not those that facekd wrote raise OSError when they are read: its Parquet pages have checksums.

    Attributes:
        metadata: what is written beside the rows, by its key.
    """

    def __init__(self, path: Path) -> None:
        self._arrays = _arrays(path) if path.suffix == ".npz" else None
        if self._arrays is None:
            self._file = pq.ParquetFile(path, page_checksum_verification=True)
            found = self._file.schema_arrow.metadata or {}
            self.metadata = {key.decode(): value.decode() for key, value in found.items()}
            groups = range(self._file.num_row_groups)
            self._starts = np.cumsum([0, *(self._file.metadata.row_group(group).num_rows for group in groups)])
        else:
            self.metadata = {f"facekd.{name}": str(one) for name, one in self._arrays.items() if one.ndim == 0}
        self._group = functools.lru_cache(maxsize=1)(self._read)  # rows are mostly asked for in their order

    def __len__(self) -> int:
        return int(self._starts[-1]) if self._arrays is None else len(self._arrays["embeddings"])

    def texts(self, names: Sequence[str]) -> Columns:
        """Columns of texts; of a ``.npz`` an empty text is None.

        Raises:
            KeyError: there is no such column.
        """
        if self._arrays is not None:
            arrays = self._arrays
            return {name: [text or None for text in arrays[_PLURAL[name]].tolist()] for name in names}
        if missing := set(names) - set(self._file.schema_arrow.names):
            raise KeyError(*missing)
        return dict(self._file.read(list(names)).to_pydict())

    def check(self) -> None:
        """Read everything once, so that damage is seen before it is wanted; a ``.npz`` was read.

        Raises:
            OSError, pa.ArrowException: damage.
        """
        for group in range(0 if self._arrays is not None else self._file.num_row_groups):
            self._file.read_row_group(group)

    def vectors(self, rows: Array) -> Array:
        """float32[n, D] of int[n] rows, which have one."""
        if self._arrays is not None:
            found: Array = self._arrays["embeddings"][rows]
            return found
        groups = np.searchsorted(self._starts, rows, side="right") - 1
        dim = self._file.schema_arrow.field("embedding").type.list_size
        found = np.zeros((len(rows), dim), np.float32)
        for group in np.unique(groups):
            of_group = groups == group
            table = self._group(int(group)).take(pa.array(rows[of_group] - self._starts[group]))
            found[of_group] = vectors_of(table)
        return found

    def _read(self, group: int) -> pa.Table:
        return self._file.read_row_group(group, columns=["embedding"])


_PLURAL = {"id": "ids", "identity": "identities", "source": "sources", "sha256": "sha256s", "stamp": "stamps"}


def _arrays(path: Path) -> dict[str, Array]:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        return dict(arrays)


def vectors_of(rows: pa.Table) -> Array:
    """float32[N, D], the column ``embedding`` of a table, which has no nulls."""
    dim = rows.schema.field("embedding").type.list_size
    vectors: Array = rows["embedding"].combine_chunks().flatten().to_numpy().reshape(len(rows), dim)
    return vectors
