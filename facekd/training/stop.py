"""A run that is asked to end ends where it can go on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

TERMINATED = 128 + signal.SIGTERM  # exit code, as a shell gives it


@contextlib.contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, which otherwise would end the process between two checkpoints."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only there can a signal be caught
        yield asked
        return
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
