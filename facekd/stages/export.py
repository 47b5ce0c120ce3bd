"""facekd export: a trained network in, one checked ONNX file out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from facekd.stages.console import say

PARITY_CROPS = 16


@dataclass(frozen=True, slots=True)
class Exported:
    """The file, and how close it is to its source."""

    path: Path
    model_id: str
    least_cosine: float
    bytes: int


def export(
    run: Path, model: Path, *, crops: Path | None = None, thresholds: Path | None = None, quiet: bool = False
) -> Exported:
    """Write a trained network as one ONNX file: any batch size, unit embeddings, its contract inside.

    The file is handed over only after its embeddings agree with the network's to a cosine of 0.9999.

    Example: facekd export runs/student student.onnx --crops crops/

    Args:
        run: The run folder of a trained network.
        model: The ONNX file to write.
        crops: A crop store to check the export on; without it noise images are used.
        thresholds: The thresholds.json of 'facekd verify' for this network; enroll takes them over with the model.
        quiet: Print nothing.
    """
    import numpy as np

    from facekd.core.files import write_bytes
    from facekd.core.run import versions
    from facekd.crops.read import read_crops
    from facekd.deploy.export import check_parity, to_onnx
    from facekd.deploy.thresholds import THRESHOLDS, measured_thresholds
    from facekd.errors import UserError
    from facekd.nets.saved import load_model

    if model.suffix != ".onnx":
        raise UserError(f"{model}: the exported file's name has to end in .onnx")
    saved = load_model(run)
    size = saved.contract.size
    if crops is None:
        checked = np.random.default_rng(0).integers(0, 256, (PARITY_CROPS, size, size, 3), np.uint8)
    else:
        crop_set = read_crops(crops)
        checked = crop_set.batch(np.arange(min(PARITY_CROPS, len(crop_set))))
    say(f"exporting {saved.name} …", quiet)
    about = {"facekd.net": saved.name, "facekd.versions": json.dumps(versions())}
    if thresholds is not None:
        about[THRESHOLDS] = json.dumps(measured_thresholds(thresholds, saved.contract.model_id))
    data = to_onnx(saved.net, saved.contract, about)
    parity = check_parity(saved.net, data, saved.contract, checked)
    write_bytes(model, data)
    say(
        f"{model}: {len(data) / 1e6:.2f} MB, model {saved.contract.model_id}; least cosine to its source "
        f"{parity.least_cosine:.7f} over {parity.crops} crops",
        quiet,
    )
    return Exported(model, saved.contract.model_id, parity.least_cosine, len(data))
