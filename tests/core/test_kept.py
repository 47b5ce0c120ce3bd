"""What is kept comes back whole, or not at all; nobody else's entry is taken, and nothing here is an error."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from facekd.core import kept as module
from facekd.core.kept import keep, kept, kept_folder

KEY = "ab" * 20


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "facekd"


def test_what_is_kept_comes_back_and_is_private(cache: Path) -> None:
    assert kept(KEY) is None
    for body in (b"", b"body\nof two lines\0"):
        keep(KEY, {"a": [1, None, "Straße"]}, body)
        assert kept(KEY) == ({"a": [1, None, "Straße"]}, body)
    assert cache.stat().st_mode & 0o777 == 0o700
    assert [(path.name, path.stat().st_mode & 0o777) for path in cache.iterdir()] == [(KEY, 0o600)]


def test_no_byte_of_an_entry_may_differ(cache: Path) -> None:
    keep(KEY, {"a": 1}, b"body")
    whole = (cache / KEY).read_bytes()
    for place in range(len(whole)):
        (cache / KEY).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert kept(KEY) is None
        (cache / KEY).write_bytes(whole[:place])
        assert kept(KEY) is None
    (cache / KEY).write_bytes(whole + b"\n")
    assert kept(KEY) is None
    (cache / KEY).write_bytes(whole)
    assert kept(KEY) == ({"a": 1}, b"body")


def test_a_link_is_neither_read_nor_followed(cache: Path, tmp_path: Path) -> None:
    keep(KEY, {"a": 1}, b"body")
    other = tmp_path / "other"
    (cache / KEY).rename(other)
    (cache / KEY).symlink_to(other)
    assert kept(KEY) is None
    before = other.read_bytes()
    keep(KEY, {"a": 2}, b"")
    assert other.read_bytes() == before
    assert kept(KEY) == ({"a": 2}, b"")
    (cache / KEY).unlink()
    os.mkfifo(cache / KEY)
    assert kept(KEY) is None  # at once


@pytest.mark.parametrize("what", ["a link", "open to all", "a file", "no folder above", "somebody else's", "nowhere"])
def test_a_folder_that_is_not_the_users_own_keeps_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    keep(KEY, {"a": 1}, b"body")
    if what == "a link":
        cache.rename(tmp_path / "elsewhere")
        cache.symlink_to(tmp_path / "elsewhere")
    elif what == "open to all":
        cache.chmod(0o777)
    elif what == "a file":
        cache.rename(tmp_path / "elsewhere")
        cache.write_bytes(b"")
    elif what == "no folder above":
        cache.parent.rename(tmp_path / "elsewhere")
        cache.parent.write_bytes(b"")
    elif what == "somebody else's":
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder away")
        os.chown(cache, 12345, 12345)
    else:
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setenv("HOME", "relative/too")
    assert kept_folder() is None
    assert kept(KEY) is None
    keep(KEY, {"a": 2}, b"body")
    assert kept(KEY) is None


def test_somebody_elses_entry_is_not_taken(cache: Path) -> None:
    keep(KEY, {"a": 1}, b"body")
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(cache / KEY, 12345, 12345)
    assert kept(KEY) is None


def test_what_was_not_used_longest_goes(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 4000)
    for number, key in enumerate("abcd"):
        keep(key * 40, {}, bytes(900))
        os.utime(cache / (key * 40), (number, number))
    assert kept("a" * 40) is not None  # used today
    keep("e" * 40, {}, bytes(900))
    left = {path.name[0] for path in cache.iterdir()}
    assert {"a", "e"} <= left
    assert "b" not in left
    assert sum(path.stat().st_size for path in cache.iterdir()) <= 4000
    keep("f" * 40, {}, bytes(2000))  # too large a part of it
    assert kept("f" * 40) is None
