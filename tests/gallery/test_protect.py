"""Encrypted files: back as they were with the key, and refused in every other way."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facekd.errors import UserError
from facekd.gallery import protect
from facekd.gallery.protect import MAGIC, PIECE, TAG, Sealing, open_sealed, read_key

KEY = bytes(range(32))


def sealed(data: bytes, lots: int = 1, key: bytes = KEY) -> bytes:
    file = io.BytesIO()
    with Sealing(file, key) as sealing:
        step = max(1, len(data) // lots)
        for start in range(0, len(data), step):
            assert sealing.write(data[start : start + step]) == len(data[start : start + step])
        assert sealing.tell() == len(data)
    return file.getvalue()


def opened(path: Path, data: bytes, key: bytes = KEY) -> bytes:
    path.write_bytes(data)
    return open_sealed(path, key)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, 300), lots=st.integers(1, 9))
def test_what_goes_in_comes_out_at_any_size(tmp_path: Path, size: int, lots: int) -> None:
    data = bytes(i % 251 for i in range(size))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protect, "PIECE", 64)  # so that sizes around whole pieces are met
        closed = sealed(data, lots)
        assert opened(tmp_path / "f", closed) == data
    pieces = max(1, -(-size // 64))
    assert len(closed) == len(MAGIC) + 1 + 16 + size + pieces * TAG


def test_the_plain_text_is_nowhere_and_no_two_files_are_alike() -> None:
    data = b"Anna Example" * 1000
    first, second = sealed(data), sealed(data)
    assert b"Anna" not in first
    assert len(set(first[40 : 40 + 256])) > 100  # it looks like noise
    assert first[len(MAGIC) + 17 :] != second[len(MAGIC) + 17 :]  # its own salt


def test_a_change_of_any_byte_is_noticed(tmp_path: Path) -> None:
    data = sealed(b"templates")
    assert opened(tmp_path / "f", data) == b"templates"
    for place in range(len(data)):
        for bit in (1, 128):
            changed = bytearray(data)
            changed[place] ^= bit
            with pytest.raises(UserError, match=r"can't be decrypted|form that this facekd does not know"):
                opened(tmp_path / "f", bytes(changed))


def test_pieces_taken_out_moved_or_added_are_noticed(tmp_path: Path) -> None:
    data = sealed(bytes(3 * PIECE + 5))
    head, step = len(MAGIC) + 17, PIECE + TAG
    pieces = [data[head + i * step : head + (i + 1) * step] for i in range(4)]
    assert b"".join([data[:head], *pieces]) == data
    for wrong in ([0, 1, 2], [0, 1, 3], [1, 0, 2, 3], [0, 1, 2, 3, 3], [0, 1, 1, 2, 3], [3], []):
        with pytest.raises(UserError, match=r"can't be decrypted.*nothing of it was used"):
            opened(tmp_path / "f", data[:head] + b"".join(pieces[i] for i in wrong))
    for cut in (head, head + 3, len(data) - 1, len(data) - 5 - TAG):
        with pytest.raises(UserError, match="can't be decrypted"):
            opened(tmp_path / "f", data[:cut])


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the key is another"):
        opened(tmp_path / "f", sealed(b"templates"), bytes(32))


def test_the_form_is_the_written_one(tmp_path: Path) -> None:
    """Written again from the words of the module, with the library's own parts."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    data = bytes(range(256)) * 4097  # over one piece
    closed = sealed(data)
    start = b"FACEKD-ENCRYPTED\n\x01"
    assert closed.startswith(start)
    salt, body = closed[len(start) : len(start) + 16], closed[len(start) + 16 :]
    key = HKDF(SHA256(), 32, salt, start).derive(KEY)
    plain = AESGCM(key).decrypt(b"\0" * 12, body[: (1 << 20) + 16], None)
    plain += AESGCM(key).decrypt(b"\0" * 10 + b"\x01\x01", body[(1 << 20) + 16 :], None)
    assert plain == data


def test_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "k"
    file.write_text(KEY.hex() + "\n")
    file.chmod(0o600)
    assert read_key(file) == KEY
    monkeypatch.setenv("FACEKD_KEY", KEY.hex())
    assert read_key(None) == KEY
    monkeypatch.delenv("FACEKD_KEY")
    with pytest.raises(UserError, match=r"give --key-file or set FACEKD_KEY.*openssl rand -hex 32"):
        read_key(None)
    with pytest.raises(UserError, match="no key can be read there"):
        read_key(tmp_path / "none")
    file.chmod(0o644)
    with pytest.raises(UserError, match="chmod 600"):
        read_key(file)
    file.chmod(0o600)
    for wrong in (KEY.hex()[:-2], KEY.hex() + "00", "secret passphrase", ""):
        file.write_text(wrong)
        with pytest.raises(UserError, match="64 hex digits") as error:
            read_key(file)
        assert not wrong or wrong not in str(error.value)
