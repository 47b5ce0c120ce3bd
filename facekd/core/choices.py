"""The names that a setting may have, in one place that loads nothing."""

from __future__ import annotations

from typing import Literal, NamedTuple

# Photos and crops.
DetectorName = Literal["yunet", "mtcnn", "facenet", "none"]
DETECTOR: DetectorName = "yunet"  # where none is asked for and none was used before
Choice = Literal["largest", "center", "best", "all"]  # which face of several
SPELLED_BEFORE = {"centre": "center"}  # in stores, run.yaml and scripts; still taken, never offered
IdentityFrom = Literal["parent", "top", "name"]  # what of a photo's path says whom it shows
Engine = Literal["local", "ray"]
Augment = Literal["plain", "occluded", "flip"]  # kinds of views, see crops.views.view_batch

# Training.
HeadName = Literal["softmax", "normsoftmax", "cosface", "arcface", "adaface", "subarcface"]
SamplerName = Literal["shuffled", "balanced", "sqrt"]
OptimizerName = Literal["muon", "sgd", "adamw"]
ScheduleName = Literal["cosine", "poly"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
Backend = Literal["onnxruntime", "openvino", "torch"]  # what runs an ONNX teacher
Combine = Literal["concat", "average"]  # several teachers


class HeadKind(NamedTuple):
    """What a head is by default; None where it has no such number."""

    margin: float | None  # radians for arcface, subarcface and adaface, a difference of cosines for cosface
    scale: float | None  # on the cosines


HEADS: dict[HeadName, HeadKind] = {
    "softmax": HeadKind(None, None),  # W x + b
    "normsoftmax": HeadKind(None, 64.0),
    "cosface": HeadKind(0.35, 64.0),
    "arcface": HeadKind(0.5, 64.0),
    "adaface": HeadKind(0.4, 64.0),
    "subarcface": HeadKind(0.5, 64.0),
}
