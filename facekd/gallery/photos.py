"""What a gallery knows of each enrolled photo: its digest, its quality, its embedding; never the photo itself.

A LanceDB table ``photos`` beside ``people``, one row for each person and photo. A row is a pure function of the
photo's bytes and the settings of its search for faces, so a template can be computed anew when one photo comes or
goes, and a photo that has not changed is never embedded twice. `GalleryTable.delete_all` erases a person from it too.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lancedb
import pyarrow as pa
import pyarrow.compute as pc

from facekd.gallery.people import quoted
from facekd.gallery.place import Place, check_fork, private, storage_options, told

TABLE = "photos"
KEYS = ["person_id", "source"]
IN_LIST = 500  # names in one condition
EXCLUDED = "excluded"  # the status of a photo that was decided to be no photo of its person
Photos = Mapping[str, Sequence[str]]  # sources of photos by their person
KEPT = datetime.timedelta(days=1)  # readers may go on using a replaced version for so long


def schema(dim: int) -> pa.Schema:
    """The columns, for embeddings of `dim` numbers."""
    return pa.schema(
        [
            pa.field("person_id", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            ("sha256", pa.string()),  # of the photo's bytes; null where it could not be read
            ("stamp", pa.string()),  # photos.find.stamp when it was read
            ("settings", pa.string()),  # how faces were looked for
            ("status", pa.string()),  # ok or why there is no embedding
            ("reason", pa.string()),
            ("accepted", pa.bool_()),  # though it does not match the person's other photos
            # As exact as they were judged, so that the same limits judge a stored photo the same.
            ("score", pa.float64()),  # the detector's confidence
            ("quality", pa.float64()),  # sharpness of the crop
            ("eyes", pa.float64()),  # px of the photo between the eyes
            ("yaw", pa.float64()),  # radians, as pitch
            ("pitch", pa.float64()),
            ("embedding", pa.list_(pa.float32(), dim)),  # unit norm; null unless ok
            # Last, where it is added to a table of before; null in its rows, which no limit of detail judges.
            ("detail", pa.float64()),  # of the crop, percent
        ]
    )


@dataclass(frozen=True, slots=True)
class KnownPhoto:
    """A row of the table without its embedding, in the order of its columns."""

    person_id: str
    source: str
    sha256: str | None
    stamp: str | None
    settings: str | None
    status: str
    reason: str
    accepted: bool
    score: float  # as the others: NaN where no face was found
    quality: float
    eyes: float
    yaw: float
    pitch: float
    detail: float


class PhotoTable:
    """The photos of a gallery.

    Args:
        place: of the gallery, or a temporary folder for a dry run.
        dim: numbers in an embedding.

    Raises:
        UserError: the table is of another form, or can't be read or made.
    """

    def __init__(self, place: Place, dim: int) -> None:
        self.place = place
        self.dim = dim
        self.schema = schema(dim)
        with told(place, "opened"), private():
            connection = _connect(place)
            try:
                self.table: Any = connection.open_table(TABLE)
            except ValueError as error:
                # It was not begun, or its first writer was killed before there was anything in its folder.
                if "was not found" not in str(error):
                    raise
                self.table = None
            if self.table is None or not self._before():
                self.table = connection.create_table(TABLE, schema=self.schema, exist_ok=True)

    @staticmethod
    def exists(place: Place) -> bool:
        """Whether the gallery has the table: one from before it was kept has none."""
        with told(place, "read"):
            return TABLE in _connect(place).list_tables().tables

    def known(self, person_ids: Sequence[str]) -> list[KnownPhoto]:
        """The photos of some people, in no order."""
        names = [name for name in self.schema.names if name != "embedding"]
        rows = self._read(_is_in("person_id", person_ids), names)
        columns = [rows[name] for name in names]
        filled = [pc.fill_null(one, math.nan) if pa.types.is_floating(one.type) else one for one in columns]
        return [KnownPhoto(*values) for values in zip(*(one.to_pylist() for one in filled), strict=True)]

    def rows(self, photos: Photos) -> pa.Table:
        """Some whole rows, in no order."""
        pieces = [self._read(condition, self.schema.names) for condition in _conditions(photos)]
        return pa.concat_tables([self.schema.empty_table(), *pieces])

    def of(self, person_ids: Sequence[str]) -> pa.Table:
        """The whole rows of some people, in no order."""
        return self._read(_is_in("person_id", person_ids), self.schema.names)

    def embeddings(self, person_ids: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """person_id, source and embedding of the photos of some people that have one, in no order, as they are read."""
        where = f"status = 'ok' AND {_is_in('person_id', person_ids)}"
        with told(self.place, "read"):
            yield from self.table.search().where(where).select(["person_id", "source", "embedding"]).to_batches()

    def only_in_memory(self, person_ids: Sequence[str]) -> set[str]:
        """Those of some people who have photos here, and none of a file: a program gave them."""
        found: dict[str, bool] = {}
        for start in range(0, len(person_ids), IN_LIST):
            rows = self._read(_is_in("person_id", person_ids[start : start + IN_LIST]), ["person_id", "stamp"])
            for person, stamp in zip(rows["person_id"].to_pylist(), rows["stamp"].to_pylist(), strict=True):
                found[person] = found.get(person, True) and stamp is None
        return {person for person, without in found.items() if without}

    def put(self, rows: pa.Table, *, new: bool) -> None:
        """Write rows, all at once or none; each replaces an earlier one of the same person and source.

        Args:
            new: no earlier row is there, so none has to be looked for.

        Raises:
            UserError: the disk is full or can't be written.
        """
        if len(rows) == 0:
            return
        with told(self.place, "written"), private():
            if self._before():
                self.table.add_columns(self.schema.field("detail"))
            if new:
                self.table.add(rows)
            else:
                merge = self.table.merge_insert(KEYS).when_matched_update_all().when_not_matched_insert_all()
                merge.execute(rows, on_bad_vectors="null")  # those that are null are meant to be

    def forget(self, photos: Photos) -> None:
        """Take photos out; their bytes go with the next cleaning, see `KEPT`."""
        with told(self.place, "written"), private():
            for condition in _conditions(photos):
                self.table.delete(condition)

    def accept(self, photos: Photos) -> None:
        """Remember that photos that do not match their person's others are to count nevertheless."""
        with told(self.place, "written"), private():
            for condition in _conditions(photos):
                self.table.update(where=condition, values={"accepted": True})

    def exclude(self, photos: Photos, reason: str) -> None:
        """Let photos of their persons never count: their embeddings go, their digests stay."""
        rows = self.rows(photos)
        values = {
            "status": pa.array([EXCLUDED] * len(rows), pa.string()),
            "reason": pa.array([reason] * len(rows), pa.string()),
            "embedding": pa.nulls(len(rows), self.schema.field("embedding").type),
        }
        for name, column in values.items():
            rows = rows.set_column(rows.schema.get_field_index(name), self.schema.field(name), column)
        self.put(rows, new=False)

    def reload(self) -> None:
        """See what was written past this object, as by an erasure."""
        with told(self.place, "read"):
            self.table.checkout_latest()

    def _read(self, where: str, names: Sequence[str]) -> pa.Table:
        """Columns of the rows that a condition holds for, in no order."""
        there = [name for name in names if name in self.table.schema.names]
        with told(self.place, "read"):
            rows = self.table.search().where(where).select(there).to_arrow()
        for name in names[len(there) :]:
            rows = rows.append_column(self.schema.field(name), pa.nulls(len(rows), self.schema.field(name).type))
        return rows

    def _before(self) -> bool:
        """Whether the table is one of before detail was measured."""
        return bool(self.table.schema.append(self.schema.field("detail")).equals(self.schema))

    def tidy(self) -> None:
        """Join small files and drop old versions."""
        with told(self.place, "written"), private():
            self.table.optimize(cleanup_older_than=KEPT)


def _connect(place: Place) -> Any:
    check_fork(place)
    return lancedb.connect(place.uri, storage_options=storage_options() if place.remote else None)


def _conditions(photos: Photos) -> Iterator[str]:
    """Conditions that together hold for the rows of some photos, in LanceDB's SQL.

    Of many people at once: each write makes a version of the table, which costs time and memory from then on.
    """
    waiting: list[str] = []
    count = 0
    for person, sources in photos.items():
        for start in range(0, len(sources), IN_LIST):
            some = sources[start : start + IN_LIST]
            if count + len(some) > IN_LIST:
                yield " OR ".join(waiting)
                waiting, count = [], 0
            waiting.append(f"({_is_in('person_id', [person])} AND {_is_in('source', some)})")
            count += len(some)
    if waiting:
        yield " OR ".join(waiting)


def _is_in(column: str, values: Sequence[str]) -> str:
    """The condition that a column holds one of `values`, in LanceDB's SQL."""
    return f"{column} IN ({', '.join(map(quoted, values))})"
