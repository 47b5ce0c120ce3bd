"""Files and folders below a folder, over links to folders too: each real folder once, and no way round in a circle."""

from __future__ import annotations

import contextlib
import heapq
import os
from dataclasses import dataclass, field
from pathlib import Path

from facekd.errors import UserError

HOPS = 8  # links to folders one behind the other
UNREAL = ("/proc", "/sys")  # their trees have no end


@dataclass(slots=True)
class Walked:
    """What lies below a folder, by paths relative to it, with the system's separator. Hidden names are left out."""

    files: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)  # that were read; the folder itself is ""
    links: list[tuple[str, str]] = field(default_factory=list)  # to folders, not followed: path and why
    again: list[tuple[str, str]] = field(default_factory=list)  # other ways to a folder: path, and that which was read


def walk(root: Path) -> Walked:
    """What lies below `root`.

    What is reached without a link is read first: a folder that several ways lead to has its own path where it has one,
    else that of the first of the links by name.

    Raises:
        UserError: a folder that may not be read.
    """
    found = Walked()
    top = os.path.realpath(root)
    seen = {}
    for around in Path(top).parents:
        with contextlib.suppress(OSError):  # one that may not be looked at
            seen[_identity(str(around))] = ""
    waiting = [("", 0)]  # folders, and over how many links they are reached
    links: list[tuple[str, int]] = []  # a heap
    while waiting or links:
        is_link = not waiting
        folder, hops = heapq.heappop(links) if is_link else waiting.pop()
        try:
            key = _identity(os.path.join(root, folder))
        except FileNotFoundError:
            if not folder:
                raise
            continue  # it was taken away meanwhile
        if key in seen:
            found.again.append((folder, seen[key]))
            continue
        why = _refusal(root, folder, hops) if is_link else ""
        if why:
            found.links.append((folder, why))
            continue
        seen[key] = folder
        found.folders.append(folder)
        for entry in _entries(root, folder):
            path = os.path.join(folder, entry.name)
            if entry.name.startswith("."):
                continue
            if not _is_folder(entry):
                found.files.append(path)
            elif entry.is_symlink():
                heapq.heappush(links, (path, hops + 1))
            else:
                waiting.append((path, hops))
    return found


def leads_nowhere(root: Path, file: str) -> bool:
    """Whether a file of `walk` is a link to nothing, or to itself."""
    path = os.path.join(root, file)
    return os.path.islink(path) and not os.path.exists(path)


def _refusal(root: Path, link: str, hops: int) -> str:
    """Why a link to a folder is not followed; empty where it is."""
    real = os.path.realpath(os.path.join(root, link))
    if any(real == unreal or real.startswith(unreal + os.sep) for unreal in UNREAL):
        return f"a link to {real}, where no photos lie"
    return f"a link behind {HOPS} others" if hops > HOPS else ""


def _entries(root: Path, folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):  # it was taken away meanwhile
        return []
    except OSError as error:
        raise UserError(f"{error.filename}: can't be read ({error.strerror}); allow it or move it away") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _identity(folder: str) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino
