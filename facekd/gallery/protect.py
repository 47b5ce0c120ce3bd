"""Encrypted files: AES-256-GCM in pieces, so that any size fits and a changed, moved or missing piece is refused.

The form, version 1::

    b"FACEKD-ENCRYPTED\\n"   magic
    b"\\x01"                 version
    16 bytes                salt, random
    pieces                  each 1 MiB of plain text (the last one less) and a tag of 16 bytes

The file's own key is HKDF-SHA256(key, salt, info=magic and version); piece i is sealed with the nonce
``i as 11 bytes, big-endian || 1 where it is the last, else 0``: the STREAM construction of Hoang, Reyhanitabar, Rogaway
and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance" (CRYPTO 2015).
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import IO

from facekd.core.files import make_secret, read_secret
from facekd.core.formats import FORMATS
from facekd.errors import UserError

MAGIC = b"FACEKD-ENCRYPTED\n"
VERSION = bytes([FORMATS["encrypted file"]])
SALT = 16
PIECE = 1 << 20
TAG = 16
KEY = "FACEKD_KEY"  # environment variable


def read_key(file: Path | None) -> bytes:
    """The key of 32 bytes in `file`, else in the environment variable FACEKD_KEY: 64 hex digits in either.

    Raises:
        UserError: none given, one of another form, or a file that others can read. The key is in no message.
    """
    if file is not None:
        text, where = read_secret(file, "key"), str(file)
    else:
        text, where = os.environ.get(KEY, "").strip(), f"the environment variable {KEY}"
        if not text:
            raise UserError(f"no key: give --key-file or set {KEY}; make one: {make_secret(Path('gallery.key'))}")
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) != 32:
        raise UserError(
            f"{where}: holds no key, which is 64 hex digits; make one: {make_secret(file or Path('gallery.key'))}"
        )
    return key


class Sealing(io.RawIOBase):
    """A file object: what is written to it lies encrypted in `file` once it is closed."""

    def __init__(self, file: IO[bytes], key: bytes) -> None:
        salt = os.urandom(SALT)
        self._cipher = _cipher(key, salt)
        self._file = file
        self._waiting = bytearray()
        self._piece = self._written = 0
        file.write(MAGIC + VERSION + salt)

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override]
        """Take in `data`; the count of its bytes."""
        view = memoryview(data).cast("B")
        self._waiting += view
        self._written += len(view)
        while len(self._waiting) > PIECE:  # the last piece, however long, waits for the end
            self._seal(bytes(self._waiting[:PIECE]), last=False)
            del self._waiting[:PIECE]
        return len(view)

    def close(self) -> None:
        """Seal the last piece; `file` stays open."""
        if not self.closed:
            self._seal(bytes(self._waiting), last=True)
        super().close()

    def _seal(self, data: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._piece, last), data, None))
        self._piece += 1


def is_encrypted(data: bytes) -> bool:
    """Whether a file that begins with `data` is of this form, whatever its version."""
    return data.startswith(MAGIC)


def open_sealed(path: Path, key: bytes) -> bytes:
    """The plain bytes of the encrypted file at `path`, in memory only; all of them or none.

    Raises:
        UserError: another key, a changed file, one cut short, or a newer form.
    """
    from cryptography.exceptions import InvalidTag

    plain = bytearray()
    with open(path, "rb") as file:
        head = file.read(len(MAGIC) + 1 + SALT)
        if not head.startswith(MAGIC + VERSION):
            raise UserError(
                f"{path}: encrypted in a form that this facekd does not know: it was written by a newer facekd, or is "
                "damaged; update, or copy it again"
            )
        cipher = _cipher(key, head[-SALT:])
        piece, number = file.read(PIECE + TAG), 0
        while True:
            following = file.read(PIECE + TAG)
            try:
                plain += cipher.decrypt(_nonce(number, not following), piece, None)
            except (InvalidTag, ValueError) as error:
                raise UserError(
                    f"{path}: can't be decrypted: the key is another than it was written with, or the file was changed "
                    "or cut short; nothing of it was used"
                ) from error
            if not following:
                return bytes(plain)
            piece, number = following, number + 1


def _cipher(key: bytes, salt: bytes):  # type: ignore[no-untyped-def]  # the library's class, imported when needed
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF
    except ImportError as error:
        raise UserError("encryption needs the package cryptography; run: pip install 'facekd[gallery]'") from error
    return AESGCM(HKDF(SHA256(), 32, salt, MAGIC + VERSION).derive(key))


def _nonce(piece: int, last: bool) -> bytes:
    return piece.to_bytes(11, "big") + bytes([last])
