"""The server: where it listens, who may ask, and how much at once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from facekd.errors import UserError
from facekd.settings.group import FIRST, settings


@settings("Server")
class Listening:
    """Where the server listens and who may ask."""

    host: Annotated[str, FIRST] = "127.0.0.1"
    """Address to listen at. Any that other machines can reach, such as 0.0.0.0, needs a token."""
    port: Annotated[int, FIRST] = 8000
    """Port to listen at; 0 takes a free one."""
    token_file: Path | None = None
    """File with the token that clients send as 'Authorization: Bearer TOKEN', readable by its owner only; without it
    the environment variable FACEKD_TOKEN counts."""

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise UserError(f"--port {self.port}: a port is from 0 to 65535")


@settings("Server")
class UploadLimits:
    """How much may come in one request, and how many at once."""

    max_photo_mb: float = 16.0
    """Largest photo taken, in MB of its file."""
    max_photos: int = 16
    """Most photos taken in one request."""
    waiting: int = 64
    """Requests that may wait for a core or be worked at; one more is refused with 503."""

    def __post_init__(self) -> None:
        if not 0 < self.max_photo_mb <= 256:
            raise UserError(f"--max-photo-mb {self.max_photo_mb:g}: give more than 0 and at most 256")
        for name in ("max_photos", "waiting"):
            if not 1 <= getattr(self, name) <= 1000:
                raise UserError(f"--{name.replace('_', '-')} {getattr(self, name)}: give 1 to 1000")
