"""Where the processes of a command connect to, as the kernel is asked for it: by strace, whatever library asks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

needs_strace = pytest.mark.skipif(
    not any(os.access(Path(folder) / "strace", os.X_OK) for folder in os.get_exec_path()),
    reason="strace is not installed: apt-get install strace",
)

# What would keep libraries silent whatever facekd does.
SILENCED = ("ORT_DISABLE_TELEMETRY", "DO_NOT_TRACK", "CI", "NO_ALBUMENTATIONS_UPDATE", "RAY_USAGE_STATS_ENABLED",
            "FLWR_TELEMETRY_ENABLED", "FLWR_DISABLE_UPDATE_CHECK", "HF_HUB_OFFLINE")  # fmt: skip
PLACE = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\("|inet_pton\(AF_INET6, ")([^"]+)"')


def trace(words: list[str | Path], folder: Path, trace: Path) -> tuple[int, str, list[str]]:
    """Run ``facekd WORDS`` in `folder`, as a user without any settings for libraries would.

    Args:
        trace: the file that strace writes.

    Returns:
        Its exit code, what it printed, and each address outside this machine, and each name server anywhere, that one
        of its processes connected or sent to.
    """
    process = traced_process([str(word) for word in words], folder, trace)
    said, _ = process.communicate(timeout=600)
    return process.returncode, said, outgoing(trace.read_text(errors="replace"))


def traced_process(words: list[str], folder: Path, trace: Path) -> subprocess.Popen[str]:
    """``facekd WORDS`` begun under strace; its output and its errors come by one pipe."""
    environment = {key: value for key, value in os.environ.items() if key not in SILENCED}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    strace = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", str(trace), "-e", "trace=connect,sendto,sendmsg,sendmmsg"]
    return subprocess.Popen(
        [*strace, sys.executable, "-m", "facekd", *words],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def outgoing(trace: str) -> list[str]:
    """The addresses in strace's output that are no part of this machine, and its name servers."""
    found = set()
    for line in trace.splitlines():
        if "/run/systemd/resolve/" in line:
            found.add("systemd's resolver")
        for port, address in PLACE.findall(line):
            own = address == "::1" or address.removeprefix("::ffff:").startswith("127.")
            if not own or port == "53":
                found.add(f"{address}:{port}")
    return sorted(found)
