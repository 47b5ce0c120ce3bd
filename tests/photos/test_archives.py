"""Names in zips whatever wrote them, and compressed tars that unpack to more than photos do."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import tempfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest

from facekd.errors import UserError
from facekd.photos.archives import MAX_BYTES
from facekd.photos.find import PhotoFile, find_photos, read_bytes, stamp
from facekd.photos.listed import read_list

PEOPLE = ["José", "김철수", "Zoë", "Ann"]


def raw_zip(path: Path, names: list[bytes], flag: int = 0, extra: list[bytes] | None = None) -> Path:
    """A zip of stored files with these very bytes for names, byte by byte (APPNOTE.TXT, 4.3)."""
    data, central = b"", b""
    for place, name in enumerate(names):
        body, more = b"\xff\xd8\xff" + name, (extra or [b""] * len(names))[place]
        fields = struct.pack(
            "<HHHHHLLLHH", 20, flag, 0, 0, 33, zlib.crc32(body), len(body), len(body), len(name), len(more)
        )
        central += (
            b"PK\1\2" + struct.pack("<H", 20) + fields + struct.pack("<HHHLL", 0, 0, 0, 0, len(data)) + name + more
        )
        data += b"PK\3\4" + fields + name + more + body
    end = struct.pack("<HHHHLLH", 0, 0, len(names), len(names), len(central), len(data), 0)
    path.write_bytes(data + central + b"PK\5\6" + end)
    return path


def unicode_path(name: str, raw: bytes) -> bytes:
    """Info-ZIP's Unicode Path extra field (APPNOTE.TXT, 4.6.9)."""
    field = struct.pack("<BL", 1, zlib.crc32(raw)) + name.encode()
    return struct.pack("<HH", 0x7075, len(field)) + field


def people_of(path: Path) -> list[str | None]:
    return [photo.identity for photo in find_photos(path).photos]


@pytest.mark.parametrize("flag", [0, 0x800])
def test_names_in_utf8_with_and_without_the_flag(tmp_path: Path, flag: int) -> None:
    names = [f"people/{person}/1.jpg" for person in PEOPLE]
    path = raw_zip(tmp_path / "x.zip", [name.encode() for name in names], flag)
    assert zipfile.ZipFile(path).testzip() is None
    found = find_photos(path).photos
    assert {photo.source for photo in found} == set(names)
    assert sorted(people_of(path), key=str) == sorted(PEOPLE)
    for photo in found:
        assert read_bytes(photo) == b"\xff\xd8\xff" + photo.source.encode()
        assert stamp(photo) is not None


def test_a_list_finds_its_photos_in_such_a_zip(tmp_path: Path) -> None:
    path = raw_zip(tmp_path / "x.zip", ["photos/José.jpg".encode()])
    (tmp_path / "people.csv").write_text("person,photo\nJosé,photos/José.jpg\n", encoding="utf-8")
    (photo,) = read_list(tmp_path / "people.csv", path).photos
    assert read_bytes(photo).endswith("José.jpg".encode())


def test_names_that_info_zip_wrote_twice(tmp_path: Path) -> None:
    raw = ["people/Zoë/1.jpg".encode("cp850"), b"people/Ann/1.jpg"]
    extra = [b"\x99\x99\2\0ab" + unicode_path("people/Zoë/1.jpg", raw[0]), b""]
    assert people_of(raw_zip(tmp_path / "x.zip", raw, extra=extra)) == ["Ann", "Zoë"]
    stale = unicode_path("people/Max/1.jpg", b"the name of before it was renamed")
    with pytest.raises(UserError, match="in an encoding that it does not say"):
        find_photos(raw_zip(tmp_path / "y.zip", raw, extra=[stale, b""]))


@pytest.mark.parametrize(
    ("encoding", "person"), [("cp850", "Zoë"), ("latin-1", "José"), ("cp932", "山田"), ("cp1251", "Иван")]
)
def test_names_in_an_encoding_that_nothing_tells_are_refused(tmp_path: Path, encoding: str, person: str) -> None:
    path = raw_zip(tmp_path / "x.zip", [b"people/Ann/1.jpg", f"people/{person}/1.jpg".encode(encoding)])
    with pytest.raises(UserError, match="names in an encoding that it does not say, such as people/") as error:
        find_photos(path)
    assert str(error.value).isprintable()
    assert "in UTF-8" in str(error.value)
    hidden = raw_zip(tmp_path / "y.zip", [b"people/Ann/1.jpg", b"__MACOSX/people/" + person.encode(encoding)])
    assert people_of(hidden) == ["Ann"]  # a name that nobody means costs nothing


