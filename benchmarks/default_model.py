"""What the student that comes along is worth: data/models/facekd-student.onnx beside its teacher SFace.

    python benchmarks/default_model.py            # about 6 minutes on two cores; writes results/default_model.json

LFW by the pair list, crops by both detectors; all pairs of the 1,358 held-out people of CelebA
(`held_out_identities.txt`), whom neither the student nor, as far as is known, its teacher was trained on. Neither set
was used to choose anything about the student but the thresholds in its file, which are LFW's. How it was made is in
data/models/README.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from _celeba import DATA, held_out_identities, of_people, read_celeba, write_set
from _record import record

from facekd.deploy.default import default_model
from facekd.stages.align import align
from facekd.stages.verify import verify

FARS = [1e-2, 1e-3, 1e-4, 1e-5]
SHOWN = ("accuracy", "eer", "tar")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=Path("runs/default_model"))
    given = parser.parse_args()
    models = [default_model(), given.data / "weights" / "sface_2021dec.onnx"]
    yunet = given.data / "weights" / "face_detection_yunet_2023mar.onnx"
    result: dict[str, Any] = {}
    for detector in ("mtcnn", "yunet"):
        crops = given.work / f"lfw-{detector}"
        align(given.data / "lfw.zip", crops, detector=detector, weights=yunet if detector == "yunet" else None)
        found = verify(
            model=models, crops=crops, pairs=given.data / "lfw_pairs.txt", far=FARS[:2], out=given.work / detector
        )
        result[f"lfw, {detector}"] = shown(found.result)
    held = given.work / "held_out.parquet"
    write_set(of_people(read_celeba(given.data), held_out_identities()), held)
    found = verify(model=models, crops=held, all_pairs=True, far=FARS, out=given.work / "held_out")
    result["held-out people of CelebA"] = shown(found.result)
    record("default_model", result)


def shown(result: dict[str, Any]) -> dict[str, Any]:
    """The rates of each model, and the differences between the two."""
    models = {Path(one["file"]).stem: {key: one[key] for key in SHOWN if key in one} for one in result["models"]}
    return {"models": models, "differences": result["differences"]}


if __name__ == "__main__":
    main()
