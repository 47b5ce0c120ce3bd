"""Finding photos: a folder, a zip or a tar; no name in an archive ever becomes a path on this disk."""

from __future__ import annotations

import functools
import io
import os
import re
import stat
import tarfile
import tempfile
import weakref
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO

from facekd.core.system import read_at
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
BYTE = re.compile(r"\\(?=x[0-9a-f]{2})")  # begins what `printable` writes for a byte that is no text
MAX_BYTES = 256 * 2**20  # no photo is larger; a bomb's member is


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A photo's bytes, mostly not read yet. Picklable: it names the place, it holds no handle."""

    root: Path  # the folder or the archive
    member: str  # path below the folder, or name inside the archive
    source: str  # `member` as printable UTF-8 with forward slashes: its name in ledgers and pair lists
    identity: str | None
    data: bytes | None = field(default=None, repr=False)  # of a photo in memory, which lies at no place


@dataclass(frozen=True, slots=True)
class FoundPhotos:
    """What a folder or archive holds."""

    photos: tuple[PhotoFile, ...]  # sorted by source
    others: tuple[str, ...]  # names of files whose suffix is no photo's


def find_photos(root: Path) -> FoundPhotos:
    """Every photo below a folder or inside a zip or tar.

    The identity is the name of the folder a photo lies in. In an archive a top folder that all entries
    share does not count. A photo that lies in no such folder takes LFW's naming, ``Name_0001.jpg``,
    where its name has that form; else its identity is None.

    Raises:
        UserError: nothing at `root`, no folder or archive, or no photo in it.
    """
    if not root.exists():
        raise UserError(f"{root}: no such file or folder; check the path")
    in_folder = root.is_dir()
    if in_folder:
        members = _walk(root)
        named = [(member, member) for member in members]
    else:
        named = _without_top(_members(root))
    photos, others = [], []
    for member, name in named:
        source = printable(member)
        is_folder = in_folder and os.path.isdir(os.path.join(root, member))  # a link to one
        if PurePosixPath(source).suffix.lower() in SUFFIXES and not is_folder:
            photos.append(PhotoFile(root, member, source, _identity(printable(name))))
        else:
            others.append(source)
    if not photos:
        kinds = ", ".join(sorted(SUFFIXES)[:6])
        raise UserError(f"{root}: holds no photo ({len(others)} other files); photos end in {kinds} …")
    photos.sort(key=lambda photo: photo.source)
    return FoundPhotos(tuple(photos), tuple(sorted(others)))


