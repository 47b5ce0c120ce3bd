"""Who is to be enrolled from which photos: a folder per person, or a CSV; who has none is told of too."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from facekd.enrollment.names import alike_names
from facekd.errors import UserError
from facekd.ingest.given import Photos, people_of
from facekd.ingest.photos import Item
from facekd.photos.find import find_photos
from facekd.photos.listed import read_list

LONGEST_ID = 200  # characters
Refused = tuple[str, str | None, str, str]  # source, person, status, reason
NO_PHOTO = "no_photo"  # the status of a folder without a photo, and of a link that is not followed


@dataclass(frozen=True, slots=True)
class People:
    """The photos to enroll."""

    photos: Sequence[Item]  # each with an identity; sorted by identity, then source; no pair twice
    refused: Sequence[Refused]  # what can't be enrolled, whatever it shows
    metadata: Mapping[str, Mapping[str, str]] | None  # of each person; None where the source says nothing of that kind
    others: int  # files that are no photos, by their suffix and by their first bytes
    notes: Sequence[str]  # what the user should know
    in_memory: bool = False  # given by a program: no later run finds them again

    def ids(self) -> list[str]:
        """Everybody with a photo, in order."""
        return list(dict.fromkeys(photo.identity or "" for photo in self.photos))

    def without(self) -> list[str]:
        """Everybody who is named and has no photo, in order: an empty folder, or rows that are all refused."""
        return sorted({person for _, person, *_ in self.refused if person}.difference(self.ids()))


def read_people(people: Path, root: Path | None) -> People:
    """The people in a folder, zip or tar with a folder for each, or in a CSV.

    An id is the Unicode text in its composed form (NFC): one name typed on two systems is one person.

    Args:
        root: for a CSV, what its photos are relative to.

    Raises:
        UserError: nothing there, no person in it, or a root where there is no CSV.
    """
    if people.suffix.lower() == ".csv" and not people.is_dir():
        return _from_list(people, root)
    if root is not None:
        raise UserError(f"--root {root} is for a CSV; of a folder or archive the photos lie in it, so leave it out")
    found = find_photos(people)
    photos = [photo for photo in found.photos if photo.identity]
    if not photos:
        raise UserError(
            f"{people}: none of its {len(found.photos)} photos lies in a folder named for a person; make one each"
        )
    refused: list[Refused] = [
        (photo.source, None, "no_person", "no person: put it in a folder named for the person")
        for photo in found.photos
        if not photo.identity
    ]
    for source, person, reason in found.without:
        advice = "put a photo of the person there, or take it away"
        refused.append((source, _composed(person) if person else None, NO_PHOTO, f"{reason}; {advice}"))
    kept = _sorted(photos)
    names = [*(photo.identity for photo in photos), *(person for _, person, _ in found.without)]
    return People(kept, refused, None, len(found.others), alike_names(names))


def given_people(people: Mapping[str, Photos], model_id: str) -> People:
    """People by their ids, from photos and ready embeddings in memory or at paths.

    Args:
        model_id: that ready embeddings have to be of.

    Raises:
        UserError: an id that is none, nobody at all, or as `ingest.given.items_of`.
    """
    for person in people:
        check_id(person)
    found = _sorted(people_of(people, model_id))
    if not found:
        raise UserError("nobody to enroll: give at least one photo of one person")
    return People(found, (), None, 0, (), in_memory=True)


def check_id(person: str) -> None:
    """Refuse what can't be a person's id.

    Raises:
        UserError: empty, too long, with characters that can't be printed, or no Unicode text.
    """
    if not isinstance(person, str) or not person.strip() or len(person) > LONGEST_ID or person != person.strip():
        raise UserError(
            f"a person's id is text of 1 to {LONGEST_ID} characters, without blanks at its ends; give another"
        )
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in person):
        raise UserError("a person's id holds control characters or half a character; give one without")


def _from_list(path: Path, root: Path | None) -> People:
    listed = read_list(path, root)
    metadata: dict[str, Mapping[str, str]] = {}
    for person, values in listed.metadata.items():
        metadata[_composed(person)] = {**values, **metadata.get(_composed(person), {})}
    refused = [(source, _composed(who) if who else None, *why) for source, who, *why in listed.refused]
    notes = [
        f"{path}: row {row} says another {column} of {person} than an earlier one, which holds"
        for person, column, row in listed.contradictions[:5]
    ]
    if len(listed.contradictions) > 5:
        notes.append(f"{path}: and {len(listed.contradictions) - 5} more such rows")
    kept = _sorted(listed.photos)
    notes += alike_names([*(photo.identity for photo in listed.photos), *(who for _, who, *_ in listed.refused)])
    return People(kept, refused, metadata, 0, notes)  # type: ignore[arg-type]  # why has two


def _sorted(photos: Sequence[Item]) -> list[Item]:
    """By person, so that a person's photos come one after the other, wherever they lie."""
    kept: dict[tuple[str, str], Item] = {}
    for photo in photos:
        person = _composed(photo.identity or "")
        kept[person, photo.source] = photo if photo.identity == person else replace(photo, identity=person)
    return [kept[key] for key in sorted(kept)]


def _composed(person: str) -> str:
    return unicodedata.normalize("NFC", person)
