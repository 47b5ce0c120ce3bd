"""What int8, and weights in blocks of 8 and 4 bits, cost the model that comes with facekd, and what they gain here.

    python benchmarks/int8.py            # 40 minutes on two cores; writes its result
    python benchmarks/int8.py --quick    # a few people, prints only

`facekd export --precision int8|int8-weights|int4-weights`, given crops of people of CelebA who are judged nowhere here:
some of them calibrate, the others decide what stays in float. Judged on all pairs of the 1,358 held-out people and on
LFW's pair list, beside the network itself: TAR, and its difference to the network's with its 95 % interval. Which
convolutions stay in fp32 from the start was chosen once, by cosines on crops of 151 of the held-out people, never by
rates. Cost is that of one crop on one core, in turns.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any, Literal

from _celeba import DATA, QUICK_HELD, _few_photos, held_out_identities, of_people, read_celeba, write_set
from _record import record
from default_model import costs, shown

from facekd.commands.align import align
from facekd.commands.export import export
from facekd.commands.verify import verify
from facekd.console import say
from facekd.core.files import read_json
from facekd.deploy.default import default_model
from facekd.deploy.model_json import json_beside
from facekd.errors import UserError
from facekd.evaluation.results import plain

FARS = [1e-2, 1e-3, 1e-4]
GIVEN = 400  # people, to calibrate on and to decide by
PRECISIONS: tuple[Literal["int8", "int8-weights", "int4-weights"], ...] = ("int8", "int8-weights", "int4-weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--precision", nargs="*", choices=PRECISIONS, default=PRECISIONS, help="all unless given")
    parser.add_argument("--work", type=Path, help="where exports stay and, of an earlier run, are taken from")
    parser.add_argument("--quick", action="store_true", help="a few people, prints only")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(asked, asked.work or Path(folder))
    if not asked.quick:
        record("int8", result)


def measure(asked: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Rates and cost of both files."""
    table, held = read_celeba(asked.data), held_out_identities()
    others = sorted(set(table["identity"].to_pylist()) - set(held))[:GIVEN]
    if asked.quick:
        held, others = held[:QUICK_HELD], others[: GIVEN // 4]
    given = write_set(of_people(table, others), work / "given.parquet")
    models, refused = [], {}
    for precision in asked.precision:
        path = work / f"{precision}.onnx"
        try:
            if not path.exists():
                export(default_model(), path, precision=precision, crops=given)
        except UserError as error:
            refused[precision] = str(error)
        else:
            models.append(path)
    about = {path.stem: read_json(json_beside(path)) for path in models}
    models.append(default_model())
    result: dict[str, Any] = {"cost of one crop, one core": costs([*models, default_model()])}
    result["refused"] = refused
    result["cosine to its source, median"] = {name: one["parity"]["median_cosine"] for name, one in about.items()}
    people = write_set(of_people(table, held), work / "held_out.parquet")
    found = verify(model=models, crops=people, all_pairs=True, far=FARS[: 1 if asked.quick else 3], out=work / "held")
    result["held-out people of CelebA"] = short(shown(plain(found.report)))
    say_differences(result, "held-out people of CelebA")
    photos, pairs = asked.data / "lfw.zip", asked.data / "lfw_pairs.txt"
    if asked.quick:
        pairs = work / "pairs.txt"
        photos = _few_photos(asked.data, pairs, work / "few.zip")
    align(photos, work / "lfw")
    found = verify(model=models, crops=work / "lfw", pairs=pairs, far=FARS[:2], out=work / "lfw-out")
    result["lfw"] = short(shown(plain(found.report)))
    say_differences(result, "lfw")
    return result


def short(found: dict[str, Any]) -> dict[str, Any]:
    """TAR with its interval, and the differences to the network itself."""
    keys, of = ("far_asked", "tar", "low", "high"), ("a", "far_asked", "difference", "low", "high")
    models = {
        name: {"tar": [{key: rate[key] for key in keys} for rate in one["tar"]]}
        for name, one in found["models"].items()
    }
    named = default_model().stem
    differences = [{key: one[key] for key in of} for one in found["differences"] if one["b"] == named]
    return {"models": models, "differences": differences}


def say_differences(result: dict[str, Any], where: str) -> None:
    """What each export loses, with its interval."""
    for one in result[where]["differences"]:
        if one["difference"] is not None:
            found, low, high = (100 * one[key] for key in ("difference", "low", "high"))
            far = f"{one['far_asked']:g}"
            say(f"{where}: {one['a']} at FAR {far}: {found:+.2f} points ({low:+.2f} to {high:+.2f})")


if __name__ == "__main__":
    main()
