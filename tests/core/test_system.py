"""What other systems lack has a substitute that works, and no other file asks which system it runs on."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import facekd
from facekd.core import system

PACKAGE = Path(facekd.__file__).parent
# A Windows of our own: no fcntl, and a msvcrt that locks bytes by the POSIX calls of the fcntl that is hidden.
WINDOWS = """
import errno, importlib.abc, os, sys, types
import fcntl as hidden
del sys.modules["fcntl"]

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "fcntl":
            raise ModuleNotFoundError("No module named 'fcntl'", name=name)

sys.meta_path.insert(0, Blocked())
msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_NBLCK = 2

def locking(handle, mode, size):
    assert (mode, size) == (2, 1)
    assert os.lseek(handle, 0, os.SEEK_CUR) > 1 << 30, "a byte that others read would be locked"
    try:
        hidden.lockf(handle, hidden.LOCK_EX | hidden.LOCK_NB, size)
    except OSError:
        raise PermissionError(errno.EACCES, "Permission denied") from None

msvcrt.locking = locking
sys.modules["msvcrt"] = msvcrt
"""
HOLDS = """
import sys, time
from pathlib import Path
from facekd.core.files import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""
NOTES = """
import sys
from facekd.gallery import audit
from facekd.gallery.place import Place
for number in range(20):
    audit.note(Place(sys.argv[1]), "identify", {"number": number})
"""


def started(code: str, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("here", ["", WINDOWS])
def test_one_process_holds_a_folder_and_a_dead_one_lets_it_go(here: str, tmp_path: Path) -> None:
    first = started(here + HOLDS, tmp_path, 60)
    assert first.stdout is not None
    assert first.stdout.readline() == "held\n"
    second = started(here + HOLDS, tmp_path, 0)
    assert "another command is writing it; run this again when it is done" in second.communicate()[1]
    first.kill()
    first.communicate()
    third = started(here + HOLDS, tmp_path, 0)
    assert third.communicate()[0] == "held\n"
    assert third.returncode == 0


@pytest.mark.parametrize("here", ["", WINDOWS])
def test_those_that_wait_for_a_lock_all_get_it(here: str, tmp_path: Path) -> None:
    from facekd.gallery import audit
    from facekd.gallery.place import Place

    writers = [started(here + NOTES, tmp_path) for _ in range(3)]
    for writer in writers:
        assert writer.communicate()[1] == ""
    log = audit.read(Place(str(tmp_path)))
    assert len(log.entries) == 60
    assert log.broken_at is None


def test_a_file_is_read_at_a_place_by_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pread")
    path = tmp_path / "numbers"
    path.write_bytes(b"".join(b"%07d\n" % number for number in range(2000)))
    with open(path, "rb") as file, ThreadPoolExecutor(8) as pool:
        file.seek(5)
        found = list(pool.map(lambda number: int(system.read_at(file.fileno(), 8, 8 * number)), range(2000)))
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 5
    assert found == list(range(2000))


def test_room_is_taken_where_the_system_has_no_call_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    handle = os.open(tmp_path / "rows", os.O_RDWR | os.O_CREAT)
    system.reserve(handle, 3 * len(system.ZEROS) + 7)
    os.close(handle)
    assert (tmp_path / "rows").read_bytes() == bytes(3 * len(system.ZEROS) + 7)


def test_the_rest_has_an_answer_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 1 <= system.cores() <= (os.cpu_count() or 1)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert system.cores() == (os.cpu_count() or 1)
    system.sync_folder(tmp_path)
    assert system.is_own(tmp_path.stat())
    monkeypatch.delattr(os, "geteuid", raising=False)
    assert system.is_own(tmp_path.stat())

    def nobody() -> str:
        raise ImportError("No module named 'pwd'")

    monkeypatch.setattr("getpass.getuser", nobody)
    assert system.user() == str(os.getuid())
    monkeypatch.delattr(os, "getuid")
    assert system.user() == "unknown"
    monkeypatch.setattr(os, "name", "nt")
    system.sync_folder(tmp_path / "none")  # Windows would refuse to open any
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError):
        system.sync_folder(tmp_path / "none")


def test_no_other_file_asks_for_what_a_system_may_lack() -> None:
    lacking = {"fcntl", "msvcrt", "pwd", "sched_getaffinity", "pread", "posix_fallocate", "geteuid", "getuid"}
    wrong = []
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 100
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {node.attr} if isinstance(node, ast.Attribute) else set()
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            wrong += [f"{path.name}: {name}" for name in names & lacking if path.name != "system.py"]
    assert not wrong
