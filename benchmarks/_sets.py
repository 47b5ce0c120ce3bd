"""What distill_real.py and cpu45.py learn from and are judged on: the crops of teachers_real.py, and FairFace's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from _celeba import write_sets
from teachers_real import prepare

from facekd.core.files import read_json
from facekd.crops.read import read_crops

QUICK_NAMELESS = 200  # crops


@dataclass(frozen=True, slots=True)
class Sets:
    """Where they lie."""

    named: list[Path]  # CelebA less the held-out people and those of LFW
    nameless: list[Path]  # FairFace
    held: Path  # the held-out people of CelebA
    lfw: Path  # a crop store
    pairs: Path
    about: dict[str, Any]

    def count(self, files: list[Path]) -> int:
        """Crops in some of the files."""
        return sum(len(read_crops(path)) for path in files)


def sets_in(work: Path, data: Path, quick: bool) -> Sets:
    """The sets in WORK/sets, made where they are not there yet: 10 to 15 minutes on two cores."""
    sets = work / "sets"
    if not (sets / "about.json").exists():
        prepare(data, work, quick)
    if not list(sets.glob("fairface-*.parquet")):
        table = pq.read_table(data / "crops" / "fairface.parquet", columns=["image", "identity"])
        write_sets(table.slice(0, QUICK_NAMELESS) if quick else table, sets, "fairface")
    about = read_json(sets / "about.json")
    nameless = sorted(sets.glob("fairface-*.parquet"))
    named = [sets / name for name in about["files"]]
    return Sets(named, nameless, sets / "held_out.parquet", sets / "lfw", sets / "pairs.txt", about)
