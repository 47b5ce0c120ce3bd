"""The index of a large gallery: LanceDB's IVF_RQ over the templates, and an index of the ids.

The templates are grouped around centroids and each is kept as one bit for every number (RaBitQ: Gao and Long,
SIGMOD 2024). A probe is compared with all centroids, with the bits in the nearest groups, and with the REFINE
templates themselves that look best by their bits: so scores are exact, and a nearer person is missed only where the
bits mislead or the group is far. Face embeddings hardly fall into groups, so more than half of the bits are looked at;
that costs little, as they are a 32nd of the templates. People enrolled since the index was built are compared one by
one, so nobody new is missed.

What was tried instead: the groups alone, without bits, need a third of all templates compared for a recall of 0.99; a
graph (HNSW, m 20, ef_construction 200) took 110 s to build for 65,536 people, where this took 2 s on the same busy
machine.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from lancedb.index import BTree, IvfFlat, IvfRq

from facekd.core.types import Array

# From benchmarks/gallery.py: of a million people the first of the list is found for 99.5 % of probes and more.
INDEX_FROM = 200_000  # people; up to there exact search answers in a tenth of a second
IDS_FROM = 20_000  # people
IDS_EVERY = 10_000  # people outside the index of ids, which a lot of 256 reads in 50 ms
PARTITIONS = 1024  # groups
NPROBES = 576  # groups searched
REFINE = 20  # templates compared exactly for each person asked for
SAMPLE_RATE = 64  # templates for each centroid that k-means sees
ITERATIONS = 10
SMALL_FILES = 32  # that may wait to be joined, which writes a large gallery anew
FILES = 200  # that may wait during an enrollment
OUTSIDE = 0.05  # share of people outside the index who may wait to be taken in


@dataclass(frozen=True, slots=True)
class IndexState:
    """What an index covers."""

    people: int  # in the index
    outside: int  # enrolled since; compared one by one
    bytes: int  # on disk


def state(table: Any) -> IndexState | None:
    """The index of the templates; None where there is none."""
    for found in table.list_indices():
        if found.columns == ["template"]:
            return IndexState(found.num_indexed_rows, found.num_unindexed_rows, found.size_bytes)
    return None


def keep_up(table: Any, kept: datetime.timedelta, *, rebuild: bool = False) -> None:
    """Join small files, drop versions older than `kept` and take new people into the indices; build those that are due.

    Args:
        rebuild: build the index of the templates though they are few.
    """
    people = table.count_rows()
    if people == 0:
        return
    if _due(table, people):
        table.optimize(cleanup_older_than=kept)
    _keep_up_ids(table, people)
    if state(table) is None and (rebuild or people >= INDEX_FROM):
        partitions = min(PARTITIONS, max(1, people // 64))
        dim = table.schema.field("template").type.list_size
        kind = IvfRq if dim % 8 == 0 else IvfFlat  # the bits of a template fill whole bytes
        config = kind(distance_type="l2", num_partitions=partitions, sample_rate=SAMPLE_RATE, max_iterations=ITERATIONS)
        table.create_index("template", config=config)


def drop(table: Any) -> None:
    """Remove both indices."""
    for found in table.list_indices():
        table.drop_index(found.name)


def search(table: Any, vectors: Array, k: int) -> pa.Table:
    """The nearest people by the index: columns query_index, person_id and score."""
    return query(table, vectors).limit(k).select(["person_id", "_distance"]).to_arrow()


def query(table: Any, vectors: Array) -> Any:
    """LanceDB's query that uses the index; further groups are searched only while too few people are found."""
    made = table.search(vectors, vector_column_name="template").distance_type("l2")
    return made.minimum_nprobes(NPROBES).maximum_nprobes(0).refine_factor(REFINE)


def keep_pace(table: Any, kept: datetime.timedelta) -> None:
    """What a long enrollment needs every IDS_EVERY people, so that it does not slow down as the gallery grows."""
    if _small_files(table) >= FILES:
        table.optimize(cleanup_older_than=kept)
    _keep_up_ids(table, table.count_rows())


def _keep_up_ids(table: Any, people: int) -> None:
    """Index the ids, so that an enrollment need not read everybody's; anew where many are outside."""
    if people < IDS_FROM:
        return
    outside = [found.num_unindexed_rows for found in table.list_indices() if found.columns == ["person_id"]]
    if not outside or outside[0] > IDS_EVERY:
        table.create_index("person_id", config=BTree())


def _small_files(table: Any) -> int:
    return int(table.stats()["fragment_stats"]["num_small_fragments"])


def _due(table: Any, people: int) -> bool:
    """Whether it is time to write the gallery anew; a small one always is."""
    if people < IDS_FROM or _small_files(table) >= SMALL_FILES:
        return True
    found = state(table)
    return found is not None and found.outside > OUTSIDE * people
