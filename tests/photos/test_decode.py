"""Photos of every kind come out upright and RGB; damaged and huge ones are refused, never half shown."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from facekd.core.files import sha256_bytes
from facekd.photos.decode import MAX_PIXELS, BadPhotoError, decode

Y, X = np.mgrid[:40, :60]
RAMP = np.stack([X * 4, Y * 6, 255 - X * 2 - Y * 2], axis=-1).astype(np.uint8)  # no symmetry
NOISE = np.random.default_rng(1).integers(0, 256, (64, 80, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    return decode(data, "x").pixels


def refused(data: bytes) -> BadPhotoError:
    with pytest.raises(BadPhotoError) as error:
        decode(data, "x")
    assert "\n" not in error.value.reason
    return error.value


LOSSLESS = [("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {}), ("PPM", {}), ("JPEG2000", {})]


@pytest.mark.parametrize(("kind", "options"), LOSSLESS)
def test_lossless_kinds_are_exact(kind: str, options: dict) -> None:
    data = encoded(Image.fromarray(RAMP), kind, **options)
    photo = decode(data, "a/b.png")
    assert (photo.pixels == RAMP).all()
    assert photo.pixels.dtype == np.uint8
    assert (photo.source, photo.sha256) == ("a/b.png", sha256_bytes(data))


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_lossy_kinds_are_close(kind: str) -> None:
    data = encoded(Image.fromarray(RAMP), kind, quality=95)
    assert np.abs(pixels_of(data).astype(int) - RAMP).mean() < 3


# What a camera held so writes: the stored picture that gives RAMP when it is turned back (EXIF 2.3, tag 274).
STORED = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: np.rot90(p, 2).transpose(1, 0, 2),
    8: lambda p: np.rot90(p, -1),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", STORED)
def test_every_exif_orientation_comes_out_upright(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 98} if kind == "JPEG" else {}
    data = encoded(Image.fromarray(np.ascontiguousarray(STORED[orientation](RAMP))), kind, exif=exif, **options)
    assert pixels_of(data).shape == RAMP.shape
    assert np.abs(pixels_of(data).astype(int) - RAMP).max() <= (40 if kind == "JPEG" else 0)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0", b"Exif\0\0MM\0*" + bytes(40)]
)
def test_broken_exif_does_not_cost_the_photo(exif: bytes) -> None:
    assert pixels_of(encoded(Image.fromarray(RAMP), "JPEG", exif=exif)).shape == RAMP.shape


def test_gray_becomes_three_equal_channels() -> None:
    gray = RAMP[..., 0]
    pixels = pixels_of(encoded(Image.fromarray(gray), "PNG"))
    assert (pixels == gray[..., None]).all()
    black_and_white = pixels_of(encoded(Image.fromarray(gray > 100), "PNG"))
    assert (black_and_white == np.where(gray > 100, 255, 0)[..., None]).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_keep_their_upper_eight(kind: str) -> None:
    deep = (np.arange(2400).reshape(40, 60) * 27).astype(np.uint16)
    pixels = pixels_of(encoded(Image.fromarray(deep), kind))
    assert (pixels == (deep >> 8)[..., None]).all()


def png(width: int, height: int, bits: int, color: int, rows: bytes, extra: bytes = b"") -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bit_color() -> None:
    row = b"\0" + struct.pack(">6H", 0x1234, 0xABCD, 0xFF00, 0x00FF, 0x8000, 0x7FFF)
    assert pixels_of(png(2, 1, 16, 2, row)).tolist() == [[[0x12, 0xAB, 0xFF], [0x00, 0x80, 0x7F]]]


def test_transparency_is_laid_on_white() -> None:
    alpha = np.zeros((40, 60), np.uint8)
    alpha[:, 20:40], alpha[:, 40:] = 128, 255
    rgba = Image.fromarray(np.dstack([RAMP, alpha]))
    expected = (RAMP * (alpha[..., None] / 255.0) + 255.0 * (1 - alpha[..., None] / 255.0)).round()
    assert np.abs(pixels_of(encoded(rgba, "PNG")) - expected).max() <= 1
    gray = RAMP[..., 1]
    la = Image.merge("LA", [Image.fromarray(gray), Image.fromarray(alpha)])
    expected = (gray * (alpha / 255.0) + 255.0 * (1 - alpha / 255.0)).round()
    assert np.abs(pixels_of(encoded(la, "PNG")) - expected[..., None]).max() <= 1


def test_palettes() -> None:
    image = Image.new("P", (2, 2))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1, 1, 0])
    first, second, white = [10, 20, 30], [200, 100, 50], [255] * 3
    assert pixels_of(encoded(image, "PNG")).tolist() == [[first, second], [second, first]]
    assert pixels_of(encoded(image, "PNG", transparency=1)).tolist() == [[first, white], [white, first]]
    by_bytes = pixels_of(encoded(image, "PNG", transparency=bytes([0, 255]))).tolist()
    assert by_bytes == [[white, second], [second, white]]


def test_cmyk() -> None:
    cmyk = Image.new("CMYK", (32, 32), (255, 0, 0, 0))  # cyan ink only
    assert pixels_of(encoded(cmyk, "TIFF"))[5, 5].tolist() == [0, 255, 255]
    assert pixels_of(encoded(cmyk, "JPEG", quality=98))[5, 5].tolist() == pytest.approx([0, 255, 255], abs=6)
    paper = Image.new("CMYK", (32, 32), (0, 0, 0, 0))
    assert pixels_of(encoded(paper, "JPEG"))[5, 5].tolist() == pytest.approx([255] * 3, abs=6)


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [Image.new("RGB", (20, 10), color) for color in ("red", "lime", "blue")]
    for kind, options in (("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {})):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert pixels_of(data).tolist() == [[[255, 0, 0]] * 20] * 10, kind


def test_one_pixel() -> None:
    for kind in ("PNG", "JPEG", "GIF", "BMP", "WEBP"):
        assert pixels_of(encoded(Image.new("RGB", (1, 1), "white"), kind)).tolist() == [[[255, 255, 255]]]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {"quality": 90}), ("JPEG", {"quality": 90, "progressive": True}), ("PNG", {}), ("WEBP", {}),
        ("WEBP", {"lossless": True}), ("GIF", {}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"}), ("BMP", {}),
        ("PPM", {}), ("JPEG2000", {}), ("AVIF", {}),
    ],
)  # fmt: skip
def test_a_truncated_photo_is_refused_not_half_gray(kind: str, options: dict) -> None:
    data = encoded(Image.fromarray(NOISE), kind, **options)
    whole = pixels_of(data)
    refusals = 0
    for cut in [*range(0, len(data), max(1, len(data) // 60)), len(data) - 3, len(data) - 2, len(data) - 1]:
        try:
            pixels = pixels_of(data[:cut])
        except BadPhotoError:
            refusals += 1
        else:  # what was cut off held no pixel: PNG's end mark, a checksum
            assert (pixels == whole).all(), cut
    assert refusals > 55


@pytest.mark.parametrize(
    "data",
    [
        png(30_000, 30_000, 8, 2, bytes(100)),
        png(MAX_PIXELS // 1000 + 1, 1000, 8, 0, bytes(100)),
        b"P6 30000 30000 255\n" + bytes(100),
        b"GIF89a" + struct.pack("<HH", 30_000, 30_000) + b"\x80\0\0" + bytes(6) + b"," + bytes(20),
    ],
)
def test_a_huge_photo_is_refused_before_it_is_decoded(data: bytes) -> None:
    start = time.perf_counter()
    error = refused(data)
    assert time.perf_counter() - start < 0.2
    assert error.status == "too_large"
    assert "shrink it" in error.reason


def test_refusing_a_huge_photo_takes_no_memory() -> None:
    # The first 3,000 rows are there: 270 MB, if anybody began to decode them.
    code = """
