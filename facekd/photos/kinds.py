"""Which files are photos: by their names, and where a name says nothing, by their first bytes."""

from __future__ import annotations

import os
import re

COMMON = (".jpg", ".jpeg", ".png", ".webp", ".heic")
RARER = (".jpe", ".jfif", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm", ".pbm", ".pnm", ".jp2", ".avif",
         ".heif", ".hif")  # fmt: skip
SUFFIXES = frozenset((*COMMON, *RARER))
HEAD = 32  # bytes that tell what a file is
# Where they begin so, files are what Pillow, and for HEIF pillow-heif, take them for.
HEADS = re.compile(
    rb"""\xff\xd8\xff                                            # JPEG
       | \x89PNG\r\n\x1a\n
       | GIF8[79]a
       | RIFF....WEBP
       | BM....\0\0\0\0..\0\0[\x0c\x28\x34\x38\x40\x6c\x7c]\0\0\0  # BMP with the length of a header that there is
       | P[1-6][\ \t\r\n]+[#0-9]                                 # PBM, PGM, PPM
       | \0\0\0\x0cjP\ \ \r\n\x87\n | \xff\x4f\xff\x51           # JPEG 2000, in its container and without
       | ....ftyp(?:avif|avis|hei[cxms]|hev[cxms]|mif1|msf1)     # AVIF, HEIF
    """,
    re.VERBOSE | re.DOTALL,
)
TIFF = (b"II*\0", b"MM\0*")
HEIF = re.compile(rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL)


def is_photo_name(name: str) -> bool:
    """Whether a file of this name is meant to be a photo."""
    return _suffix(name).lower() in SUFFIXES


def is_photo_head(head: bytes, name: str) -> bool:
    """Whether a file that begins so is a photo, whatever it is called.

    Cameras' raw files begin as TIFF does, and what Pillow finds in them is a small preview: for TIFF a name that tells
    of something else is believed.

    Args:
        head: the first HEAD bytes, or all there are.
    """
    return bool(HEADS.match(head)) or (head.startswith(TIFF) and not _suffix(name))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1]
