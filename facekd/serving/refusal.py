"""What a request is refused with: one sentence and the right status."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Refusal(Exception):
    """A request that is not answered.

    Attributes:
        status: of HTTP, 4xx or 5xx.
        error: what is wrong and what to do, one sentence.
        more: what else the JSON of the answer holds.
        headers: of the answer.
    """

    def __init__(
        self, status: int, error: str, more: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(error)
        self.status, self.error = status, error
        self.more, self.headers = dict(more or {}), dict(headers or {})


def busy(error: str, seconds: int) -> Refusal:
    """503: the same request may succeed after as many seconds."""
    return Refusal(503, error, headers={"Retry-After": str(seconds)})
