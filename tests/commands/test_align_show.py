"""The contact sheet: which photos are on it, and what is drawn into them."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from facekd.cli import run
from facekd.crops.read import read_crops
from facekd.crops.store import CropStore
from facekd.photos.synth import jpeg, person, render


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("show") / "photos"
    root.mkdir()
    for number in range(5):
        (root / f"{number}.jpg").write_bytes(jpeg(render(person(3, number), 3, 0)))
    (root / "bad.jpg").write_bytes(b"no photo")
    Image.new("RGB", (300, 200), (90, 90, 90)).save(root / "<i>empty.png")
    return root


def sheet(out: Path) -> tuple[str, dict[str, np.ndarray]]:
    """The page, and its pictures by their labels, those of one section after the other."""
    page = (out / "show.html").read_text()
    found = re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="([^"]*)"', page)
    return page, {
        f"{place} {label}": cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR_RGB)
        for place, (data, label) in enumerate(found)
    }


def test_the_first_the_failures_and_the_least_certain(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "crops"
    assert run(["align", str(photos), str(out), "--show", "3", "--quiet"]) == 1
    page, pictures = sheet(out)
    assert (out / "show.html").stat().st_mode & 0o777 == 0o600
    shown = [label.split(" ")[1] for label in pictures]
    crops = {crop["source"]: crop for crop in CropStore.open(out).crops().to_pylist()}
    assert len(crops) == 5
    doubtful = sorted(crops, key=lambda source: crops[source]["score"])
    assert shown == ["0.jpg", "1.jpg", "2.jpg", "&lt;i&gt;empty.png", "bad.jpg", *doubtful[:3]]
    assert "3 of 7 photos, in the order of their names." in page
    assert "2 of 2 photos that gave no crop." in page
    assert "3 of 5 photos, lowest score first." in page
    assert "unreadable" in page
    assert "no_face" in page
    first = next(iter(pictures.values()))
    crop = read_crops(out).pixels(0)
    beside = first[:112, 224 + 4 :][:, :112]
    assert np.abs(beside.astype(int) - crop).mean() < 6  # JPEG twice
    # The landmarks are red in the photo, where the store says that they are.
    scale = 224 / CropStore.open(out).ledger()["height"].to_pylist()[0]
    for point in np.array(crops["0.jpg"]["landmarks"]).reshape(5, 2):
        x, y = np.round((point + 0.5) * scale - 0.5).astype(int)
        red, green, blue = first[y, x].astype(int)
        assert red > max(green, blue) + 60
    # A second run with nothing to do still shows what is asked for.
    assert run(["align", str(photos), str(out), "--show", "1", "--quiet"]) == 1
    assert len(sheet(out)[1]) == 3


def test_a_photo_of_many_and_one_that_has_gone(tmp_path: Path) -> None:
    root, out = tmp_path / "photos", tmp_path / "crops"
    root.mkdir()
    faces = [np.array(Image.fromarray(render(person(3, n), 3, 1).pixels).resize((224, 224))) for n in range(2)]
    Image.fromarray(np.hstack(faces)).save(root / "two.png")
    Image.fromarray(faces[0]).save(root / "one.png")
    assert run(["align", str(root), str(out), "--choose", "all", "--quiet"]) == 0
    (root / "one.png").write_bytes(b"changed")
    assert run(["align", str(root), str(out), "--choose", "all", "--show", "2", "--quiet"]) == 1
    _, pictures = sheet(out)
    widths = {label.split(" ")[1]: picture.shape[1] for label, picture in pictures.items()}
    assert widths == {"one.png": 224, "two.png": 336 + 2 * 116}


def test_a_number_below_zero(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["align", str(photos), str(tmp_path / "o"), "--show", "-1"]) == 2
    assert "--show -1: give how many photos" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
