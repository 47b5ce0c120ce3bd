"""Searches that LanceDB does: by the index, and among the people with some metadata."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from facekd.core.types import Array
from facekd.errors import UserError
from facekd.gallery import index
from facekd.gallery.people import Match, quoted, tags
from facekd.gallery.place import Place, told


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
