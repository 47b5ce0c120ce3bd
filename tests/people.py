"""People who are patterns of colored squares, and a network that sees just these squares: enrollments in no time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from PIL import Image

from facekd.commands.enroll import enroll
from facekd.core.contract import Contract
from facekd.core.types import Array
from facekd.enrollment.report import EnrollSummary
from facekd.gallery.gallery import GalleryTable

SIZE, DIM = 32, 48  # px of a crop; 4 x 4 squares of three channels
NEAR = 0.8  # cosine: photos of one person score above it, those of two below


def pattern(number: int, photo: int = 0) -> Array:
    """uint8[32, 32, 3]: a person's 4 x 4 squares, with each photo's own noise."""
    squares = np.random.default_rng([11, number]).integers(40, 216, (4, 4, 3)).repeat(8, 0).repeat(8, 1)
    noise = np.random.default_rng([11, number, photo]).normal(0, 12, (SIZE, SIZE, 3))
    return np.clip(squares + noise, 0, 255).astype(np.uint8)


def save(path: Path, pixels: Array) -> Path:
    """A PNG, in folders that are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def write_people(folder: Path, people: int = 4, photos: int = 3, first: int = 0) -> Path:
    """A folder for each person, ``p00/0.png`` and so on."""
    for number in range(first, first + people):
        for photo in range(photos):
            save(folder / f"p{number:02d}" / f"{photo}.png", pattern(number, photo))
    return folder


def write_model(path: Path, thresholds: dict[float, float] | None = None, weights: str = "squares") -> Path:
    """An ONNX file with its contract inside: the mean of each square and channel.

    Args:
        weights: another text is another model.
    """
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["pooled"], ["embedding"]),
    ]
    shapes = {"image": ["n", 3, SIZE, SIZE], "embedding": ["n", DIM]}
    image, embedding = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    graph = helper.make_graph(nodes, "squares", [image], [embedding])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    digest = weights.encode().hex().ljust(64, "0")
    metadata = {"facekd.contract": Contract(dim=DIM, size=SIZE, weights_sha256=digest).to_json()}
    if thresholds:
        metadata["facekd.thresholds"] = json.dumps({str(far): value for far, value in thresholds.items()})
    helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return path


def enrolled(people: Path, gallery: Path, model: Path, **more: Any) -> EnrollSummary:
    return enroll(people, gallery, model=model, **{"detector": "none", "quiet": True, **more})


def contents(gallery: Path) -> dict[str, Any]:
    """Everybody's template, photos and metadata."""
    found = [person for some in GalleryTable.open(gallery).everyone() for person in some]
    return {one.person_id: (one.template.tobytes(), one.sources, dict(one.metadata)) for one in found}


def ledger(gallery: Path) -> dict[str, tuple[str | None, str, str]]:
    rows = GalleryTable.open(gallery).ledger().to_pylist()
    return {row["source"]: (row["person"], row["status"], row["reason"]) for row in rows}
