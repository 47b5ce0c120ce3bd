"""What an earlier run left: of which photos the embeddings, or the reason why there is none, still hold."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facekd.console import say
from facekd.core.contract import Contract
from facekd.core.files import sha256_bytes, sha256_file, write_bytes
from facekd.core.formats import FORMATS, KEY, METADATA, check_format
from facekd.core.types import Embeddings
from facekd.deploy.embeddings import Embedded
from facekd.deploy.stored import StoredRows
from facekd.deploy.vectors import MODEL_ID
from facekd.errors import UserError

SETTINGS, FAILURES = "settings", "failures"  # what an OUT says beside its rows
ROWS = 4096  # embeddings that are in memory together
PHOTO = ("source", "identity", "sha256", "status", "reason", "stamp")  # columns of the file of failures


class EmbedRow(NamedTuple):
    """A face that has an embedding, or a photo that has none."""

    source: str
    identity: str | None
    sha256: str | None  # of the photo's bytes; None of a crop, and of a photo that could not be read
    status: str
    reason: str
    id: str | None = None
    stamp: str | None = None
    stored: StoredRows | None = None  # where its embedding lies
    row: int = 0


class Asked(NamedTuple):
    """A photo, or a crop, that is to have its place in OUT."""

    key: str  # no other has it: a photo's source, a crop's id
    source: str
    identity: str | None
    stamp: str | None  # another one when the file changes; None: it can't be known


@dataclass(frozen=True, slots=True)
class Earlier:
    """The rows of an earlier run with the same settings, by what was asked for."""

    rows: Mapping[str, list[EmbedRow]]
    of_bytes: Mapping[str, list[EmbedRow]]  # faces by the digest of their photo
    whole: bool  # its file of failures belongs to it

    def find(self, asked: Asked) -> list[EmbedRow] | None:
        """What still holds of a photo; None where it is new, has changed or is to be tried again."""
        rows = self.rows.get(asked.key)
        if not rows or asked.stamp is None or rows[0][:2] != asked[1:3] or rows[0].stamp != asked.stamp:
            return None
        if rows[0].status == "duplicate":
            same = self.of_bytes.get(rows[0].sha256 or "")
            return same and [row._replace(source=asked.source, identity=asked.identity) for row in same]
        return None if rows[0].status != "ok" and rows[0].sha256 is None else rows  # it could not be read


NOTHING = Earlier({}, {}, False)  # there was none


@dataclass(frozen=True, slots=True)
class EmbedPlan:
    """What is left to do beside what an earlier run did."""

    kept: Sequence[list[EmbedRow] | None]  # of each that was asked for; None: to be embedded
    new: int
    changed: int
    again: int  # could not be read, and are tried again
    gone: int

    @property
    def todo(self) -> list[int]:
        """Places of what is to be embedded."""
        return [place for place, rows in enumerate(self.kept) if rows is None]

    def __str__(self) -> str:
        counts = {"new": self.new, "changed": self.changed, "unreadable before": self.again, "gone": self.gone}
        more = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
        kept = len(self.kept) - self.new - self.changed - self.again
        return f"{kept} of {len(self.kept)} are as they were" + (f" ({more})" if more else "")


def failures_path(out: Path) -> Path:
    """Where the photos that are not in `out` are listed: ``OUT.failures.parquet``."""
    return out.with_name(f"{out.name}.failures.parquet")


def plan_of(asked: Sequence[Asked], earlier: Earlier) -> EmbedPlan:
    """What of an earlier run holds, and how much does not, by the reason."""
    kept = [earlier.find(one) for one in asked]
    known = [one for one, rows in zip(asked, kept, strict=True) if rows is None and one.key in earlier.rows]
    again = sum(row.stamp == one.stamp and row.status != "ok" for one in known for row in earlier.rows[one.key][:1])
    new = sum(rows is None for rows in kept) - len(known)
    gone = len(earlier.rows.keys() - {one.key for one in asked})
    return EmbedPlan(kept, new, len(known) - again, again, gone)


def read_earlier(out: Path, settings: str, by: str, quiet: bool) -> Earlier:
    """What the files at `out` hold of an earlier run with the same settings; of any other it is said that they do not.

    Args:
        by: the column that tells what was asked for apart: source or id.

    Raises:
        UserError: a file of a newer facekd, or one that is no file of embeddings, which would be lost.
    """
    if not out.is_file():
        return NOTHING
    try:
        stored = StoredRows(out)
        check_format("embeddings", stored.metadata.get(METADATA, stored.metadata.get(f"facekd.{KEY}")), out)
        if MODEL_ID not in stored.metadata:
            raise UserError(
                f"{out}: is there already and holds no embeddings of facekd's; choose another name, or delete it first"
            )
        if stored.metadata.get(f"facekd.{SETTINGS}") != settings:
            say(f"{out}: is of another model, of other settings or of an older facekd; everything is embedded", quiet)
            return NOTHING
        columns = stored.texts(("source", "identity", "sha256", "id", "stamp"))
        stored.check()
    except UserError:
        raise
    except Exception as error:  # of a damaged file numpy, zipfile and Arrow raise what they come by
        say(f"{out}: holds no embeddings that can be read ({error}); everything is embedded", quiet)
        return NOTHING
    rows: dict[str, list[EmbedRow]] = {}
    of_bytes: dict[str, list[EmbedRow]] = {}
    for place, (source, identity, sha256, one, stamp) in enumerate(zip(*columns.values(), strict=True)):
        row = EmbedRow(str(source), identity, sha256, "ok", "", one, stamp, stored, place)
        rows.setdefault(str(columns[by][place]), []).append(row)
        if sha256 is not None:
            of_bytes.setdefault(sha256, []).append(row)
    failures = failures_path(out)
    whole = failures.is_file() and sha256_file(failures) == stored.metadata.get(f"facekd.{FAILURES}")
    for row in read_failures(failures) if whole else ():
        rows[row.source] = [row]
    return Earlier(rows, of_bytes, whole)


def read_failures(path: Path) -> list[EmbedRow]:
    """The photos in a file of failures.

    Raises:
        UserError: a file of a newer facekd.
    """
    listed = StoredRows(path)
    check_format("failures", listed.metadata.get(METADATA), path)
    columns = listed.texts(PHOTO).values()
    return [
        EmbedRow(str(source), identity, sha256, str(status), str(reason), stamp=stamp)
        for source, identity, sha256, status, reason, stamp in zip(*columns, strict=True)
    ]


def write_failures(out: Path, rows: Sequence[EmbedRow]) -> str:
    """List beside `out` the photos that gave no embedding of their own, each with its reason.

    Returns:
        The SHA-256 of the list's file.

    Raises:
        UserError: it can't be written.
    """
    fields = [pa.field(name, pa.string(), nullable=name in ("identity", "sha256", "stamp")) for name in PHOTO]
    columns = [pa.array([getattr(row, name) for row in rows], pa.string()) for name in PHOTO]
    schema = pa.schema(fields, metadata={METADATA: str(FORMATS["failures"])})
    data = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=schema), data)
    write_bytes(failures_path(out), data.getvalue())
    return sha256_bytes(data.getvalue())


def part_rows(paths: Sequence[Path]) -> Iterator[EmbedRow]:
    """The rows in the parts of a run, in their order."""
    names = ("source", "identity", "sha256", "status", "reason", "id")
    for path in paths:
        stored = StoredRows(path)
        for place, values in enumerate(zip(*stored.texts(names).values(), strict=True)):
            source, identity, sha256, status, reason, one = values
            yield EmbedRow(str(source), identity, sha256, str(status), str(reason), one, None, stored, place)


def placed(asked: Sequence[Asked], plan: EmbedPlan, made: Iterator[EmbedRow], by: str) -> list[EmbedRow]:
    """All rows, in the order in which they were asked for.

    Args:
        made: the rows of what this run embedded.
        by: as in `read_earlier`.
    """
    rows = list(plan.kept)
    places = {asked[place].key: place for place in plan.todo}
    for row in made:
        place = places[getattr(row, by)]
        rows[place] = [*(rows[place] or ()), row]
    found = []
    for one, of_photo in zip(asked, rows, strict=True):
        assert of_photo, f"{one.source} has no row"
        found += [row._replace(stamp=one.stamp) for row in of_photo]
    return found


def parted(rows: Sequence[EmbedRow]) -> tuple[list[EmbedRow], list[EmbedRow]]:
    """The faces that have an embedding, and the photos without one or whose very bytes came before."""
    first: dict[str, str] = {}  # the photo that each digest was seen at first
    kept: list[EmbedRow] = []
    without: list[EmbedRow] = []
    for row in rows:
        if row.status != "ok":
            without.append(row)
        elif row.sha256 is None or first.setdefault(row.sha256, row.source) == row.source:
            kept.append(row)
        elif not without or without[-1].source != row.source:  # once for all faces of the photo
            reason = f"the same bytes as {first[row.sha256]}"
            without.append(row._replace(status="duplicate", reason=reason, id=None, stored=None))
    return kept, without


def embedded(rows: Sequence[EmbedRow], contract: Contract) -> Iterator[Embedded]:
    """Embeddings with what is known of them, read some at a time from where they lie."""
    for start in range(0, len(rows), ROWS):
        some = rows[start : start + ROWS]
        vectors = np.zeros((len(some), contract.dim), np.float32)
        for stored in {id(row.stored): row.stored for row in some}.values():
            assert stored is not None
            of_file = [place for place, row in enumerate(some) if row.stored is stored]
            vectors[of_file] = stored.vectors(np.array([some[place].row for place in of_file]))
        sources, identities, sha256s, _, _, ids, stamps, *_ = zip(*some, strict=True)
        yield Embedded(Embeddings(vectors, ids, contract.model_id), identities, sources, sha256s, stamps)


def settings_text(settings: Mapping[str, object]) -> str:
    """The settings that embeddings depend on, as one text."""
    return json.dumps(settings, default=str, sort_keys=True)
