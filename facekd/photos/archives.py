"""Photos inside a zip or tar, read where they lie; no name in an archive ever becomes a path on this disk."""

from __future__ import annotations

import functools
import io
import os
import stat
import struct
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from facekd.core.system import read_at
from facekd.errors import UserError
from facekd.photos.kinds import HEAD, is_photo_head, is_photo_name

MAX_BYTES = 256 * 2**20  # no photo is larger; a bomb's member is
# What a compressed tar may unpack to, beside as many times its size: all of it, and the photos, which are kept.
UNPACKED, PHOTOS_UNPACKED = (100, 2**30), (16, 256 * 2**20)
LONGEST_HEADER = 16 * 2**20  # bytes of a tar's long name or further fields, which tarfile reads at once
LINK = "a link or device inside an archive, not a file"
TOO_LARGE = f"larger than {MAX_BYTES >> 20} MiB"
UNICODE_PATH = 0x7075  # of a zip's extra field: Info-ZIP's name in UTF-8
ENCRYPTED = 1  # of a zip's flag bits
UTF8 = 1 << 11
# What is kept of a zip's entry: all that reading it takes.
ZIP_FIELDS = [
    *((name, np.int64) for name in ("header_offset", "compress_size", "file_size")),
    *((name, np.uint32) for name in ("CRC", "compress_type", "flag_bits")),
]
FIELDS = [name for name, _ in ZIP_FIELDS]


@dataclass(frozen=True, slots=True)
class Members:
    """What an archive holds; each name once, for a later entry replaces an earlier one. None of a file manager's."""

    photos: tuple[str, ...]  # by name or by bytes
    others: tuple[str, ...]
    folders: tuple[str, ...]  # that have an entry of their own
    links: tuple[str, ...]  # that are not called as photos are: perhaps to folders


def members(path: Path) -> Members:
    """What a zip or tar holds.

    Raises:
        UserError: neither of them, a damaged one, one that unpacks to far more than photos do, or a zip with names in
            an encoding that it does not say.
    """
    try:
        if zipfile.is_zipfile(path):
            found = _in_zip(path)
        elif _is_tar(path):
            found = _in_tar(path)
        else:
            raise UserError(f"{path}: neither a folder nor a zip or tar archive of photos; give one of these")
    except UserError:
        raise
    except Exception as error:  # whatever damaged bytes lead the archives' parsers to
        raise UserError(f"{path}: a damaged archive ({error}); copy it again") from error
    kinds: dict[str, list[str]] = {"photo": [], "other": [], "folder": [], "link": []}
    for name, kind in found.items():
        if not _hidden(name):
            kinds[kind].append(name)
    return Members(*(tuple(kinds[kind]) for kind in ("photo", "other", "folder", "link")))


def read_member(path: Path, name: str) -> bytes:
    """The bytes of a file in a zip or tar. Safe from several threads.

    Raises:
        OSError: there is none, it is larger than MAX_BYTES, or the archive is damaged there.
    """
    try:
        if _is_zip(path, _stamp(path)):
            archive = _zip(path, _stamp(path))
            entry = archive.entry(name)
            if entry.file_size > MAX_BYTES:
                raise OSError(TOO_LARGE)
            with archive.file.open(entry) as file:
                return file.read()
        tar = _tar(path, _stamp(path))
        place = tar.places[name]
        if isinstance(place, str):
            raise OSError(place)
        return read_at(tar.file.fileno(), place[1], place[0])
    except (OSError, UserError) as error:
        raise OSError(str(error)) from error
    except Exception as error:
        # The archives' parsers raise whatever damaged bytes lead them to; RuntimeError is an encrypted member.
        raise OSError(f"can't be read from its archive ({error})") from error


def member_stamp(path: Path, name: str) -> str | None:
    """What changes when a file in a zip or tar does, without reading it; None where there is none.

    In a zip its size and CRC-32, in a tar its place and the archive's own size and time.
    """
    try:
        archive = _stamp(path)
        if _is_zip(path, archive):
            entry = _zip(path, archive).entry(name)
            return f"{entry.file_size}-{entry.CRC:08x}"
        place = _tar(path, archive).places[name]
    except (OSError, KeyError, UserError, zipfile.BadZipFile, tarfile.TarError):
        return None
    return None if isinstance(place, str) else f"{place[0]}-{place[1]}-{archive[0]}-{archive[1]}"


def _hidden(name: str) -> bool:
    """What a file manager adds to archives and nobody means: ``.DS_Store``, ``__MACOSX/._1.jpg``."""
    return any(part == "__MACOSX" or (part.startswith(".") and part not in (".", "..")) for part in name.split("/"))


def _stamp(path: Path) -> tuple[int, int]:
    """Changes when the archive does, so that no old handle of it is used."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=4)
def _is_zip(path: Path, stamp: tuple[int, int]) -> bool:
    return zipfile.is_zipfile(path)


class _Zip:
    """An open zip, and where its files lie by their right names; in a third of the memory that zipfile takes."""

    def __init__(self, path: Path) -> None:
        self.file = zipfile.ZipFile(path)
        entries = self.file.infolist()
        names = [_name(entry) for entry in entries]
        if not any(name and "/" in name for name in names):  # .NET parted folders by backslashes
            names = [name and name.replace("\\", "/") for name in names]
        wrong = (place for place, name in enumerate(names) if name is None and not _hidden(entries[place].filename))
        self.unnamed = next((entries[place].orig_filename for place in wrong), None)
        self.kinds = {
            (name[:-1] if name.endswith("/") else name): self._kind(name, entry)
            for name, entry in zip(names, entries, strict=True)
            if name
        }
        self._places = {name: place for place, name in enumerate(names) if name}
        self._others = {
            place: entry.orig_filename for place, entry in enumerate(entries) if entry.orig_filename != names[place]
        }
        self._fields = np.array([tuple(getattr(entry, name) for name in FIELDS) for entry in entries], ZIP_FIELDS)
        self.file.filelist, self.file.NameToInfo = [], {}

    def entry(self, name: str) -> zipfile.ZipInfo:
        """The latest file of that name; KeyError where there is none."""
        place = self._places[name]
        entry = zipfile.ZipInfo(self._others.get(place, name))
        for field, value in zip(FIELDS, self._fields[place].item(), strict=True):
            setattr(entry, field, value)
        return entry

    def _kind(self, name: str, entry: zipfile.ZipInfo) -> str:
        if name.endswith("/"):
            return "folder"
        if is_photo_name(name):
            return "photo"
        if stat.S_ISLNK(entry.external_attr >> 16):
            return "link"
        return "photo" if is_photo_head(self._head(entry), name) else "other"

    def _head(self, entry: zipfile.ZipInfo) -> bytes:
        if entry.flag_bits & ENCRYPTED:
            return b""
        try:
            with self.file.open(entry) as file:
                return file.read(HEAD)
        except Exception:  # a damaged member that is not called a photo
            return b""


@functools.lru_cache(maxsize=4)
def _zip(path: Path, stamp: tuple[int, int]) -> _Zip:
    return _Zip(path)


def _name(entry: zipfile.ZipInfo) -> str | None:
    """An entry's name; None where its encoding is not known.

    Without flag bit 11 a name is of code page 437 by the format, and of any other in practice: macOS writes UTF-8,
    Windows the code page of its language. Bytes that are UTF-8 are taken for it.
    """
    name = entry.orig_filename
    if not entry.flag_bits & UTF8 and not name.isascii():
        raw = name.encode("cp437")  # which has a character for each byte
        try:
            name = _unicode_path(entry.extra, raw) or raw.decode("utf-8")
        except UnicodeDecodeError:
            return None
    return name.split("\0", 1)[0]


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    while len(extra) >= 4:
        kind, length = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + length], extra[4 + length :]
        if kind == UNICODE_PATH and field[:1] == b"\1" and field[1:5] == struct.pack("<I", zlib.crc32(raw)):
            return field[5:].decode("utf-8")
    return None


def _in_zip(path: Path) -> dict[str, str]:
    archive = _zip(path, _stamp(path))
    if archive.unnamed is not None:
        raw = str(archive.unnamed.encode("cp437"))[2:-1]
        raise UserError(
            f"{path}: has names in an encoding that it does not say, such as {raw}; unpack it and give the folder, or "
            "pack it again with names in UTF-8"
        )
    return archive.kinds


class _Entry(tarfile.TarInfo):
    """An entry of a tar; one whose name alone would fill the memory is refused before it is read."""

    def _proc_member(self, tar: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type not in (*tarfile.REGULAR_TYPES, tarfile.DIRTYPE, tarfile.SYMTYPE) and self.size > LONGEST_HEADER:
            raise UserError(
                f"{os.fsdecode(tar.name or '')}: has a name or other fields of {self.size >> 20} MiB, as archives of "
                "photos don't; if it is one, unpack it and give the folder"
            )
        found: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]  # Python's own, undocumented
        return found


def _is_tar(path: Path) -> bool:
    try:
        tarfile.open(path, tarinfo=_Entry).close()
    except tarfile.TarError:
        return False
    return True


@dataclass(frozen=True)
class _Tar:
    """An open tar, or the photos of a compressed one, and where in it each member's bytes lie."""

    file: IO[bytes]
    places: dict[str, tuple[int, int] | str]  # name -> offset and size, or why it can't be read
    kinds: dict[str, str]


def _in_tar(path: Path) -> dict[str, str]:
    return _tar(path, _stamp(path)).kinds


@functools.lru_cache(maxsize=4)
def _tar(path: Path, stamp: tuple[int, int]) -> _Tar:
    with tarfile.open(path, tarinfo=_Entry) as tar:
        assert tar.fileobj is not None
        plain = isinstance(tar.fileobj, io.BufferedReader)
        # A step back in a compressed tar starts at its beginning again; its photos, kept aside, are read anywhere. The
        # file has no name and is gone with this process, whatever ends it.
        index = _Tar(open(path, "rb") if plain else tempfile.TemporaryFile(), {}, {})  # noqa: SIM115 - closed below
        weakref.finalize(index, index.file.close)
        for member in tar:
            if not plain:
                _check_unpacked(path, member.offset_data + member.size, stamp[1], UNPACKED)
            index.kinds[member.name], index.places[member.name] = _placed(tar, member, path, index.file, plain)
        index.file.flush()
    return index


def _placed(
    tar: tarfile.TarFile, member: tarfile.TarInfo, path: Path, file: IO[bytes], plain: bool
) -> tuple[str, tuple[int, int] | str]:
    """What a member is, and its place in `file`, into which a photo of a compressed tar is written."""
    if member.isdir():
        return "folder", "a folder, not a file"
    named = is_photo_name(member.name)
    if not member.isfile() or member.issparse():
        return "photo" if named else "link" if member.issym() else "other", LINK
    data = tar.extractfile(member)
    assert data is not None
    head = b"" if named and plain else data.read(HEAD)
    photo = named or is_photo_head(head, member.name)
    if member.size > MAX_BYTES:
        return "photo" if photo else "other", TOO_LARGE
    if plain:
        return "photo" if photo else "other", (member.offset_data, member.size)
    if not photo:
        return "other", "no photo by its name or its first bytes"
    place = file.tell()
    _check_unpacked(path, place + member.size, path.stat().st_size, PHOTOS_UNPACKED)
    file.write(head)
    while block := data.read(2**20):
        file.write(block)
    return "photo", (place, member.size)


def _check_unpacked(path: Path, size: int, packed: int, most: tuple[int, int]) -> None:
    times, beside = most
    if size > times * packed + beside:
        raise UserError(
            f"{path}: unpacks to more than {times} times its size, {(times * packed + beside) >> 20} MiB, as no photos "
            "do; if they are, unpack it and give the folder"
        )
