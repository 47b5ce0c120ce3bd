"""Memory that was freed goes back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator

import pyarrow as pa


@contextlib.contextmanager
def lean_memory() -> Iterator[None]:
    """Arrow takes its memory from the C library meanwhile: its own pool keeps, thread by thread, what was freed."""
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def give_back_memory() -> None:
    """Give memory that was freed back to the system.

    The threads of LanceDB and Arrow free what they read and wrote, but the C library keeps it for later: a long
    enrollment would hold ever more. A few milliseconds; nothing where the C library has no malloc_trim.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
