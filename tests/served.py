"""A real server in a process of its own, and a client that speaks plain HTTP to it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

START = 60  # seconds


@dataclass(frozen=True)
class Said:
    """A response."""

    status: int
    headers: Mapping[str, str]  # by their names in small letters
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """One sentence and nothing else."""
        sentence = self.json["error"]
        assert isinstance(sentence, str)
        assert "\n" not in sentence
        return sentence


@dataclass
class Served:
    """A running server."""

    process: subprocess.Popen[str]
    host: str
    port: int
    log: Path  # all that it said

    def ask(
        self,
        path: str,
        body: bytes | None = None,
        kind: str = "application/octet-stream",
        method: str = "POST",
        timeout: float = 60,
        **headers: str,
    ) -> Said:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        try:
            connection.request(method, path, body, ({"Content-Type": kind} if body is not None else {}) | named)
            found = connection.getresponse()
            return Said(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Said:
        return self.ask(path, method="GET", **headers)

    def form(self, path: str, *photos: bytes, fields: Mapping[str, str] | None = None, **headers: str) -> Said:
        """A request with a form."""
        body, kind = form(photos, fields or {})
        return self.ask(path, body, kind, **headers)

    def end(self, number: int = signal.SIGTERM) -> int:
        """The exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(START)


def form(photos: Sequence[bytes], fields: Mapping[str, str]) -> tuple[bytes, str]:
    """The body of a form and its type."""
    edge = secrets.token_hex(16)
    parts = [(f'name="{name}"', value.encode()) for name, value in fields.items()]
    parts += [(f'name="photo"; filename="{place}.png"', photo) for place, photo in enumerate(photos)]
    body = b"".join(
        f"--{edge}\r\nContent-Disposition: form-data; {what}\r\n\r\n".encode() + data + b"\r\n" for what, data in parts
    )
    return body + f"--{edge}--\r\n".encode(), f"multipart/form-data; boundary={edge}"


@contextlib.contextmanager
def serving(
    gallery: Path, log: Path, *flags: object, environ: Mapping[str, str] | None = None, **how: Any
) -> Iterator[Served]:
    """A server of `gallery` at a free port, killed afterwards if it still runs."""
    command = [sys.executable, "-m", "facekd", "serve", str(gallery), "--port", "0", *map(str, flags)]
    with open(log, "w") as said:
        process = subprocess.Popen(
            command, stdout=said, stderr=said, text=True, env={**os.environ, **(environ or {})}, **how
        )
    try:
        yield Served(process, *_address(process, log), log)
    finally:
        process.kill()
        process.wait()


def _address(process: subprocess.Popen[str], log: Path) -> tuple[str, int]:
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
        if found := re.search(r"served at http://\[?([^]]+?)\]?:(\d+);", log.read_text()):
            return found[1], int(found[2])
    raise AssertionError(log.read_text())
