"""The names that a setting may have, in one place that loads nothing."""

from __future__ import annotations

from typing import Literal

# Photos and crops.
DetectorName = Literal["yunet", "mtcnn", "facenet", "none"]
DETECTOR: DetectorName = "yunet"  # where none is asked for and none was used before
Choice = Literal["largest", "center", "best", "all", "centre"]  # which face of several; centre: the old spelling
Engine = Literal["local", "ray"]
Augment = Literal["plain", "occluded", "flip"]  # kinds of views, see crops.views.view_batch

# Training.
HeadName = Literal["softmax", "normsoftmax", "cosface", "arcface", "adaface", "subarcface"]
SamplerName = Literal["shuffled", "balanced", "sqrt"]
OptimizerName = Literal["muon", "sgd", "adamw"]
ScheduleName = Literal["cosine", "poly"]
Precision = Literal["fp32", "bf16", "fp16"]
Backend = Literal["onnxruntime", "openvino", "torch"]  # what runs an ONNX teacher
Combine = Literal["concat", "average"]  # several teachers
