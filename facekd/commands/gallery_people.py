"""facekd gallery rename, merge, purge: people get another id, turn out to be one, or have been kept long enough."""

from __future__ import annotations

from dataclasses import dataclass

from facekd.console import say, say_first
from facekd.core.printable import printable_line
from facekd.errors import UserError
from facekd.settings.door import door

SHOWN = 20  # people that are listed


@dataclass(frozen=True, slots=True)
class Purged:
    """Whose time was over, and the receipt of their deletion."""

    people: tuple[str, ...]
    receipt: str | None  # stands in the audit log too; None where nobody was erased


@door
def rename(gallery: str, old: str, new: str, *, quiet: bool = False) -> None:
    """Give an enrolled person another id; the old one stays only in names of photo files that hold it.

    Rename the person's folder, or the id in the CSV, too: else the next enrollment takes the old name for somebody
    new. Killed, it is finished by running it again.

    Example: facekd gallery rename staff.gallery anna anna.miller

    Args:
        gallery: The gallery: a folder or s3://BUCKET/PREFIX.
        old: The id that the person has; after -- where it begins with a dash.
        new: The id that the person is to have.
        quiet: Print nothing.
    """
    from facekd.enrollment import changes
    from facekd.gallery.gallery import GalleryTable

    if not new or old == new:
        raise UserError("rename: give the id that the person has, and another one")
    home = GalleryTable.open(gallery)
    with home.writing():
        changes.rename(home, old, new)
        home.note("rename", people=1)
    say(f"{home.place}: {printable_line(old)} is {printable_line(new)} now; rename the folder of photos too", quiet)


@door
def merge(gallery: str, kept: str, other: str, *, quiet: bool = False) -> None:
    """Make one person of two ids: the photos of the second count for the first, and so do those that come later.

    The second id is remembered as another one of that person, whose folder may stay; 'facekd gallery delete' of either
    erases the person. Killed, it is finished by running it again.

    Example: facekd gallery merge staff.gallery anna a.miller

    Args:
        gallery: The gallery: a folder or s3://BUCKET/PREFIX.
        kept: The id that stays; after -- where it begins with a dash.
        other: The id that goes.
        quiet: Print nothing.
    """
    from facekd.enrollment import changes
    from facekd.gallery.gallery import GalleryTable

    home = GalleryTable.open(gallery)
    with home.writing():
        made = changes.merge(home, kept, other)
        home.note("merge", people=2)
    what = f"{printable_line(other)} is {printable_line(kept)} now, of {len(made.sources)} photos"
    say(f"{home.place}: {what}; {len(home)} people remain", quiet)


@door
def purge(gallery: str, *, dry_run: bool = False, private: bool = False, quiet: bool = False) -> Purged:
    """Erase the people whose time is over: who were to be kept until a day before today (UTC).

    That day is theirs by 'facekd enroll --keep-until DATE', or by a column keep_until of a CSV. They are erased as by
    'facekd gallery delete', with a receipt.

    Example: facekd gallery purge staff.gallery

    Args:
        gallery: The gallery: a folder or s3://BUCKET/PREFIX.
        dry_run: Say who would be erased and erase nobody.
        private: Print no ids.
        quiet: Print nothing.
    """
    import datetime

    from facekd.commands.gallery import delete
    from facekd.enrollment.changes import over
    from facekd.gallery.gallery import GalleryTable

    home = GalleryTable.open(gallery)
    people = tuple(sorted(over(home, datetime.datetime.now(datetime.UTC).date())))
    say(f"{home.place}: {len(people)} of {len(home)} people were to be kept until a day that is over", quiet)
    say_first([printable_line(person) for person in people], SHOWN, quiet or private)
    if dry_run or not people:
        return Purged(people, None)
    return Purged(people, delete(gallery, *people, private=private, quiet=quiet).receipt)
