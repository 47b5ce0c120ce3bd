"""What was computed once and can be computed again, kept in a private folder of the user's cache.

Nothing here is an error: a folder that can't be made or isn't the user's own keeps nothing, and an entry that is
damaged, or that somebody else put there, is not there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import stat
import sys
from pathlib import Path
from typing import Any

from facekd.core.formats import FORMATS
from facekd.core.system import NO_LINK, is_own

# Begins an entry; behind it the digest of all that follows its line.
MARK = f"facekd kept {FORMATS['kept form']} ".encode()
MOST_BYTES = 1 << 30  # of one entry, and of all together: what was not used longest goes
OURS = 0o700


def kept_folder() -> Path | None:
    """The folder, made where it is missing; None where it can't be, or isn't private to this user."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):  # a relative one is to be ignored, says the XDG base directory specification
        base = Path(given)
    else:
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            return None
        base = Path(home, "Library", "Caches") if sys.platform == "darwin" else Path(home, ".cache")
    folder = base / "facekd"
    try:
        if not base.is_dir():
            base.mkdir(parents=True, mode=OURS, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=OURS)
        found = folder.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(found.st_mode) and is_own(found) and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return folder if private else None


def kept(key: str) -> tuple[Any, bytes] | None:
    """What `keep` was given for `key`, or None.

    Args:
        key: hex digits over all that it depends on.
    """
    folder = kept_folder()
    if folder is None:
        return None
    path = folder / key
    try:
        handle = os.open(path, os.O_RDONLY | NO_LINK | getattr(os, "O_NONBLOCK", 0))
        with open(handle, "rb") as file:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or not is_own(found) or found.st_size > MOST_BYTES:
                return None
            first, about = file.readline(len(MARK) + 65), file.readline(MOST_BYTES)
            body = file.read(MOST_BYTES)
    except OSError:
        return None
    digest = hashlib.sha256(about)
    digest.update(body)
    if first != MARK + digest.hexdigest().encode() + b"\n":
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # it was of use today
    try:
        return json.loads(about), body
    except ValueError:
        return None


def keep(key: str, about: Any, body: bytes) -> None:
    """Keep `about`, a value of JSON, and `body` for `key`, whole or not at all."""
    folder = kept_folder()
    rest = json.dumps(about).encode() + b"\n" + body
    if folder is None or len(rest) > MOST_BYTES // 4:
        return
    aside = folder / f".{key}.{secrets.token_hex(4)}"
    try:
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(MARK + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
        os.replace(aside, folder / key)  # an entry that is a link is replaced, not followed
        _tidy(folder)
    except OSError:
        with contextlib.suppress(OSError):
            aside.unlink()


def _tidy(folder: Path) -> None:
    """Remove what was not used longest until the rest is small enough."""
    found = [(entry.stat(follow_symlinks=False), entry.path) for entry in os.scandir(folder)]
    total = sum(about.st_size for about, _ in found)
    for about, path in sorted(found, key=lambda one: one[0].st_mtime):
        if total <= MOST_BYTES:
            return
        if stat.S_ISREG(about.st_mode):
            os.unlink(path)
            total -= about.st_size
