"""What is freed goes back to the system, and Arrow's pool is as it was."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pytest

from facekd.core.memory import give_back_memory, lean_memory


def resident() -> int:
    """Bytes."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
    return int(line.split()[1]) << 10


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_freed_memory_goes_back() -> None:
    held = [bytes(50_000) for _ in range(4000)]  # 200 MB in pieces that are no mappings of their own
    last = bytes(50_000)  # above them, so that the heap can't shrink by itself
    full = resident()
    del held
    give_back_memory()
    assert full - resident() > 150e6
    assert len(last) == 50_000


def test_arrows_pool_is_as_it_was() -> None:
    before = pa.default_memory_pool().backend_name

    def failing() -> None:
        with lean_memory():
            assert pa.default_memory_pool().backend_name == "system"
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert pa.default_memory_pool().backend_name == before
