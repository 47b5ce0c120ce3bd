"""The thresholds that a model's export was calibrated to."""

from __future__ import annotations

import json
from pathlib import Path

import onnx

from facekd.errors import UserError

THRESHOLDS = "facekd.thresholds"  # key in an ONNX file's metadata; its value is JSON, {far: threshold}


def read_thresholds(model: Path) -> dict[float, float]:
    """FAR -> cosine threshold from the metadata of an ONNX file; empty for any model that carries none.

    Raises:
        UserError: metadata of another form.
    """
    if model.suffix != ".onnx":
        return {}
    # Only the metadata is wanted; weights in a file beside it are not read.
    entries = onnx.load(str(model), load_external_data=False).metadata_props
    text = next((entry.value for entry in entries if entry.key == THRESHOLDS), "{}")
    try:
        thresholds = {float(far): float(threshold) for far, threshold in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"{model}: its metadata {THRESHOLDS} is not {{far: threshold}} ({error}); export it again"
        ) from error
    bad = [far for far, threshold in thresholds.items() if not (0 < far < 1 and -1 <= threshold <= 1)]
    if bad:
        raise UserError(f"{model}: its metadata {THRESHOLDS} has no cosine for FAR {bad[0]:g}; export it again")
    return thresholds