def test_folders_parted_by_backslashes(tmp_path: Path) -> None:
    """As .NET wrote them before 4.6.1."""
    found = find_photos(
        raw_zip(tmp_path / "x.zip", [rb"people\Ann\1.jpg", rb"people\Bob\1.jpg", rb"people\Carl" + b"\\"])
    )
    assert {photo.source: photo.identity for photo in found.photos} == {
        "people/Ann/1.jpg": "Ann",
        "people/Bob/1.jpg": "Bob",
    }
    assert read_bytes(found.photos[0]).endswith(rb"people\Ann\1.jpg")


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[IO[bytes]]:
    """The temporary files that are made."""
    made: list[IO[bytes]] = []
    make = tempfile.TemporaryFile

    def watched(*args: Any, **kwargs: Any) -> IO[bytes]:
        made.append(make(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", watched)
    return made


def tar_of(path: Path, members: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return path


def test_only_the_photos_of_a_compressed_tar_are_kept(tmp_path: Path, written: list[IO[bytes]]) -> None:
    rng = np.random.default_rng(0)
    photos = {f"a/{n}.jpg": b"\xff\xd8\xff" + rng.bytes(size) for n, size in enumerate((509, 512, 100_000, 1, 1 << 20))}
    photos["a/scan"] = b"\x89PNG\r\n\x1a\n" + rng.bytes(70_000)
    others = {"a/film.mp4": rng.bytes(1 << 20), "a/zeros.txt": bytes(4 << 20)}
    for kind in ("gz", "bz2", "xz"):
        path = tar_of(tmp_path / f"p.tar.{kind}", {**others, **photos, "z/last.txt": b"x"}, f"w:{kind}")
        found = find_photos(path)
        assert {photo.source: read_bytes(photo) for photo in found.photos} == photos
        assert found.others == ("a/film.mp4", "a/zeros.txt", "z/last.txt")
        assert written[-1].seek(0, 2) == sum(map(len, photos.values()))
        with pytest.raises(OSError, match="no photo by its name or its first bytes"):
            read_bytes(PhotoFile(path, "a/film.mp4", "a/film.mp4", None))


def test_photos_of_a_compressed_tar_that_unpack_to_far_more_are_refused(
    tmp_path: Path, written: list[IO[bytes]]
) -> None:
    """Zeros behind the beginning of a photo: two hundred times the archive's size."""
    with tarfile.open(tmp_path / "p.tar.gz", "w:gz", compresslevel=1) as tar:
        for number in range(2):
            entry = tarfile.TarInfo(f"a/{number}.jpg")
            entry.size = 200 << 20
            tar.addfile(entry, Zeros(b"\xff\xd8\xff", entry.size))  # type: ignore[arg-type]  # read is all it needs
    with pytest.raises(UserError, match=r"p\.tar\.gz: unpacks to more than 16 times its size, .* give the folder"):
        find_photos(tmp_path / "p.tar.gz")
    assert written[-1].closed or written[-1].seek(0, 2) <= 256 << 20


def test_a_compressed_tar_that_says_it_is_huge_is_not_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "p.tar.gz", "w:gz") as tar:
        entry = tarfile.TarInfo("a/readme.txt")
        entry.size = 5 << 30
        tar.addfile(entry)
        tar.addfile(tarfile.TarInfo("a/1.jpg"))
    with pytest.raises(UserError, match="unpacks to more than 100 times its size, 1024 MiB"):
        find_photos(tmp_path / "p.tar.gz")


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_compressed_tar_with_a_name_that_fills_the_memory_is_refused(tmp_path: Path, kind: bytes, place: int) -> None:
    """tarfile reads names and further fields whole, before anybody sees the entry: 60 MiB of zeros in 60 KiB."""
    with gzip.open(tmp_path / "p.tar.gz", "wb", compresslevel=1) as file:
        first = tarfile.TarInfo("a/1.jpg")
        file.write(first.tobuf() * place)
        long = tarfile.TarInfo("long")
        long.type, long.size = kind, 60 << 20
        file.write(long.tobuf())
        for _ in range(60):
            file.write(bytes(1 << 20))
        file.write(bytes(1024))
    tracemalloc.start()
    try:
        with pytest.raises(UserError, match=r"p\.tar\.gz: has a name or other fields of 60 MiB"):
            find_photos(tmp_path / "p.tar.gz")
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_a_photo_that_is_too_large_is_named_and_not_kept(tmp_path: Path, written: list[IO[bytes]]) -> None:
    with tarfile.open(tmp_path / "p.tar.gz", "w:gz", compresslevel=1) as tar:
        entry = tarfile.TarInfo("a/1.jpg")
        entry.size = MAX_BYTES + 1
        tar.addfile(entry, Zeros(b"\xff\xd8\xff", entry.size))  # type: ignore[arg-type]
    (photo,) = find_photos(tmp_path / "p.tar.gz").photos
    with pytest.raises(OSError, match="larger than 256 MiB"):
        read_bytes(photo)
    assert written[-1].seek(0, 2) == 0


class Zeros:
    """A file of zeros behind its first bytes."""

    def __init__(self, head: bytes, size: int) -> None:
        self.head, self.left = head, size - len(head)

    def read(self, size: int) -> bytes:
        head, self.head = self.head[:size], self.head[size:]
        zeros = min(size - len(head), self.left)
        self.left -= zeros
        return head + bytes(zeros)
