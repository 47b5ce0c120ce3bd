"""Photos in memory are read as the same pixels would be from a file."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from PIL import Image

from facekd.errors import UserError
from facekd.photos.decode import decode
from facekd.photos.find import read_bytes
from facekd.photos.memory import held, is_held

PIXELS = np.random.default_rng(3).integers(0, 256, (5, 7, 3), np.uint8)


def png(image: Image.Image, **more: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", **more)
    return stream.getvalue()


def turned() -> Image.Image:
    """An image that its EXIF entry turns by 90 degrees."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return Image.open(io.BytesIO(png(Image.fromarray(PIXELS), exif=exif)))


HELD = {
    "bytes": png(Image.fromarray(PIXELS)),
    "bytearray": bytearray(png(Image.fromarray(PIXELS))),
    "memoryview": memoryview(png(Image.fromarray(PIXELS))),
    "file": io.BytesIO(png(Image.fromarray(PIXELS))),
    "array": PIXELS,
    "strided": np.repeat(PIXELS, 2, axis=1)[:, ::2],
    "image": Image.fromarray(PIXELS),
}


@pytest.mark.parametrize("kind", HELD)
def test_its_pixels_come_back_exactly(kind: str) -> None:
    assert is_held(HELD[kind])
    file = held(HELD[kind], "photos[0]")
    photo = decode(read_bytes(pickle.loads(pickle.dumps(file))), file.source)
    np.testing.assert_array_equal(photo.pixels, PIXELS)
    assert photo.source == "photos[0]"


def test_gray_becomes_three_channels_and_an_image_is_turned_upright() -> None:
    gray = decode(read_bytes(held(PIXELS[..., 0], "g")), "g").pixels
    np.testing.assert_array_equal(gray, np.repeat(PIXELS[..., :1], 3, axis=2))
    upright = decode(read_bytes(held(turned(), "t")), "t").pixels
    np.testing.assert_array_equal(upright, np.rot90(PIXELS, -1))


@pytest.mark.parametrize("wrong", [PIXELS.astype(np.float32), PIXELS.astype(np.int64), PIXELS[..., :2], PIXELS[0, 0]])
def test_an_array_of_another_kind_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(UserError, match=r"photos\[4\]: an array of .* give uint8\[H, W, 3\] in the order R, G, B"):
        held(wrong, "photos[4]")


def test_text_and_damaged_images_are_refused() -> None:
    with pytest.raises(UserError, match="a str, not the bytes of a photo; open its file with mode 'rb'"):
        held(io.StringIO("text"), "photo")
    with pytest.raises(UserError, match="photo: damaged image"):
        held(Image.open(io.BytesIO(png(Image.fromarray(PIXELS))[:-40])), "photo")


def test_paths_and_several_photos_are_no_photo_in_memory() -> None:
    assert not any(is_held(one) for one in ("a.jpg", ["a.jpg"], (PIXELS,), np.stack([PIXELS, PIXELS])))
