"""The ledger of a gallery, ``ledger.parquet``: what became of each photo in its person's latest enrollment."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from facekd.core.formats import FORMATS, METADATA, check_format
from facekd.core.tables import sound
from facekd.errors import UserError
from facekd.gallery.place import Place, table_bytes

FILE = "ledger.parquet"
LEDGER = pa.schema(
    [
        ("source", pa.string()),
        ("person", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.float64()),  # of the face, percent; null where none was found, and in a ledger of before
    ]
)


def read_ledger(place: Place) -> pa.Table:
    """Everything in it, columns of LEDGER; without rows where there is none yet.

    Raises:
        UserError: the file is damaged or of a newer facekd.
    """
    data = place.read(FILE)
    if data is None:
        return LEDGER.empty_table()
    try:
        table = sound(pq.read_table(pa.BufferReader(data)))
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{place}/{FILE}: damaged ({error}); remove it and enroll again") from error
    check_format("ledger", (table.schema.metadata or {}).get(METADATA.encode()), f"{place}/{FILE}")
    if "detail" not in table.schema.names:
        table = table.append_column(LEDGER.field("detail"), pa.nulls(len(table), pa.float64()))
    return table.replace_schema_metadata()


def add_to_ledger(place: Place, rows: pa.Table) -> None:
    """Take rows in, columns of LEDGER, for the earlier ones of their people and of photos without a person."""
    before = read_ledger(place)
    others = pc.and_(
        pc.is_valid(before["person"]), pc.invert(pc.is_in(before["person"], rows["person"].combine_chunks()))
    )
    after = pa.concat_tables([before.filter(others), rows])
    if not after.equals(before):
        _write(place, after)


def erase_from_ledger(place: Place, ids: Sequence[str]) -> None:
    """Take out every row of some people."""
    ledger = read_ledger(place)
    _write(place, ledger.filter(pc.invert(pc.is_in(ledger["person"], pa.array(ids, pa.string())))))


def _write(place: Place, ledger: pa.Table) -> None:
    place.write(FILE, table_bytes(ledger.replace_schema_metadata({METADATA: str(FORMATS["ledger"])})))
