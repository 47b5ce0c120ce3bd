"""Who the faces in photos show, as rows: for scripts, in files and from Python the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from facekd.core.files import atomic_write
from facekd.core.plain_json import plain_json
from facekd.core.printable import printable_line
from facekd.enrollment.report import EnrollSummary, write_table
from facekd.gallery.meta import GalleryMeta
from facekd.gallery.photos import PhotoTable
from facekd.ingest.embedding import Outcome

UNREADABLE = ("unreadable", "too_large")
KNOWN, UNKNOWN, ENROLLED = "known", "unknown", "enrolled"  # verdicts; others are the status of a photo
FORMAT = 1  # of the JSON documents
TOGETHER = 4096  # photos whose quality is looked up together
Box = tuple[float, ...]  # x1 y1 x2 y2, px of the upright photo
CORNERS = ("x1", "y1", "x2", "y2")
SCHEMA = pa.schema(
    [
        ("source", pa.string()),  # the photo
        ("status", pa.string()),  # of the photo: ok, no_face, too_small, unreadable, too_large, no_embedding
        ("reason", pa.string()),  # of another status than ok; else empty
        ("verdict", pa.string()),  # known, unknown, or the status where there is no face
        ("crop_id", pa.string()),  # of the face; null as all that follow where there is none
        *((corner, pa.float32()) for corner in CORNERS),  # null too for a file of embeddings
        ("quality", pa.float64()),  # sharpness of the face's crop; null too for a file of embeddings
        ("person", pa.string()),  # null unless known
        ("candidate", pa.string()),  # null for an unknown face where only one was asked for
        ("rank", pa.int32()),  # of the candidate; 1 in the first row of each face, and of each photo without one
        ("score", pa.float64()),  # cosine of face and candidate
        ("threshold", pa.float64()),  # cosine from which this face is named; never null
    ]
)


@dataclass(frozen=True, slots=True)
class IdentifiedFace:
    """One face, and who it shows."""

    source: str  # the photo
    crop_id: str
    box: Box | None  # None where it came from a file of embeddings
    person: str | None  # None: unknown
    score: float | None  # cosine to the most alike person of the gallery, named or not; None: nobody is enrolled
    threshold: float  # cosine from which this face is named
    # The most alike people and their scores, the most alike first; none where only one was asked for and the face is
    # unknown: who is merely the nearest is nobody's business.
    candidates: tuple[tuple[str, float], ...]
    quality: float | None = None  # sharpness of its crop; None where it came from a file of embeddings

    def said(self) -> str:
        """The answer in words."""
        if self.score is None:
            return "unknown, nobody is enrolled"
        if self.person is None:
            return f"unknown, the nearest score is {self.score:.4f}, a name needs {self.threshold:.4f}"
        return f"{printable_line(self.person)}, score {self.score:.4f}"

    def rows(self) -> list[dict[str, Any]]:
        """Rows of SCHEMA, one for each candidate and at least one."""
        common: dict[str, Any] = {
            "source": self.source,
            "status": "ok",
            "reason": "",
            "verdict": UNKNOWN if self.person is None else KNOWN,
            "crop_id": self.crop_id,
            "quality": self.quality,
            "person": self.person,
            "threshold": self.threshold,
        }
        if self.box is not None:
            common |= dict(zip(CORNERS, self.box, strict=True))
        shown = self.candidates or ((None, self.score),)
        return [
            {**common, "candidate": candidate, "rank": rank, "score": score}
            for rank, (candidate, score) in enumerate(shown, 1)
        ]


def without_face(photo: Outcome, threshold: float) -> dict[str, Any]:
    """The row of SCHEMA of a photo that gave no face."""
    source, status, reason = photo
    row = {"source": source, "status": status, "reason": reason, "verdict": status}
    return {**row, "rank": 1, "threshold": threshold}


@dataclass(frozen=True)
class Identification:
    """Every face of the photos, and the photos without one."""

    threshold: float  # of the usual face; each has its own where the gallery measured what it promises
    model_id: str
    table: pa.Table  # of SCHEMA, in the order of the photos; few bytes for each

    def rows(self) -> pa.Table:
        """The answers as a table: a row for each photo and face, and for each further candidate of the face."""
        return self.table

    @cached_property
    def faces(self) -> tuple[IdentifiedFace, ...]:
        return tuple(faces_of(self.table))

    @cached_property
    def without(self) -> tuple[Outcome, ...]:
        """Photos that gave no face."""
        rows = self.table.filter(pc.is_null(self.table["crop_id"])).select(["source", "status", "reason"])
        return tuple(Outcome(**row) for row in rows.to_pylist())

    @property
    def exit_code(self) -> int:
        return 1 if pc.any(pc.is_in(self.table["status"], pa.array(UNREADABLE))).as_py() else 0

    def __str__(self) -> str:
        lines = [f"{printable_line(face.source)}: {face.said()}" for face in self.faces]
        return "\n".join(lines + [f"{printable_line(source)}: {status}, {why}" for source, status, why in self.without])


def faces_of(table: pa.Table) -> Iterator[IdentifiedFace]:
    """The faces in rows of SCHEMA, in order."""
    found: dict[str, Any] | None = None
    candidates: list[tuple[str, float]] = []

    def made(row: dict[str, Any]) -> IdentifiedFace:
        box = None if row["x1"] is None else tuple(row[corner] for corner in CORNERS)
        answer = row["person"], row["score"], row["threshold"], tuple(candidates)
        return IdentifiedFace(row["source"], row["crop_id"], box, *answer, row["quality"])

    for row in chain.from_iterable(batch.to_pylist() for batch in table.to_batches()):
        if row["rank"] == 1:
            if found is not None:
                yield made(found)
            found, candidates = (None if row["crop_id"] is None else row), []
        if row["candidate"] is not None:
            candidates.append((row["candidate"], row["score"]))
    if found is not None:
        yield made(found)


def answer_table(rows: Iterable[list[dict[str, Any]]]) -> pa.Table:
    """A table of SCHEMA of rows that come some at a time."""
    batches = [pa.RecordBatch.from_pylist(some, SCHEMA) for some in rows if some]
    return pa.Table.from_batches(batches, SCHEMA)


def write_answers(path: Path, result: Identification, gallery: Path) -> None:
    """The answers as .json, .csv or .parquet, for their owner only, whole or not at all.

    Raises:
        UserError: it can't be written.
    """
    rows = result.rows()
    if path.suffix != ".json":
        write_table(path, rows)
        return
    head = {"format": FORMAT, "command": "identify", "gallery": str(gallery), "model_id": result.model_id}
    listed = chain.from_iterable(batch.to_pylist() for batch in rows.to_batches())
    _write_document(path, {**head, "threshold": result.threshold}, listed)


def write_enrollment(
    path: Path, summary: EnrollSummary, meta: GalleryMeta, ledger: pa.Table, table: PhotoTable
) -> None:
    """What became of people and photos as one JSON document, for its owner only, whole or not at all.

    Args:
        meta: of the gallery as it is now.
        ledger: of this run, as `plan.Ledger.table`.
        table: that has the photos' quality.

    Raises:
        UserError: it can't be written.
    """
    promised = None if summary.promise is None else summary.promise.threshold
    people = {
        name: list(getattr(summary, name))
        for name in ("new", "changed", "held_back", "not_enrolled", "left_out", "missing")
    }
    head = {
        "format": FORMAT,
        "command": "enroll",
        "gallery": str(summary.gallery),
        "model_id": meta.model_id,
        "threshold": promised if meta.threshold is None else meta.threshold,
        "dry_run": summary.dry_run,
        "exit_code": summary.exit_code,
        "enrolled": summary.enrolled,
        "unchanged": summary.unchanged,
        **people,
        "suspects": [
            {"kind": one.kind, "person": one.person, "other": one.other, "source": one.source, "score": one.score}
            for one in summary.suspects
        ],
        "statuses": summary.statuses,
        "notes": list(summary.notes),
    }
    _write_document(path, head, _enrolled_rows(ledger, table))


def _enrolled_rows(ledger: pa.Table, table: PhotoTable) -> Iterator[dict[str, Any]]:
    """A row for each photo: source, person, status, reason, verdict, and what its face is worth."""
    columns = zip(*(ledger[name].to_pylist() for name in ("source", "person", "status", "reason")), strict=True)
    waiting: list[tuple[str, str | None, str, str]] = []
    for _, own in chain(groupby(columns, key=lambda row: row[1]), [("", iter(()))]):
        rows = list(own)
        if waiting and (not rows or len(waiting) + len(rows) > TOGETHER):
            people = sorted({person for _, person, *_ in waiting if person is not None})
            known = {(one.person_id, one.source): one for one in table.known(people)} if people else {}
            for source, person, status, reason in waiting:
                verdict = ENROLLED if status == "ok" else status
                face = known.get((person or "", source))
                row = {"source": source, "person": person, "status": status, "reason": reason, "verdict": verdict}
                names = {"quality": "quality", "detector_score": "score", "eyes": "eyes"}
                yield {**row, **{name: None if face is None else getattr(face, key) for name, key in names.items()}}
            waiting = []
        waiting += rows


def _write_document(path: Path, head: Mapping[str, Any], rows: Iterable[Mapping[str, Any]]) -> None:
    """A JSON object with `head` and, one on each line, `rows`, which need not be in memory all together."""

    def text(value: Any) -> str:
        return json.dumps(plain_json(value), ensure_ascii=False, allow_nan=False)

    with atomic_write(path) as file:
        lines = [f"{text(name)}: {text(value)}" for name, value in head.items()]
        file.write(("{\n" + ",\n".join(lines) + ',\n"rows": [').encode())
        for place, row in enumerate(rows):
            file.write(((",\n" if place else "\n") + text(row)).encode())
        file.write(b"\n]\n}\n")
