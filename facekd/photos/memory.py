"""Photos that are not files: a service holds them as bytes, a program as arrays or Pillow's images."""

from __future__ import annotations

from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np

from facekd.core.types import Array
from facekd.errors import UserError
from facekd.photos.find import PhotoFile

if TYPE_CHECKING:
    from PIL.Image import Image

# The bytes of an image file, an open binary file, uint8[H, W, 3] RGB or uint8[H, W] gray, or Pillow's image.
Held: TypeAlias = "bytes | bytearray | memoryview | IO[bytes] | Array | Image"


def is_held(photo: object) -> bool:
    """Whether it is one photo in memory, and neither a path nor several photos."""
    if isinstance(photo, np.ndarray):
        return photo.ndim < 4 and not (photo.ndim < 3 and is_float(photo))
    return isinstance(photo, bytes | bytearray | memoryview) or hasattr(photo, "read") or hasattr(photo, "getbbox")


def is_float(array: Array) -> bool:
    """Whether its numbers are an embedding's, and no photo's."""
    return bool(np.issubdtype(array.dtype, np.floating))


def held(photo: Any, name: str) -> PhotoFile:
    """A photo in memory, under a name of its own, as the photo in a file is named.

    Pixels become the bytes of a PPM file, which keeps them exactly and takes no more than a copy.

    Raises:
        UserError: what is no photo, text instead of bytes, or an array of another type or shape.
    """
    if isinstance(photo, np.ndarray):
        data = _ppm(photo, name)
    elif hasattr(photo, "getbbox"):
        data = _ppm(_upright(photo, name), name)
    else:
        data = photo.read() if hasattr(photo, "read") else photo
        if not isinstance(data, bytes | bytearray | memoryview):
            raise UserError(f"{name}: a {type(data).__name__}, not the bytes of a photo; open its file with mode 'rb'")
    return PhotoFile(Path(), name, name, None, bytes(data))


def _ppm(pixels: Array, name: str) -> bytes:
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)):
        raise UserError(
            f"{name}: an array of {pixels.dtype}{list(pixels.shape)}; give uint8[H, W, 3] in the order R, G, B "
            "(OpenCV's pixels[..., ::-1]), or uint8[H, W]"
        )
    height, width = pixels.shape[:2]
    return f"P{6 if pixels.ndim == 3 else 5}\n{width} {height}\n255\n".encode() + pixels.tobytes()


def _upright(image: Image, name: str) -> Array:
    from facekd.photos.decode import BadPhotoError, rgb

    try:
        return rgb(image)
    except BadPhotoError as error:
        raise UserError(f"{name}: {error.reason}") from error
    except Exception as error:  # an image is loaded when it is used, and damaged bytes raise anything
        raise UserError(f"{name}: damaged image ({type(error).__name__}: {error}); open another") from error
