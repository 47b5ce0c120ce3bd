"""What an enrollment tells its user, with names or without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from facekd.console import say, say_first, table
from facekd.core.files import atomic_write
from facekd.core.printable import counted, printable_line
from facekd.enrollment.calibration import Promise
from facekd.enrollment.sources import NO_PHOTO, People
from facekd.enrollment.suspects import Suspect
from facekd.ingest.embedding import Outcome
from facekd.ingest.photos import NO_PHOTOS

SHOWN = 20  # photos, people and suspects that are listed
PLACES = "folders and links without a photo"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrollSummary:
    """What became of the people and their photos."""

    gallery: Path
    dry_run: bool  # nothing was written
    accepted: bool  # suspects were written too
    enrolled: int  # people in the gallery
    new: tuple[str, ...]  # people, as all that follow
    changed: tuple[str, ...]  # another template, photos or metadata than before
    unchanged: int
    held_back: tuple[str, ...]  # suspected mix-ups: not written, or as they were before
    not_enrolled: tuple[str, ...]  # people none of whose photos could be used
    statuses: dict[str, int]  # of the photos
    embedded: int  # photos embedded by this run
    kept: int  # photos of earlier runs that are not in PEOPLE now and count
    failed: tuple[Outcome, ...]  # photos not taken
    suspects: tuple[Suspect, ...]
    notes: tuple[str, ...]
    promise: Promise | None  # of a search through the gallery; None where no threshold is known
    left_out: tuple[str, ...]  # people all of whose photos were decided never to count; an earlier template stays
    missing: tuple[str, ...]  # people enrolled who are not in PEOPLE
    erased: bool  # those

    @property
    def written(self) -> int:
        """People new in the gallery, or with another template, photos or metadata than before."""
        return len(self.new) + len(self.changed)

    @property
    def exit_code(self) -> int:
        return 1 if self.failed or self.held_back or self.not_enrolled else 0

    def __str__(self) -> str:
        lines = [self.title(), *(f"{what}: {number}" for what, number in self.figures().items())]
        lines += [f"held back: {person}" for person in self.held_back]
        lines += [f"not enrolled: {person}" for person in self.not_enrolled]
        for one in self.suspects:
            who = " and ".join(name for name in (one.person, one.other) if name is not None)
            lines.append(f"{who}: {'' if one.source is None else one.source + ' '}{one.said()}, score {one.score:.4f}")
        lines += [f"{source}: {status}, {reason}" for source, status, reason in self.failed]
        return "\n".join([*lines, *self.notes])

    def title(self) -> str:
        """Where the gallery stands."""
        dry = ", nothing was written (dry run)" if self.dry_run else ""
        return f"{self.gallery}: {counted(self.enrolled, 'person', 'people')} enrolled{dry}"

    def figures(self) -> dict[str, int]:
        """The counts, by what they count."""
        photos = sorted(self.statuses.items(), key=lambda item: -item[1])
        return {
            "people new": len(self.new),
            "people changed": len(self.changed),
            "people unchanged": self.unchanged,
            "people held back": len(self.held_back),
            "people not enrolled": len(self.not_enrolled),
            **({"people left out by decision": len(self.left_out)} if self.left_out else {}),
            "people not in PEOPLE": len(self.missing),
            "photos looked at now": self.embedded,
            **{PLACES if status == NO_PHOTO else f"photos {status}": count for status, count in photos},
        }


class Names:
    """How people and photos are called in print: by name, or by their place in the sorted list of those given."""

    def __init__(self, private: bool, people: Sequence[str], photos: Sequence[str]) -> None:
        self._people = {name: place for place, name in enumerate(people, 1)} if private else None
        self._photos = {name: place for place, name in enumerate(photos, 1)} if private else None

    def person(self, name: str) -> str:
        """A person's name, ``person 3``, or what is said of one who is not among those given."""
        return _called(self._people, name, "person", "a person of the gallery")

    def photo(self, name: str) -> str:
        """A photo's name or ``photo 17``."""
        return _called(self._photos, name, "photo", "a photo of an earlier run")

    def outcomes(self, photos: Sequence[Outcome]) -> list[str]:
        """A line for each photo; a reason may hold a name, so it is told only where names are."""
        private = self._photos is not None
        return [f"{self.photo(one.source)}: {one.status}" + ("" if private else f", {one.reason}") for one in photos]


