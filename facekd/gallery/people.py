"""Enrolled people, and how they lie in a table."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from facekd.core.types import Array
from facekd.errors import UserError

NAMED = 1000  # ids in one condition


@dataclass(frozen=True, slots=True)
class Person:
    """An enrolled person."""

    person_id: str
    template: Array  # float32[D], unit norm
    sources: tuple[str, ...]  # the photos whose embeddings' mean it is
    quality: float | None = None  # of the photos; higher is better; None where it was not measured
    metadata: Mapping[str, str] = field(default_factory=dict)  # what else is known, such as site -> Berlin

    def same(self, other: Person) -> bool:
        """Whether both hold the same template from the same photos, and the same is known of both."""
        return (
            self.sources == other.sources
            and self.quality == other.quality
            and dict(self.metadata) == dict(other.metadata)
            and np.array_equal(self.template, other.template)
        )


@dataclass(frozen=True, slots=True)
class Match:
    """A person of the gallery, and how alike a probe is."""

    person_id: str
    score: float  # cosine


@dataclass(frozen=True, slots=True)
class Answer:
    """Who a probe shows: a person whose score is at least the threshold, else None."""

    person_id: str | None
    score: float  # of the nearest person, named or not


def template_of(total: Array) -> Array | None:
    """A person's template: the mean of unit embeddings, scaled to unit norm.

    Args:
        total: float64[D], their sum.

    Returns:
        float32[D], or None where they cancel out, so that no direction is theirs.
    """
    norm = np.linalg.norm(total)
    return None if norm < 1e-6 else (total / norm).astype(np.float32)


def people_schema(dim: int) -> pa.Schema:
    """The columns of people whose templates have `dim` numbers."""
    return pa.schema(
        [
            pa.field("person_id", pa.string(), nullable=False),
            pa.field("template", pa.list_(pa.float32(), dim), nullable=False),
            ("photos", pa.int32()),
            ("sources", pa.list_(pa.string())),
            ("quality", pa.float64()),
            ("metadata", pa.list_(pa.string())),  # key=value each, which a condition of LanceDB can look for
            ("updated", pa.timestamp("us", "UTC")),
        ]
    )


def to_table(people: Sequence[Person], dim: int, updated: datetime.datetime) -> pa.Table:
    """People as a table with the columns of `people_schema`.

    Raises:
        UserError: a name that is no Unicode text, or metadata with a key that is empty or holds "=".
    """
    vectors = np.stack([person.template for person in people]).astype(np.float32)
    try:
        return pa.table(
            [
                pa.array([person.person_id for person in people], pa.string()),
                pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
                pa.array([len(person.sources) for person in people], pa.int32()),
                pa.array([list(person.sources) for person in people], pa.list_(pa.string())),
                pa.array([person.quality for person in people], pa.float64()),
                pa.array([tags(person.metadata) for person in people], pa.list_(pa.string())),
                pa.array([updated] * len(people), pa.timestamp("us", "UTC")),
            ],
            schema=people_schema(dim),
        )
    except UnicodeEncodeError as error:
        raise _no_text(error) from error


def to_people(table: pa.Table) -> list[Person]:
    """The people in a table with the columns of `people_schema`."""
    dim = table.schema.field("template").type.list_size
    templates = table["template"].combine_chunks().flatten().to_numpy().reshape(len(table), dim)
    columns = (table[name].to_pylist() for name in ("person_id", "sources", "quality", "metadata"))
    return [
        Person(person_id, template, tuple(sources), quality, dict(tag.split("=", 1) for tag in metadata))
        for template, person_id, sources, quality, metadata in zip(templates, *columns, strict=True)
    ]


def tags(metadata: Mapping[str, str]) -> list[str]:
    """Metadata as ``key=value``, in the order of the keys.

    Raises:
        UserError: a key that is empty or holds "=".
    """
    for key in metadata:
        if not key or "=" in key:
            raise UserError(f"metadata {key!r}: a key is neither empty nor holds '='; rename the column")
    return [f"{key}={value}" for key, value in sorted(metadata.items())]


def quoted(text: str) -> str:
    """`text` as a literal of LanceDB's SQL.

    Raises:
        UserError: no Unicode text.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise _no_text(error) from error
    return "'" + text.replace("'", "''") + "'"


def one_of(ids: Sequence[str]) -> str:
    """The condition that a row is of one of some people, in LanceDB's SQL; of at most NAMED."""
    return f"person_id IN ({', '.join(map(quoted, ids))})"


def _no_text(error: UnicodeEncodeError) -> UserError:
    return UserError(f"{error.object!r}: no Unicode text, as a file name in another encoding is not; rename it")
