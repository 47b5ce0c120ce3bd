"""Searches: of every template, which are held in memory, and by LanceDB, by its index or among some people."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from facekd.core.types import Array
from facekd.errors import UserError
from facekd.gallery import index
from facekd.gallery.exact import Templates, nearest
from facekd.gallery.people import Match, quoted, tags
from facekd.gallery.place import Place, told


class Loaded:
    """Every template of a gallery's table in memory, read when first searched and where others have written since."""

    def __init__(self, place: Place, table: Any, dim: int) -> None:
        self._place, self._table, self._dim = place, table, dim
        self._held: tuple[int, Templates] | None = None  # of a version of the table
        self._loading = threading.Lock()

    def search(self, vectors: Array, k: int) -> list[list[Match]]:
        """The people most alike to each probe float32[P, D], in no order."""
        templates = self.now()
        rows, scores = nearest(templates.vectors, vectors, k)
        return [
            [Match(templates.ids[row], float(score)) for row, score in zip(*pair, strict=True)]
            for pair in zip(rows, scores, strict=True)
        ]

    def put(self, ids: Sequence[str], vectors: Array, before: int) -> None:
        """Take in the people who were written just now.

        Args:
            vectors: float32[n, D].
            before: the table's version until then.
        """
        if self._held is not None and self._held[0] == before:
            self._held[1].put(ids, vectors)
            self._held = self._table.version, self._held[1]

    def now(self) -> Templates:
        """Those of the table's version that is open."""
        with self._loading:  # one version at a time in memory
            version = self._table.version
            if self._held is None or self._held[0] != version:
                self._held = None
                people = int(self._table.count_rows())
                with told(self._place, "read"):
                    batches = self._table.search().select(["person_id", "template"]).limit(people).to_batches()
                    self._held = version, Templates(batches, people, self._dim)
            return self._held[1]


def by_index(place: Place, table: Any, vectors: Array, k: int) -> list[list[Match]]:
    """The people that the index finds for each probe float32[P, D], in no order.

    Raises:
        UserError: a damaged index.
    """
    try:
        rows = index.search(table, vectors, k)
    except (OSError, RuntimeError, ValueError) as error:
        first = (str(error).splitlines() or [""])[0][:200]
        raise UserError(
            f"{place}: its index can't be read ({first}); build it anew with 'facekd gallery index {place}'"
        ) from error
    # The squared distance of unit vectors is 2 - 2 cosines.
    return _matches(rows, 1 - rows["_distance"].to_numpy().astype(float) / 2, len(vectors))


def among(place: Place, table: Any, vectors: Array, k: int, where: Mapping[str, str]) -> list[list[Match]]:
    """The people with all of the metadata `where` who are most alike to each probe float32[P, D], in no order."""
    condition = " AND ".join(f"array_has(metadata, {quoted(tag)})" for tag in tags(where))
    query = table.search(vectors, vector_column_name="template").distance_type("dot").where(condition)
    with told(place, "read"):
        rows = query.bypass_vector_index().limit(k).select(["person_id", "_distance"]).to_arrow()
    # Of unit vectors the dot product is the cosine; LanceDB gives 1 minus it.
    return _matches(rows, 1 - rows["_distance"].to_numpy().astype(float), len(vectors))


def _matches(rows: pa.Table, scores: Array, probes: int) -> list[list[Match]]:
    """LanceDB's answers by probe; with one probe it leaves out which."""
    found: list[list[Match]] = [[] for _ in range(probes)]
    places = rows["query_index"].to_pylist() if "query_index" in rows.column_names else [0] * len(rows)
    for place, person_id, score in zip(places, rows["person_id"].to_pylist(), scores, strict=True):
        found[place].append(Match(person_id, float(score)))
    return found
