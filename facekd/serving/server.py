"""Runs the application: the socket, slow clients, and an end that loses nothing."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from facekd.errors import UserError

HEAD = 10.0  # seconds for the head of a request
IDLE = 15  # seconds that a connection stays open between two requests
CONNECTIONS = 512
GRACE = 60  # seconds for running requests at the end


class Door(H11Protocol):
    """A connection that is closed where the head of a request does not come: uvicorn would wait forever."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        """Wait for a head, from the first moment on that one can come; idle connections are uvicorn's."""
        if self.conn.their_state is not h11.IDLE:
            self._unwatch()
        elif self._late is None and self.timeout_keep_alive_task is None:
            self._late = self.loop.call_later(HEAD, self._close)

    def _unwatch(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _close(self) -> None:
        self._late = None
        self.transport.close()


def bound(host: str, port: int) -> socket.socket:
    """A socket at an address; port 0 takes a free one.

    Raises:
        UserError: the address is another's, or not this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        made = socket.socket(family, kind, protocol)
    except OSError as error:
        raise UserError(f"--host {host}: is no address of this machine ({error.strerror or error})") from error
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(CONNECTIONS)  # who connects before the server is ready waits
    except OSError as error:
        made.close()
        raise UserError(
            f"--host {host} --port {port}: can't be listened at ({error.strerror}); give another --port"
        ) from error
    return made


def run(app: Any, at: socket.socket) -> None:
    """Answer until SIGTERM or SIGINT; requests that are running then are finished.

    No line is logged of a request: whoever is asked for might stand in it.
    """
    config = uvicorn.Config(
        app,
        http=Door,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=GRACE,
        limit_concurrency=CONNECTIONS,
        backlog=CONNECTIONS,
    )
    with _ended_by_signals():
        uvicorn.Server(config).run(sockets=[at])


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more; here that is what a server's end is like, not a death."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
