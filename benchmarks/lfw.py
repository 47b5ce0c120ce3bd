"""LFW: the external weights' 10-fold accuracy and TAR against the figures they are known to reach.

    python benchmarks/lfw.py [--data ../shared/data]

Aligns ``lfw.zip`` by YuNet and by MTCNN, verifies the three weights on the official view 2 with either's crops, and
writes ``results/lfw.json``; 15 minutes on two idle cores. The references are of YuNet's crops: a figure more than 0.3
points from its own is named, and the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from _record import record

from facekd.stages.align import DetectorName, align
from facekd.stages.verify import verify

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
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    for detector in ("yunet", "mtcnn"):
        with tempfile.TemporaryDirectory() as folder:
            crops = aligned(arguments.data, detector, Path(folder) / "crops")
            result[detector] = measure(arguments.data, crops, Path(folder) / "out")
    result["apart"] = apart(result["yunet"])
    record("lfw", result)
    print(json.dumps(result, indent=2))
    for line in result["apart"]:
        print(line)
    return 1 if result["apart"] else 0


def aligned(data: Path, detector: DetectorName, crops: Path) -> Path:
    """The crop store of every photo of lfw.zip."""
    weights = data / "weights" / "face_detection_yunet_2023mar.onnx" if detector == "yunet" else None
    align(data / "lfw.zip", crops, detector=detector, weights=weights)
    return crops


def apart(measured: dict[str, Any]) -> list[str]:
    """A line for each figure that is too far from its reference."""
    lines = []
    for name, references in REFERENCE.items():
        for key, known in references.items():
            figure = measured["models"][name]["percent"][key]
            if abs(figure - known) > MOST_APART:
                lines.append(f"{name}: {key} is {figure:.2f}, {figure - known:+.2f} from {known:.2f}")
    return lines


def measure(data: Path, crops: Path, out: Path) -> dict[str, Any]:
    """Each model's figures beside its reference."""
    weights = [data / "weights" / f"{name}.onnx" for name in REFERENCE]
    done = verify(
        model=weights, pairs=data / "lfw_pairs.txt", crops=crops, far=[1e-2, 1e-3], out=out, no_faces=True
    ).result
    models = {}
    for one, cost in zip(done["models"], done["costs"], strict=True):
        name = one["model"]
        tar = {f"tar@{rate['far_asked']:.0e}".replace("e-0", "e-"): rate for rate in one["tar"]}
        figures = {"accuracy": 100 * one["accuracy"]["mean"], **{key: 100 * rate["tar"] for key, rate in tar.items()}}
        models[name] = {
            "percent": {key: round(value, 3) for key, value in figures.items()},
            "reference_percent": REFERENCE[name],
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