import resource, struct, zlib
from facekd.photos.decode import BadPhotoError, decode
packer = zlib.compressobj(1)
rows = b"".join(packer.compress(bytes(90_001)) for _ in range(3_000)) + packer.flush()
chunk = lambda n, d: struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d))
data = b"\\x89PNG\\r\\n\\x1a\\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 30000, 30000, 8, 2, 0, 0, 0))
data += chunk(b"IDAT", rows) + chunk(b"IEND", b"")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    decode(data, "x")
except BadPhotoError as error:
    print(error.status, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    status, megabytes = done.stdout.split()
    assert status == "too_large"
    assert int(megabytes) < 100
    assert done.stderr == ""


def test_the_largest_size_is_let_in() -> None:
    error = refused(png(MAX_PIXELS // 1000, 1000, 8, 0, bytes(100)))
    assert error.status == "unreadable"  # its size was not the matter


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "an empty file"),
        (b"just text", "no image that can be read"),
        (b"\xff\xd8\xff", "no image that can be read|damaged"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no image that can be read"),
        (b"%PDF-1.4\n", "no image that can be read"),
    ],
)
def test_what_is_no_photo(data: bytes, words: str) -> None:
    error = refused(data)
    assert error.status == "unreadable"
    assert any(word in error.reason for word in words.split("|"))


def test_no_other_program_is_run_on_a_photo() -> None:
    # Pillow opens EPS with Ghostscript, whatever the file is called.
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
    assert refused(eps).reason == "no image that can be read; replace the file"


def test_floating_point_pixels_are_refused() -> None:
    data = encoded(Image.fromarray(np.zeros((4, 4), np.float32)), "TIFF")
    assert "floating-point" in refused(data).reason


MAGIC = [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF", b"BM", b"II*\0"]


@given(st.binary(max_size=300), st.sampled_from(MAGIC))
@settings(max_examples=300)
def test_random_bytes_are_refused(data: bytes, magic: bytes) -> None:
    assert refused(magic + data).status in ("unreadable", "too_large")


def heic(pixels: np.ndarray, orientation: int = 1) -> bytes:
    """As an iPhone writes it: turned by the container, which the EXIF only repeats (ISO/IEC 23008-12, 6.5.10)."""
    pillow_heif = pytest.importorskip("pillow_heif", reason="pip install 'facekd[heif]'")
    made, file, exif = pillow_heif.HeifFile(), io.BytesIO(), Image.Exif()
    made.add_from_pillow(Image.fromarray(np.ascontiguousarray(pixels)))
    exif[274] = orientation
    made.save(file, quality=95, exif=exif.tobytes())
    return file.getvalue()


@pytest.mark.parametrize("orientation", STORED)
def test_heic_comes_out_upright(orientation: int) -> None:
    pixels = pixels_of(heic(STORED[orientation](RAMP), orientation))
    assert pixels.shape == RAMP.shape
    assert np.abs(pixels.astype(int) - RAMP).mean() < 3


def test_heic_leaves_pillow_as_it_was() -> None:
    data = heic(RAMP)
    pixels_of(data)
    code = (
        "import io, sys; from PIL import Image, UnidentifiedImageError; from facekd.photos.decode import decode\n"
        "data = sys.stdin.buffer.read(); assert decode(data, 'x').pixels.shape == (40, 60, 3)\n"
        "try: Image.open(io.BytesIO(data))\nexcept UnidentifiedImageError: print('as it was')"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=False)
    assert done.stdout == b"as it was\n", done.stderr


def test_damaged_heic_is_said_in_plain_words() -> None:
    data = heic(RAMP)
    for torn in (data[: len(data) // 3], data[:40] + b"\xff" * (len(data) - 40)):
        error = refused(torn)
        assert (error.status, error.reason[:15], "Error" in error.reason) == ("unreadable", "damaged image (", False)


def test_heic_without_what_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(RAMP)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    error = refused(data)
    assert (error.status, error.lasting) == ("unreadable", False)
    assert error.reason == "HEIC, which pillow-heif reads; install it with: pip install 'facekd[heif]'"
    assert refused(b"no photo").lasting


def test_damaged_heic_gives_a_photo_or_a_reason() -> None:
    data = heic(NOISE)
    rng = np.random.default_rng(3)
    for cut in range(0, len(data), len(data) // 40):
        assert refused(data[:cut]).status == "unreadable"
    reasons = []
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(0, 600, 4):
            damaged[place] = rng.integers(0, 256)
        try:
            decode(bytes(damaged), "x")
        except BadPhotoError as error:
            reasons.append(error.reason)
    assert reasons
    assert all(reason and "\n" not in reason for reason in reasons)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "JPEG2000"])
def test_damaged_bytes_give_a_photo_or_a_reason(kind: str) -> None:
    data = encoded(Image.fromarray(NOISE), kind)
    rng = np.random.default_rng(2)
    reasons = []
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 600), 4):
            damaged[place] = rng.integers(0, 256)
        try:
            decode(bytes(damaged), "x")
        except BadPhotoError as error:
            reasons.append(error.reason)
    assert reasons
    assert all(reasons)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "L", "P", "CMYK", "I;16"])
