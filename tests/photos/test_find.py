"""Photos are found in every layout, and what stands in for one never breaks the search."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from facekd.errors import UserError
from facekd.photos.find import MAX_BYTES, PhotoFile, find_photos, one_photo, printable, read_bytes

LAYOUTS = {
    "folder per identity": (
        {"Ann/1.jpg": "Ann", "Ann/2.PNG": "Ann", "Bob/1.jpeg": "Bob"},
        ["notes.txt"],
    ),
    "flat": ({"1.jpg": None, "IMG_12345.jpg": None, "x_001.jpg": None}, []),
    "flat, LFW's naming": ({"Abel_Pacheco_0001.jpg": "Abel_Pacheco", "AJ_Cook_0012.jpg": "AJ_Cook"}, []),
    "LFW": ({"AJ_Cook/AJ_Cook_0001.jpg": "AJ_Cook", "Abel_Pacheco/Abel_Pacheco_0001.jpg": "Abel_Pacheco"}, []),
    "odd names": ({"Zoë Ж/ä b%20#?.jpg": "Zoë Ж", "'q'/$(x).webp": "'q'"}, ["no suffix", "Zoë Ж/x.jpg.txt"]),
}


def data_of(name: str) -> bytes:
    return f"bytes of {name}".encode()


def in_folder(path: Path, names: list[str]) -> Path:
    for name in names:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data_of(name))
    return path


def in_zip(path: Path, names: list[str], top: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(top + name, data_of(name))
    return path


def in_tar(path: Path, names: list[str], top: str = "", mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name in names:
            entry = tarfile.TarInfo(top + name)
            entry.size = len(data_of(name))
            archive.addfile(entry, io.BytesIO(data_of(name)))
    return path


CONTAINERS = {
    "folder": lambda p, names: (in_folder(p / "photos", names), ""),
    "zip": lambda p, names: (in_zip(p / "a.zip", names), ""),
    "zip with a top folder": lambda p, names: (in_zip(p / "a.zip", names, "photos/"), "photos/"),
    "tar": lambda p, names: (in_tar(p / "a.tar", names), ""),
    "tar of ./": lambda p, names: (in_tar(p / "a.tar", names, "./"), "./"),
    "tar.gz": lambda p, names: (in_tar(p / "a.tar.gz", names, "photos/", "w:gz"), "photos/"),
    "tar.xz without a telling name": lambda p, names: (in_tar(p / "photos.bin", names, "", "w:xz"), ""),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("container", CONTAINERS)
def test_every_layout(tmp_path: Path, container: str, layout: str) -> None:
    photos, others = LAYOUTS[layout]
    root, top = CONTAINERS[container](tmp_path, [*others, *reversed(photos)])
    found = find_photos(root)
    assert {p.source: p.identity for p in found.photos} == {top + name: who for name, who in photos.items()}
    assert [p.source for p in found.photos] == sorted(p.source for p in found.photos)
    assert found.others == tuple(sorted(top + name for name in others))
    for photo in found.photos:
        assert read_bytes(photo) == data_of(photo.source.removeprefix(top))
        again = pickle.loads(pickle.dumps(photo))
        assert read_bytes(again) == read_bytes(photo)


def test_two_top_folders_are_identities(tmp_path: Path) -> None:
    found = find_photos(in_zip(tmp_path / "a.zip", ["Ann/1.jpg", "Bob/1.jpg"]))
    assert [p.identity for p in found.photos] == ["Ann", "Bob"]


def test_a_flat_archive_with_what_a_mac_adds(tmp_path: Path) -> None:
    names = ["faces/1.jpg", "faces/2.jpg", "__MACOSX/faces/._1.jpg", "faces/.DS_Store", "__MACOSX/._faces"]
    found = find_photos(in_zip(tmp_path / "a.zip", names))
    assert [(p.source, p.identity) for p in found.photos] == [("faces/1.jpg", None), ("faces/2.jpg", None)]
    assert found.others == ()


def test_climbing_and_absolute_names_stay_names(tmp_path: Path) -> None:
    (tmp_path / "out.jpg").write_bytes(b"outside")
    inner = tmp_path / "in"
    inner.mkdir()
    names = ["../out.jpg", "a/1.jpg", "a/../../out2.jpg", "/etc/x.jpg"]
    for root in (in_zip(inner / "a.zip", names), in_tar(inner / "a.tar", names)):
        found = find_photos(root)
        assert {p.source for p in found.photos} == set(names)
        assert {read_bytes(p) for p in found.photos} == {data_of(name) for name in names}
        assert ".." not in {p.identity for p in found.photos}
    assert sorted(os.listdir(tmp_path)) == ["in", "out.jpg"]
    assert (tmp_path / "out.jpg").read_bytes() == b"outside"


def test_a_name_twice_in_an_archive_is_one_photo_the_later(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for text in (b"first", b"second"):
            entry = tarfile.TarInfo("1.jpg")
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("1.jpg", b"first")
        with pytest.warns(UserWarning, match="Duplicate name"):
            packed.writestr("1.jpg", b"second")
    for root in (tmp_path / "a.tar", tmp_path / "a.zip"):
        (photo,) = find_photos(root).photos
        assert read_bytes(photo) == b"second"


def test_a_folder_named_like_a_photo(tmp_path: Path) -> None:
    in_folder(tmp_path, ["x.jpg/1.jpg", "2.jpg"])
    assert {p.source: p.identity for p in find_photos(tmp_path).photos} == {"x.jpg/1.jpg": "x.jpg", "2.jpg": None}


def test_links(tmp_path: Path) -> None:
    root = in_folder(tmp_path / "photos", ["Ann/1.jpg"])
    outside = in_folder(tmp_path / "outside", ["2.jpg"])
    (root / "Ann" / "loop").symlink_to(root)
    (root / "Ann" / "loop.jpg").symlink_to(root)
    (root / "Bob").symlink_to(outside)
    (root / "Ann" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    (root / "Ann" / "self.jpg").symlink_to("self.jpg")
    (root / "Ann" / "good.jpg").symlink_to(outside / "2.jpg")
    found = find_photos(root)
    sources = ["Ann/1.jpg", "Ann/gone.jpg", "Ann/good.jpg", "Ann/self.jpg", "Bob/2.jpg"]
    assert [p.source for p in found.photos] == sources
    assert found.others == ("Ann/loop", "Ann/loop.jpg")  # not followed, and not lost without a word
    good = {p.source: p for p in found.photos}
    assert read_bytes(good["Ann/good.jpg"]) == data_of("2.jpg")
    for name in ("Ann/gone.jpg", "Ann/self.jpg"):
        with pytest.raises(OSError, match="a link that leads nowhere"):
            read_bytes(good[name])


def test_links_and_devices_in_a_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("l.jpg", tarfile.SYMTYPE), ("h.jpg", tarfile.LNKTYPE), ("p.jpg", tarfile.FIFOTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    found = find_photos(tmp_path / "a.tar")
    assert len(found.photos) == 3
    for photo in found.photos:
        with pytest.raises(OSError, match="a link or device"):
            read_bytes(photo)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "1.jpg")
    (photo,) = find_photos(tmp_path).photos
    with pytest.raises(OSError, match="not a file"):
        read_bytes(photo)


def test_names_that_are_no_utf8(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/M\xfcller"
    os.mkdir(folder)
    with open(folder + b"/b\xff.jpg", "wb") as file:
        file.write(b"data")
    with tarfile.open(tmp_path / "a.tar", "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
        entry = tarfile.TarInfo("Müller/bÿ.jpg")
        entry.size = 4
        archive.addfile(entry, io.BytesIO(b"data"))
        archive.addfile(tarfile.TarInfo("other/1.jpg"))
    for photo in (find_photos(tmp_path).photos[0], find_photos(tmp_path / "a.tar").photos[0]):
        assert (photo.source, photo.identity) == ("M\\xfcller/b\\xff.jpg", "M\\xfcller")
        photo.source.encode("utf-8")
        assert read_bytes(photo) == b"data"
    assert printable("Zoë/1.jpg") == "Zoë/1.jpg"
    names = [os.fsdecode(b"\xff.jpg"), r"\xff.jpg", r"\x5cxff.jpg", os.fsdecode(b"\\x\xff.jpg")]
    assert len({printable(name) for name in names}) == len(names)


def test_hidden_files_are_passed_over(tmp_path: Path) -> None:
    in_folder(tmp_path, [".hidden.jpg", ".cache/1.jpg", "1.jpg"])
    assert [p.source for p in find_photos(tmp_path).photos] == ["1.jpg"]


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: p / "none", "no such file or folder"),
        (lambda p: p, r"holds no photo \(0 other files\)"),
        (lambda p: in_folder(p, ["a.txt", "b.csv"]), r"holds no photo \(2 other files\)"),
        (lambda p: in_zip(p / "a.zip", []), "holds no photo"),
        (lambda p: in_folder(p, ["x.jpg"]) / "x.jpg", "neither a folder nor a zip or tar"),
        (lambda p: in_folder(p, ["x"]) / "x" / "y", "no such file or folder"),
    ],
)
def test_where_no_photos_are(tmp_path: Path, make, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        find_photos(make(tmp_path))


def test_a_single_photo(tmp_path: Path) -> None:
    in_folder(tmp_path, ["x.jpg"])
    (photo,) = one_photo(tmp_path / "x.jpg").photos
    assert (photo.source, photo.identity, read_bytes(photo)) == ("x.jpg", None, data_of("x.jpg"))
    for wrong in (tmp_path, tmp_path / "none.jpg"):
        with pytest.raises(UserError, match="no such photo"):
            one_photo(wrong)


@pytest.mark.skipif(sys.platform != "linux", reason="needs setuid")
def test_a_folder_that_may_not_be_read_is_not_passed_over(tmp_path: Path) -> None:
    in_folder(tmp_path, ["Ann/1.jpg", "Bob/1.jpg"])
    (tmp_path / "Bob").chmod(0)
    code = """
