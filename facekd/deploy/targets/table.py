"""What facekd writes beside ONNX: the ending of the file chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from facekd.errors import UserError

ONNX = ".onnx"


@dataclass(frozen=True, slots=True)
class Target:
    """A file that a device's runtime loads."""

    ending: str
    name: str  # the runtime's, as people call it
    module: str  # that writes it, in this package
    extra: str  # of facekd, which brings its converter and what runs it
    needs: tuple[str, ...]  # packages of that extra, by the names that are imported
    precisions: tuple[str, ...]
    layout: str  # of the pixels that it is fed: NHWC, NCHW, or an image of the system's own
    free_batch: bool  # or one crop at a time
    runs_here: bool
    advice: str = ""  # what an app has to do to get the embeddings that were checked
    given: str | None = None  # the input's name, where it goes by one
    made: str | None = None  # and the output's

    def input_of(self, size: int) -> dict[str, Any]:
        """What it takes, as `deploy.model_json` says it."""
        batch = None if self.free_batch else 1
        shape = [batch, 3, size, size] if self.layout == "NCHW" else [batch, size, size, 3]
        about = {"dtype": "image" if self.layout == "image" else "float32", "shape": shape, "layout": self.layout}
        return {"name": self.given, **about, "channels": "RGB", "mean": None, "std": None, "flip": False}

    def fed(self, size: int) -> str:
        """What an app feeds it, in words."""
        if self.layout == "image":
            return f"takes an RGB image of {size} x {size}"
        shape = [size, size, 3] if self.layout == "NHWC" else [3, size, size]
        several = "N" if self.free_batch else "1"
        return f"takes RGB pixels 0 to 255 as float32{[several, *shape]}".replace("'", "")


TARGETS = {
    target.ending: target
    for target in (
        Target(
            ".tflite", "LiteRT (TFLite)", "tflite", "tflite", ("torch", "litert_torch", "ai_edge_litert"),
            ("fp32", "fp16", "int8"), "NHWC", True, True, "", "input", "embedding",
        ),
        Target(
            ".ncnn.zip", "ncnn", "ncnn", "ncnn", ("torch", "pnnx", "ncnn"), ("fp32", "fp16"), "NCHW", False, True,
            "for fp32 on ARM set opt.use_fp16_packed, use_fp16_storage and use_fp16_arithmetic to false", "in0", "out0",
        ),
        Target(
            ".mlpackage", "Core ML", "coreml", "coreml", ("torch", "coremltools"), ("fp32", "fp16"), "image", False,
            False, "", "input", "embedding",
        ),
        Target(
            ".xml", "OpenVINO", "openvino", "export", ("openvino",), ("fp32", "fp16", "int8"), "NCHW", True, True,
            "compile it with INFERENCE_PRECISION_HINT=f32; some processors compute in bf16 without it", "input",
            "embedding",
        ),
        Target(
            ".pte", "ExecuTorch", "executorch", "executorch", ("torch", "executorch"), ("fp32",), "NCHW", True, True,
        ),
    )
}  # fmt: skip


def target_of(path: Path) -> Target | None:
    """The target that a file's name asks for; None for an ONNX file.

    Raises:
        UserError: another ending, or nothing before it.
    """
    ending = next((one for one in (ONNX, *TARGETS) if path.name.endswith(one)), None)
    if ending is not None and path.name != ending:
        return TARGETS.get(ending)
    raise UserError(f"{path}: the exported file's name has to end in {_listed((ONNX, *TARGETS))}; the ending chooses")


def check_target(target: Target, precision: str, input_asked: bool) -> None:
    """Pass where facekd can write it here.

    Args:
        input_asked: whether another input than the target's own is asked for.

    Raises:
        UserError: it has no such precision or input, or its converter is not installed.
    """
    if input_asked:
        raise UserError(
            f"--uint8-input and --standard-input are for ONNX: a {target.ending} takes the pixels; leave both out"
        )
    if precision not in target.precisions:
        raise UserError(
            f"--precision {precision}: facekd writes {target.ending} in {_listed(target.precisions)}; choose from these"
        )
    for package in target.needs:
        if find_spec(package) is None:
            raise UserError(f"{target.ending} needs {package}; install it with: pip install 'facekd[{target.extra}]'")


def _listed(names: Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last