def _called(places: dict[str, int] | None, name: str, kind: str, other: str) -> str:
    if places is None:
        return printable_line(name)
    return f"{kind} {places[name]}" if name in places else other


def print_summary(summary: EnrollSummary, found: People, private: bool, quiet: bool) -> None:
    """The tables, the photos not taken, and who was held back and why."""
    listed = [photo.source for photo in found.photos] + [row[0] for row in found.refused]
    names = Names(private, sorted([*found.ids(), *found.without()]), listed)
    figures = [[what, str(number)] for what, number in summary.figures().items()]
    table(summary.title(), ["this run", "number"], figures, quiet)
    if found.others:
        passed = counted(found.others, "other file was", "other files were")
        say(f"{passed} passed over: {NO_PHOTOS}", quiet)
    if private and found.notes:
        hidden = counted(len(found.notes), "note names", "notes name")
        say(f"{hidden} people; without --private they are printed", quiet)
    for note in summary.notes if not private else summary.notes[len(found.notes) :]:
        say(note, quiet)
    if summary.dry_run:
        _people("would be new", summary.new, names, quiet)
        _people("would change", summary.changed, names, quiet)
    if summary.failed:
        where = "" if summary.dry_run else f"; {summary.gallery}/ledger.parquet has all"
        say(f"{counted(len(summary.failed), 'photo or folder', 'photos or folders')} could not be used{where}:", quiet)
        say_first(names.outcomes(summary.failed), SHOWN, quiet)
    _people("not enrolled, for want of a usable photo (an earlier template stays)", summary.not_enrolled, names, quiet)
    _people(
        "left out, as it was decided of all their photos (an earlier template stays)", summary.left_out, names, quiet
    )
    gone = "erased" if summary.erased else "they stay"
    _people(f"enrolled, and not in PEOPLE ({gone})", summary.missing, names, quiet)
    _suspects(summary, names, quiet)
    what = "would be held back" if summary.dry_run else "held back (an earlier template stays)"
    _people(f"{what}; --review FILE.html shows them, --accept-suspects writes them", summary.held_back, names, quiet)
    if summary.promise is not None:
        say(summary.promise.said(), quiet)
        say(summary.promise.warning(), quiet or not summary.promise.warning())


def _people(title: str, people: Sequence[str], names: Names, quiet: bool) -> None:
    if people:
        say(f"{title}:", quiet)
        say_first([names.person(person) for person in people], SHOWN, quiet)


def _suspects(summary: EnrollSummary, names: Names, quiet: bool) -> None:
    if not summary.suspects:
        return
    rows = []
    for one in summary.suspects[:SHOWN]:
        other = "" if one.source is None else names.photo(one.source)
        other = other if one.other is None else names.person(one.other)
        rows.append([names.person(one.person), other, one.said(), f"{one.score:.4f}"])
    title = counted(len(summary.suspects), "suspected mix-up") + (", written all the same" if summary.accepted else "")
    table(title, ["person", "other person or photo", "what", "score"], rows, quiet)
    if len(summary.suspects) > SHOWN:
        say(f"  … and {len(summary.suspects) - SHOWN} more", quiet)


def write_report(path: Path, suspects: Sequence[Suspect]) -> None:
    """The suspected mix-ups as .parquet or .csv, for its owner only.

    In a CSV a name that a spreadsheet would take for a formula has an apostrophe before it.

    Raises:
        UserError: it can't be written.
    """
    fields = [(name, pa.string()) for name in ("kind", "person", "other", "source")]
    schema = pa.schema([*fields, ("score", pa.float64())])
    write_table(path, pa.Table.from_pylist([asdict(suspect) for suspect in suspects], schema))


def write_table(path: Path, rows: pa.Table) -> None:
    """A pyarrow Table as .parquet or .csv; in a CSV no text is a formula to a spreadsheet.

    Source: OWASP, "CSV Injection": texts that begin with = + - @, a tab or a carriage return get an apostrophe.

    Raises:
        UserError: it can't be written.
    """
    if path.suffix == ".csv":
        for place, column in enumerate(rows.schema):
            if pa.types.is_string(column.type):
                safe = pc.replace_substring_regex(rows[column.name], r"^([=+\-@\t\r])", r"'\1")
                rows = rows.set_column(place, column, safe)
    with atomic_write(path) as file:
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(rows, file)
        else:
            pq.write_table(rows, file)
