"""The crop store: aligned faces, and a ledger with one row for every photo they came from.

On disk::

    STORE/store.json               how the crops were made; another setting never enters the same store
    STORE/crops/part-00000.arrow   Arrow IPC, memory-mapped when read
    STORE/ledger/part-00000.parquet

A part's crops are written first, then its ledger; crops without their ledger part are void. A later row for
the same photo replaces an earlier one, so that a photo changed on disk can be aligned again. One process writes at a
time: it holds STORE/lock.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facekd.core.choices import SPELLED_BEFORE
from facekd.core.files import ASIDE, LOCK, atomic_write, exclusive, read_json, write_json
from facekd.core.formats import FORMATS, KEY, METADATA, check_format
from facekd.core.tables import sound
from facekd.core.types import Array
from facekd.crops.records import PhotoRecord
from facekd.errors import UserError

CROPS = pa.schema(
    [
        ("crop_id", pa.string()),
        ("image", pa.binary()),  # encoded; core.pixels.decode_crop
        ("identity", pa.string()),  # null where unknown
        ("source", pa.string()),
        ("sha256", pa.string()),  # of the photo's bytes
        ("box", pa.list_(pa.float32(), 4)),  # x1 y1 x2 y2, px of the upright photo
        ("landmarks", pa.list_(pa.float32(), 10)),  # x y of the five points, px of the upright photo
        ("matrix", pa.list_(pa.float64(), 6)),  # photo -> crop, row by row
        ("score", pa.float32()),  # the detector's confidence
        ("quality", pa.float32()),  # sharpness of the crop
        ("eyes", pa.float32()),  # px of the photo between the eyes
        ("yaw", pa.float32()),  # radians; faces.align.pose
        ("pitch", pa.float32()),
        ("roll", pa.float32()),
        ("detail", pa.float32()),  # percent, faces.detail; null where it is not known
    ]
)
LEDGER = pa.schema(
    [
        ("source", pa.string()),
        ("identity", pa.string()),
        ("sha256", pa.string()),  # null where the file could not be read
        ("status", pa.string()),  # one of STATUSES
        ("reason", pa.string()),  # empty for ok
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("turned", pa.int32()),  # degrees counterclockwise by which it was turned for a face to be found; mostly 0
        ("boxes", pa.list_(pa.list_(pa.float32(), 4))),  # every face found, px of the upright photo
        ("chosen", pa.list_(pa.int32())),  # places in `boxes` of those that became crops
        ("crop_ids", pa.list_(pa.string())),  # of a duplicate: the crops of the first photo with its bytes
        ("seconds", pa.float32()),
    ]
)


class CropStore:
    """The store in a folder, opened for writing or reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    @contextlib.contextmanager
    def writing(cls, folder: Path, settings: dict[str, Any]) -> Iterator[CropStore]:
        """`create`, for one process at a time; what a killed one left half-written is cleared away.

        Raises:
            UserError: as `create`, or another process is writing the store.
        """
        _begun(folder, settings)  # a folder with something else in it gets no lock file either
        with exclusive(folder):
            store = cls.create(folder, settings)
            for torn in folder.rglob(f".*{ASIDE}"):
                torn.unlink()
            yield store

    @classmethod
    def create(cls, folder: Path, settings: dict[str, Any]) -> CropStore:
        """Open the store in `folder` to write crops made with `settings`; begin it where there is none.

        Raises:
            UserError: the folder holds a store made with other settings, or something else.
        """
        if not _begun(folder, settings):
            write_json(folder / "store.json", {KEY: FORMATS["crop store"], **settings})
        return cls(folder)

    @classmethod
    def open(cls, folder: Path) -> CropStore:
        """Open the store in `folder` to read it.

        Raises:
            UserError: there is none.
        """
        if not (folder / "store.json").exists():
            raise UserError(
                f"{folder}: no crop store; make one with 'facekd align PHOTOS CROPS', of crops that are cut already "
                "with --detector none"
            )
        return cls(folder)

    @property
    def settings(self) -> dict[str, Any]:
        """How the crops were made: detector, size, template, choice."""
        return _settings(self.folder / "store.json")

    def parts(self) -> list[int]:
        """Numbers of the whole parts, in the order they were written."""
        return sorted(int(path.stem.removeprefix("part-")) for path in (self.folder / "ledger").glob("part-*.parquet"))

    def append(self, records: Iterable[PhotoRecord]) -> None:
        """Write one more part; it is there whole or not at all."""
        records = list(records)
        number = (self.parts() or [-1])[-1] + 1
        crops = _rows((crop for record in records for crop in record.crops), CROPS)
        with (
            atomic_write(self.folder / "crops" / f"part-{number:05d}.arrow") as file,
            pa.ipc.new_file(file, _numbered(CROPS, "crop store")) as writer,
        ):
            writer.write_table(crops)
        with atomic_write(self.folder / "ledger" / f"part-{number:05d}.parquet") as file:
            pq.write_table(_rows(records, _numbered(LEDGER, "ledger")), file, write_page_checksum=True)

    def ledger(self) -> pa.Table:
        """The newest row of each photo, in the order of their sources; columns of LEDGER and ``part``."""
        tables = []
        for number in self.parts():
            table = _read_parquet(self.folder / "ledger" / f"part-{number:05d}.parquet")
            tables.append(table.append_column("part", pa.array([number] * len(table), pa.int32())))
        if not tables:
            return pa.Table.from_pylist([], LEDGER.append(pa.field("part", pa.int32())))
        table = pa.concat_tables(tables)
        newest = {source: row for row, source in enumerate(table["source"].to_pylist())}
        return table.take(pa.array([newest[source] for source in sorted(newest)], pa.int64()))

    def crops(self) -> pa.Table:
        """The crops that the ledger vouches for, in its order, copied into memory; columns of CROPS."""
        table, rows = self.mapped()
        return table.take(pa.array(rows))

    def mapped(self) -> tuple[pa.Table, Array]:
        """Every crop of the whole parts as it lies on disk, memory-mapped, and which of these rows count.

        Returns:
            A table with the columns of CROPS, and int64[n]: the rows that the ledger vouches for, in its order.
        """
        wanted: dict[tuple[int, str], int] = {}  # (part, crop_id) -> place
        for row in self.ledger().select(["part", "status", "crop_ids"]).to_pylist():
            if row["status"] == "ok":
                for crop in row["crop_ids"]:
                    wanted[row["part"], crop] = len(wanted)
        tables = [CROPS.empty_table()]
        rows, start = np.full(len(wanted), -1, np.int64), 0
        for number in self.parts():
            path = self.folder / "crops" / f"part-{number:05d}.arrow"
            try:
                table = sound(pa.ipc.open_file(pa.memory_map(str(path))).read_all())  # of images looks at offsets alone
            except (OSError, pa.ArrowException) as error:
                raise UserError(f"{path}: damaged ({error}); align its photos into a new folder") from error
            table = _with_detail(_checked(table, "crop store", path))
            if not table.schema.equals(CROPS):
                raise UserError(f"{path}: was written by another version of facekd; align its photos into a new folder")
            for row, crop in enumerate(table["crop_id"].to_pylist(), start):
                if (number, crop) in wanted:
                    rows[wanted[number, crop]] = row
            tables.append(table)
            start += len(table)
        if (rows < 0).any():
            raise UserError(f"{self.folder}: lacks crops that its ledger names; align its photos into a new folder")
        return pa.concat_tables(tables), rows


