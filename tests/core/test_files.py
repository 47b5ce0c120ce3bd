"""A file appears whole or not at all, also when the process is killed."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from facekd.cli import run
from facekd.commands.sweep_grid import read_grid
from facekd.core.contract import read_contract
from facekd.core.files import (
    atomic_write,
    read_json,
    read_yaml,
    sha256_bytes,
    sha256_file,
    unquoted,
    write_csv,
    write_json,
    write_text,
)
from facekd.errors import UserError


def test_a_file_is_private_and_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deep" / "ünï.json"
    write_json(path, {"name": "Zoë", "rates": [0.5, None]})
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_json(path) == {"name": "Zoë", "rates": [0.5, None]}
    write_json(path, [1])
    assert read_json(path) == [1]
    assert os.listdir(path.parent) == [path.name]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_text(path, "old")
    with contextlib.suppress(RuntimeError), atomic_write(path) as file:
        file.write(b"new, but")
        file.flush()
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_nothing_is_there_before_the_block_ends(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "file") as file:
        file.write(b"x" * 100_000)
        file.flush()
        assert not (tmp_path / "file").exists()
    assert (tmp_path / "file").stat().st_size == 100_000


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {"rate": -float("inf")}])
def test_numbers_that_json_lacks_are_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "x.json", value)
    assert os.listdir(tmp_path) == []


def test_places_that_can_not_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    for path in (tmp_path / "file" / "below", tmp_path / ("n" * 300), tmp_path / "folder", tmp_path / "a\0b"):
        with pytest.raises((UserError, ValueError), match=r"can't be written|null") as error:
            write_text(path, "x")
        assert str(tmp_path) in str(error.value) or "null" in str(error.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs Linux's /dev/full")
def test_a_full_disk_is_the_users_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: Path, flags: int, mode: int = 0) -> int:
        return opened("/dev/full", os.O_WRONLY)

    opened = os.open
    monkeypatch.setattr(os, "open", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_text(tmp_path / "x", "text")


WRITER = """
import sys
from pathlib import Path
from facekd.core.files import write_bytes
path, number = Path(sys.argv[1]), 0
print("ready", flush=True)
while True:
    number += 1
    write_bytes(path, bytes([number % 256]) * 3_000_000)
"""


def test_kill_9_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for round_ in range(6):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.05 + 0.013 * round_)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if path.exists():
            data = path.read_bytes()
            assert len(data) == 3_000_000
            assert len(set(data)) == 1
    assert path.exists()
    # What the kill left aside is hidden and named so that nobody reads it.
    assert all(p.name == "file" or (p.name.startswith(".file.") and p.suffix == ".part") for p in tmp_path.iterdir())


def test_digests(tmp_path: Path) -> None:
    assert sha256_bytes(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    data = bytes(range(256)) * 5000
    (tmp_path / "x").write_bytes(data)
    assert sha256_file(tmp_path / "x") == hashlib.sha256(data).hexdigest()
    for wrong in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError, match="can't be read"):
            sha256_file(wrong)


@pytest.mark.parametrize("text", ["", "{", "nope", '{"a": 1,}'])
def test_a_file_that_is_no_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "x").write_text(text)
    with pytest.raises(UserError, match="not readable as JSON"):
        read_json(tmp_path / "x")
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


def test_a_table_that_no_spreadsheet_takes_for_formulas(tmp_path: Path) -> None:
    values = ["=cmd|' /C calc'!A0", "+1", "-1", "@x", "'", "'=x", "plain", "a,b", 'say "x"', "two\nlines", ""]
    write_csv(tmp_path / "t.csv", ["name"], [[value] for value in values])
    with open(tmp_path / "t.csv", newline="") as file:
        rows = [row[0] for row in csv.reader(file)][1:]
    assert not any(row.startswith(("=", "+", "-", "@")) for row in rows)
    assert [unquoted(row) for row in rows] == values


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("data: &a [*a]", "a list that holds itself"),
        ("data: &a {b: [*a]}", "a mapping that holds itself"),
        ("data: !!set {a: , b: }", "a set"),
        ("data: !!binary aGk=", "binary data"),
        ("a: [", "not readable as YAML"),
        ("data: " + "[" * 5000, "nested too deeply"),
    ],
)
def test_yaml_that_no_flag_takes_is_refused_in_a_sentence(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=rf"odd\.yaml: .*{why}"):
        read_yaml(path, "mend it")
    for read in (read_contract, partial(read_grid, random_teacher=tmp_path)):
        with pytest.raises(UserError, match=r"odd\.yaml: "):
            read(path)
    assert run(["distill", "--config", str(path)]) == 2


def test_yaml_may_refer_to_a_value_many_times(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60)))
    assert read_yaml(path, "")["a1"] == [[1], [1]]
