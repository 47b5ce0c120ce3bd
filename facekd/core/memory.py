"""Memory that was freed goes back to the system."""

from __future__ import annotations

import ctypes
import sys

import pyarrow as pa


def give_back_memory() -> None:
    """Give memory that was freed back to the system.

    LanceDB's threads and Arrow free what they read and wrote, but the C library and Arrow's pool keep it for later: a
    long enrollment would hold ever more. A few milliseconds; of a C library without malloc_trim only Arrow's part.
    """
    pa.default_memory_pool().release_unused()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
