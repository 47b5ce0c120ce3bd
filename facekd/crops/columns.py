"""The columns of a list that a user wrote, as text or Parquet: strings by number, scores as float64."""

from __future__ import annotations

import csv
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from facekd.core.names import NameColumn
from facekd.core.types import Array
from facekd.errors import UserError

ROWS = 1 << 16  # read together
QUICK = 1 << 20  # bytes from which a text is worth Arrow's reader,
BLOCK = 1 << 22  # and the bytes that it reads together
NOTHING = {"", "nan", "null", "none", "na", "n/a", "-nan"}  # a number that is not there


@dataclass(frozen=True, slots=True)
class Columns:
    """A list by its columns."""

    path: Path
    texts: dict[str, NameColumn]  # a missing value is ""
    numbers: dict[str, Array]  # float64, a missing value is NaN
    sign: str | None = None  # between the values of a line; None of Parquet
    headed: bool = True  # whether the first line names the columns
    names: tuple[str, ...] = ()  # of the first columns, those that were not read too, for a sentence

    def where(self, row: int) -> str:
        """Where the row of this number is, counted from 0: ``list.csv, line 7``."""
        if self.sign is None:
            return f"{self.path}, row {row + 1}"
        with open(self.path, encoding="utf-8-sig", newline="") as file:
            reader = _reader(file, self.sign)
            rows = (reader.line_num for values in reader if values)
            return f"{self.path}, line {next(islice(rows, row + self.headed, None), row + 1 + self.headed)}"


