"""What a person sees of a long command, on a real terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
WORDS = "loss 24.55 (labels 5.497, logits 0.924, embedding 18.12), lr 0.00691, 31.5 crops/s"
SCRIPT = f"""
from facekd.console import progress
for _ in progress(range(3), 3, "student", before=0, tell=lambda _: {WORDS!r}):
    pass
"""


def shown_on_a_terminal(columns: int) -> str:
    """What the script leaves on a terminal of so many columns, without what steers it."""
    parent, child = pty.openpty()
    environ = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=child, env=environ) as process:
        os.close(child)
        parts = []
        while True:
            try:
                part = os.read(parent, 65536)
            except OSError:  # Linux says so that the other end is closed
                break
            if not part:
                break
            parts.append(part)
    os.close(parent)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", b"".join(parts).decode())


def test_a_narrow_terminal_shows_the_bar_the_time_and_all_words() -> None:
    last = shown_on_a_terminal(60).replace("\r", "\n").split("student")[-1]
    first, *below = [line.strip() for line in last.splitlines() if line.strip()]
    assert re.search(r"3/3 0:00:0\d 0:00:00", first)
    assert " ".join(below) == WORDS
