"""What was decided about suspected mix-ups: ``decisions.parquet`` of a gallery, so that nothing is asked twice."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from facekd.core.formats import FORMATS, METADATA, check_format
from facekd.core.tables import sound
from facekd.errors import UserError
from facekd.gallery.place import Place, table_bytes

FILE = "decisions.parquet"
# What a decision does. Of two ids: apart, two people; merging and then alias, the first is another id of the second.
# Of a photo: accepted, it is the person's; excluded, it never counts. Of a person's photos together: rewritten, they
# are the person's though the template was another; replaced, the id is somebody else's now.
Effect = Literal["apart", "merging", "alias", "accepted", "excluded", "rewritten", "replaced"]
OF_IDS = ("apart", "merging", "alias")


@dataclass(frozen=True, slots=True, order=True)
class Remembered:
    """One effect of a decision; a decision may have several."""

    case: str  # which suspicion was decided; see enrollment.cases
    choice: str  # how
    effect: Effect
    person: str
    other: str = ""  # the second id
    sha256: str = ""  # of the photo's bytes, or of the digests of the person's photos


SCHEMA = pa.schema([(field.name, pa.string()) for field in fields(Remembered)])


@dataclass(frozen=True, slots=True)
class Decisions:
    """All that was decided about a gallery's people."""

    rows: frozenset[Remembered] = frozenset()

    def taken(self) -> set[tuple[str, str]]:
        """Every case and choice."""
        return {(row.case, row.choice) for row in self.rows}

    def may_be_one(self, one: str, other: str) -> bool:
        """Whether nothing was decided about two ids: neither that they are two people nor that they are one."""
        aliases = self.aliases()
        first, second = sorted(aliases.get(name, name) for name in (one, other))
        return first != second and not any(
            row.effect == "apart" and (row.person, row.other) == (first, second) for row in self.rows
        )

    def changes(self) -> dict[str, set[str]]:
        """Person -> digests of their photos, whatever the template of before."""
        found: dict[str, set[str]] = {}
        for row in self.rows:
            if row.effect in ("rewritten", "replaced"):
                found.setdefault(row.person, set()).add(row.sha256)
        return found

    def aliases(self) -> dict[str, str]:
        """Id -> the id that its photos count for; of ids that are another's alias."""
        return {row.person: row.other for row in self.rows if row.effect in ("merging", "alias")}

    def merging(self) -> list[str]:
        """Aliases whose own rows may still be in the gallery."""
        return sorted({row.person for row in self.rows if row.effect == "merging"})

    def merged(self) -> Decisions:
        """The same once nothing of the aliases' own is left in the gallery."""
        return Decisions(
            frozenset(replace(row, effect="alias") if row.effect == "merging" else row for row in self.rows)
        )

    def digests(self, effect: Effect) -> dict[str, set[str]]:
        """Person -> the SHA-256 of what has the effect."""
        found: dict[str, set[str]] = {}
        for row in self.rows:
            if row.effect == effect:
                found.setdefault(row.person, set()).add(row.sha256)
        return found

    def added(self, rows: Iterable[Remembered]) -> Decisions:
        """With some more."""
        return Decisions(self.rows | frozenset(rows))

    def renamed(self, old: str, new: str) -> Decisions:
        """With another id for a person; where somebody has it, both are one person from now on."""
        kept = set()
        for row in self.rows:
            person, other = (new if name == old else name for name in (row.person, row.other))
            if row.effect == "apart":
                person, other = sorted((person, other))
            if row.effect not in OF_IDS or person != other:
                kept.add(replace(row, person=person, other=other))
        return Decisions(frozenset(kept))

    def ids_of(self, ids: Collection[str]) -> list[str]:
        """Every id of the people who have these ids, those first."""
        aliases = self.aliases()
        survivors = {aliases.get(one, one) for one in ids}
        others = [alias for alias, survivor in aliases.items() if survivor in survivors]
        return list(dict.fromkeys([*ids, *sorted(survivors), *sorted(others)]))

    def without(self, ids: Collection[str]) -> Decisions:
        """With no word about some ids."""
        return Decisions(frozenset(row for row in self.rows if row.person not in ids and row.other not in ids))


def read_decisions(place: Place) -> Decisions:
    """What a gallery remembers.

    Raises:
        UserError: the file is damaged or of a newer facekd.
    """
    data = place.read(FILE)
    if data is None:
        return Decisions()
    try:
        table = sound(pq.read_table(pa.BufferReader(data)))
        check_format("decisions", (table.schema.metadata or {}).get(METADATA.encode()), f"{place}/{FILE}")
        rows = table.select([field.name for field in fields(Remembered)]).to_pylist()
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UserError(
            f"{place}/{FILE}: damaged ({str(error).splitlines()[0]}); copy it again, or remove it and decide anew"
        ) from error
    return Decisions(frozenset(Remembered(**row) for row in rows))


def write_decisions(place: Place, decisions: Decisions) -> None:
    """Write what a gallery remembers, whole or not at all; the same decisions are the same bytes."""
    rows = [asdict(row) for row in sorted(decisions.rows)]
    table = pa.Table.from_pylist(rows, SCHEMA.with_metadata({METADATA: str(FORMATS["decisions"])}))
    place.write(FILE, table_bytes(table))
