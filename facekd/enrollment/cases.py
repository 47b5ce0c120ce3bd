"""A suspicion as it is put to somebody: which photos it is about, which of them could be wrong, and its key."""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from facekd.core.types import Array
from facekd.enrollment.photos import digests_now
from facekd.enrollment.plan import EnrollPlan
from facekd.enrollment.sources import People
from facekd.enrollment.suspects import Suspect
from facekd.gallery.people import Person
from facekd.gallery.photos import KnownPhoto, PhotoTable

Own = dict[str, KnownPhoto]  # a person's usable photos in PEOPLE, by source


@dataclass(frozen=True, slots=True)
class Case:
    """One suspicion.

    The key is of the ids or photos that it is about, the second part of the photos that could be wrong: of ids that
    are two people this holds whatever their photos are, but only photos that were looked at are left out.
    """

    suspect: Suspect
    key: str  # c and 16 hex digits
    seen: str  # 12 hex digits
    wrong: Mapping[str, Mapping[str, str]]  # person -> source -> sha256 of the photos that could be wrong
    beside: Mapping[str, Sequence[str]]  # person -> other photos of theirs in PEOPLE
    digest: str  # of changed: of the person's photos in PEOPLE, see `photos.digests_now`

    @property
    def name(self) -> str:
        """As it stands in a file of decisions."""
        return f"{self.key}-{self.seen}"


def gallery_mark(gallery_id: str) -> str:
    """What a file of decisions calls a gallery: it shows nothing of the id, by which the cases are keyed."""
    return "g" + _keyed(gallery_id, "gallery")[:16]


def cases_of(plan: EnrollPlan, table: PhotoTable, found: People, gallery_id: str) -> list[Case]:
    """The suspicions of a plan, in its order."""
    people = {name for one in plan.suspects for name in (one.person, one.other) if name is not None}
    listed = {(photo.identity, photo.source) for photo in found.photos if photo.identity in people}
    owned: dict[str, Own] = {person: {} for person in people}
    for photo in sorted(table.known(sorted(people)), key=lambda photo: photo.source) if people else ():
        if photo.status == "ok" and photo.sha256 and (photo.person_id, photo.source) in listed:
            owned[photo.person_id][photo.source] = photo
    scores = _with_before(table, plan.before, people)
    odd = plan.odd()
    changed = [one.person for one in plan.suspects if one.kind == "changed"]
    digests = digests_now(table, found, changed)
    ours = {person.person_id for person in plan.changed}
    made = []
    for one in plan.suspects:
        if one.kind == "two_ids":
            assert one.other is not None
            pair = sorted((one.person, one.other))
            held = [person for person in pair if person in ours]
            wrong = {person: _unlike(plan, owned[person], odd.get(person, ()), scores, person) for person in held}
            about, digest = ["two_ids", *pair], ""
        elif one.kind == "two_people":
            assert one.source is not None
            wrong = {one.person: _digests(owned[one.person], [one.source])}
            about, digest = ["two_people", one.person, *wrong[one.person].values()], ""
        else:
            limit = plan.photo_limit
            own = owned[one.person]
            unlike = [source for source in own if limit is None or scores.get((one.person, source), -2.0) < limit]
            digest = digests.get(one.person, "")
            wrong, about = {one.person: _digests(own, unlike or list(own))}, ["changed", one.person, digest]
        seen = [[person, *sorted(photos.values())] for person, photos in sorted(wrong.items())]
        names = [name for name in (one.person, one.other) if name is not None]
        beside = {
            name: [
                source
                for source in owned[name]
                if source not in wrong.get(name, ()) and source not in odd.get(name, ())
            ]
            for name in names
        }
        key = "c" + _keyed(gallery_id, about)[:16]
        made.append(Case(one, key, _keyed(gallery_id, seen)[:12], wrong, beside, digest))
    return made


def _unlike(
    plan: EnrollPlan, own: Own, odd: Sequence[str], scores: Mapping[tuple[str, str], float], person: str
) -> dict[str, str]:
    """The photos that make somebody look like another: of who is enrolled those that came or changed since."""
    even = [source for source in own if source not in odd]
    before = plan.before.get(person)
    if before is None:
        return _digests(own, even)
    limit = -2.0 if plan.photo_limit is None else plan.photo_limit
    known = set(before.sources)
    new = [source for source in even if source not in known or scores.get((person, source), 2.0) < limit]
    return _digests(own, new or even)


def _digests(own: Own, sources: Sequence[str]) -> dict[str, str]:
    return {source: own[source].sha256 or "" for source in sources if source in own}


def _with_before(table: PhotoTable, before: Mapping[str, Person], people: set[str]) -> dict[tuple[str, str], float]:
    """(person, source) -> cosine of a photo with the template of before, of those of the people who have one."""
    return dict(_scores(table, before, sorted(people & before.keys())))


def _scores(
    table: PhotoTable, before: Mapping[str, Person], people: Sequence[str]
) -> Iterator[tuple[tuple[str, str], float]]:
    for batch in table.embeddings(people) if people else ():
        vectors: Array = batch["embedding"].flatten().to_numpy().reshape(len(batch), table.dim)
        keys = zip(batch["person_id"].to_pylist(), batch["source"].to_pylist(), strict=True)
        for key, vector in zip(keys, vectors, strict=True):
            yield key, float(vector @ before[key[0]].template)


def _keyed(gallery_id: str, about: object) -> str:
    """64 hex digits, which tell nothing to who does not have the gallery."""
    return hmac.new(gallery_id.encode(), json.dumps(about).encode(), "sha256").hexdigest()
