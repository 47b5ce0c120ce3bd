"""The audit log: appended to, private, without names, and telling when it was changed."""

from __future__ import annotations

import getpass
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from facekd.errors import UserError
from facekd.gallery import audit
from facekd.gallery.place import Place


def log(tmp_path: Path, lines: int = 3) -> Place:
    place = Place.of(tmp_path)
    for number in range(lines):
        audit.note(place, "enroll", {"people": number})
    return place


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    found = audit.read(log(tmp_path))
    assert [entry["people"] for entry in found.entries] == [0, 1, 2]
    assert found.broken_at is None
    assert {entry["event"] for entry in found.entries} == {"enroll"}
    assert {entry["user"] for entry in found.entries} == {getpass.getuser()}
    assert found.entries[0]["time"] <= found.entries[2]["time"]
    assert stat.S_IMODE((tmp_path / "audit.jsonl").stat().st_mode) == 0o600
    assert audit.read(Place.of(tmp_path / "nowhere")) == audit.AuditLog((), None)


@pytest.mark.parametrize(("line", "broken"), [(0, 2), (1, 3)])
def test_a_changed_line_shows_in_the_one_after(tmp_path: Path, line: int, broken: int) -> None:
    place = log(tmp_path)
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    entry = json.loads(lines[line])
    lines[line] = json.dumps({**entry, "people": 99})
    (tmp_path / "audit.jsonl").write_text("\n".join(lines) + "\n")
    assert audit.read(place).broken_at == broken


@pytest.mark.parametrize("gone", [0, 1])
def test_a_line_taken_out_shows(tmp_path: Path, gone: int) -> None:
    place = log(tmp_path)
    lines = (tmp_path / "audit.jsonl").read_text().splitlines()
    del lines[gone]
    (tmp_path / "audit.jsonl").write_text("\n".join(lines) + "\n")
    assert audit.read(place).broken_at == gone + 1


def test_a_line_torn_by_a_kill_spoils_only_itself(tmp_path: Path) -> None:
    place = log(tmp_path)
    whole = (tmp_path / "audit.jsonl").read_bytes()
    (tmp_path / "audit.jsonl").write_bytes(whole[:-20])
    audit.note(place, "delete", {"people": 7})
    found = audit.read(place)
    assert [entry["people"] for entry in found.entries] == [0, 1, 7]
    assert found.broken_at == 3


def test_long_lines_are_chained_too(tmp_path: Path) -> None:
    place = Place.of(tmp_path)
    for number in range(3):
        audit.note(place, "enroll", {"what": "x" * 9000 * number})
    assert audit.read(place).broken_at is None


def test_processes_at_once_lose_no_line(tmp_path: Path) -> None:
    code = (
        "import sys; from facekd.gallery import audit; from facekd.gallery.place import Place\n"
        "for i in range(40): audit.note(Place.of(sys.argv[1]), 'identify', {'photos': i})"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [process.wait() for process in running] == [0, 0, 0]
    found = audit.read(Place.of(tmp_path))
    assert (len(found.entries), found.broken_at) == (120, None)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_what_can_not_be_logged_is_not_done(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").symlink_to("/dev/full")
    with pytest.raises(UserError, match="nothing is done with a gallery unlogged"):
        audit.note(Place.of(tmp_path), "enroll", {})
    with pytest.raises(UserError, match=r"can't be written \(No such file"):
        audit.note(Place.of(tmp_path / "nowhere"), "enroll", {})
