"""Enrollment: photos to gallery against the slowest stage alone, memory, the second run, the gate and the fusing.

    python benchmarks/enroll.py [--only PART ...] [--largest 50000] [--quick]

writes ``results/enroll.json``. Each part is saved when it is done; with --only the other parts in the file stay as they
were. On two idle cores, in minutes: ``overlap`` 8, ``memory`` 25 (60 with --largest 50000), ``one_person`` 3,
``fusion`` 6, ``suspects`` 4, ``gate`` 6. --quick takes 4 in all, says only whether it runs, and writes
``results/enroll-quick.json``.

``overlap``: the stages alone and the whole enrollment take turns over the same photos. Alone, a stage has every core;
together they share them, so the most that the cores allow is 1 / (sum of the stages' times); where each stage has a
core of its own, the most is the slowest stage's rate. Both shares are stated, and the core seconds of the stages alone
as a share of the enrollment's, which other work on the machine leaves as it is.

``memory``: greatest resident memory for 1,000 photos and more, LFW again and again, ten photos to a person, each with a
few bytes of its own behind its JPEG, so that no photo is another's duplicate; and the same run a second time.

``one_person``: 100,000 photos of one person, by their bytes all different.

``fusion``: every other LFW person with four photos or more is enrolled with half of them, as they are, and with every
other one of these nearly too small to be found; all other photos are searched. TPIR at FPIR by each weighting, and the
difference to the plain mean with its 95 % interval over people (bootstrap). ``facekd enroll`` weighs by log sharpness.

``suspects``: who of LFW would be held back at several thresholds; LFW has some people under two names, and some photos
under a wrong one, so not all of these are false alarms. FAR and FRR are those of all pairs of these photos.

``gate``: the TAR of LFW pairs by eye distance (photos shrunk to it), by yaw and by the detector's score.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from _enroll_parts import memory, one_person, overlap
from _enroll_quality import fusion, gate, suspects
from _record import RESULTS, record

PARTS = {
    "overlap": overlap,
    "memory": memory,
    "one_person": one_person,
    "fusion": fusion,
    "suspects": suspects,
    "gate": gate,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--largest", type=int, default=16_000, help="photos of the largest run of the part memory")
    parser.add_argument("--quick", action="store_true", help="small numbers: does it run?")
    arguments = parser.parse_args()
    name = "enroll-quick" if arguments.quick else "enroll"
    path: Path = RESULTS / f"{name}.json"
    result = json.loads(path.read_text())["result"] if path.exists() else {}
    for part in arguments.only:
        result[part] = PARTS[part](arguments.quick, arguments.largest)
        print(part, json.dumps(result[part], indent=2))
        record(name, result)


if __name__ == "__main__":
    main()