def _rows(items: Iterable[Any], schema: pa.Schema) -> pa.Table:
    """Dataclasses as a table: their fields of the names of its columns."""
    return pa.Table.from_pylist([{name: getattr(item, name) for name in schema.names} for item in items], schema)


def _begun(folder: Path, settings: dict[str, Any]) -> bool:
    """Whether `folder` holds a store made with `settings`; False where one can be begun.

    Raises:
        UserError: the folder holds a store made with other settings, or something else.
    """
    path = folder / "store.json"
    if path.exists():
        found = _settings(path)
        if found != settings:
            raise UserError(
                f"{folder}: its crops were made with other settings ({_differences(found, settings)}); choose another "
                "output folder"
            )
        return True
    if folder.exists() and not (
        folder.is_dir() and all(p.name.endswith(ASIDE) or p.name == LOCK for p in folder.iterdir())
    ):
        raise UserError(f"{folder}: holds files but no crop store; choose a new or empty output folder")
    return False


def _settings(path: Path) -> dict[str, Any]:
    settings = read_json(path)
    if not isinstance(settings, dict):
        raise UserError(f"{path}: holds no settings of a crop store; align the photos into a new folder")
    check_format("crop store", settings.pop(KEY, None), path)
    if "choose" in settings:
        settings["choose"] = SPELLED_BEFORE.get(settings["choose"], settings["choose"])
    return settings


def _numbered(schema: pa.Schema, kind: str) -> pa.Schema:
    return schema.with_metadata({METADATA: str(FORMATS[kind])})


def _checked(table: pa.Table, kind: str, path: Path) -> pa.Table:
    """A part without the number of its form, which is one that is read."""
    check_format(kind, (table.schema.metadata or {}).get(METADATA.encode()), path)
    return table.replace_schema_metadata()


def _with_detail(table: pa.Table) -> pa.Table:
    """Crops as CROPS has them: those of before detail was measured have none."""
    if table.schema.append(CROPS.field("detail")).equals(CROPS):
        return table.append_column(CROPS.field("detail"), pa.nulls(len(table), pa.float32()))
    return table


def _differences(found: dict[str, Any], settings: dict[str, Any]) -> str:
    """The settings in `found` that `settings` has not, or has otherwise, and those that `found` lacks."""
    return ", ".join(
        f"{key}={found[key]!r}" if key in found else f"no {key}"
        for key in {**found, **settings}
        if key not in found or key not in settings or found[key] != settings[key]
    )


def _read_parquet(path: Path) -> pa.Table:
    try:
        table = sound(pq.read_table(path, page_checksum_verification=True))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: damaged ({error}); align its photos into a new folder") from error
    return _checked(table, "ledger", path)
