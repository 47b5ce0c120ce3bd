"""A run that is asked to end ends where it can go on."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

TERMINATED = 128 + signal.SIGTERM  # exit code, as a shell gives it


@contextlib.contextmanager
def asked_to_stop() -> Iterator[list[signal.Signals]]:
    """What asked: SIGTERM, or Ctrl-C's SIGINT, which otherwise would end the process between two checkpoints.

    A second Ctrl-C ends it at once.
    """
    asked: list[signal.Signals] = []
    if threading.current_thread() is not threading.main_thread():  # only there can a signal be caught
        yield asked
        return
    before = {one: signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(signal.Signals(number))
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, before[signal.SIGINT])

    for one, handler in before.items():
        if handler is not signal.SIG_IGN:  # as a shell starts what it runs in the background, or nohup
            signal.signal(one, note)
    try:
        yield asked
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
