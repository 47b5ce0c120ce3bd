"""The faces on the review page: the right one, whole, from photos of any size; nothing where there is none."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from people import enrolled, pattern, save

from facekd.core.pixels import decode_crop, encode_crop
from facekd.core.types import Array
from facekd.enrollment.review import FACES
from facekd.enrollment.thumbnails import AROUND, SIDE, thumbnails
from facekd.faces.detect import load_detector
from facekd.photos.decode import decode
from facekd.photos.find import PhotoFile
from facekd.photos.synth import jpeg, person, render
from facekd.settings.photos import FaceSearch


def photo(data: bytes) -> PhotoFile:
    return PhotoFile(Path(), "x", "x", None, data)


def shown(data: bytes, detector: str = "yunet") -> Array:
    (made,) = thumbnails([photo(data)], FaceSearch(detector=detector))  # type: ignore[arg-type]
    assert made is not None
    pixels = decode_crop(made)
    assert pixels.shape == (SIDE, SIDE, 3)
    return pixels


@pytest.mark.parametrize("large", [1, 4])
def test_the_face_fills_the_picture(large: int) -> None:
    """Cut from a photo with room around it, small or of many pixels, the face is in the middle and as large."""
    pixels = decode(jpeg(render(person(0, 0), 0, 0)), "a").pixels
    wide = cv2.copyMakeBorder(pixels, 40, 300, 500, 90, cv2.BORDER_REPLICATE)
    if large > 1:
        wide = cv2.resize(wide, None, fx=large, fy=large, interpolation=cv2.INTER_CUBIC)
    found = load_detector("yunet")([shown(encode_crop(wide))])[0]
    assert len(found) == 1
    x1, y1, x2, y2 = found.boxes[0].tolist()
    assert max(x2 - x1, y2 - y1) * AROUND == pytest.approx(SIDE, rel=0.2)
    assert [(x1 + x2) / 2, (y1 + y2) / 2] == pytest.approx([SIDE / 2] * 2, abs=0.1 * SIDE)


def test_a_photo_without_a_face_is_shown_whole() -> None:
    halves = np.zeros((300, 400, 3), np.uint8)
    halves[:, :200, 0], halves[:, 200:, 2] = 255, 255
    seen = shown(encode_crop(halves))
    assert np.abs(seen[SIDE // 2, 5].astype(int) - [255, 0, 0]).max() < 12
    assert np.abs(seen[SIDE // 2, -6].astype(int) - [0, 0, 255]).max() < 12
    assert np.abs(seen[5, SIDE // 2].astype(int) - 128).max() < 12  # where the photo ends


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (16, 3000)])
def test_photos_of_odd_shapes(size: tuple[int, int]) -> None:
    shown(encode_crop(np.full((*size, 3), 90, np.uint8)), "none")
    shown(encode_crop(np.full((*size, 3), 90, np.uint8)))


def test_photos_that_can_not_be_read() -> None:
    assert thumbnails([photo(b""), photo(b"no photo")], FaceSearch(detector="yunet")) == [None, None]


def pictures(page: Path) -> list[Array]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page.read_text(encoding="utf-8"))
    return [decode_crop(base64.b64decode(one)) for one in found]


def test_each_side_shows_a_few_of_its_own_photos(tmp_path: Path, folder: Path, model: Path) -> None:
    for number in range(5):
        save(folder / "twin" / f"{number}.png", pattern(3, 40 + number))
    page = tmp_path / "r.html"
    enrolled(folder, tmp_path / "g", model, review=page)
    assert len(pictures(page)) == 3 + FACES
    text = page.read_text(encoding="utf-8")
    assert "and 2 more" in text
    for picture in pictures(page):  # all of them are p03's
        small = cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(small - pattern(3, 0)).mean() < 20 < np.abs(small - pattern(2, 0)).mean()


def test_who_is_not_in_people_has_no_photo_at_hand(tmp_path: Path, folder: Path, model: Path) -> None:
    enrolled(folder, tmp_path / "g", model)
    save(tmp_path / "later" / "zoe" / "0.png", pattern(2, 40))
    page = tmp_path / "r.html"
    enrolled(tmp_path / "later", tmp_path / "g", model, review=page)
    assert len(pictures(page)) == 1
    text = page.read_text(encoding="utf-8")
    assert "No photo at hand in this run." in text
    assert "The new photos of zoe never count." in text
