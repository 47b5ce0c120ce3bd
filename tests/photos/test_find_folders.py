"""Folders over links, folders without a photo, and photos by their bytes, in folders and in archives."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from facekd.errors import UserError
from facekd.photos.find import FoundPhotos, NoPhoto, find_photos, is_photo, read_bytes


def image(kind: str = "JPEG", number: int = 0) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def write(path: Path, data: bytes = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data or image())
    return path


def sources(found: FoundPhotos) -> dict[str, str | None]:
    return {photo.source: photo.identity for photo in found.photos}


def reasons(found: FoundPhotos) -> dict[str, tuple[str | None, str]]:
    return {source: (identity, reason) for source, identity, reason in found.without}


def test_a_linked_folder_is_somebodys(tmp_path: Path) -> None:
    root = tmp_path / "people"
    write(root / "ann" / "1.jpg")
    write(tmp_path / "elsewhere" / "2.jpg")
    write(tmp_path / "office" / "carl" / "3.jpg")
    write(tmp_path / "office" / "dora" / "4.jpg")
    (root / "bob").symlink_to("../elsewhere")  # relative, as ln -s makes it
    (root / "office").symlink_to(tmp_path / "office")
    (tmp_path / "office" / "emil").symlink_to(tmp_path / "elsewhere")  # behind a link, to what is read already
    found = find_photos(root)
    assert sources(found) == {
        "ann/1.jpg": "ann",
        "bob/2.jpg": "bob",
        "office/carl/3.jpg": "carl",
        "office/dora/4.jpg": "dora",
    }
    assert found.without == (NoPhoto("office/emil", "emil", "a link to bob, which is read by that name"),)
    assert all(read_bytes(photo) == image() for photo in found.photos)
    assert find_photos(root) == found


def test_no_way_round_in_a_circle_and_none_out_into_everything(tmp_path: Path) -> None:
    root = tmp_path / "people"
    write(root / "ann" / "1.jpg")
    (root / "again").symlink_to("ann")
    (root / "here").symlink_to(".")
    (root / "up").symlink_to(tmp_path)
    (root / "all").symlink_to("/")
    (root / "proc").symlink_to("/proc")
    (root / "one").symlink_to("two")
    (root / "two").symlink_to("one")
    (root / "gone").symlink_to(tmp_path / "nowhere")
    (root / "ann" / "round").symlink_to("..")  # beside photos it stands for nobody
    start = time.perf_counter()
    found = find_photos(root)
    assert time.perf_counter() - start < 2
    assert sources(found) == {"ann/1.jpg": "ann"}
    told = reasons(found)
    assert {source: identity for source, (identity, _) in told.items()} == {
        name: name for name in ("again", "all", "gone", "here", "one", "proc", "two", "up")
    }
    assert told["again"][1] == "a link to ann, which is read by that name"
    assert told["gone"][1] == f"a link that leads nowhere, to {tmp_path / 'nowhere'}"
    assert told["one"][1] == "a link that leads nowhere, to two"
    for name in ("here", "up", "all"):
        assert told[name][1] == "a link to a folder that it lies in"
    assert told["proc"][1] == "a link to /proc, where no photos lie"
    assert found.others == ("ann/round",)


def test_a_long_chain_of_links_ends(tmp_path: Path) -> None:
    root = tmp_path / "people"
    write(root / "ann" / "1.jpg")
    before = root
    for number in range(12):
        write(tmp_path / f"{number:02d}" / "x.jpg", image(number=number))
        (before / "next").symlink_to(tmp_path / f"{number:02d}")
        before = tmp_path / f"{number:02d}"
    found = find_photos(root)
    assert len(found.photos) == 1 + 8
    ((source, _, reason),) = found.without
    assert (source, reason) == ("/".join(["next"] * 9), "a link behind 8 others")


def test_a_dead_link_beside_photos_is_that_persons(tmp_path: Path) -> None:
    write(tmp_path / "ann" / "1.jpg")
    (tmp_path / "ann" / "more").symlink_to("nowhere")
    assert reasons(find_photos(tmp_path)) == {"ann/more": ("ann", "a link that leads nowhere, to nowhere")}


FILES = {"ann/1.jpg": image(), "video/clip.mp4": b"\0\0\0\x18ftypmp42", "raw/1.NEF": b"II*\0" + bytes(40)}
LACKING = {
    "nobody": ("nobody", "an empty folder"),
    "raw": ("raw", "no photo in it, only 1.NEF"),
    "video": ("video", "no photo in it, only clip.mp4"),
}


@pytest.mark.parametrize("top", ["", "people/", "./"])
@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "tar.gz", "tar.xz"])
def test_people_without_a_photo_are_told_of(tmp_path: Path, kind: str, top: str) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "folder":
        if top == "./":
            pytest.skip("no such names on a disk")
        for name, data in FILES.items():
            write(path / name, data)
        (path / "nobody").mkdir()
        top = ""
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name, data in FILES.items():
                packed.writestr(top + name, data)
            packed.mkdir(top + "nobody")
    else:
        with tarfile.open(path, "w" + kind[3:].replace(".", ":")) as tar:
            if top:
                tar.addfile(directory(top))
            for name, data in FILES.items():
                entry = tarfile.TarInfo(top + name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
            tar.addfile(directory(top + "nobody"))
    found = find_photos(path)
    assert sources(found) == {top + "ann/1.jpg": "ann"}
    assert reasons(found) == {top + name: why for name, why in LACKING.items()}
    assert found.others == (top + "raw/1.NEF", top + "video/clip.mp4")


def directory(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE
    return entry


def test_folders_that_go_while_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "abcd":
        write(tmp_path / name / "0.jpg")
    read = os.scandir

    def taken_away(folder: str | int) -> Any:
        # All four are listed, and one is about to be read; an int is rmtree's.
        if isinstance(folder, str) and Path(folder) != tmp_path and (tmp_path / "b").is_dir():
            for name in "bcd":
                shutil.rmtree(tmp_path / name)
            (tmp_path / "b").write_text("now a file")
        return read(folder)

    monkeypatch.setattr(os, "scandir", taken_away)
    assert sources(find_photos(tmp_path)) == {"a/0.jpg": "a"}


def test_links_in_archives_are_told_of(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        entry = tarfile.TarInfo("people/ann/1.jpg")
        entry.size = len(image())
        tar.addfile(entry, io.BytesIO(image()))
        link = tarfile.TarInfo("people/bob")
        link.type, link.linkname = tarfile.SYMTYPE, "../elsewhere"
        tar.addfile(link)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("people/ann/1.jpg", image())
        info = zipfile.ZipInfo("people/bob")
        info.external_attr = 0o120777 << 16
        packed.writestr(info, "../elsewhere")
    for path in (tmp_path / "a.tar", tmp_path / "a.zip"):
        reason = "a link inside an archive, which is not followed"
        assert reasons(find_photos(path)) == {"people/bob": ("bob", reason)}


KINDS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "PPM", "JPEG2000", "AVIF", "TIFF"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_photo_without_a_suffix_is_one_by_its_bytes(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "ann" / "scan", image(kind))
    write(tmp_path / "ann" / "IMG_1.JPG_large", image(kind))
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("ann/scan", image(kind))
        packed.writestr("ann/text", "no photo")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "ann" / "scan", "ann/scan")
    # Raw files of cameras begin as TIFF does: there a suffix is believed.
    names = {"ann/scan"} if kind == "TIFF" else {"ann/scan", "ann/IMG_1.JPG_large"}
    folder = find_photos(tmp_path)
    assert {source for source in sources(folder) if source.startswith("ann")} == names
    for path in (tmp_path / "x.zip", tmp_path / "x.tar.gz"):
        (photo,) = find_photos(path).photos
        assert read_bytes(photo) == image(kind)
    assert is_photo(tmp_path / "ann" / "scan")
    assert not is_photo(tmp_path / "x.zip")


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"BMW is a maker of cars, and this is no picture.", b"P1 is a plan, as is P2", b"GIF is a format",
     b"RIFF\0\0\0\0WAVEfmt ", b"\0\0\0\x18ftypisom", b"%PDF-1.7", b"PK\3\4" + bytes(30), b"\x89PNG", b"\xff\xd8"],
)  # fmt: skip
def test_what_only_begins_like_a_photo_is_none(tmp_path: Path, data: bytes) -> None:
    write(tmp_path / "ann" / "1.jpg")
    (tmp_path / "ann" / "file").write_bytes(data)
    os.mkfifo(tmp_path / "ann" / "pipe")  # which is not waited for
    assert find_photos(tmp_path).others == ("ann/file", "ann/pipe")


def test_no_photo_at_all_counts_none_twice(tmp_path: Path) -> None:
    (tmp_path / "ann").mkdir()
    with pytest.raises(UserError, match=r"holds no photo \(0 other files\); photos end in \.jpg, \.jpeg"):
        find_photos(tmp_path)
