"""An exported graph as a Core ML program, an .mlpackage, by coremltools."""

from __future__ import annotations

from pathlib import Path

import coremltools

from facekd.deploy.targets.module import read_module, traced

NORM = {"reduce_sum", "sqrt", "clip", "real_div"}  # stay fp32: rounded to fp16 the norm is 1 to 5e-4 only


def write(source: Path, out: Path, precision: str) -> None:
    """Write the network of the ONNX file `source` to `out`: an RGB image of S x S in, float32[1, D] out.

    iOS 15 and macOS 12 are the first that load it. The pixels of the image are taken as they are, 0 to 255.
    """
    net = read_module(source, "a .mlpackage")
    shape = (1, 3, net.size, net.size)
    half = coremltools.transform.FP16ComputePrecision(op_selector=lambda operation: operation.op_type not in NORM)
    made = coremltools.convert(
        traced(net),
        convert_to="mlprogram",
        inputs=[coremltools.ImageType(name="input", shape=shape, color_layout=coremltools.colorlayout.RGB)],
        outputs=[coremltools.TensorType(name="embedding")],
        compute_precision=half if precision == "fp16" else coremltools.precision.FLOAT32,
        minimum_deployment_target=coremltools.target.iOS15,
        skip_model_load=True,
    )
    made.save(str(out))