def one_photo(path: Path) -> FoundPhotos:
    """A single photo file, as `find_photos` gives them.

    Raises:
        UserError: no such file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such photo; check the path")
    return FoundPhotos((PhotoFile(path.parent, path.name, printable(path.name), None),), ())


def read_bytes(photo: PhotoFile) -> bytes:
    """The bytes of a photo's file. Safe from several threads.

    Raises:
        OSError: the file is gone, is larger than MAX_BYTES or its archive is damaged there.
    """
    if photo.data is not None:
        return photo.data
    if photo.root.is_dir():
        path = photo.root / photo.member
        if not path.is_file():
            raise OSError("not a file any more" if not path.is_dir() else "a folder, not a file")
        if path.stat().st_size > MAX_BYTES:
            raise OSError(f"larger than {MAX_BYTES >> 20} MiB")
        return path.read_bytes()
    try:
        if zipfile.is_zipfile(photo.root):
            archive = _zip(photo.root, _stamp(photo.root))
            if archive.getinfo(photo.member).file_size > MAX_BYTES:
                raise OSError(f"larger than {MAX_BYTES >> 20} MiB")
            return archive.read(photo.member)
        tar = _tar(photo.root, _stamp(photo.root))
        place = tar.places[photo.member]
        if place is None:
            raise OSError("a link or device inside a tar, not a file")
        offset, size = place
        if size > MAX_BYTES:
            raise OSError(f"larger than {MAX_BYTES >> 20} MiB")
        return read_at(tar.file.fileno(), size, offset)
    except OSError:
        raise
    except Exception as error:
        # The archives' parsers raise whatever damaged bytes lead them to; RuntimeError is an encrypted member.
        raise OSError(f"can't be read from its archive ({error})") from error


def stamp(photo: PhotoFile) -> str | None:
    """What changes when a photo's file does, without reading it; None where there is no such file.

    Of a file on disk its size and the times of its last change, in a zip its size and CRC-32, in a tar its place and
    the archive's own size and time.
    """
    if photo.data is not None:
        return None
    try:
        root = os.stat(photo.root)
        if stat.S_ISDIR(root.st_mode):
            status = os.stat(os.path.join(photo.root, photo.member))
            return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"
        archive = root.st_mtime_ns, root.st_size
        if _is_zip(photo.root, archive):
            entry = _zip(photo.root, archive).getinfo(photo.member)
            return f"{entry.file_size}-{entry.CRC:08x}"
        place = _tar(photo.root, archive).places[photo.member]
    except (OSError, KeyError, zipfile.BadZipFile, tarfile.TarError):
        return None
    return None if place is None else f"{place[0]}-{place[1]}-{archive[0]}-{archive[1]}"


def printable(name: str) -> str:
    """`name` as text that UTF-8 can hold: undecodable bytes become ``\\xNN``; separators become ``/``.

    Two names never become one: where a name itself holds ``\\xNN``, its backslash becomes ``\\x5c``.
    """
    text = os.fsencode(BYTE.sub(r"\\x5c", name)).decode("utf-8", "backslashreplace")
    return text.replace(os.sep, "/")


def _walk(root: Path) -> list[str]:
    """Files below `root`, and links to folders: these are not followed, so there is no loop, but are accounted for."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: can't be read ({error.strerror}); allow it or move it away") from error

    members = []
    for folder, folders, files in os.walk(root, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        names = [name for name in (*files, *links) if not name.startswith(".")]
        members += [os.path.relpath(os.path.join(folder, name), root) for name in names]
    return members


def _members(root: Path) -> list[str]:
    """Names of the files in an archive, each once: a later entry of the same name replaces the earlier one."""
    try:
        if zipfile.is_zipfile(root):
            names = [entry.filename for entry in _zip(root, _stamp(root)).infolist() if not entry.is_dir()]
        elif tarfile.is_tarfile(root):
            names = list(_tar(root, _stamp(root)).places)
        else:
            raise UserError(f"{root}: neither a folder nor a zip or tar archive of photos; give one of these")
    except UserError:
        raise
    except Exception as error:  # whatever damaged bytes lead the archives' parsers to
        raise UserError(f"{root}: a damaged archive ({error}); copy it again") from error
    return [name for name in dict.fromkeys(names) if not _hidden(name)]


def _hidden(name: str) -> bool:
    """What a file manager adds to archives and nobody means: ``.DS_Store``, ``__MACOSX/._1.jpg``."""
    return any(part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in name.split("/"))


def _without_top(members: Iterable[str]) -> list[tuple[str, str]]:
    members = list(members)
    tops = {member.split("/", 1)[0] for member in members}
    shared = len(tops) == 1 and all("/" in member for member in members)
    return [(member, member.split("/", 1)[1] if shared else member) for member in members]


def _identity(name: str) -> str | None:
    path = PurePosixPath(name)
    if path.parent.name not in ("", ".."):
        return path.parent.name
    match = LFW_NAME.fullmatch(path.stem)
    return match.group(1) if match else None


def _stamp(path: Path) -> tuple[int, int]:
    """Changes when the archive does, so that no old handle of it is used."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=4)
def _is_zip(path: Path, stamp: tuple[int, int]) -> bool:
    return zipfile.is_zipfile(path)


@functools.lru_cache(maxsize=4)
def _zip(path: Path, stamp: tuple[int, int]) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


@dataclass(frozen=True)
class _Tar:
    """An open tar, uncompressed, and where in it each member's bytes lie."""

    file: IO[bytes]
    places: dict[str, tuple[int, int] | None]  # name -> offset and size; None of what is no file


@functools.lru_cache(maxsize=4)
def _tar(path: Path, stamp: tuple[int, int]) -> _Tar:
    with tarfile.open(path) as tar:
        places = {
            m.name: (m.offset_data, m.size) if m.isfile() and not m.issparse() else None for m in tar if not m.isdir()
        }
        assert tar.fileobj is not None
        plain = isinstance(tar.fileobj, io.BufferedReader)
        index = _Tar(open(path, "rb") if plain else tempfile.TemporaryFile(), places)  # noqa: SIM115 - closed below
        weakref.finalize(index, index.file.close)
        if not plain:
            # Each step back in a compressed tar starts at its beginning again; unpacked once, it is read anywhere.
            # The file has no name and is gone with this process, whatever ends it.
            tar.fileobj.seek(0)
            while block := tar.fileobj.read(2**20):
                index.file.write(block)
            index.file.flush()
    return index
