"""Decoding a photo safely: its header is read and judged before any pixel is."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image, UnidentifiedImageError

from facekd.core.files import sha256_bytes
from facekd.core.types import Array, Photo
from facekd.photos.kinds import HEIF

# Pillow warns above this size and refuses at twice it; one limit is clearer.
MAX_PIXELS = 89_478_485
STRIP = 4_000_000  # pixels that are converted at once
# Only formats that photos come in: Pillow would open EPS too, by running Ghostscript on it.
ORIENTATION = 0x0112  # EXIF's tag
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF")
# Its remarks on broken EXIF and on sizes would only disturb the progress bar; what matters becomes a ledger row.
warnings.filterwarnings("ignore", module=r"PIL\.")


class BadPhotoError(Exception):
    """Why a photo gives no pixels; becomes a row of the ledger.

    Attributes:
        status: ``unreadable`` or ``too_large``.
        reason: one sentence.
        lasting: whether the same bytes always end so; not where a package is missing that reads them.
    """

    def __init__(self, status: str, reason: str, *, lasting: bool = True) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.lasting = lasting


def decode(data: bytes, source: str) -> Photo:
    """An upright RGB photo from a file's bytes.

    EXIF orientation is applied. Gray becomes three equal channels, 16 bits are cut to their upper 8,
    transparency is laid on white, CMYK is converted without its color profile, of an animation the first
    frame counts. HEIC is read where pillow-heif is installed.

    Raises:
        BadPhotoError: no image, a damaged or truncated one, or one above MAX_PIXELS.
    """
    try:
        with _opened(data) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise BadPhotoError("too_large", _too_large(width, height))
            if image.format == "JPEG2000" and not data.endswith(b"\xff\xd9"):  # its decoder fills in what is missing
                raise BadPhotoError("unreadable", "truncated image; replace the file")
            image.load()
            pixels = rgb(image)
    except BadPhotoError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadPhotoError("too_large", f"more than {MAX_PIXELS / 1e6:.0f} megapixels; shrink it") from error
    except UnidentifiedImageError as error:
        kind = "an empty file" if not data else "no image that can be read"
        raise BadPhotoError("unreadable", f"{kind}; replace the file") from error
    except Exception as error:
        # Pillow's parsers raise whatever damaged bytes lead them to: any of it means this file is bad. A SyntaxError is
        # their word for a damaged header.
        kind = "" if isinstance(error, SyntaxError) else f"{type(error).__name__}: "
        raise BadPhotoError(
            "unreadable", f"damaged image ({kind}{' '.join(str(error).split())}); replace the file"
        ) from error
    return Photo(pixels, source, sha256_bytes(data))


def _opened(data: bytes) -> Image.Image:
    """An image whose header alone has been read.

    Raises:
        BadPhotoError: HEIC, and nothing that reads it.
        UnidentifiedImageError: none.
    """
    if not HEIF.match(data) or b"avif" in data[:64]:  # AVIF is of the same container; Pillow reads it
        return Image.open(io.BytesIO(data), formats=FORMATS)
    try:
        import pillow_heif
    except ImportError as error:
        reason = "HEIC, which pillow-heif reads; install it with: pip install 'facekd[heif]'"
        raise BadPhotoError("unreadable", reason, lasting=False) from error
    # The class itself: registered with Pillow, it would open files for all of the process.
    reader: Callable[[io.BytesIO], Image.Image] = pillow_heif.HeifImageFile
    return reader(io.BytesIO(data))


def rgb(image: Image.Image) -> Array:
    """uint8[H, W, 3] of an image, upright; see `decode`.

    A large one is converted in strips: Pillow's own copies of the whole would take four times what the pixels do.

    Raises:
        BadPhotoError: floating-point pixels.
    """
    image.load()  # some formats hold their EXIF behind the pixels
    width, height = image.size
    orientation = image.getexif().get(ORIENTATION, 1)
    turned = orientation in (5, 6, 7, 8)
    upright = np.empty((width, height, 3) if turned else (height, width, 3), np.uint8)
    as_stored = _as_stored(upright, orientation)
    rows = max(1, STRIP // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        as_stored[top:bottom] = _rgb(image if bottom - top == height else image.crop((0, top, width, bottom)))
    return upright


def _as_stored(upright: Array, orientation: int) -> Array:
    """A view of an upright image, uint8[H, W, 3], as its file stores it under an EXIF orientation."""
    stored = upright.swapaxes(0, 1) if orientation in (5, 6, 7, 8) else upright
    if orientation in (3, 4, 6, 7):
        stored = stored[::-1]
    return stored[:, ::-1] if orientation in (2, 3, 7, 8) else stored


def _rgb(image: Image.Image) -> Array:
    """uint8[H, W, 3] of an image as it is stored."""
    if image.mode in ("I;16", "I;16B", "I;16L", "I;16N"):
        gray = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode == "I":  # Pillow's form of 16-bit PNG and PGM
        gray = (np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode == "F":
        raise BadPhotoError("unreadable", "floating-point pixels; save it as an 8-bit image")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _too_large(width: int, height: int) -> str:
    return f"{width}x{height} pixels, more than {MAX_PIXELS / 1e6:.0f} million; shrink it"
