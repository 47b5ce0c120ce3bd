"""The crop store: aligned faces, and a ledger with one row for every photo they came from.

On disk::

    STORE/store.json               how the crops were made; another setting never enters the same store
    STORE/crops/part-00000.arrow   Arrow IPC, memory-mapped when read
    STORE/ledger/part-00000.parquet

A part's crops are written first, then its ledger; crops without their ledger part are void. A later row for
the same photo replaces an earlier one, so that a photo changed on disk can be aligned again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from facekd.core.files import ASIDE, atomic_write, read_json, write_json
from facekd.errors import UserError

STATUSES = ("ok", "no_face", "too_small", "unreadable", "too_large", "duplicate")
FAILED = ("no_face", "too_small", "unreadable", "too_large")

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
        ("boxes", pa.list_(pa.list_(pa.float32(), 4))),  # every face found
        ("chosen", pa.list_(pa.int32())),  # places in `boxes` of those that became crops
        ("crop_ids", pa.list_(pa.string())),  # of a duplicate: the crops of the first photo with its bytes
        ("seconds", pa.float32()),
    ]
)


@dataclass
class PhotoRecord:
    """What became of one photo: its ledger row and its crops."""

    source: str
    identity: str | None
    status: str
    reason: str = ""
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    boxes: list[list[float]] = field(default_factory=list)
    chosen: list[int] = field(default_factory=list)
    crop_ids: list[str] = field(default_factory=list)
    seconds: float = 0.0
    crops: list[dict[str, Any]] = field(default_factory=list)  # rows of CROPS

    def __post_init__(self) -> None:
        assert self.status in STATUSES, self.status


class CropStore:
    """The store in a folder, opened for writing or reading."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, settings: dict[str, Any]) -> CropStore:
        """Open the store in `folder` to write crops made with `settings`; begin it where there is none.

        Raises:
            UserError: the folder holds a store made with other settings, or something else.
        """
        path = folder / "store.json"
        if path.exists():
            found = read_json(path)
            if found != settings:
                other = ", ".join(f"{k}={found.get(k)!r}" for k in settings if found.get(k) != settings[k])
                raise UserError(
                    f"{folder}: its crops were made with other settings ({other}); choose another output folder"
                )
        elif folder.exists() and not (folder.is_dir() and all(p.name.endswith(ASIDE) for p in folder.iterdir())):
            raise UserError(f"{folder}: holds files but no crop store; choose a new or empty output folder")
        else:
            write_json(path, settings)
        return cls(folder)

    @classmethod
    def open(cls, folder: Path) -> CropStore:
        """Open the store in `folder` to read it.

        Raises:
            UserError: there is none.
        """
        if not (folder / "store.json").exists():
            raise UserError(f"{folder}: no crop store; make one with 'facekd align PHOTOS {folder}'")
        return cls(folder)

    @property
    def settings(self) -> dict[str, Any]:
        """How the crops were made: detector, size, template, choice."""
        settings = read_json(self.folder / "store.json")
        assert isinstance(settings, dict)
        return settings

    def parts(self) -> list[int]:
        """Numbers of the whole parts, in the order they were written."""
        return sorted(int(path.stem.removeprefix("part-")) for path in (self.folder / "ledger").glob("part-*.parquet"))

    def append(self, records: Iterable[PhotoRecord]) -> None:
        """Write one more part; it is there whole or not at all."""
        records = list(records)
        number = (self.parts() or [-1])[-1] + 1
        crops = [crop for record in records for crop in record.crops]
        rows = [{k: v for k, v in asdict(record).items() if k != "crops"} for record in records]
        with (
            atomic_write(self.folder / "crops" / f"part-{number:05d}.arrow") as file,
            pa.ipc.new_file(file, CROPS) as writer,
        ):
            writer.write_table(pa.Table.from_pylist(crops, CROPS))
        with atomic_write(self.folder / "ledger" / f"part-{number:05d}.parquet") as file:
            pq.write_table(pa.Table.from_pylist(rows, LEDGER), file)

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
        """The crops that the ledger vouches for, in its order; columns of CROPS."""
        wanted: dict[tuple[int, str], int] = {}  # (part, crop_id) -> place
        ledger = self.ledger().select(["part", "status", "crop_ids"]).to_pylist()
        for row in ledger:
            if row["status"] == "ok":
                for crop in row["crop_ids"]:
                    wanted[row["part"], crop] = len(wanted)
        tables, places = [], []
        for number in self.parts():
            path = self.folder / "crops" / f"part-{number:05d}.arrow"
            try:
                table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            except (OSError, pa.ArrowException) as error:
                raise UserError(f"{path}: damaged ({error}); align its photos into a new folder") from error
            rows = [i for i, crop in enumerate(table["crop_id"].to_pylist()) if (number, crop) in wanted]
            places += [wanted[number, table["crop_id"][i].as_py()] for i in rows]
            # A whole part stays memory-mapped; take() would copy it.
            tables.append(table if len(rows) == len(table) else table.take(pa.array(rows, pa.int64())))
        table = pa.concat_tables(tables) if tables else pa.Table.from_pylist([], CROPS)
        if places == sorted(places):
            return table
        order = sorted(range(len(places)), key=places.__getitem__)
        return table.take(order)


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: damaged ({error}); align its photos into a new folder") from error
