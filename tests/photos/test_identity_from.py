"""Which level of folders names the people: said where it is not plain."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from toy import person

from facekd.cli import run
from facekd.core.pixels import encode_crop
from facekd.crops.read import read_crops
from facekd.photos.find import deep_photos, find_photos, named_by

CFP = [f"Images/{who:03d}/{kind}/{n:02d}.png" for who in (1, 2) for kind in ("frontal", "profile") for n in (1, 2)]
NESTED = ["Ann/home/1.png", "Ann/work/2.png", "Bob/home/3.png"]


def photos(root: Path, names: list[str], zipped: bool = False) -> Path:
    if zipped:
        with zipfile.ZipFile(root / "a.zip", "w") as file:
            for number, name in enumerate(names):
                file.writestr(name, encode_crop(person(number, 0)))
        return root / "a.zip"
    for number, name in enumerate(names):
        (root / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "photos" / name).write_bytes(encode_crop(person(number, 0)))
    return root / "photos"


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize(
    ("names", "asked", "expected"),
    [
        (NESTED, "parent", ["home", "work", "home"]),
        (NESTED, "top", ["Ann", "Ann", "Bob"]),
        (CFP, "name", ["001"] * 4 + ["002"] * 4),
        (["x/Ann_Lee_0001.jpg", "y/z/Bob_0002.png", "z/portrait.jpg"], "name", ["Ann_Lee", "Bob", None]),
    ],
)
def test_levels_of_identity(tmp_path: Path, names: list[str], asked: str, expected: list[str], zipped: bool) -> None:
    found = named_by(find_photos(photos(tmp_path, names, zipped)), asked)  # type: ignore[arg-type]
    assert [photo.identity for photo in found.photos] == expected
    assert deep_photos(found)


@pytest.mark.parametrize(
    "names", [["Ann/1.png", "Bob/2.png"], ["1.png"], ["all/lfw/Ann/1.png", "all/lfw/Bob/1.png"], ["Ann/1.png", "2.png"]]
)
def test_plain_layouts(tmp_path: Path, names: list[str]) -> None:
    assert deep_photos(find_photos(photos(tmp_path, names))) == ()


def test_align_asks_and_keeps_to_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(tmp_path, NESTED)
    flags = ["--detector", "none", "--size", "32", "--quiet"]
    out = tmp_path / "crops"
    assert run(["align", str(root), str(out), *flags]) == 2
    said = capsys.readouterr().err
    assert "folders lie within folders (Ann/home/1.png)" in said
    assert "--identity-from: parent" in said
    assert not out.exists()
    assert run(["align", str(root), str(out), *flags, "--identity-from", "top"]) == 0
    assert sorted(map(str, read_crops(out).identities)) == ["Ann", "Ann", "Bob"]
    assert run(["align", str(root), str(out), *flags]) == 0  # as it was begun
    assert run(["align", str(root), str(out), *flags, "--identity-from", "parent"]) == 2
    assert "identity_from" in capsys.readouterr().err
    old = tmp_path / "old"
    assert run(["align", str(root), str(old), *flags, "--identity-from", "parent"]) == 0
    assert run(["align", str(root), str(old), *flags]) == 0


def test_a_folder_beside_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = photos(tmp_path, ["Ann/1.png", "Ann/2.png", "Ann/more/3.png", "Bob/4.png"])
    assert run(["align", str(root), str(tmp_path / "crops"), "--detector", "none", "--size", "32"]) == 0
    assert "a photo lies in folders within folders (first: Ann/more/3.png), taken for people" in capsys.readouterr().err
