"""An exported graph as OpenVINO's own .xml and .bin."""

from __future__ import annotations

from pathlib import Path

import openvino


def write(source: Path, out: Path, precision: str) -> None:
    """Write the network of the ONNX file `source` to `out` and the .bin beside it: [N, 3, S, S] in, [N, D] out.

    `read_model` reads ONNX without openvino's converter, which reports its use to its makers.
    """
    model = openvino.Core().read_model(str(source))
    model.set_rt_info("f32", ["facekd", "INFERENCE_PRECISION_HINT"])
    openvino.save_model(model, str(out), compress_to_fp16=precision == "fp16")