def read_columns(path: Path) -> dict[str, NameColumn]:
    """The columns of a Parquet file or a CSV in UTF-8; a missing value is "".

    Raises:
        UserError: as `read_parquet` and `read_csv`, or text in another encoding.
    """
    if path.suffix == ".parquet":
        return read_parquet(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return read_csv(path, file)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable as UTF-8 text ({error}); save it as UTF-8") from error


def read_parquet(path: Path) -> dict[str, NameColumn]:
    """The columns of a Parquet file; a missing value is "".

    Raises:
        UserError: not a readable Parquet file, or two columns of one name.
    """
    return parquet_columns(path).texts


def parquet_columns(path: Path, numbers: Container[str] = (), wanted: Container[str] | None = None) -> Columns:
    """The columns of a Parquet file, some rows at a time; those that hold lists, structs or bytes are passed over.

    Args:
        numbers: names of columns, in lower case, to be read as numbers.
        wanted: the names of those that are needed, in lower case; None takes all.

    Raises:
        UserError: not a readable Parquet file, two columns of one name, or one of `numbers` that holds other things.
    """
    try:
        with pq.ParquetFile(path) as file:
            schema = file.schema_arrow
            _refuse_twins(path, schema.names)
            chosen = [
                field.name
                for field in schema
                if not (pa.types.is_nested(field.type) or pa.types.is_binary(field.type))
                and (wanted is None or field.name.strip().lower() in wanted)
            ]
            texts = {name: _Coder() for name in chosen if name.strip().lower() not in numbers}
            found: dict[str, list[Array]] = {name: [] for name in chosen if name not in texts}
            for batch in file.iter_batches(ROWS, columns=chosen):
                for name, coder in texts.items():
                    coder.add_arrow(batch[name])
                for name, parts in found.items():
                    parts.append(_as_numbers(path, name, batch[name]))
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({one_line(error)}); write it again") from error
    values = {name: np.concatenate([*parts, np.zeros(0)]) for name, parts in found.items()}
    return Columns(path, {name: coder.done() for name, coder in texts.items()}, values, names=_some(schema.names))


def read_csv(path: Path, file: TextIO) -> dict[str, NameColumn]:
    """The columns of a CSV, read line by line: a list may have ten million. Blank lines are passed over.

    Args:
        file: `path`, opened with ``newline=""``.

    Raises:
        UserError: a line with more or fewer values than the heading, a stray quote, or two columns of one name.
    """
    return text_columns(path, file, ",").texts


def text_columns(
    path: Path,
    file: TextIO,
    sign: str,
    names: Sequence[str] | None = None,
    numbers: Container[str] = (),
    wanted: Container[str] | None = None,
) -> Columns:
    """The columns of a text whose values are parted by `sign`; a space stands for any number of spaces and tabs.

    Args:
        names: of the columns; None where the first line has them.
        numbers, wanted: as `parquet_columns`.
    """
    reader = _reader(file, sign)
    try:
        heading = names or next((row for row in reader if row), [])
        heading = [name.strip() for name in heading]
        _refuse_twins(path, heading)
        chosen = [k for k, name in enumerate(heading) if wanted is None or name.lower() in wanted]
        done = Columns(path, {}, {}, sign, names is None, _some(heading))
        if quick := _quick(done, len(heading), {k: heading[k] for k in chosen}, numbers):
            return quick
        texts = {heading[k]: _Coder() for k in chosen if heading[k].lower() not in numbers}
        found: dict[str, list[Array]] = {heading[k]: [] for k in chosen if heading[k] not in texts}
        total = 0
        for rows in _in_chunks(path, reader, len(heading), names is None):
            columns = list(zip(*rows, strict=True))
            for k in chosen:
                if heading[k] in texts:
                    texts[heading[k]].add(columns[k])
                else:
                    found[heading[k]].append(_numbers(done, heading[k], columns[k], total))
            total += len(rows)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not readable as CSV ({error}); correct it") from error
    values = {name: np.concatenate([*parts, np.zeros(0)]) for name, parts in found.items()}
    return replace(done, texts={name: coder.done() for name, coder in texts.items()}, numbers=values)


def _quick(about: Columns, width: int, chosen: Mapping[int, str], numbers: Container[str]) -> Columns | None:
    """The columns by Arrow's reader, in an eighth of the time; None where it may read otherwise than Python's does.

    That is where something is quoted, spaces part the values, or a line is not as it should be: Python's reader then
    says which.
    """
    if about.sign in (None, " ") or not chosen or about.path.stat().st_size < QUICK:
        return None
    with open(about.path, "rb") as file:
        while about.headed and (line := file.readline()) and not line.strip(b" \t\r\n\xef\xbb\xbf"):
            pass
        start = file.tell()
        if any(b'"' in block for block in iter(lambda: file.read(BLOCK), b"")):
            return None
    texts = {name: _Coder() for name in chosen.values() if name.lower() not in numbers}
    found: dict[str, list[Array]] = {name: [] for name in chosen.values() if name not in texts}
    of = {str(k): name for k, name in chosen.items()}
    kinds = {k: pa.dictionary(pa.int32(), pa.string()) if name in texts else pa.string() for k, name in of.items()}
    try:
        with pa.OSFile(str(about.path)) as file:
            file.seek(start)
            batches = pacsv.open_csv(
                file,
                pacsv.ReadOptions(column_names=[str(k) for k in range(width)], block_size=BLOCK, use_threads=False),
                pacsv.ParseOptions(delimiter=about.sign, quote_char=False),
                pacsv.ConvertOptions(column_types=kinds, include_columns=list(of), strings_can_be_null=False),
            )
            for batch in batches:
                for k, name in of.items():
                    if name in texts:
                        texts[name].add_arrow(batch[k])
                    else:
                        found[name].append(_as_numbers(about.path, name, batch[k]))
    except (pa.ArrowException, OSError, UserError, UnicodeDecodeError):
        return None
    pa.default_memory_pool().release_unused()
    values = {name: np.concatenate([*parts, np.zeros(0)]) for name, parts in found.items()}
    return replace(about, texts={name: coder.done() for name, coder in texts.items()}, numbers=values)


def _reader(lines: Iterable[str], sign: str):  # type: ignore[no-untyped-def]  # csv has no public name of its type
    if sign == " ":
        lines = (line.strip().replace("\t", " ") for line in lines)
    return csv.reader(lines, delimiter=sign, strict=True, skipinitialspace=True)


def split_line(line: str, sign: str) -> list[str]:
    """The values of one line; none of a blank line or one with a stray quote."""
    try:
        return [value.strip() for value in next(iter(_reader([line.strip("\r\n")], sign)), [])]
    except csv.Error:
        return []


def _in_chunks(path: Path, reader, width: int, headed: bool) -> Iterator[list[list[str]]]:  # type: ignore[no-untyped-def]
    rows: list[list[str]] = []
    for row in reader:
        if len(row) != width:
            if not row:
                continue  # a blank line has no value
            said = "as in its heading" if headed else "as in its other lines"
            raise UserError(f"{path}, line {reader.line_num}: {len(row)} values, not {width} {said}; correct it")
        rows.append(row)
        if len(rows) == ROWS:
            yield rows
            rows = []
    if rows:
        yield rows


class _Number(dict[str, int]):
    """Numbers strings as they come."""

    def __missing__(self, value: str) -> int:
        number = self[value] = len(self)
        return number


class _Coder:
    """A column of strings as it comes."""

    def __init__(self) -> None:
        self.number = _Number()
        self.parts: list[Array] = []

    def add(self, values: Sequence[str]) -> None:
        self.parts.append(np.fromiter(map(self.number.__getitem__, values), np.int32, len(values)))

    def add_arrow(self, values: pa.Array) -> None:
        """Of any type that Arrow can write as text; true and false as such, a null as ""."""
        if (
            pa.types.is_dictionary(values.type)
            and values.null_count == 0
            and pa.types.is_string(values.type.value_type)
        ):
            coded = values
        else:
            plain = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
            coded = pc.fill_null(plain.cast(pa.string()), "").dictionary_encode()
        places = [self.number[value] for value in coded.dictionary.to_pylist()]
        self.parts.append(np.array(places, np.int32)[coded.indices.to_numpy()] if places else np.zeros(0, np.int32))

    def done(self) -> NameColumn:
        codes = np.concatenate([*self.parts, np.zeros(0, np.int32)])
        return NameColumn(tuple(self.number), codes).renamed([value.strip() for value in self.number])


def _numbers(columns: Columns, name: str, values: Sequence[str], before: int) -> Array:
    """float64 of the texts of one column, of which `before` came earlier."""
    try:
        return np.fromiter(map(float, values), np.float64, len(values))
    except ValueError:
        pass
    found = np.empty(len(values))
    for k, value in enumerate(values):
        try:
            found[k] = np.nan if value.strip().lower() in NOTHING else float(value)
        except ValueError as error:
            comma = "; write decimals with a point" if "," in value else "; correct it"
            raise UserError(f"{columns.where(before + k)}: {name} is {one_line(value)!r}, no number{comma}") from error
    return found


def _as_numbers(path: Path, name: str, values: pa.Array) -> Array:
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        bare = pc.utf8_trim_whitespace(values)
        values = pc.if_else(pc.is_in(pc.utf8_lower(bare), pa.array(sorted(NOTHING), kind)), None, bare)
    try:
        numbers = values.cast(pa.float64())
    except (pa.ArrowException, ValueError) as error:
        raise UserError(
            f"{path}: its column {name} holds {kind}, not numbers ({one_line(error)}); correct it"
        ) from error
    found: Array = pc.fill_null(numbers, np.nan).to_numpy(zero_copy_only=False)
    return found


def _refuse_twins(path: Path, names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        shown = one_line(", ".join(names))
        raise UserError(f"{path}: two columns have the same name ({shown}); rename one")


def _some(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(one_line(name)[:40] for name in names[:20])


def one_line(value: object) -> str:
    """One line of at most 200 letters: a damaged file may say anything."""
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else text[:200] + "…"
