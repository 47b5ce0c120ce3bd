"""What an enrollment changes: who is new, whose template is another now, and who is held back and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from facekd.core.memory import give_back_memory
from facekd.core.printable import printable_line
from facekd.enrollment.calibration import Promise, alike_tail, chosen, gallery_thresholds
from facekd.enrollment.changes import KEEP_UNTIL
from facekd.enrollment.people import Fused, fuse
from facekd.enrollment.photos import digests_now, groups
from facekd.enrollment.report import EnrollSummary
from facekd.enrollment.sources import People
from facekd.enrollment.suspects import Suspect, two_ids
from facekd.errors import UserError
from facekd.gallery.decisions import Decisions
from facekd.gallery.gallery import LEDGER, GalleryTable
from facekd.gallery.meta import GalleryMeta
from facekd.gallery.people import Person
from facekd.gallery.photos import EXCLUDED, PhotoTable
from facekd.ingest.embedding import Outcome
from facekd.rates.open_set import Tail
from facekd.settings.photos import EnrollDecision, read_date

OK = ("ok", "duplicate")
FEW = 3  # people who may be missing whatever the size of the gallery, unless nobody else is enrolled
PHOTO_FAR = 1e-2  # of a photo and its person: compared once, where a stricter threshold would refuse their own
MILDEST = 1e-3  # FAR at which two ids are suspected, however few are compared
MANY = 0.5  # share of the people, changed in one run, from which their likeness to each other is measured anew
NO_NAMES = "it looks like another person; the report says which"  # a ledger row of one person never names another
DIVIDED = "the photos of this person do not match each other"
OTHER = "the photos do not look like the person who was enrolled before"


@dataclass(slots=True)
class Ledger:
    """What became of each photo, by column."""

    sources: list[str] = field(default_factory=list)
    persons: list[str | None] = field(default_factory=list)
    statuses: list[str] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    details: list[float] = field(default_factory=list)

    def add(self, source: str, person: str | None, status: str, reason: str, detail: float = math.nan) -> None:
        """One photo more."""
        self.sources.append(source)
        self.persons.append(person)
        self.statuses.append(status)
        self.reasons.append(reason)
        self.details.append(detail)

    def hold(self, held: Mapping[str, str]) -> None:
        """The used photos of people who are not written are held back, for a reason."""
        for place, person in enumerate(self.persons):
            if person is not None and person in held and self.statuses[place] == "ok":
                self.statuses[place], self.reasons[place] = "held_back", held[person]

    def failed(self) -> list[Outcome]:
        """Photos that were not taken for what they are; those of people held back aside."""
        photos = map(Outcome, self.sources, self.statuses, self.reasons)
        return [photo for photo in photos if photo.status not in (*OK, EXCLUDED, "held_back")]

    def table(self) -> pa.Table:
        """As the gallery keeps it."""
        columns = (self.sources, self.persons, self.statuses, self.reasons)
        details = pa.array(self.details, pa.float64(), from_pandas=True)  # NaN becomes null
        return pa.Table.from_arrays([*(pa.array(column, pa.string()) for column in columns), details], schema=LEDGER)


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
    missing: list[str] = field(default_factory=list)  # enrolled, and not in PEOPLE
    dated: list[Person] = field(default_factory=list)  # enrolled, held back now, and kept until another day
    left_out: list[str] = field(default_factory=list)  # people all of whose photos were decided never to count
    photo_limit: float | None = None  # cosine under which a photo is not of its person

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

    def summary(
        self, gallery: Path, asked: EnrollDecision, found: People, embedded: int, size: int, promised: Promise | None
    ) -> EnrollSummary:
        """What the user is told.

        Args:
            size: people enrolled.
            promised: what a search through them keeps; None where nothing is known of it.
        """
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
            promise=promised,
            left_out=tuple(self.left_out),
            missing=() if asked.missing == "keep" else tuple(self.missing),
            erased=asked.missing == "delete" and not asked.dry_run,
        )


def make_plan(
    home: GalleryTable,
    table: PhotoTable,
    found: People,
    asked: EnrollDecision,
    meta: GalleryMeta,
    decided: Decisions,
    before: PhotoTable,
) -> EnrollPlan:
    """Fuse the photos of everybody in PEOPLE and compare what comes out with the gallery.

    With --replace the photos that PEOPLE no longer has are taken out of the table first.

    Args:
        decided: what is not to be suspected again.
        before: the gallery's photos, of people who are not in PEOPLE too: those of a dry run's `table` are not.
    """
    for person, values in (found.metadata or {}).items():
        if KEEP_UNTIL in values:
            read_date(values[KEEP_UNTIL], f"{KEEP_UNTIL} of {printable_line(person)}")
    dated = any(KEEP_UNTIL in values for values in (found.metadata or {}).values())
    of_a_photo = _photo_limit(asked, meta)
    plan = EnrollPlan([], {}, {}, 0, [], [], Ledger(), 0, [], photo_limit=of_a_photo)
    for row in found.refused:
        plan.ledger.add(*row)
    for group in groups(found.photos, found.without()):
        listed = {person: {photo.source for photo in own} for person, own in group}
        if found.in_memory and not asked.replace:  # it comes on top of what is known, and nothing is gone
            for photo in table.known(list(listed)):
                listed[photo.person_id].add(photo.source)
        _forget(table, listed, asked.replace)
        enrolled = home.people(list(listed))
        made = list(fuse(table, list(listed), of_a_photo, asked.accept_suspects))
        made = _without_gone(table, made, listed, of_a_photo, asked.accept_suspects)
        for fused in made:
            plan.kept += sum(photo.source not in listed[fused.person_id] for photo in fused.photos)
            _take(plan, fused, enrolled.get(fused.person_id), found.metadata, asked.keep_until, dated)
        give_back_memory()
    _changed_people(plan, of_a_photo, asked.accept_suspects, _settled(table, found, decided))
    limit = _pair_limit(asked, home, meta, plan) if plan.changed else None
    if limit is not None:
        pairs = [
            pair
            for pair in two_ids(home, plan.changed, plan.before, limit)
            if pair.other is not None and decided.may_be_one(pair.person, pair.other)
        ]
        plan.suspects = [*pairs, *plan.suspects]
        if not asked.accept_suspects:
            ours = {person.person_id for person in plan.changed}
            plan.held |= {one: NO_NAMES for pair in pairs for one in (pair.person, pair.other) if one in ours}
    plan.ledger.hold(plan.held)
    plan.notes = _notes(plan, limit)
    plan.dated = _dated(home.people([*plan.held, *plan.not_enrolled]), found.metadata, asked.keep_until)
    if asked.missing == "delete" or (asked.missing == "list" and not found.in_memory):
        there = {*found.ids(), *(person for _, person, _, _ in found.refused if person is not None)}
        aliases = decided.aliases()  # of a dry run, which erases none
        missing = [person for person in home.ids() if person not in there and person not in aliases]
        in_memory = before.only_in_memory(missing)  # as by HTTP: they were never in PEOPLE
        plan.missing = [person for person in missing if person not in in_memory]
        _check_missing(plan.missing, len(home), asked)
    return plan


def _dated(
    staying: Mapping[str, Person], metadata: Mapping[str, Mapping[str, str]] | None, keep_until: str | None
) -> list[Person]:
    """Enrolled people whose template stays as it was, with the day until which they are kept from now on."""
    days = {person: (metadata or {}).get(person, {}).get(KEEP_UNTIL, keep_until) for person in staying}
    return [
        replace(person, metadata={**person.metadata, KEEP_UNTIL: day})
        for name, person in staying.items()
        if (day := days[name]) is not None and person.metadata.get(KEEP_UNTIL) != day
    ]


def _check_missing(missing: list[str], enrolled: int, asked: EnrollDecision) -> None:
    """Refuse to erase most of a gallery, or all of a small one, because a folder is not there."""
    if asked.missing == "delete" and missing and (len(missing) == enrolled or len(missing) > max(FEW, enrolled / 2)):
        raise UserError(
            f"--missing delete: {len(missing)} of {enrolled} enrolled people are not in PEOPLE; is all of it there? If "
            "they are to be erased, write their ids into a file for 'facekd gallery delete --from FILE'"
        )


def _photo_limit(asked: EnrollDecision, meta: GalleryMeta) -> float | None:
    """The cosine under which a photo is not of its person, and a new template not of the one of before."""
    if asked.suspect_threshold is not None:
        return asked.suspect_threshold
    known = gallery_thresholds(meta)
    return known[min(known, key=lambda far: abs(math.log(far / PHOTO_FAR)))] if known else meta.threshold


def _pair_limit(asked: EnrollDecision, home: GalleryTable, meta: GalleryMeta, plan: EnrollPlan) -> float | None:
    """The cosine from which two ids are suspected: --false-alarms of all pairs of people would reach it by chance.

    All pairs, though only those of changed people are compared: what is no suspicion tonight is none tomorrow.
    """
    if asked.suspect_threshold is not None:
        return asked.suspect_threshold
    changed, size = len(plan.changed), len(home) + len(plan.changed) - len(plan.before)
    far = min(asked.false_alarms / max(1, size * (size - 1) // 2), MILDEST)
    own = home.meta.own
    if own is not None and not own.stale and changed < MANY * own.people:
        tail = Tail.of(own.alike)
    else:
        new = {person.person_id for person in plan.changed}
        enrolled = (person for lot in home.everyone() for person in lot if person.person_id not in new)
        people = chosen(chain(plan.changed, enrolled))
        templates = np.stack([person.template for person in people])
        tail = alike_tail(templates, Tail.of(gallery_thresholds(meta)))
    if tail is not None:
        return float(tail.cosine(far))
    known = gallery_thresholds(meta)
    return known[min(known)] if known else meta.threshold


def _forget(table: PhotoTable, listed: Mapping[str, set[str]], every: bool) -> None:
    """Take photos that PEOPLE no longer has out of the table: every one of them, or those that never counted."""
    gone: dict[str, list[str]] = {}
    for photo in table.known(list(listed)):
        own = listed[photo.person_id]
        # Of an empty folder no template could be made, so whoever has one stays as before.
        if photo.source not in own and ((every and own) or photo.status != "ok"):
            gone.setdefault(photo.person_id, []).append(photo.source)
    table.forget(gone)


def _without_gone(
    table: PhotoTable, made: list[Fused], listed: Mapping[str, set[str]], limit: float | None, accept: bool
) -> list[Fused]:
    """The same without photos that did not match and that PEOPLE no longer has: they were taken out for a reason."""
    gone = {one.person_id: [source for source, _ in one.odd if source not in listed[one.person_id]] for one in made}
    again = [person for person, sources in gone.items() if sources]
    table.forget({person: gone[person] for person in again})
    anew = {one.person_id: one for one in fuse(table, again, limit, accept)} if again else {}
    return [anew.get(one.person_id, one) for one in made]


def _settled(table: PhotoTable, found: People, decided: Decisions) -> set[str]:
    """People of whose photos in PEOPLE it was decided that they are theirs, whatever the template was."""
    known = decided.changes()
    return {person for person, own in digests_now(table, found, list(known)).items() if own in known[person]}


def _changed_people(plan: EnrollPlan, limit: float | None, accept: bool, settled: Set[str]) -> None:
    """Suspect and hold who is enrolled and whose new template is not like the one of before."""
    if limit is None:
        return
    for person in plan.changed:
        before = plan.before.get(person.person_id)
        if before is None or person.person_id in settled:
            continue
        score = float(person.template @ before.template)
        if score < limit:
            plan.suspects.append(Suspect("changed", person.person_id, None, None, score))
            if not accept:
                plan.held[person.person_id] = OTHER


def _take(
    plan: EnrollPlan,
    fused: Fused,
    before: Person | None,
    metadata: Mapping[str, Mapping[str, str]] | None,
    keep_until: str | None,
    dated: bool,
) -> None:
    """Take a person's photos and template into the plan.

    Args:
        dated: PEOPLE is a CSV that says until when people are kept; one without that column takes nobody's day away.
    """
    person_id = fused.person_id
    for photo, detail in zip(fused.photos, fused.details, strict=True):
        plan.ledger.add(photo.source, person_id, photo.status, photo.reason, detail)
    plan.suspects += [Suspect("two_people", person_id, None, source, score) for source, score in fused.odd]
    if fused.divided and fused.person is None:
        plan.held[person_id] = DIVIDED
        return
    if fused.person is None:
        decided = fused.photos and all(photo.status in (EXCLUDED, "duplicate") for photo in fused.photos)
        (plan.left_out if decided else plan.not_enrolled).append(person_id)
        return
    own = (metadata or {}).get(person_id, {})
    told = dict(before.metadata if before and metadata is None else own)
    if keep_until is not None and KEEP_UNTIL not in own:
        told[KEEP_UNTIL] = keep_until
    elif before is not None and not dated and KEEP_UNTIL in before.metadata:
        told[KEEP_UNTIL] = before.metadata[KEEP_UNTIL]
    person = replace(fused.person, metadata=told)
    if before is not None and person.same(before):
        plan.unchanged += 1
        return
    plan.changed.append(person)
    if before is not None:
        plan.before[person_id] = before


def _notes(plan: EnrollPlan, limit: float | None) -> list[str]:
    notes = []
    if limit is None and plan.changed:
        notes.append(
            "mix-ups were not looked for: no threshold is known; take one from 'facekd verify' and give --threshold"
        )
    if plan.kept:
        notes.append(f"{plan.kept} photos of earlier runs that are not there now keep counting; --replace drops them")
    return notes