def test_strips_are_the_whole(mode: str, orientation: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However few rows are converted at once, the pixels are those of Pillow's own way over the whole image."""
    random = np.random.default_rng(3)
    if mode == "I;16":
        image = Image.fromarray(random.integers(0, 65536, (23, 17), np.uint16))
    else:
        bands = len(Image.new(mode, (1, 1)).getbands())
        image = Image.fromarray(
            random.integers(0, 256, (23, 17, bands), np.uint8).squeeze(), mode if bands > 1 else "L"
        )
        image = image.convert(mode) if image.mode != mode else image
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    image.save(file, "TIFF", exif=exif)
    whole = decode(file.getvalue(), "x").pixels
    monkeypatch.setattr("facekd.photos.decode.STRIP", 40)  # two rows of 17 pixels
    np.testing.assert_array_equal(decode(file.getvalue(), "x").pixels, whole)
    upright = ImageOps.exif_transpose(Image.open(file))
    assert whole.shape[:2] == (upright.height, upright.width)
    if mode in ("RGB", "L", "P", "CMYK"):
        np.testing.assert_array_equal(whole, np.asarray(upright.convert("RGB")))


def test_a_large_photo_with_transparency_takes_no_more_memory_than_it_must() -> None:
    """Pillow's pixels take four bytes each, ours three; its own conversions would hold four copies more.

    VmHWM is the process' own peak; ru_maxrss begins at that of the process that started it.
    """
    code = """
import io
from PIL import Image
from facekd.photos.decode import decode
file = io.BytesIO()
Image.new("RGBA", (5000, 5000), (10, 20, 30, 40)).save(file, "PNG", compress_level=1)
pixels = decode(file.getvalue(), "x").pixels
after = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])
print(after * 1024 / 5000**2)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    bytes_per_pixel = float(done.stdout.split()[0])
    assert bytes_per_pixel < 11, done.stdout  # with 36 MiB of libraries: 1.5 bytes; it was 17 and more
