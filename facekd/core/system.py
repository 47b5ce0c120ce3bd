"""What systems do each in their own way: locks, syncing, reserving room, reading at a place, whose a file is.

Linux has all of it, macOS lacks two, Windows most. The substitute of each stands beside it, so that no other file asks
which system it runs on.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

# Windows locks bytes, and whoever reads a locked one is refused: one far behind the end of any file is taken.
LOCKED_BYTE = 0x7FFF_FFF0
ZEROS = bytes(1 << 20)
# What is written to in place is never a link: somebody else who may write the folder could have put it there. Windows
# asks who makes a link for a right instead.
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_moving = threading.Lock()  # a handle has one place, for all threads


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def lock(handle: int, *, wait: bool = False) -> None:
    """Lock an open file for this process, until it is closed; the system lets it go when the process dies.

    Args:
        wait: until another process lets it go.

    Raises:
        BlockingIOError: another process has it, and it is not waited for.
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        _lock_byte(handle, wait)
        return
    fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut; Windows opens no folder, and it is left to the system."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """The block has the folder for itself, among those that ask so; they wait. Windows, and file systems that lock no
    folder, leave it to chance."""
    if os.name == "nt":
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            lock(handle, wait=True)
        yield
    finally:
        os.close(handle)


def is_free(folder: Path) -> bool:
    """Whether nobody has `locked_folder`; False where that can't be known."""
    if os.name == "nt":
        return False
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # it went meanwhile
        return False
    try:
        lock(handle)
    except OSError:  # another has it, or nothing is locked there
        return False
    finally:
        os.close(handle)
    return True


def reserve(handle: int, size: int) -> None:
    """Take room on the disk for the first `size` bytes of a new, empty file, which are zeros.

    Raises:
        OSError: there is no room.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
        return
    while size > 0:  # a file with holes would take it only when it is written
        size -= os.write(handle, ZEROS[: min(size, len(ZEROS))])


def read_at(handle: int, size: int, offset: int) -> bytes:
    """At most `size` bytes of an open file from `offset` on; any thread may."""
    if hasattr(os, "pread"):
        return os.pread(handle, size, offset)
    with _moving:
        before = os.lseek(handle, 0, os.SEEK_CUR)
        try:
            os.lseek(handle, offset, os.SEEK_SET)
            return os.read(handle, size)
        finally:
            os.lseek(handle, before, os.SEEK_SET)


def is_own(found: os.stat_result) -> bool:
    """Whether a file belongs to this user; on Windows, where the user's own folders keep others out, it is taken to."""
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()


def user() -> str:
    """The name of this user, or its number where it has none, as in containers."""
    with contextlib.suppress(OSError, KeyError, ImportError):
        return getpass.getuser()
    return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def _lock_byte(handle: int, wait: bool) -> None:
    import msvcrt

    with _moving:
        before = os.lseek(handle, 0, os.SEEK_CUR)
        try:
            while True:
                os.lseek(handle, LOCKED_BYTE, os.SEEK_SET)
                try:
                    msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]  # Windows has it
                    return
                except OSError as error:
                    if not wait:
                        raise BlockingIOError(error.errno, "another process has locked the file") from error
                time.sleep(0.05)
        finally:
            os.lseek(handle, before, os.SEEK_SET)
