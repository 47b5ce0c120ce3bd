"""Finding photos: a folder, a zip or a tar, and who in them has none."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from facekd.core.choices import IdentityFrom
from facekd.core.printable import ADDRESS, without_keys
from facekd.errors import UserError
from facekd.photos.archives import MAX_BYTES as MAX_BYTES
from facekd.photos.archives import TOO_LARGE, Members, member_stamp, members, read_member
from facekd.photos.bare import bare_folders, parts_of
from facekd.photos.folders import leads_nowhere, walk
from facekd.photos.kinds import COMMON, HEAD, is_photo_head, is_photo_name

LFW_NAME = re.compile(r"(.+)_\d{4}")
CFP_PATH = re.compile(r"(?:.*/)?([^/]+)/(?:frontal|profile)/[^/]+")
BYTE = re.compile(r"\\(?=x[0-9a-f]{2})")  # begins what `printable` writes for a byte that is no text


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A photo's bytes, mostly not read yet. Picklable: it names the place, it holds no handle."""

    root: Path  # the folder or the archive
    member: str  # path below the folder, or name inside the archive
    source: str  # `member` as printable UTF-8 with forward slashes: its name in ledgers and pair lists
    identity: str | None
    data: bytes | None = field(default=None, repr=False)  # of a photo in memory, which lies at no place


class NoPhoto(NamedTuple):
    """Where a person's photos could be and none is."""

    source: str  # the folder or link
    identity: str | None  # whose photos would lie there
    reason: str


@dataclass(frozen=True, slots=True)
class FoundPhotos:
    """What a folder or archive holds."""

    photos: tuple[PhotoFile, ...]  # sorted by source
    others: tuple[str, ...]  # files that are no photos, by their suffix and by their first bytes
    without: tuple[NoPhoto, ...] = ()  # folders without a photo, links that are not followed; sorted by source
    top: str = ""  # what all names in an archive begin with, and is no person


def find_photos(root: Path) -> FoundPhotos:
    """Every photo below a folder, over links to folders too, or inside a zip or tar.

    What has no photo's suffix is a photo where its first bytes are those of one. The identity is the name of the folder
    a photo lies in. In an archive a top folder that all entries share does not count. A photo that lies in no such
    folder takes LFW's naming, ``Name_0001.jpg``, where its name has that form; else its identity is None.

    Raises:
        UserError: nothing at `root`, no folder or archive, or no photo in it.
    """
    if not root.exists():
        raise _nothing_at(root, "file or folder")
    found = _in_folder(root) if root.is_dir() else _in_archive(root, members(root))
    if not found.photos:
        kinds = ", ".join(COMMON)
        raise UserError(f"{root}: holds no photo ({len(found.others)} other files); photos end in {kinds} …")
    return found


def named_by(found: FoundPhotos, identity_from: IdentityFrom) -> FoundPhotos:
    """The photos with whom they show taken from another part of their path.

    Args:
        identity_from: ``parent``, as `find_photos` does; ``top``, the first folder; ``name``, LFW's naming alone, or
            CFP's, ``001/frontal/01.jpg``.
    """
    told = {"parent": _identity, "top": _first_folder, "name": _in_name}[identity_from]
    at = len(found.top)
    return replace(found, photos=tuple(replace(p, identity=told(p.source[at:])) for p in found.photos))


