"""What 'facekd verify' compares: a pair list, an insightface set, or all pairs; by crops or by stored embeddings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
from scipy import sparse
from scipy.sparse import csgraph

from facekd.console import say
from facekd.core.names import NameColumn
from facekd.core.types import Array, PairList
from facekd.crops.bins import read_bin
from facekd.crops.cropset import CropSet
from facekd.crops.pairs import person_in_name, read_pairs, resolve, take, without_repeats
from facekd.crops.read import by_name, photo_names, photo_persons, read_crops
from facekd.crops.records import FAILED
from facekd.crops.store import CropStore
from facekd.deploy.embeddings import Embedded, read_embeddings
from facekd.errors import UserError
from facekd.evaluation.results import KnownBy

Persons: TypeAlias = tuple[Array, Array]  # int[P] twice: who is on either side of each pair


@dataclass(frozen=True, slots=True)
class ListedPairs:
    """A pair list in terms of the ids that are embedded."""

    name: str  # the list's, for people
    pairs: PairList
    failed: frozenset[str]  # photos of the list that gave no crop, under their own names
    persons: Persons | None  # None where somebody is not known
    left_out: dict[str, int]  # pairs by why they don't count
    people: KnownBy | None = None  # what says who they are; None where somebody is not known

    def needed(self) -> list[str]:
        """The ids that embeddings are needed of."""
        return sorted(set(self.pairs.photos()) - self.failed)


@dataclass(frozen=True, slots=True)
class Everybody:
    """All pairs of the photos whose person is known."""

    name: str
    ids: tuple[str, ...]
    persons: tuple[str, ...]  # one for each id
    photos: tuple[str, ...]  # one for each id: a name by which `known` finds it
    failed_persons: tuple[str, ...]  # of photos that gave no crop
    failed_photos: tuple[str, ...]
    left_out: dict[str, int]  # photos by why they don't count


def read_source(crops: Path | None, files: Sequence[Path]) -> CropSet | Embedded:
    """The crops of a store, or the first file of embeddings: who the photos are."""
    return read_embeddings(files[0], quiet=True) if crops is None else read_crops(crops)


def read_list(
    path: Path,
    source: CropSet | Embedded,
    crops: Path | None,
    groups: Sequence[str] = (),
    others: Sequence[Path] = (),
    quiet: bool = False,
    *,
    keep_repeats: bool = False,
) -> ListedPairs:
    """The pairs of a list of any kind that `crops.pairs.read_pairs` reads, among the photos of `source`.

    Where `source` is of embeddings, a photo of the list that no file has is one that gave none.

    Args:
        others: further files of embeddings of the same photos.
        quiet: do not name a photo that they lack.
        keep_repeats: count a pair as often as the list has it.

    Raises:
        UserError: a list that is none, contradicts itself or the crops' identities, names unknown photos, or lacks one
            of the columns `groups`.
    """

    listed, left_out = _once(with_groups(read_pairs(path, groups), groups, path), str(path), keep_repeats)
    names, persons_of = known(source, crops)
    lost: frozenset[str] = frozenset()
    if isinstance(source, Embedded):
        for other in others:
            more, whose = known(read_embeddings(other, quiet=True), None)
            names, persons_of = {**more, **names}, {**whose, **persons_of}
        lost = _lost(listed, names, path)
        names = {**names, **dict.fromkeys(lost, None)}
        if lost:
            say(
                f"{len(lost)} photos of {path} are not in the embeddings (first: {min(lost)}): failures to enroll",
                quiet,
            )
    where = str(crops) if crops is not None else "the embeddings"
    pairs, failed = resolve(listed, names, where)
    persons, people = persons_of_list(listed, persons_of, path, lost)
    different = pairs.left.codes != pairs.right.codes
    if not different.all():
        kept = np.flatnonzero(different)
        left_out["same bytes"] = len(different) - len(kept)
        pairs = take(pairs, kept)
        persons = None if persons is None else (persons[0][kept], persons[1][kept])
    name = f"CFP {path.name}" if path.is_dir() else path.name
    return ListedPairs(name, pairs, failed, persons, {why: count for why, count in left_out.items() if count}, people)


def read_bin_set(path: Path, *, keep_repeats: bool = False) -> tuple[CropSet, ListedPairs]:
    """The crops and pairs of an insightface ``.bin`` set, whose people are not known.

    Args:
        keep_repeats: as `read_list`.

    Raises:
        UserError: as `crops.bins.read_bin`, or pairs labeled both ways.
    """

    crops, pairs = read_bin(path)
    pairs, left_out = _once(pairs, str(path), keep_repeats)
    return crops, ListedPairs(
        path.name, pairs, frozenset(), None, {why: count for why, count in left_out.items() if count}
    )


def _once(pairs: PairList, where: str, keep_repeats: bool) -> tuple[PairList, dict[str, int]]:
    """`without_repeats`; or with them, the list's contradictions refused all the same."""
    once, left_out = without_repeats(pairs, where)
    return (pairs, {}) if keep_repeats else (once, left_out)


