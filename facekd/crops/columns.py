"""The columns of a list that a user wrote, as CSV or Parquet."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from facekd.errors import UserError


def read_parquet(path: Path) -> dict[str, list[Any]]:
    """The columns of a Parquet file; None where a value is missing.

    Raises:
        UserError: not a readable Parquet file.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error}); write it again") from error
    return {name: column.to_pylist() for name, column in zip(table.column_names, table.columns, strict=True)}


def read_csv(path: Path, file: TextIO) -> dict[str, list[str]]:
    """The columns of a CSV, read line by line: a list may have ten million. Blank lines are passed over.

    Args:
        file: `path`, opened with ``newline=""``.

    Raises:
        UserError: a line with more or fewer values than the heading, a stray quote, or two columns of one name.
    """
    reader = csv.reader(file, strict=True)
    try:
        names = next((row for row in reader if row), [])
        columns: list[list[str]] = [[] for _ in names]
        once: dict[str, str] = {}  # a long list names each photo many times
        for row in reader:
            if row and len(row) != len(names):
                raise UserError(
                    f"{path}, line {reader.line_num}: {len(row)} values, not {len(names)} as in its heading; correct it"
                )
            for column, value in zip(columns, row, strict=False):  # a blank line has no value
                column.append(once.setdefault(value, value))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not readable as CSV ({error}); correct it") from error
    if len(set(names)) < len(names):
        raise UserError(f"{path}: two columns have the same name ({', '.join(names)}); rename one")
    return dict(zip(names, columns, strict=True))