import os, sys
from pathlib import Path
from facekd.photos.find import find_photos
os.chdir(sys.argv[1])
if os.getuid() == 0:
    os.setuid(65534)
find_photos(Path("."))
"""
    tmp_path.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    (tmp_path / "Bob").chmod(0o755)
    assert "UserError: " in done.stderr
    assert "Bob: can't be read (Permission denied)" in done.stderr


def encrypted_zip(path: Path) -> Path:
    """A zip whose second member is marked as encrypted (the bit is what readers go by)."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("1.jpg", b"plain")
        archive.writestr("2.jpg", b"secret, as it were, longer than twelve bytes")
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.rindex(signature)
        data[place + offset] |= 1
    path.write_bytes(data)
    return path


def test_an_encrypted_member_fails_alone(tmp_path: Path) -> None:
    plain, secret = find_photos(encrypted_zip(tmp_path / "a.zip")).photos
    assert read_bytes(plain) == b"plain"
    with pytest.raises(OSError, match="encrypted"):
        read_bytes(secret)


def test_a_bomb_is_not_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("1.jpg", "w") as file:
        zeros = bytes(2**20)
        for _ in range((MAX_BYTES >> 20) + 1):
            file.write(zeros)
    (photo,) = find_photos(tmp_path / "a.zip").photos
    start = time.perf_counter()
    with pytest.raises(OSError, match="larger than 256 MiB"):
        read_bytes(photo)
    assert time.perf_counter() - start < 0.5
    with open(tmp_path / "2.jpg", "wb") as sparse:
        sparse.truncate(MAX_BYTES + 1)
    with pytest.raises(OSError, match="larger than 256 MiB"):
        read_bytes(PhotoFile(tmp_path, "2.jpg", "2.jpg", None))


