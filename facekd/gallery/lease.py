"""The right to write a gallery on object storage, where no file can be locked.

It is one row of a LanceDB table, taken by an update that LanceDB commits only if nobody else committed meanwhile
(the server's conditional put decides). It is renewed while it is held and given back at the end; of a process that
died it runs out after LEASE. A process stopped for longer than that loses it, notices at its next write, and ends.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from facekd.errors import BusyError, UserError
from facekd.gallery.place import Place, told

TABLE = "writer"
LEASE = 300.0  # seconds; clocks of the machines have to agree within a good part of it
RENEWALS = 5  # in that time
CONTENDED = (
    "onflict",
    "concurrent writers",
)  # LanceDB's words where others committed first, at once or again and again
SCHEMA = pa.schema([("owner", pa.string()), ("host", pa.string()), ("until", pa.float64())])


@contextlib.contextmanager
def lease(connection: Any, place: Place, seconds: float = LEASE) -> Iterator[Callable[[], None]]:
    """The right to write, which one process has at a time.

    Returns:
        A function that raises UserError once the right has been lost.

    Raises:
        BusyError: another process has it.
    """
    owner = secrets.token_hex(8)
    with told(place, "written"):
        table = _table(connection)
        table.checkout_latest()
    if not _take(table, owner, seconds):
        (row,) = table.to_arrow().to_pylist()
        raise BusyError(
            f"{place}: another command is writing it, on {row['host']}; run this again when it is done, or in "
            f"{seconds / 60:.0f} minutes where it died"
        )
    lost = threading.Event()
    done = threading.Event()

    def renew() -> None:
        while not done.wait(seconds / RENEWALS):
            try:
                if not _update(table, f"owner = '{owner}'", {"until": time.time() + seconds}):
                    lost.set()
            except (OSError, RuntimeError):
                continue  # the server may be back before the right runs out; if not, another one takes it

    def check() -> None:
        if lost.is_set():
            raise UserError(f"{place}: the right to write it ran out while this command stood still; run this again")

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield check
    finally:
        done.set()
        thread.join()
        with contextlib.suppress(OSError, RuntimeError):  # it runs out by itself
            _update(table, f"owner = '{owner}'", {"owner": "", "until": 0.0})
            table.optimize()


def _table(connection: Any) -> Any:
    try:
        return connection.open_table(TABLE)
    except (ValueError, FileNotFoundError):
        pass
    try:
        first = pa.Table.from_pylist([{"owner": "", "host": "", "until": 0.0}], SCHEMA)
        return connection.create_table(TABLE, first, mode="create")
    except (ValueError, RuntimeError, OSError):  # another process has just made it
        return connection.open_table(TABLE)


def _take(table: Any, owner: str, seconds: float) -> bool:
    now = time.time()
    try:
        return _update(table, f"until < {now}", {"owner": owner, "host": socket.gethostname(), "until": now + seconds})
    except RuntimeError as error:
        if any(words in str(error) for words in CONTENDED):
            return False
        raise


def _update(table: Any, where: str, values: dict[str, Any]) -> bool:
    """Whether the row was as `where` says, and is now as `values` say."""
    return int(table.update(where=where, values=values).rows_updated) == 1
