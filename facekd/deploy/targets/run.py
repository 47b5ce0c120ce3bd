"""What loads a file for a device here, so that it is checked by what it gives and not by how it was made."""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from facekd.core.types import Array
from facekd.nets.runtimes import openvino_call

Call = Callable[[Array], Array]  # uint8[N, S, S, 3] RGB crops -> float32[N, D], together where the file takes several


def runner(path: Path, ending: str, precision: str, threads: int = 1) -> Call:
    """The file at `path` in its runtime on the CPU, as one call from one thread at a time.

    Args:
        ending: key of TARGETS.
        precision: the file's; what is fp32 is computed in fp32, where the runtime has a choice.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what these packages have to say about their own parts
        run: Call = RUNNERS[ending](path, precision, threads)
    return run


def _litert(path: Path, precision: str, threads: int) -> Call:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    (fed,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    batch = None

    def call(crops: Array) -> Array:
        nonlocal batch
        if batch != len(crops):
            batch = len(crops)
            interpreter.resize_tensor_input(fed["index"], crops.shape)
            interpreter.allocate_tensors()
        interpreter.set_tensor(fed["index"], crops.astype(np.float32))
        interpreter.invoke()
        found: Array = interpreter.get_tensor(made["index"])
        return found

    return call


def _ncnn(path: Path, precision: str, threads: int) -> Call:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_vulkan_compute = False
    if precision == "fp32":
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
    with tempfile.TemporaryDirectory(prefix="facekd-ncnn-") as folder, zipfile.ZipFile(path) as packed:
        param, weights = sorted(packed.namelist(), reverse=True)  # .param, .bin
        packed.extractall(folder)
        net.load_param(str(Path(folder) / param))
        net.load_model(str(Path(folder) / weights))

    def one(crop: Array) -> Array:
        height, width, _ = crop.shape
        pixels = ncnn.Mat.from_pixels(np.ascontiguousarray(crop), ncnn.Mat.PixelType.PIXEL_RGB, width, height)
        extractor = net.create_extractor()
        extractor.input("in0", pixels)
        return np.array(extractor.extract("out0")[1])

    return lambda crops: np.stack([one(crop) for crop in crops])


def _openvino(path: Path, precision: str, threads: int) -> Call:
    call = openvino_call(path, "embedding", threads)
    return lambda crops: call(_planes(crops))


def _executorch(path: Path, precision: str, threads: int) -> Call:
    import torch
    from executorch.runtime import Runtime

    method = Runtime.get().load_program(str(path)).load_method("forward")
    largest = method.metadata.input_tensor_meta(0).sizes()[0]

    def call(crops: Array) -> Array:
        pieces = [torch.from_numpy(_planes(crops[at : at + largest])) for at in range(0, len(crops), largest)]
        return np.concatenate([method.execute([piece])[0].numpy().copy() for piece in pieces])

    return call


def _mil(path: Path, precision: str, threads: int) -> Call:
    from facekd.deploy.targets.mil import program

    call = program(path)
    return lambda crops: np.concatenate([call(_planes(crop[None])) for crop in crops])


def _planes(crops: Array) -> Array:
    return np.ascontiguousarray(crops.transpose(0, 3, 1, 2)).astype(np.float32)


RUNNERS: dict[str, Callable[[Path, str, int], Any]] = {
    ".tflite": _litert,
    ".ncnn.zip": _ncnn,
    ".mlpackage": _mil,
    ".xml": _openvino,
    ".pte": _executorch,
}
