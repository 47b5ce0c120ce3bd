"""At least 500 bad and odd files: none stops the run, each has exactly one row, and what must pass passes."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from facekd.commands.align import align
from facekd.crops.read import read_crops
from facekd.crops.records import STATUSES
from facekd.crops.store import CropStore
from facekd.photos import find
from facekd.photos.kinds import SUFFIXES

KINDS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "TIFF": "tif", "BMP": "bmp", "PPM": "ppm",
         "JPEG2000": "jp2", "AVIF": "avif"}  # fmt: skip
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "F",
         "I;16", "I;16B")  # fmt: skip
SIDE = 40


def face(seed: int = 0, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Smooth noise: a picture that compresses, of no one."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunked(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(width: int, height: int) -> bytes:
    """A few kilobytes that say they are `width` x `height` pixels."""
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunked(b"IHDR", header) + chunked(b"IDAT", rows) + chunked(b"IEND", b"")


class Corpus:
    """Files in a folder, and for each the statuses that it may get."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.allowed: dict[str, frozenset[str]] = {}

    def add(self, name: str, data: bytes, *statuses: str) -> None:
        assert name not in self.allowed
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        self.allowed[name] = frozenset(statuses or STATUSES)


def truncated(corpus: Corpus) -> None:
    for kind, suffix in KINDS.items():
        whole = saved(face(1, (120, 90)), kind)
        for tenth in range(10):
            # A picture of which a part is missing must not pass as whole.
            cut = whole[: len(whole) * tenth // 10]
            corpus.add(f"cut/{kind}-{tenth}.{suffix}", cut, "unreadable")
        corpus.add(f"whole/{kind}.{suffix}", whole, "ok", "duplicate")


def random_bytes(corpus: Corpus) -> None:
    rng = np.random.default_rng(2)
    for suffix in sorted(SUFFIXES):
        for length in (0, 1, 64, 5000):
            corpus.add(f"random/{length}{suffix}", rng.bytes(length), "unreadable")
    for kind, suffix in KINDS.items():
        whole = saved(face(3, (60, 60)), kind)
        for number in range(12):
            damaged = bytearray(whole)
            if number < 6:  # some bytes are wrong
                for place in rng.integers(0, len(whole), 1 + number):
                    damaged[place] ^= int(rng.integers(1, 256))
            else:  # only the beginning is right
                keep = 4 * (number - 4)
                damaged[keep:] = rng.bytes(max(0, len(whole) - keep))
            corpus.add(f"damaged/{kind}-{number}.{suffix}", bytes(damaged))


def layouts(corpus: Corpus) -> None:
    rng = np.random.default_rng(4)
    for mode in MODES:
        try:
            image = face(5).convert(mode)
        except ValueError:  # Pillow has no way from RGB to it
            image = Image.new(mode, (SIDE, SIDE))
        for kind, suffix in KINDS.items():
            try:
                data = saved(image, kind)
            except (OSError, ValueError, KeyError, TypeError):
                continue  # Pillow can't write it
            allowed = ("unreadable",) if (mode, kind) == ("F", "TIFF") else ("ok", "duplicate", "unreadable")
            corpus.add(f"layout/{mode.replace(';', '_')}-{kind}.{suffix}", data, *allowed)
    told = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # of each kind that it can't write
    depths = {"u8": (np.uint8, 255), "u16": (np.uint16, 65535), "f32": (np.float32, 1)}
    for name, (dtype, most) in depths.items():
        for channels in (1, 3, 4):
            pixels = (rng.random((SIDE, SIDE, channels)) * most).astype(dtype)
            for suffix in ("jpg", "png", "tiff", "bmp", "jp2", "webp", "ppm", "pgm", "pbm"):
                try:
                    fine, data = cv2.imencode(f".{suffix}", pixels)
                except cv2.error:
                    continue
                if fine:
                    corpus.add(f"opencv/{name}-{channels}.{suffix}", data.tobytes())
    cv2.utils.logging.setLogLevel(told)


def sizes(corpus: Corpus) -> None:
    for width, height in ((1, 1), (1, 500), (500, 1), (2, 2), (19, 400), (19, 19)):
        for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF"):
            data = saved(face(6, (width, height)), kind)
            corpus.add(f"size/{width}x{height}.{KINDS[kind]}", data, "too_small")
    for width, height in ((20, 20), (20, 600), (600, 20)):
        corpus.add(f"size/{width}x{height}.png", saved(face(7, (width, height)), "PNG"), "ok")
    for width, height in ((20_000, 20_000), (2**31 - 1, 1), (2**31 - 1, 2**31 - 1), (0, 5), (5, 0), (10_000, 9_000)):
        corpus.add(f"size/{width}x{height}.png", huge_png(width, height), "too_large", "unreadable")
    corpus.add("size/20000x20000.ppm", b"P6 20000 20000 255\n" + bytes(1000), "too_large")


def turned_and_moving(corpus: Corpus) -> None:
    for orientation in range(10):  # 0 and 9 are none
        exif = Image.Exif()
        exif[274] = orientation
        for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
            data = saved(face(10 + orientation, (44, 40)), kind, exif=exif)
            corpus.add(f"exif/{orientation}.{KINDS[kind]}", data, "ok")
    corpus.add("exif/broken.jpg", saved(face(20), "JPEG", exif=b"Exif\0\0II*\0" + bytes(40)), "ok")
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        frames = [face(30 + i) for i in range(3)]
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        corpus.add(f"moving/{kind}.{KINDS[kind]}", data, "ok")


def names(corpus: Corpus) -> None:
    odd = ("with space", "it's", 'say "no"', "new\nline", "tab\t", "-rf", "--help", "$(true)", "a;b", "x" * 200, "ünï",
           "\u202egnp", "{name}", "%s", "#1", "~", "*", "[1]", "emoji\U0001f600")  # fmt: skip
    for number, name in enumerate(odd):
        corpus.add(f"name/{name}.png", saved(face(100 + number), "PNG"), "ok")
    for number, raw in enumerate((b"\xff\xfe", b"caf\xe9", b"\xed\xa0\x80")):
        path = os.path.join(os.fsencode(corpus.root), b"name", raw + b".png")
        with open(path, "wb") as file:
            file.write(saved(face(200 + number), "PNG"))
        corpus.allowed[find.printable(os.fsdecode(b"name/" + raw + b".png"))] = frozenset(["ok"])


def places(corpus: Corpus) -> None:
    """Links, loops, and a folder that is called a photo: it is a folder, and the photos inside have the rows."""
    root = corpus.root / "place"
    corpus.add("place/folder.jpg/1.png", saved(face(300), "PNG"), "ok")
    corpus.add("place/gone.png", saved(face(301), "PNG"), "unreadable")
    (root / "empty.jpg").mkdir()
    (root / "loop-a.png").symlink_to("loop-b.png")
    (root / "loop-b.png").symlink_to("loop-a.png")
    (root / "self.png").symlink_to("self.png")
    (root / "nowhere.png").symlink_to("missing")
    os.mkfifo(root / "pipe.png")
    for name in ("loop-a", "loop-b", "self", "nowhere", "pipe"):
        corpus.allowed[f"place/{name}.png"] = frozenset(["unreadable"])
    (root / "round").symlink_to("..")  # a loop of folders


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    made = Corpus(tmp_path_factory.mktemp("corpus") / "photos")
    for part in (truncated, random_bytes, layouts, sizes, turned_and_moving, names, places):
        part(made)
    return made


def test_every_file_of_the_corpus_has_one_row(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def list_then_delete(root: Path) -> find.FoundPhotos:
        found = listed(root)
        (root / "place" / "gone.png").unlink()
        return found

    listed = find.find_photos
    monkeypatch.setattr(find, "find_photos", list_then_delete)
    summary = align(corpus.root, tmp_path / "crops", detector="none", quiet=True)
    ledger = CropStore.open(tmp_path / "crops").ledger().to_pylist()
    statuses = {row["source"]: row["status"] for row in ledger}
    print(len(corpus.allowed), "cases:", dict(Counter(statuses.values())))
    assert len(corpus.allowed) >= 500
    assert len(ledger) == len(statuses) == summary.photos == len(corpus.allowed)
    assert statuses.keys() == corpus.allowed.keys()
    wrong = {name: status for name, status in statuses.items() if status not in corpus.allowed[name]}
    assert not wrong
    assert all((row["status"] == "ok") == (row["reason"] == "") for row in ledger)
    assert summary.others == 1  # the link to a folder
    assert [(one.source, one.reason) for one in summary.without] == [("place/empty.jpg", "an empty folder")]
    assert len(read_crops(tmp_path / "crops")) == summary.statuses["ok"] > 80


def test_an_archive_with_dots_in_its_names(tmp_path: Path) -> None:
    names = ("../out.png", "../../up/../x.png", "/root.png", "a/./b.png", "x\\..\\back.png", "C:\\x.png", "ok.png")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name, saved(face(number), "PNG"))
    before = sorted(tmp_path.rglob("*"))
    summary = align(tmp_path / "photos.zip", tmp_path / "out" / "crops", detector="none", quiet=True)
    assert summary.statuses == {"ok": len(names)}
    assert {row["source"] for row in CropStore.open(tmp_path / "out" / "crops").ledger().to_pylist()} == set(names)
    outside = [path for path in tmp_path.rglob("*") if not path.is_relative_to(tmp_path / "out")]
    assert sorted(outside) == before
