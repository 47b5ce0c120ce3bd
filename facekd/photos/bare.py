"""Folders for people that hold no photo, by the names of what was found."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

Parts = tuple[str, ...]  # a path below the folder of people, "a/b" as ("a", "b")


def parts_of(name: str) -> Parts:
    """A path with slashes in its parts; none of one that climbs out."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    return () if ".." in parts else parts


def bare_folders(photos: Iterable[str], others: Iterable[str], folders: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The folders without a photo that stand for a person, in order: those that hold no further folder.

    What lies beside a person's photos stands for nobody, as ``Ann/films`` beside ``Ann/1.jpg``; unless such a folder
    has photos of its own, which are those of a person of its name.

    Args:
        photos, others, folders: paths with slashes, of files and of folders that are known of beside these.

    Returns:
        Each folder's path and what is in it.
    """
    holding = {parts_of(name)[:-1] for name in photos}
    aside: dict[Parts, list[str]] = defaultdict(list)
    for name in others:
        if parts := parts_of(name):
            aside[parts[:-1]].append(parts[-1])
    full = _with_those_around(holding)
    known = _with_those_around({*holding, *aside, *map(parts_of, folders)})
    with_folders = {folder[:-1] for folder in known if folder}
    with_full_folders = {folder[:-1] for folder in full if folder}
    for folder in sorted(known - full - with_folders - {()}):
        around = folder[:-1]
        while around and around not in full:
            around = around[:-1]
        if around and around in holding and around not in with_full_folders:
            continue
        yield "/".join(folder), _contents(sorted(aside[folder]))


def _with_those_around(folders: Iterable[Parts]) -> set[Parts]:
    return {folder[:length] for folder in folders for length in range(len(folder) + 1)}


def _contents(names: list[str]) -> str:
    if not names:
        return "an empty folder"
    more = f" and {len(names) - 1} more files" if len(names) > 1 else ""
    return f"no photo in it, only {names[0]}{more}"