def deep_photos(found: FoundPhotos) -> tuple[str, ...]:
    """The photos that lie two folders deep or more, so that either could name their person; in order.

    Folders that all photos share are not counted.
    """
    folders = [parts_of(photo.source)[:-1] for photo in found.photos]
    first, last = min(folders), max(folders)
    apart = (k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    most = next(apart, min(len(first), len(last))) + 1
    return tuple(photo.source for photo, parts in zip(found.photos, folders, strict=True) if len(parts) > most)


def one_photo(path: Path) -> FoundPhotos:
    """A single photo file, as `find_photos` gives them.

    Raises:
        UserError: no such file.
    """
    if not path.is_file():
        raise _nothing_at(path, "photo")
    return FoundPhotos((PhotoFile(path.parent, path.name, printable(path.name), None),), ())


def _nothing_at(path: Path, what: str) -> UserError:
    if ADDRESS.match(str(path)):
        return UserError(
            f"{without_keys(str(path))}: an address, and photos are read from files; download it and give its path"
        )
    return UserError(f"{path}: no such {what}; check the path")


def is_photo(path: Path) -> bool:
    """Whether a file is a photo, by its suffix or its first bytes."""
    return path.is_file() and (is_photo_name(path.name) or is_photo_head(_head(path), path.name))


def read_bytes(photo: PhotoFile) -> bytes:
    """The bytes of a photo's file. Safe from several threads.

    Raises:
        OSError: the file is gone, is larger than MAX_BYTES or its archive is damaged there.
    """
    if photo.data is not None:
        return photo.data
    if not photo.root.is_dir():
        return read_member(photo.root, photo.member)
    path = photo.root / photo.member
    if not path.is_file():
        gone = "a link that leads nowhere" if path.is_symlink() and not path.exists() else "not a file any more"
        raise OSError("a folder, not a file" if path.is_dir() else gone)
    if path.stat().st_size > MAX_BYTES:
        raise OSError(TOO_LARGE)
    return path.read_bytes()


def stamp(photo: PhotoFile) -> str | None:
    """What changes when a photo's file does, without reading it; None where there is no such file.

    Of a file on disk its size and the times of its last change; of one in an archive see `archives.member_stamp`.
    """
    if photo.data is not None:
        return None
    try:
        root = os.stat(photo.root)
        if not stat.S_ISDIR(root.st_mode):
            return member_stamp(photo.root, photo.member)
        return file_stamp(os.path.join(photo.root, photo.member))
    except OSError:
        return None


def file_stamp(path: str | Path) -> str:
    """What changes when a file does, whatever time it is given: size, and the times of its last change."""
    status = os.stat(path)
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def printable(name: str) -> str:
    """`name` as text that UTF-8 can hold: undecodable bytes become ``\\xNN``; separators become ``/``.

    Two names never become one: where a name itself holds ``\\xNN``, its backslash becomes ``\\x5c``.
    """
    if name.isascii() and "\\" not in name:
        return name.replace(os.sep, "/")
    text = os.fsencode(BYTE.sub(r"\\x5c", name)).decode("utf-8", "backslashreplace")
    return text.replace(os.sep, "/")


def _in_folder(root: Path) -> FoundPhotos:
    walked = walk(root)
    photos, others, links = [], [], list(walked.links)
    for file in walked.files:
        if is_photo_name(file) or is_photo_head(_head(os.path.join(root, file)), file):
            photos.append(file)
        elif leads_nowhere(root, file):
            links.append((file, f"a link that leads nowhere, to {os.readlink(os.path.join(root, file))}"))
        else:
            others.append(file)
    return _found(root, photos, others, walked.folders, links, walked.again)


def _in_archive(root: Path, found: Members) -> FoundPhotos:
    files = (*found.photos, *found.others, *found.links)
    tops = {name.split("/", 1)[0] for name in (*files, *found.folders)}
    shared = len(tops) == 1 and all("/" in name for name in files)
    links = [(name, "a link inside an archive, which is not followed") for name in found.links]
    top = f"{tops.pop()}/" if shared else ""
    return _found(root, found.photos, found.others, found.folders, links, top=top)


def _found(
    root: Path,
    photos: Iterable[str],
    others: Iterable[str],
    folders: Iterable[str],
    links: Iterable[tuple[str, str]],
    again: Iterable[tuple[str, str]] = (),
    top: str = "",
) -> FoundPhotos:
    """What was found, each by its path or its name in the archive.

    Args:
        links: such as are not followed, and why.
        again: other ways to folders, and those folders.
        top: what all names begin with and does not count.
    """
    top = printable(top)
    files = []
    for member in photos:
        source = printable(member)
        source = member if source == member else source  # one text in memory, most often
        files.append(PhotoFile(root, member, source, _identity(source[len(top) :])))
    files.sort(key=lambda photo: photo.source)
    passed = [printable(name) for name in others]
    holding = {parts_of(photo.source[len(top) :])[:-1] for photo in files}
    without = []
    for link, reason in links:
        parts = parts_of(printable(link)[len(top) :])
        beside = len(parts) > 1 and parts[:-1] in holding  # photos of a person
        without.append(NoPhoto(printable(link), parts[-2] if beside else parts[-1] if parts else None, reason))
    for link, folder in again:
        parts = parts_of(printable(link))
        if len(parts) > 1 and parts[:-1] in holding:
            passed.append(printable(link))
        else:  # where people's folders lie it stands for somebody
            where = f"{printable(folder)}, which is read by that name" if folder else "a folder that it lies in"
            without.append(NoPhoto(printable(link), parts[-1], f"a link to {where}"))
    named = ([photo.source for photo in files], passed, map(printable, folders))
    bare = bare_folders(*([name[len(top) :] for name in names] for names in named))
    without += [NoPhoto(top + folder, parts_of(folder)[-1], reason) for folder, reason in bare]
    return FoundPhotos(tuple(files), tuple(sorted(passed)), tuple(sorted(without)), top)


def _identity(name: str) -> str | None:
    folder, _, file = name.rpartition("/")
    person = folder.rpartition("/")[2]
    if person not in ("", ".", ".."):
        return sys.intern(person)  # one text for all photos of a person
    match = LFW_NAME.fullmatch(os.path.splitext(file)[0])
    return match.group(1) if match else None


def _first_folder(name: str) -> str | None:
    parts = parts_of(name)
    return parts[0] if len(parts) > 1 else None


def _in_name(name: str) -> str | None:
    """The person whom LFW's or CFP's way of naming gives away."""
    cfp = CFP_PATH.fullmatch(name)
    lfw = LFW_NAME.fullmatch(os.path.splitext(name.rpartition("/")[2])[0])
    return cfp.group(1) if cfp else lfw.group(1) if lfw else None


def _head(path: str | Path) -> bytes:
    """The first bytes of a file; none of what is no file, such as a pipe, or may not be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return b""
        with open(path, "rb") as file:
            return file.read(HEAD)
    except OSError:
        return b""
