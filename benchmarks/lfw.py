"""LFW: what each detector's crops are worth to five networks, and three of them against the figures known of them.

    python benchmarks/lfw.py [--data ../shared/data] [--before FORMER.onnx]

Aligns ``lfw.zip`` by the default detector, by YuNet with its own landmarks (``yunet_raw``) and by MTCNN, verifies the
networks on the official view 2 with each one's crops, and writes ``results/lfw.json``; half an hour on two idle cores.
The references are of YuNet's own landmarks: a figure more than 0.3 points from its own is named, and the exit code is
then 1. `--before` adds a former default: ``git show 8f2676c:data/models/facekd-student.onnx``.
"""

from __future__ import annotations

import argparse
import functools
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from _record import record

from facekd.commands.align import align
from facekd.commands.verify import verify
from facekd.core.system import cores
from facekd.crops.store import CropStore
from facekd.deploy.default import default_model
from facekd.engines import local
from facekd.evaluation.results import plain
from facekd.faces import yunet
from facekd.ingest.alignment import BATCH, align_batch
from facekd.photos.find import find_photos

DATA = Path(__file__).parents[2] / "shared" / "data"
# Percent, as measured with other code on YuNet crops without flip: the data folder's README.
REFERENCE = {
    "w600k_mbf": {"accuracy": 99.55, "tar@1e-3": 99.37},
    "sface_2021dec": {"accuracy": 99.33, "tar@1e-3": 98.80},
    "foamliu_mobilefacenet": {"accuracy": 98.85, "tar@1e-3": 96.97},
}
MOST_APART = 0.3  # points


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA, help="folder of lfw.zip, lfw_pairs.txt and weights/")
    parser.add_argument("--before", type=Path, help="a former default model, beside the others")
    arguments = parser.parse_args()
    networks = [arguments.data / "weights" / f"{name}.onnx" for name in REFERENCE] + [default_model()]
    networks += [arguments.before] if arguments.before else []
    result: dict[str, Any] = {}
    for detector in ("yunet", "yunet_raw", "mtcnn"):
        with tempfile.TemporaryDirectory() as folder:
            crops = aligned(arguments.data, detector, Path(folder) / "crops")
            result[detector] = measure(networks, arguments.data, crops, Path(folder) / "out")
    for detector in ("yunet", "yunet_raw"):
        result[f"points_{detector}_above_mtcnn"] = above(result[detector], result["mtcnn"])
    result["apart"] = apart(result["yunet_raw"])
    record("lfw", result)
    print(json.dumps(result, indent=2))
    for line in result["apart"]:
        print(line)
    return 1 if result["apart"] else 0


def aligned(data: Path, detector: str, crops: Path) -> Path:
    """The crop store of every photo of lfw.zip."""
    if detector != "yunet_raw":
        align(data / "lfw.zip", crops, detector=detector)  # type: ignore[arg-type]
        return crops
    store = CropStore.create(crops, {"detector": detector, "min_face": 20, "size": 112, "template": "arcface"})
    function = partial(align_batch, make_detector=raw_yunet, choose="best", min_face=20, size=112)
    photos = local.batches(find_photos(data / "lfw.zip").photos, BATCH)
    store.append([record for records in local.map_ordered(function, photos, cores()) for record in records])
    return crops


@functools.cache
def raw_yunet() -> Any:
    """The default detector without its second opinion on landmarks."""
    detect = yunet.load(refined=False)
    return lambda photos: [detect(photo) for photo in photos]


def above(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, dict[str, float]]:
    """How many points each network has more on `ours` than on `theirs`."""
    return {
        name: {key: round(value - theirs["models"][name]["percent"][key], 3) for key, value in one["percent"].items()}
        for name, one in ours["models"].items()
    }


def apart(measured: dict[str, Any]) -> list[str]:
    """A line for each figure that is too far from its reference."""
    lines = []
    for name, references in REFERENCE.items():
        for key, known in references.items():
            figure = measured["models"][name]["percent"][key]
            if abs(figure - known) > MOST_APART:
                lines.append(f"{name}: {key} is {figure:.2f}, {figure - known:+.2f} from {known:.2f}")
    return lines


def measure(networks: list[Path], data: Path, crops: Path, out: Path) -> dict[str, Any]:
    """Each model's figures beside its reference."""
    done = plain(
        verify(
            model=networks, pairs=data / "lfw_pairs.txt", crops=crops, far=[1e-2, 1e-3], out=out, no_faces=True
        ).report
    )
    models = {}
    for one, cost in zip(done["models"], done["costs"], strict=True):
        name = one["model"]
        tar = {f"tar@{rate['far_asked']:.0e}".replace("e-0", "e-"): rate for rate in one["tar"]}
        figures = {"accuracy": 100 * one["accuracy"]["mean"], **{key: 100 * rate["tar"] for key, rate in tar.items()}}
        models[name] = {
            "percent": {key: round(value, 3) for key, value in figures.items()},
            "reference_percent": REFERENCE.get(name),
            "accuracy_std": one["accuracy"]["std"],
            "intervals": {key: [rate["low"], rate["high"]] for key, rate in tar.items()},
            "interval": one["interval"],
            "failures_to_enrol": one["failures_to_enrol"],
            "cost": cost,
        }
    settings = json.loads((crops / "store.json").read_text())
    return {"crops": settings, "pairs": done["pairs"]["left_out"], "models": models}


if __name__ == "__main__":
    sys.exit(main())
