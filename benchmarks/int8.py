"""What int8 costs the model that comes with facekd, and what it gains on this machine.

    python benchmarks/int8.py            # 10 minutes on two cores; writes its result
    python benchmarks/int8.py --quick    # a few people, prints only

`facekd export --precision int8`, its ranges taken from crops of people of CelebA who are judged nowhere here; judged on
all pairs of the 1,358 held-out people and on LFW's pair list, beside the network itself. The one quantity of the file
that was chosen, which convolutions stay in fp32, was chosen by cosines on crops of 151 of the held-out people, never by
rates. Cost is that of one crop on one core, in turns.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from _celeba import DATA, QUICK_HELD, _few_photos, held_out_identities, of_people, read_celeba, write_set
from _record import record
from default_model import costs, shown

from facekd.commands.align import align
from facekd.commands.export import export
from facekd.commands.verify import verify
from facekd.deploy.default import default_model
from facekd.evaluation.results import plain

FARS = [1e-2, 1e-3, 1e-4]
CALIBRATION = 60  # people


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--quick", action="store_true", help="a few people, prints only")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(asked, Path(folder))
    if not asked.quick:
        record("int8", result)


def measure(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Rates and cost of both files."""
    table, held = read_celeba(asked.data), held_out_identities()
    others = sorted(set(table["identity"].to_pylist()) - set(held))[:CALIBRATION]
    if asked.quick:
        held = held[:QUICK_HELD]
    ranges = write_set(of_people(table, others), work / "ranges.parquet")
    small = work / "facekd-int8.onnx"
    export(default_model(), small, precision="int8", crops=ranges)
    models = [small, default_model()]
    result: dict[str, Any] = {"cost of one crop, one core": costs([*models, default_model()])}
    people = write_set(of_people(table, held), work / "held_out.parquet")
    found = verify(model=models, crops=people, all_pairs=True, far=FARS[: 1 if asked.quick else 3], out=work / "held")
    result["held-out people of CelebA"] = shown(plain(found.report))
    photos, pairs = asked.data / "lfw.zip", asked.data / "lfw_pairs.txt"
    if asked.quick:
        pairs = work / "pairs.txt"
        photos = _few_photos(asked.data, pairs, work / "few.zip")
    align(photos, work / "lfw")
    found = verify(model=models, crops=work / "lfw", pairs=pairs, far=FARS[:2], out=work / "lfw-out")
    result["lfw"] = shown(plain(found.report))
    return result


if __name__ == "__main__":
    main()