def mutations(data: bytes, seed: int, count: int):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            damaged[place] = rng.integers(0, 256)
        yield bytes(damaged[: rng.integers(1, len(data))] if rng.random() < 0.3 else damaged)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
def test_damaged_archives_are_refused_or_read_but_never_a_bug(tmp_path: Path, kind: str) -> None:
    names = ["Ann/1.jpg", "Ann/2.jpg", "Bob/1.jpg"]
    if kind == "zip":
        data = in_zip(tmp_path / "a", names).read_bytes()
    else:
        data = in_tar(tmp_path / "a", names, mode="w" + kind[3:].replace(".", ":")).read_bytes()
    outcomes = set()
    for i, damaged in enumerate([data, *mutations(data, 5, 250)]):
        path = tmp_path / f"b{i}"
        path.write_bytes(damaged)
        try:
            found = find_photos(path)
        except UserError:
            outcomes.add("refused")
            continue
        for photo in found.photos:
            try:
                read_bytes(photo)
                outcomes.add("read")
            except OSError:
                outcomes.add("photo refused")
    assert {"refused", "read"} <= outcomes


def test_an_archive_replaced_on_disk_is_read_anew(tmp_path: Path) -> None:
    for kind, make in (("zip", in_zip), ("tar", in_tar)):
        path = make(tmp_path / kind, ["1.jpg"])
        (photo,) = find_photos(path).photos
        assert read_bytes(photo) == data_of("1.jpg")
        path.unlink()
        make(path, ["other/longer.jpg", "1.jpg"])
        assert len(find_photos(path).photos) == 2
        assert read_bytes(photo) == data_of("1.jpg")
        path.unlink()
        with pytest.raises(OSError, match=kind):
            read_bytes(photo)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_several_threads_read_one_archive(tmp_path: Path, kind: str) -> None:
    names = [f"{i}.jpg" for i in range(60)]
    if kind == "zip":
        root = in_zip(tmp_path / "a", names)
    else:
        root = in_tar(tmp_path / "a", names, mode="w" + kind[3:].replace(".", ":"))
    photos = find_photos(root).photos
    wrong = []

    def read(seed: int) -> None:
        for i in np.random.default_rng(seed).permutation(len(photos)):
            if read_bytes(photos[i]) != data_of(photos[i].source):
                wrong.append(photos[i].source)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_compressed_tar_is_read_from_its_end_as_fast_as_from_its_start(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with tarfile.open(tmp_path / "a.tgz", "w:gz", compresslevel=1) as archive:
        for i in range(300):
            entry = tarfile.TarInfo(f"{i:04d}.jpg")
            entry.size = 30_000
            archive.addfile(entry, io.BytesIO(rng.bytes(30_000)))
    photos = find_photos(tmp_path / "a.tgz").photos
    start = time.perf_counter()
    for photo in reversed(photos):
        read_bytes(photo)
    # Unpacking 9 MB takes about 0.1 s; unpacking them again for each step back would take about 15.
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("address", ["https://example.org/a.jpg", "s3://bucket/a.jpg", "HTTP://x/y"])
def test_an_address_is_told_from_a_missing_file(address: str) -> None:
    for find in (one_photo, find_photos):
        with pytest.raises(UserError, match=r"an address, and photos are read from files; download it"):
            find(Path(address))
    with pytest.raises(UserError, match="no such photo; check the path"):
        one_photo(Path("C:/photos/a.jpg"))
