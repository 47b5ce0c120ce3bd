"""What was decided about suspected mix-ups: taken from a file, remembered, and kept to in each enrollment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

from facekd.core.printable import counted
from facekd.enrollment.cases import Case, cases_of, gallery_mark
from facekd.enrollment.changes import move_photos
from facekd.enrollment.decision_file import Answered, read_answers
from facekd.enrollment.photos import digests_now
from facekd.enrollment.plan import EnrollPlan, make_plan
from facekd.enrollment.request import Workplace
from facekd.enrollment.sources import People
from facekd.errors import UserError
from facekd.gallery.decisions import Decisions, Remembered
from facekd.gallery.meta import GalleryMeta
from facekd.gallery.photos import EXCLUDED, PhotoTable
from facekd.ingest.photos import Item
from facekd.settings.photos import EnrollDecision, EnrollReport

REASON = "it was decided that this photo does not count"
SHOWN = 5  # rows passed over that are told of one by one


def asked_answers(asked: EnrollDecision, output: EnrollReport, meta: GalleryMeta) -> list[Answered]:
    """The file of --decisions, read; nothing where there is none.

    Args:
        meta: of the gallery as it was before this enrollment.

    Raises:
        UserError: see `read_answers`; or a page for a gallery that will not be there.
    """
    if output.review is not None and asked.dry_run and meta.gallery_id is None:
        raise UserError(
            f"--review {output.review}: a dry run begins no gallery that the page's decisions could be of; leave "
            "--dry-run out, or take --report"
        )
    if asked.decisions is None:
        return []
    return read_answers(asked.decisions, None if meta.gallery_id is None else gallery_mark(meta.gallery_id))


def as_remembered(work: Workplace, found: People, dry_run: bool) -> People:
    """The people as earlier decisions have them; what a killed run left of merging two ids is finished."""
    decided = work.home.decisions()
    return _as_decided(found, decided if dry_run else _merge(work, decided, dry_run))


@dataclass(frozen=True, slots=True)
class Decided:
    """A plan that every answer has gone into."""

    plan: EnrollPlan
    found: People  # as they are after the decisions
    cases: tuple[Case, ...]  # what is still suspected
    taken: int  # answers that were new


def settle(
    work: Workplace,
    found: People,
    asked: EnrollDecision,
    meta: GalleryMeta,
    answers: Sequence[Answered],
    review: bool,
) -> Decided:
    """Plan the enrollment, take the answers that fit what is suspected, and plan anew until none is left that fits.

    What is taken is remembered first and then done, so that a run after a kill does the rest of it.

    Args:
        review: the cases are wanted whether there are answers or not.

    Raises:
        UserError: answers that contradict each other or what is remembered.
    """
    home, table = work.home, work.table
    decided = home.decisions()
    before = decided.taken()
    left, count = list(answers), 0
    while True:
        _mark(table, found, decided)
        plan = make_plan(home, table, found, asked, meta, decided, work.base or table)
        cases = cases_of(plan, table, found, home.meta.gallery_id or "") if answers or review else []
        _check_told(asked.decisions, answers, cases)
        by_key = {case.key: case for case in cases}
        fitting = [(one, by_key[one.key]) for one in left if one.key in by_key and _fits(one, by_key[one.key])]
        if not fitting:
            plan.notes += _told(answers, left, cases, before, asked.dry_run)
            return Decided(plan, found, tuple(cases), count)
        count += len(fitting)
        left = [answer for answer in left if answer not in {one for one, _ in fitting}]
        same = [case for answer, case in fitting if answer.choice == "same" and case.suspect.other is not None]
        enrolled = set(home.people(sorted({name for case in same for name in _pair(case)})))
        aliases = _survivors(asked.decisions, fitting, decided, enrolled)
        decided = _decide(fitting, aliases, decided)
        if not asked.dry_run:
            home.note("decide", decisions=len(fitting), people_merged=len(aliases))
            home.remember(decided)
        gone = enrolled & aliases.keys()
        notes = [_merged(alias, kept, alias in gone, asked.dry_run) for alias, kept in sorted(aliases.items())]
        decided = _merge(work, decided, asked.dry_run)
        found = _as_decided(replace(found, notes=(*found.notes, *notes)), decided)


def _merged(alias: str, kept: str, was_enrolled: bool, dry_run: bool) -> str:
    if dry_run:
        erased = "; what is enrolled of it would be erased" if was_enrolled else ""
        return f"{alias} would be {kept}, as is decided: its photos would count for {kept}{erased}"
    erased = "; what was enrolled of it is erased" if was_enrolled else ""
    return f"{alias} is {kept}, as was decided: its photos count for {kept} from now on{erased}"


def _fits(answer: Answered, case: Case) -> bool:
    """Whether an answer to a case still holds: photos that nobody has looked at are not left out."""
    return not answer.choice.startswith("wrong") or (answer.seen == case.seen and bool(_wrong(answer, case)))


def _wrong(answer: Answered, case: Case) -> Mapping[str, Mapping[str, str]]:
    """Whose photos are left out: person -> source -> sha256."""
    one = {"wrong_person": case.suspect.person, "wrong_other": case.suspect.other}.get(answer.choice)
    return {person: photos for person, photos in case.wrong.items() if answer.choice == "wrong" or person == one}


def _pair(case: Case) -> tuple[str, str]:
    assert case.suspect.other is not None
    first, second = sorted((case.suspect.person, case.suspect.other))
    return first, second


def _survivors(
    path: Path | None, fitting: Sequence[tuple[Answered, Case]], decided: Decisions, enrolled: set[str]
) -> dict[str, str]:
    """Id -> the id that stays, of ids that turn out to be one person: who is enrolled, else the first in order."""
    group: dict[str, set[str]] = {}
    rows: dict[str, list[int]] = {}
    for answer, case in fitting:
        if answer.choice == "same" and case.suspect.kind == "two_ids":
            joined = set().union(*(group.get(name, {name}) for name in _pair(case)))
            numbers = sorted({number for name in joined for number in rows.get(name, [])} | {answer.number})
            group |= dict.fromkeys(joined, joined)
            rows |= dict.fromkeys(joined, numbers)
    for answer, case in fitting:
        if answer.choice == "different" and case.suspect.kind == "two_ids":
            first, second = _pair(case)
            if second in group.get(first, ()):
                said = " and ".join(map(str, rows[first]))
                raise UserError(
                    f"{path}: row {answer.number} says of two ids that they are different people, and rows {said} make "
                    "one person of them; correct one of these rows"
                )
    for row in sorted(decided.rows):
        if row.effect == "apart" and row.other in group.get(row.person, ()):
            said = " and ".join(map(str, rows[row.person]))
            raise UserError(
                f"{path}: rows {said} make one person of two ids of which it was decided before that they are "
                "different people; take one of these rows out"
            )
    made: dict[str, str] = {}
    for ids in group.values():
        survivor = min(ids & enrolled or ids)
        made |= {one: survivor for one in ids if one != survivor}
    return made


def _decide(fitting: Sequence[tuple[Answered, Case]], aliases: Mapping[str, str], decided: Decisions) -> Decisions:
    decided = decided.added(row for answer, case in fitting for row in _effects(answer, case))
    for alias, survivor in aliases.items():
        decided = decided.renamed(alias, survivor)
    merging = [
        Remembered(case.key, answer.choice, "merging", one, aliases[one])
        for answer, case in fitting
        if answer.choice == "same" and case.suspect.kind == "two_ids"
        for one in _pair(case)
        if one in aliases
    ]
    return decided.added(merging)


def _effects(answer: Answered, case: Case) -> Iterator[Remembered]:
    """What an answer does, but for two ids that are one person."""
    kind, person, choice = case.suspect.kind, case.suspect.person, answer.choice
    if choice.startswith("wrong") or (kind == "two_people" and choice == "different"):
        left_out = case.wrong if choice == "different" else _wrong(answer, case)
        for whose, photos in left_out.items():
            for digest in sorted(set(photos.values())):
                yield Remembered(case.key, choice, "excluded", whose, sha256=digest)
    elif kind == "two_ids" and choice == "different":
        first, second = _pair(case)
        yield Remembered(case.key, choice, "apart", first, second)
    elif kind == "two_people":
        for digest in case.wrong[person].values():
            yield Remembered(case.key, choice, "accepted", person, sha256=digest)
    elif kind == "changed":
        yield Remembered(case.key, choice, "rewritten" if choice == "same" else "replaced", person, sha256=case.digest)


def _mark(table: PhotoTable, found: People, decided: Decisions) -> None:
    """Bring what the table knows of photos to what was decided of them."""
    excluded, accepted, replaced = (decided.digests(effect) for effect in ("excluded", "accepted", "replaced"))
    people = [one for one in found.ids() if one in excluded or one in accepted] if excluded or accepted else []
    out: dict[str, list[str]] = {}
    counting: dict[str, list[str]] = {}
    for photo in table.known(people) if people else ():
        person, digest = photo.person_id, photo.sha256
        if digest in excluded.get(person, ()):
            if photo.status != EXCLUDED:
                out.setdefault(person, []).append(photo.source)
        elif digest in accepted.get(person, ()) and not photo.accepted:
            counting.setdefault(person, []).append(photo.source)
    table.exclude(out, REASON)
    table.accept(counting)
    now = digests_now(table, found, sorted(replaced)) if replaced else {}
    others = [person for person, digest in now.items() if digest in replaced[person]]
    listed = {(photo.identity, photo.source) for photo in found.photos} if others else set()
    gone: dict[str, list[str]] = {}
    for photo in table.known(sorted(others)) if others else ():
        if (photo.person_id, photo.source) not in listed:
            gone.setdefault(photo.person_id, []).append(photo.source)
    table.forget(gone)


def _merge(work: Workplace, decided: Decisions, dry_run: bool) -> Decisions:
    """Move the photos of new aliases to the ids that stay, and erase the aliases; a dry run erases nobody."""
    aliases = decided.aliases()
    for alias in decided.merging():
        kept = aliases[alias]
        for one in (alias, kept):
            if work.base is not None and not work.table.known([one]):  # a dry run knows only who is in PEOPLE
                work.table.put(work.base.of([one]), new=True)
        move_photos(work.table, alias, kept)
    if dry_run or not decided.merging():
        return decided
    work.home.erase_all(decided.merging())
    work.table.reload()
    work.home.remember(decided.merged())
    return decided.merged()


def _as_decided(found: People, decided: Decisions) -> People:
    """The people with the photos of aliases as those of the ids that stay."""
    aliases = decided.aliases()
    if not aliases:
        return found
    photos: dict[tuple[str, str], Item] = {}
    for photo in found.photos:
        person = aliases.get(photo.identity or "", photo.identity or "")
        photos.setdefault(
            (person, photo.source), replace(photo, identity=person) if person != photo.identity else photo
        )
    refused = [(source, aliases.get(who, who) if who else who, *why) for source, who, *why in found.refused]
    metadata = found.metadata
    if metadata is not None:
        of_aliases = {aliases[one]: values for one, values in metadata.items() if one in aliases}
        own = {one: values for one, values in metadata.items() if one not in aliases}
        metadata = {one: {**of_aliases.get(one, {}), **own.get(one, {})} for one in own.keys() | of_aliases.keys()}
    return replace(found, photos=[photos[key] for key in sorted(photos)], refused=refused, metadata=metadata)  # type: ignore[arg-type]  # why has two


def _check_told(path: Path | None, answers: Sequence[Answered], cases: Sequence[Case]) -> None:
    """Refuse a file whose rows tell of other cases than they name, as after sorting some of its columns alone."""
    told = {case.key: told_of(case) for case in cases}
    for answer in answers:
        own = told.get(answer.key)
        if own is not None and any(answer.told[1:]) and answer.told != own and answer.told in told.values():
            raise UserError(
                f"{path}: row {answer.number} names the people of another case than its own: were some columns sorted "
                "alone? Save the file anew from the page of --review"
            )


def told_of(case: Case) -> tuple[str, str, str, str]:
    """A case's values in the columns that are for the reader."""
    one = case.suspect
    return one.kind, one.person, one.other or "", one.source or ""


def _told(
    answers: Sequence[Answered],
    left: Sequence[Answered],
    cases: Sequence[Case],
    before: Set[tuple[str, str]],
    dry_run: bool,
) -> list[str]:
    """What became of the rows, or would, without a name."""
    if not answers:
        return []
    suspected = {case.key: case for case in cases}
    known = {key for key, _ in before}
    again = [one for one in left if (one.key, one.choice) in before]
    over = []
    for one in left:
        if one in again:
            continue
        if one.key in suspected and one.choice == "wrong_other" and suspected[one.key].suspect.other is None:
            why = "wrong_other is a choice where two ids are asked about"
        elif one.key in suspected:
            why = "its photos have changed since the page was written"
        elif one.key in known:
            why = "it was decided otherwise before"
        else:
            why = "nothing of it is suspected any more"
        over.append(f"row {one.number} of the decisions {'would be' if dry_run else 'is'} passed over: {why}")
    taken = counted(len(answers) - len(left), "decision")
    counts = f"{taken} {'would be ' if dry_run else ''}taken, {len(again)} taken before, {len(over)} passed over"
    more = [f"and {counted(len(over) - SHOWN, 'more row')} passed over"] if len(over) > SHOWN else []
    return [counts, *over[:SHOWN], *more]
