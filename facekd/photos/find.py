"""Finding photos: a folder, a zip or a tar; nothing is ever unpacked to disk."""

from __future__ import annotations

import functools
import os
import re
import tarfile
import threading
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from facekd.errors import UserError

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".pgm",
        ".ppm",
        ".pbm",
        ".pnm",
        ".jp2",
        ".avif",
        ".heic",
    ]
)
LFW_NAME = re.compile(r"(.+)_\d{4}")
MAX_BYTES = 256 * 2**20  # no photo is larger; a bomb's member is
_TAR_LOCK = threading.Lock()


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A photo's bytes, not read yet. Picklable: it names the place, it holds no handle."""

    root: Path  # the folder or the archive
    member: str  # path below the folder, or name inside the archive
    source: str  # `member` as printable UTF-8 with forward slashes: its name in ledgers and pair lists
    identity: str | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder or archive holds."""

    photos: tuple[PhotoFile, ...]  # sorted by source
    others: tuple[str, ...]  # names of files whose suffix is no photo's


def find_photos(root: Path) -> Found:
    """Every photo below a folder or inside a zip or tar.

    The identity is the name of the folder a photo lies in. In an archive a top folder that all entries
    share does not count. A photo that lies in no such folder takes LFW's naming, ``Name_0001.jpg``,
    where its name has that form; else its identity is None.

    Raises:
        UserError: nothing at `root`, no folder or archive, or no photo in it.
    """
    if not root.exists():
        raise UserError(f"{root}: no such file or folder; check the path")
    if root.is_dir():
        members = _walk(root)
        named = [(member, member) for member in members]
    elif zipfile.is_zipfile(root):
        members = [entry.filename for entry in _zip(root).infolist() if not entry.is_dir()]
        named = _without_top(members)
    elif tarfile.is_tarfile(root):
        members = [entry.name for entry in _tar(root).getmembers() if not entry.isdir()]
        named = _without_top(members)
    else:
        raise UserError(f"{root}: neither a folder nor a zip or tar archive of photos; give one of these")
    photos, others = [], []
    for member, name in named:
        source = printable(member)
        if PurePosixPath(source).suffix.lower() in SUFFIXES:
            photos.append(PhotoFile(root, member, source, _identity(printable(name))))
        else:
            others.append(source)
    if not photos:
        kinds = ", ".join(sorted(SUFFIXES)[:6])
        raise UserError(f"{root}: holds no photo ({len(others)} other files); photos end in {kinds} …")
    photos.sort(key=lambda photo: photo.source)
    return Found(tuple(photos), tuple(sorted(others)))


def one_photo(path: Path) -> Found:
    """A single photo file, as `find_photos` gives them.

    Raises:
        UserError: no such file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such photo; check the path")
    return Found((PhotoFile(path.parent, path.name, printable(path.name), None),), ())


def read_bytes(photo: PhotoFile) -> bytes:
    """The bytes of a photo's file. Safe from several threads.

    Raises:
        OSError: the file is gone, is larger than MAX_BYTES or its archive is damaged there.
    """
    if photo.root.is_dir():
        path = photo.root / photo.member
        if not path.is_file():
            raise OSError("not a file any more" if not path.is_dir() else "a folder, not a file")
        if path.stat().st_size > MAX_BYTES:
            raise OSError(f"larger than {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    try:
        if zipfile.is_zipfile(photo.root):
            archive = _zip(photo.root)
            if archive.getinfo(photo.member).file_size > MAX_BYTES:
                raise OSError(f"larger than {MAX_BYTES >> 20} MiB")
            return archive.read(photo.member)
        with _TAR_LOCK:  # a TarFile has one file position
            tar = _tar(photo.root)
            entry = tar.getmember(photo.member)
            if entry.size > MAX_BYTES:
                raise OSError(f"larger than {MAX_BYTES >> 20} MiB")
            file = tar.extractfile(entry) if entry.isfile() else None
            if file is None:
                raise OSError("a link or device inside a tar, not a file")
            return file.read()
    except (KeyError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile, tarfile.TarError) as error:
        # RuntimeError: an encrypted member; NotImplementedError: a compression this Python lacks.
        raise OSError(f"can't be read from its archive ({error})") from error


def printable(name: str) -> str:
    """`name` as text that UTF-8 can hold: undecodable bytes become ``\\xNN``; separators become ``/``."""
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return text.replace(os.sep, "/")


def _walk(root: Path) -> list[str]:
    members = []
    for folder, folders, files in os.walk(root):  # links to folders are not followed, so there is no loop
        folders[:] = [name for name in folders if not name.startswith(".")]
        members += [os.path.relpath(os.path.join(folder, name), root) for name in files if not name.startswith(".")]
    return members


def _without_top(members: Iterable[str]) -> list[tuple[str, str]]:
    members = list(members)
    tops = {member.split("/", 1)[0] for member in members}
    shared = len(tops) == 1 and all("/" in member for member in members)
    return [(member, member.split("/", 1)[1] if shared else member) for member in members]


def _identity(name: str) -> str | None:
    path = PurePosixPath(name)
    if path.parent.name:
        return path.parent.name
    match = LFW_NAME.fullmatch(path.stem)
    return match.group(1) if match else None


@functools.lru_cache(maxsize=4)
def _zip(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


@functools.lru_cache(maxsize=4)
def _tar(path: Path) -> tarfile.TarFile:
    return tarfile.open(path)
