"""The audit log: what was done with a gallery, when and by whom; appended to, never rewritten.

It holds no name, no photo and no embedding, by design. A person has to leave every file when erased, and a log that
can't be rewritten can't forget; a hash of an id, keyed or not, can be tried for every name one suspects and so is
that person's data still. So an entry counts people, and an erasure has a random receipt: filed with the request it
proves that this request was done, and by itself it says nothing about anybody.

In a folder it is ``audit.jsonl``. Each line carries the SHA-256 of the one before, so a line changed or taken out
shows; lines cut off at the end do not, unless a copy was kept. On object storage, where nothing can be appended to,
each entry is an object ``audit/TIME-RANDOM.json``, not chained.
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from facekd.core.files import PRIVATE, sha256_bytes
from facekd.core.system import NO_LINK, lock, read_at, user
from facekd.errors import UserError
from facekd.gallery.place import Place

LOG = "audit.jsonl"
OBJECTS = "audit/"
START = "0" * 64  # stands for the line before the first


@dataclass(frozen=True, slots=True)
class AuditLog:
    """What an audit log holds."""

    entries: tuple[dict[str, Any], ...]
    broken_at: int | None  # number of the first line that does not follow from the one before; None: none


def note(place: Place, event: str, facts: Mapping[str, int | float | bool | str | None]) -> None:
    """Append one entry; it is on the disk when this returns.

    Args:
        event: enroll, decide, delete, identify, same, import, export, migrate or index.
        facts: counts, settings, and what else is about nobody; never an id, a name or a photo's path.

    Raises:
        UserError: the log can't be written.
    """
    now = datetime.datetime.now(datetime.UTC)
    entry = {
        "time": now.isoformat(timespec="milliseconds"),
        "event": event,
        "user": user(),
        "host": socket.gethostname(),
        **facts,
    }
    if place.remote:
        name = f"{OBJECTS}{now:%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}.json"
        place.write(name, json.dumps(entry).encode() + b"\n")
        return
    try:
        handle = os.open(place.folder / LOG, os.O_RDWR | os.O_CREAT | os.O_APPEND | NO_LINK, PRIVATE)
        try:
            lock(handle, wait=True)  # identify notes too, beside the one that may write
            before = _last_line(handle)
            line = json.dumps({**entry, "previous": sha256_bytes(before.strip()) if before else START}).encode()
            # A line that a kill tore is closed, so that it spoils only itself.
            os.write(handle, (b"\n" if before and not before.endswith(b"\n") else b"") + line + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise UserError(
            f"{place}/{LOG}: can't be written ({error.strerror}), and nothing is done with a gallery unlogged; "
            "free space, or check the owner of the gallery's folder"
        ) from error


def read(place: Place) -> AuditLog:
    """Every entry, oldest first, and whether the lines still follow from each other."""
    if place.remote:
        names = sorted(name for name in place.files() if name.startswith(OBJECTS))
        return AuditLog(tuple(json.loads(place.read(name) or b"{}") for name in names), None)
    entries: list[dict[str, Any]] = []
    broken = None
    expected = START
    for number, line in enumerate((place.read(LOG) or b"").splitlines(), 1):
        try:
            entry = json.loads(line)
            entries.append(entry)
            follows = entry["previous"] == expected
        except (ValueError, KeyError, TypeError):
            follows = False
        if not follows and broken is None:
            broken = number
        expected = sha256_bytes(line.strip())
    return AuditLog(tuple(entries), broken)


def _last_line(handle: int) -> bytes:
    """The last line of an open file, with its end."""
    size = os.fstat(handle).st_size
    start = size
    tail = b""
    while start > 0 and b"\n" not in tail[:-1]:
        start = max(0, start - 4096)
        tail = read_at(handle, size - start, start)
    lines = tail.splitlines(keepends=True)
    return lines[-1] if lines else b""
