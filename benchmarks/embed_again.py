"""How much quicker `facekd embed` is where an earlier run has embedded every photo.

    python benchmarks/embed_again.py LFW.zip     # 2 minutes on quiet cores; writes results/embed_again.json

The command line in a process of its own, as a user runs it, with the model and the detector that come along: once
for all photos, then nine times with nothing new. Seconds on the clock, and seconds of the cores, which say the same on
a machine that has other work.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from _record import record

ROUNDS = 9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "e.parquet"
        first = seconds(args.photos, out)
        again = [seconds(args.photos, out) for _ in range(ROUNDS)]
        rows = pq.read_metadata(out).num_rows
    clock, cores = (statistics.median(one[place] for one in again) for place in (0, 1))
    result = {
        "embeddings": rows,
        "first": {"clock_s": first[0], "cores_s": first[1]},
        "nothing_new": {"clock_s": clock, "cores_s": cores, "rounds": again},
        "times_quicker": {"clock": round(first[0] / clock, 1), "cores": round(first[1] / cores, 1)},
    }
    print(result)
    record("embed_again", result)


def seconds(photos: Path, out: Path) -> tuple[float, float]:
    """Of one run: on the clock, and of all cores."""
    before, start = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "facekd", "embed", "--quiet", str(photos), str(out)]
    subprocess.run(command, check=True)
    clock, after = time.perf_counter() - start, os.times()
    own = after.children_user + after.children_system - before.children_user - before.children_system
    return round(clock, 3), round(own, 3)


if __name__ == "__main__":
    main()
