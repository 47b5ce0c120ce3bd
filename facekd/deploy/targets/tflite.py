"""An exported graph as a .tflite file, by litert-torch; LiteRT and TensorFlow Lite load it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facekd.deploy.targets.module import read_module


class PixelsLast(nn.Module):
    """A network that takes channels first, fed with channels last, as cameras and TFLite have them."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, input: Tensor) -> dict[str, Tensor]:  # its names are the names of the file's signature
        return {"embedding": self.net(input.permute(0, 3, 1, 2))}


def write(source: Path, out: Path, precision: str) -> None:
    """Write the network of the ONNX file `source` to `out`: float32[N, S, S, 3] in, float32[N, D] out, any N."""
    import litert_torch

    net = read_module(source, "a .tflite")
    example = {"input": torch.zeros(1, net.size, net.size, 3)}
    quantized = _codes_are_in_it() if precision == "int8" else None
    litert_torch.convert(PixelsLast(net).eval(), sample_kwargs=example, quant_config=quantized).export(str(out))
    if precision == "fp16":
        _halve(out)
    _free_batch(out)


def _codes_are_in_it() -> Any:
    """What tells litert-torch to compute in int8 where the network has codes on both sides, and to leave the rest."""
    from litert_torch.quantize import pt2e_quantizer, quant_config

    static = pt2e_quantizer.get_symmetric_quantization_config(is_per_channel=True, is_dynamic=False)
    return quant_config.QuantConfig(pt2e_quantizer=pt2e_quantizer.PT2EQuantizer().set_global(static))


def _free_batch(path: Path) -> None:
    """Let the file take any number of crops: it was converted for one, and only its reshapes say so.

    litert-torch's own dynamic shapes fail on a constant that is added to images of unknown number (0.10).
    """
    from ai_edge_litert.tools import flatbuffer_utils as flat

    model = flat.read_model(str(path))
    (graph,) = model.subgraphs
    for tensor in graph.tensors:
        data = model.buffers[tensor.buffer].data
        if (data is None or len(data) == 0) and len(tensor.shape) and tensor.shape[0] == 1:
            tensor.shapeSignature = np.array([-1, *tensor.shape[1:]], np.int32)
    kinds = flat.schema_fb.BuiltinOperator
    places = {kinds.RESHAPE: 1, kinds.SLICE: 2}  # the input that says how many crops come out
    for operator in graph.operators:
        place = places.get(model.operatorCodes[operator.opcodeIndex].builtinCode)
        if place is None:
            continue
        buffer = model.buffers[graph.tensors[operator.inputs[place]].buffer]
        shape = np.array(buffer.data, np.uint8).view(np.int32).copy()
        if shape[0] == 1:
            shape[0] = -1  # as many as there are
            buffer.data = shape.view(np.uint8)
            if getattr(operator.builtinOptions, "newShape", None) is not None:
                operator.builtinOptions.newShape = shape
    flat.write_model(model, str(path))


def _halve(path: Path) -> None:
    """Store the weights as fp16; they are cast when the file is loaded, or computed with where a GPU can."""
    from ai_edge_quantizer import quantizer

    job = quantizer.Quantizer(str(path))
    job.load_quantization_recipe(
        [
            {
                "regex": ".*",
                "operation": "*",
                "algorithm_key": "float_casting",
                "op_config": {
                    "weight_tensor_config": {
                        "num_bits": 16,
                        "symmetric": True,
                        "granularity": "TENSORWISE",
                        "dtype": "FLOAT",
                    },
                    "compute_precision": "FLOAT",
                    "explicit_dequantize": True,
                },
            }
        ]
    )
    job.quantize().export_model(str(path), overwrite=True)