def listed_crops(name: str, crops: CropSet, pairs: PairList) -> ListedPairs:
    """Pairs of crops by their ids; the crops' identities are the people."""
    identity = dict(zip(crops.ids, crops.identities, strict=True))
    number = NameColumn.of(str(identity[crop_id]) for crop_id in pairs.left.distinct).codes.astype(np.int64)
    persons = number[pairs.left.codes], number[pairs.right.codes]
    return ListedPairs(name, pairs, frozenset(), persons, {}, "stated")


def everybody(source: CropSet | Embedded, path: Path) -> Everybody:
    """Every photo of `source` that has a label; of a crop store also those that gave no crop.

    Raises:
        UserError: no photo has a label.
    """

    ids = _ids(source)
    refuse_kinds(source, path)
    rows = zip(ids, source.identities, source.sources, strict=True)
    labeled = [(i, label, photo) for i, label, photo in rows if label is not None]
    if not labeled:
        raise UserError(f"{path}: none of its photos says who it shows, so all pairs have no label; give --pairs")
    times = Counter(photo for *_, photo in labeled)
    failed: list[tuple[str, str]] = []
    left_out = {"without identity": len(ids) - len(labeled)}
    if path.is_dir():
        ledger = CropStore.open(path).ledger().select(["source", "status", "identity"]).to_pylist()
        gone = [(row["source"], row["identity"]) for row in ledger if row["status"] in FAILED]
        failed = [(photo, str(label)) for photo, label in gone if label is not None]
        left_out["without crop and identity"] = len(gone) - len(failed)
    return Everybody(
        name=path.name,
        ids=tuple(i for i, *_ in labeled),
        persons=tuple(person for _, person, _ in labeled),
        photos=tuple(photo if times[photo] == 1 else i for i, _, photo in labeled),
        failed_persons=tuple(person for _, person in failed),
        failed_photos=tuple(photo for photo, _ in failed),
        left_out={why: count for why, count in left_out.items() if count},
    )


def qualities(crops: Path | None) -> dict[str, float] | None:
    """The quality of each crop of a store, by its id; None where there is no store."""

    if crops is None or not crops.is_dir():
        return None
    lying, rows = CropStore.open(crops).mapped()
    table = lying.select(["crop_id", "quality"]).take(rows)
    return dict(zip(table["crop_id"].to_pylist(), table["quality"].to_pylist(), strict=True))


def with_groups(pairs: PairList, columns: Sequence[str], path: Path) -> PairList:
    """The pairs with those of their group columns that are asked for.

    Raises:
        UserError: the list `path` lacks one of them.
    """
    for column in columns:
        if column not in pairs.groups:
            has = ", ".join(read_pairs(path).groups) or "none"
            raise UserError(f"{path}: has no group column {column!r}; its group columns: {has}")
    return replace(pairs, groups={column: pairs.groups[column] for column in columns})


def known(source: CropSet | Embedded, crops: Path | None) -> tuple[Mapping[str, str | None], Mapping[str, str | None]]:
    """By each name that a list may use: the id of the photo's crop or embedding, and its person."""

    if crops is not None and crops.is_dir():
        return named(source, crops), photo_persons(crops)
    persons: dict[str, str | None] = by_name(zip(source.sources, source.identities, strict=True))
    return named(source, crops), persons | dict(zip(_ids(source), source.identities, strict=True))


