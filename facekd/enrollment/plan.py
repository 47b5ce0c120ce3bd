"""What an enrollment changes: who is new, whose template is another now, and who is held back and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from facekd.deploy.thresholds import usual_far
from facekd.enrollment.people import Fused, fuse
from facekd.enrollment.photos import groups
from facekd.enrollment.report import EnrollSummary
from facekd.enrollment.sources import People
from facekd.enrollment.suspects import Suspect, two_ids
from facekd.gallery.gallery import LEDGER, GalleryTable
from facekd.gallery.meta import GalleryMeta
from facekd.gallery.people import Person
from facekd.gallery.photos import PhotoTable
from facekd.ingest.embedding import Outcome
from facekd.settings.photos import EnrollDecision

OK = ("ok", "duplicate")
CHANCE = 0.1  # look-alikes by chance for each person from which the threshold is called too low
NO_NAMES = "it looks like another person; the report says which"  # a ledger row of one person never names another
DIVIDED = "the photos of this person do not match each other"


@dataclass(slots=True)
class Ledger:
    """What became of each photo, by column."""

    sources: list[str] = field(default_factory=list)
    persons: list[str | None] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def add(self, source: str, person: str | None, status: str, reason: str) -> None:
        """One photo more."""
        self.sources.append(source)
        self.persons.append(person)
        self.statuses.append(status)
        self.reasons.append(reason)

    def hold(self, held: Mapping[str, str]) -> None:
        """The used photos of people who are not written are held back, for a reason."""
        for place, person in enumerate(self.persons):
            if person is not None and person in held and self.statuses[place] == "ok":
                self.statuses[place], self.reasons[place] = "held_back", held[person]

    def failed(self) -> list[Outcome]:
        """Photos that were not taken for what they are; those of people held back aside."""
        photos = map(Outcome, self.sources, self.statuses, self.reasons)
        return [photo for photo in photos if photo.status not in (*OK, "held_back")]

    def table(self) -> pa.Table:
        """As the gallery keeps it."""
        columns = (self.sources, self.persons, self.statuses, self.reasons)
        return pa.Table.from_arrays([pa.array(column, pa.string()) for column in columns], schema=LEDGER)


@dataclass(slots=True)
class EnrollPlan:
    """The changes, before any of them is written."""

    changed: list[Person]  # new, or with another template, photos or metadata than before
    before: dict[str, Person]  # those of them that are enrolled, as they are now
    held: dict[str, str]  # people who are not to be written, and why
    unchanged: int
    not_enrolled: list[str]
    suspects: list[Suspect]
    ledger: Ledger
    kept: int  # photos of earlier runs that PEOPLE no longer has and that keep counting
    notes: list[str]

    def odd(self) -> dict[str, list[str]]:
        """Photos that do not match the rest of their person."""
        found: dict[str, list[str]] = {}
        for suspect in self.suspects:
            if suspect.source is not None:
                found.setdefault(suspect.person, []).append(suspect.source)
        return found

    def outcome(self) -> dict[str, list[str]]:
        """What becomes of whom."""
        written = [person.person_id for person in self.changed if person.person_id not in self.held]
        return {
            "new": [person for person in written if person not in self.before],
            "changed": [person for person in written if person in self.before],
            "held_back": sorted(self.held),
            "not_enrolled": self.not_enrolled,
        }

    def summary(self, gallery: Path, asked: EnrollDecision, found: People, embedded: int, size: int) -> EnrollSummary:
        """What the user is told."""
        outcome = self.outcome()
        return EnrollSummary(
            gallery=gallery,
            dry_run=asked.dry_run,
            accepted=asked.accept_suspects,
            enrolled=size,
            new=tuple(outcome["new"]),
            changed=tuple(outcome["changed"]),
            unchanged=self.unchanged,
            held_back=tuple(outcome["held_back"]),
            not_enrolled=tuple(outcome["not_enrolled"]),
            statuses=dict(Counter(self.ledger.statuses)),
            embedded=embedded,
            kept=self.kept,
            failed=tuple(self.ledger.failed()),
            suspects=tuple(self.suspects),
            notes=(*found.notes, *self.notes),
        )


def make_plan(
    home: GalleryTable, table: PhotoTable, found: People, asked: EnrollDecision, meta: GalleryMeta
) -> EnrollPlan:
    """Fuse the photos of everybody in PEOPLE and compare what comes out with the gallery.

    With --replace the photos that PEOPLE no longer has are taken out of the table first.
    """
    limit, of_a_photo, far = _suspicion(asked, home, meta)
    plan = EnrollPlan([], {}, {}, 0, [], [], Ledger(), 0, [])
    for row in found.refused:
        plan.ledger.add(*row)
    for group in groups(found.photos, found.without()):
        listed = {person: {photo.source for photo in own} for person, own in group}
        if asked.replace:
            _forget(table, listed)
        before = home.people(list(listed))
        for fused in fuse(table, list(listed), of_a_photo, asked.accept_suspects):
            plan.kept += sum(photo.source not in listed[fused.person_id] for photo in fused.photos)
            _take(plan, fused, before.get(fused.person_id), found.metadata)
    if limit is not None:
        pairs = two_ids(home, plan.changed, plan.before, limit)
        plan.suspects = [*pairs, *plan.suspects]
        if not asked.accept_suspects:
            ours = {person.person_id for person in plan.changed}
            plan.held |= {one: NO_NAMES for pair in pairs for one in (pair.person, pair.other) if one in ours}
    plan.ledger.hold(plan.held)
    plan.notes = _notes(plan, limit, far, len(home))
    return plan


def _suspicion(
    asked: EnrollDecision, home: GalleryTable, meta: GalleryMeta
) -> tuple[float | None, float | None, float | None]:
    """The threshold under which two ids are told apart, that of a photo and its person, and the first's FAR.

    Every two ids are compared, half a million couples of a thousand, so the network's strictest threshold is taken. A
    photo is compared once, with photos of one person: there the strictest would refuse the person's own.
    """
    given = (asked.suspect_threshold, asked.threshold, home.meta.threshold)
    threshold = next((value for value in given if value is not None), None)
    if threshold is not None or not meta.calibrated:
        return threshold, threshold, None
    far = min(meta.calibrated)
    return meta.calibrated[far], meta.calibrated[usual_far(meta.calibrated)], far


def _forget(table: PhotoTable, listed: Mapping[str, set[str]]) -> None:
    gone: dict[str, list[str]] = {}
    for photo in table.known([person for person, own in listed.items() if own]):  # an empty folder makes no template
        if photo.source not in listed[photo.person_id]:
            gone.setdefault(photo.person_id, []).append(photo.source)
    for person, sources in gone.items():
        table.forget(person, sources)


def _take(
    plan: EnrollPlan, fused: Fused, before: Person | None, metadata: Mapping[str, Mapping[str, str]] | None
) -> None:
    person_id = fused.person_id
    for photo in fused.photos:
        plan.ledger.add(photo.source, person_id, photo.status, photo.reason)
    plan.suspects += [Suspect("two_people", person_id, None, source, score) for source, score in fused.odd]
    if fused.divided and fused.person is None:
        plan.held[person_id] = DIVIDED
        return
    if fused.person is None:
        plan.not_enrolled.append(person_id)
        return
    told = before.metadata if before and metadata is None else (metadata or {}).get(person_id, {})
    person = replace(fused.person, metadata=dict(told))
    if before is not None and person.same(before):
        plan.unchanged += 1
        return
    plan.changed.append(person)
    if before is not None:
        plan.before[person_id] = before


def _notes(plan: EnrollPlan, limit: float | None, far: float | None, enrolled: int) -> list[str]:
    notes = []
    if limit is None:
        notes.append(
            "mix-ups were not looked for: no threshold is known; take one from 'facekd verify' and give --threshold"
        )
    size = enrolled + len(plan.changed) - len(plan.before)
    if far is not None and far * size > CHANCE and plan.changed:
        notes.append(
            f"at FAR {far:g}, the strictest the model is calibrated to, each of {size} people looks like "
            f"{far * size:.1f} others by chance; calibrate the model on more pairs or give a higher --suspect-threshold"
        )
    if plan.kept:
        notes.append(f"{plan.kept} photos of earlier runs that are not there now keep counting; --replace drops them")
    return notes
