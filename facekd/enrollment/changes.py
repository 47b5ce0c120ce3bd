"""Changes of who is who in a gallery: another id, two ids that are one person, people whose time is over."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa

from facekd.core.printable import counted, printable_line
from facekd.enrollment.calibration import kept_scores
from facekd.enrollment.people import fuse
from facekd.errors import UserError
from facekd.gallery.decisions import Remembered
from facekd.gallery.gallery import LEDGER, GalleryTable
from facekd.gallery.people import Person, template_of
from facekd.gallery.photos import PhotoTable
from facekd.settings.photos import read_date

NONE_BUT_ACCEPTED = 2.0  # a threshold that no cosine reaches
KEEP_UNTIL = "keep_until"  # key in a person's metadata; its value is an ISO 8601 date


def photo_table(home: GalleryTable) -> PhotoTable | None:
    """The gallery's photos; None where it has none, as one that was only imported into."""
    return PhotoTable(home.place, home.meta.contract.dim) if PhotoTable.exists(home.place) else None


def rename(home: GalleryTable, old: str, new: str) -> None:
    """Give a person another id; the old one stays only in photos' file names that hold it.

    Inside `writing`; after a kill the same call ends it.

    Photos that lay in a folder of the old name are looked for in one of the new name from now on.

    Raises:
        UserError: nobody has the old id, or somebody else the new one.
    """
    people = home.people([old, new])
    person = _enrolled(home, people, old)
    renamed = replace(person, person_id=new, sources=tuple(sorted(_source(one, old, new) for one in person.sources)))
    if new in people and not renamed.same(people[new]):
        raise UserError(
            f"{home.place}: {printable_line(new)} is enrolled already; if both are one person, run 'facekd gallery "
            "merge', else choose another id"
        )
    own = home.meta.own  # scores know no names
    table = photo_table(home)
    if table is not None:
        move_photos(table, old, new, lambda source: _source(source, old, new))
    home.upsert([renamed])
    _move_ledger(home, old, new, lambda source: _source(source, old, new))
    home.remember(home.decisions().renamed(old, new))
    home.delete_all([old])
    home.keep(replace(home.meta, own=own))


def merge(home: GalleryTable, kept: str, other: str) -> Person:
    """Make one person of two ids: the photos of `other` count for `kept`, now and later. Inside `writing`.

    Where a gallery has no photos of them, as after an import, the template is the mean of both by their numbers of
    photos. After a kill the same call ends it.

    Raises:
        UserError: one of them is not enrolled, or both are the same.
    """
    if kept == other:
        raise UserError(f"{printable_line(kept)} twice: give two ids, the one to keep first")
    people = home.people([kept, other])
    one, two = (_enrolled(home, people, person) for person in (kept, other))
    table = photo_table(home)
    if table is not None:
        move_photos(table, other, kept)
    sources = tuple(sorted({*one.sources, *two.sources}))
    made = None
    if table is not None and set(sources) <= {photo.source for photo in table.known([kept])}:
        # What counted for either counts; a photo that was held back as somebody else's stays out.
        table.accept({kept: sources})
        (fused,) = fuse(table, [kept], NONE_BUT_ACCEPTED, False)
        made = fused.person
    if made is None:
        total = sum(person.template.astype(np.float64) * len(person.sources) for person in (one, two))
        template = template_of(np.asarray(total))
        if template is None:
            raise UserError(f"{home.place}: the templates of both cancel out; enroll their photos under one id instead")
        qualities = [person.quality for person in (one, two) if person.quality is not None]
        made = Person(kept, template, sources, min(qualities, default=None))
    made = replace(made, metadata={**two.metadata, **one.metadata})
    home.upsert([made])
    _move_ledger(home, other, kept, lambda source: source)
    alias = Remembered(case="", choice="same", effect="alias", person=other, other=kept)
    home.remember(home.decisions().renamed(other, kept).added([alias]))
    home.erase_all([other])
    home.keep(replace(home.meta, own=kept_scores(home, photo_table(home))))  # opened anew: erasing left no old file
    return made


def over(home: GalleryTable, today: datetime.date) -> Iterator[str]:
    """The ids of people who were to be kept until a day before `today`.

    Raises:
        UserError: somebody's date is none.
    """
    for lot in home.everyone():
        for person in lot:
            until = person.metadata.get(KEEP_UNTIL)
            if until and read_date(until, f"{home.place}: {KEEP_UNTIL} of {printable_line(person.person_id)}") < today:
                yield person.person_id


def kept_until(home: GalleryTable, today: datetime.date) -> str:
    """How long people are kept, in words, without a name."""
    days = []
    for tags in home.metadata():
        days += [tag.removeprefix(f"{KEEP_UNTIL}=") for tag in tags if tag.startswith(f"{KEEP_UNTIL}=")]
    if not days:
        return "nobody has a last day"
    dates = sorted(read_date(day, f"{home.place}: {KEEP_UNTIL}") for day in days)
    text = f"{counted(len(dates), 'person has', 'people have')} a last day, the first {dates[0]}"
    past = sum(date < today for date in dates)
    return f"{text}; {counted(past, 'day is', 'days are')} over: 'facekd gallery purge'" if past else text


def _enrolled(home: GalleryTable, people: dict[str, Person], person: str) -> Person:
    if person not in people:
        raise UserError(
            f"{home.place}: nobody called {printable_line(person)} is enrolled; 'facekd gallery info {home.place} "
            "--people' lists who is"
        )
    return people[person]


def _source(source: str, old: str, new: str) -> str:
    """A photo's name after the folder of its person was renamed."""
    return f"{new}/{source[len(old) + 1 :]}" if source.startswith(f"{old}/") else source


def move_photos(table: PhotoTable, old: str, new: str, source: Callable[[str], str] = lambda source: source) -> None:
    """Make a person's photos those of another; the rows of the old id stay until they are erased.

    Args:
        source: a photo's name now.
    """
    rows = table.of([old])
    if len(rows) == 0:
        return
    moved = {"person_id": [new] * len(rows), "source": [source(one) for one in rows["source"].to_pylist()]}
    for name, values in moved.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(place), pa.array(values, pa.string()))
    table.put(rows, new=False)


def _move_ledger(home: GalleryTable, old: str, new: str, source: Callable[[str], str]) -> None:
    rows = [row for row in home.ledger().to_pylist() if row["person"] in (None, old, new)]
    for row in rows:
        if row["person"] == old:
            row["person"], row["source"] = new, source(row["source"])
    unique = {(row["person"], row["source"]): row for row in rows}
    home.finish(home.meta, pa.Table.from_pylist(list(unique.values()), LEDGER))