def named(source: CropSet | Embedded, crops: Path | None) -> Mapping[str, str | None]:
    """By each name that a list may use: the id of the photo's crop or embedding; None where it gave no crop."""
    if crops is not None and crops.is_dir():
        return photo_names(crops)
    names: dict[str, str | None] = by_name(zip(source.sources, _ids(source), strict=True))
    return names | {i: i for i in _ids(source)}


def _ids(source: CropSet | Embedded) -> tuple[str, ...]:

    return source.ids if isinstance(source, CropSet) else source.embeddings.ids


def persons_of_list(
    pairs: PairList, persons_of: Mapping[str, str | None], path: Path, lost: frozenset[str] = frozenset()
) -> tuple[Persons | None, KnownBy | None]:
    """Who is on either side of each pair, and what says it: the list itself, else the photos' identities.

    Where no photo of the list has an identity, LFW's way of naming says it. None where somebody is not known.

    Args:
        lost: photos of which nothing is known but the list: each shows whom its genuine pairs show.
    """
    people: KnownBy = "stated"
    if pairs.persons is not None:
        sides = pairs.persons[0].codes.astype(np.int64), pairs.persons[1].codes.astype(np.int64)
    else:
        photos = pairs.photos()
        stated = {name: persons_of.get(name) for name in photos}
        if not any(stated.values()):
            people, stated = "photo names", {name: person_in_name(name) for name in photos}
        if any(stated[name] is None for name in photos if name not in lost):
            return None, None
        number = _with_partners(pairs, [stated.get(name) for name in pairs.left.distinct]).astype(np.int64)
        sides = number[pairs.left.codes], number[pairs.right.codes]
    against = np.flatnonzero((sides[0] == sides[1]) != pairs.same)
    if len(against):
        first = int(against[0])
        says = "the same person" if pairs.same[first] else "two people"
        raise UserError(
            f"{path}: {len(against)} pairs are labeled against the people that the photos are filed under (first: "
            f"pair {first + 1}, {pairs.left[first]!r} and {pairs.right[first]!r}, is said to show {says}); correct the "
            "list or the photos' identities"
        )
    return sides, people


def _with_partners(pairs: PairList, stated: Sequence[str | None]) -> Array:
    """int32[photos]: a number for each person; a photo of unknown person has that of its genuine pairs, or its own."""
    number = NameColumn.of("" if one is None else one for one in stated).codes
    unknown = np.array([one is None for one in stated], bool)
    if not unknown.any():
        return number
    left, right = (side.codes[pairs.same] for side in (pairs.left, pairs.right))
    near = unknown[left] | unknown[right]
    n = len(stated)
    links = sparse.coo_array((np.ones(int(near.sum()), bool), (left[near], right[near])), shape=(n, n))
    group = csgraph.connected_components(links, directed=False)[1]
    found = group.astype(np.int32) + int(number.max()) + 1  # of a person nobody else is known to be
    of_group = np.full(int(group.max()) + 1, -1, np.int32)
    of_group[group[~unknown]] = number[~unknown]
    told = of_group[group] >= 0
    found[told] = of_group[group][told]
    return np.where(unknown, found, number)


def refuse_kinds(source: CropSet | Embedded, path: Path) -> None:
    """Pass unless the photos are filed under CFP's kinds of photo, ``001/frontal/01``, where people are meant.

    Raises:
        UserError: all identities are frontal or profile.
    """
    if source.identities and set(source.identities) <= {"frontal", "profile"}:
        raise UserError(
            f"{path}: its photos are filed under 'frontal' and 'profile', CFP's kinds of photo, which are no people; "
            "align the photos again with --identity-from name"
        )


def _lost(pairs: PairList, names: Mapping[str, str | None], path: Path) -> frozenset[str]:
    """The list's photos that the files of embeddings lack: they gave none.

    Raises:
        UserError: half of the list or more, so that it is the wrong file or names photos otherwise.
    """
    photos = pairs.photos()
    lost = [name for name in photos if name not in names]
    if lost and 2 * len(lost) >= len(photos):
        raise UserError(
            f"the embeddings: {len(lost)} of the {len(photos)} photos that {path} names are not in them (first: "
            f"{lost[0]!r}), so list and file do not belong together; embed those photos, or name them alike in both, "
            "by id or by photo"
        )
    return frozenset(lost)
