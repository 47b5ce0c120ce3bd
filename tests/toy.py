"""Tiny stores and networks that several tests share: people who are patterns, networks of 32 pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

from facekd.core.contract import Contract
from facekd.core.files import sha256_bytes
from facekd.core.pixels import encode_crop
from facekd.core.types import Array
from facekd.crops.records import AlignedCrop, PhotoRecord
from facekd.crops.store import CropStore
from facekd.nets import build
from facekd.nets.saved import MODEL, save_model

SIZE = 32
SMALL: dict[str, Any] = {"net": "iresnet18-quarter", "batch": 8, "held_out": 0.34, "quiet": True}  # of a training
SETTINGS = {"detector": "none", "min_face": 20, "choose": "largest", "size": SIZE, "template": "arcface"}


def person(number: int, photo: int, size: int = SIZE) -> Array:
    """uint8[size, size, 3]: a coarse pattern for each person, with each photo's own noise."""
    pattern = np.random.default_rng([7, number]).integers(40, 216, (4, 4, 3)).repeat(size // 4, 0).repeat(size // 4, 1)
    noise = np.random.default_rng([7, number, photo]).normal(0, 12, (size, size, 3))
    return np.clip(pattern + noise, 0, 255).astype(np.uint8)


def record(identity: str | None, source: str, pixels: Array) -> PhotoRecord:
    """The ledger row and the crop of one photo."""
    data = encode_crop(pixels)
    digest = sha256_bytes(source.encode() + data)
    crop = AlignedCrop(
        crop_id=f"{digest[:16]}-0",
        image=data,
        identity=identity,
        source=source,
        sha256=digest,
        box=(0.0, 0.0, float(SIZE), float(SIZE)),
        landmarks=(0.0,) * 10,
        matrix=(1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
        score=1.0,
        quality=1.0,
        eyes=0.0,
        yaw=0.0,
        pitch=0.0,
        roll=0.0,
    )
    return PhotoRecord(source, identity, "ok", sha256=digest, crop_ids=[crop.crop_id], crops=[crop])


def write_store(
    folder: Path, people: int = 6, photos: int = 6, failed: Sequence[str] = (), named: bool = True, first: int = 0
) -> Path:
    """A crop store of `people` times `photos` crops, person by person, and of photos that gave no crop.

    The photos are ``p00/p00_0001.png`` and so on; `first` is the number of the first person.
    """
    store = CropStore.create(folder, SETTINGS)
    records = [PhotoRecord(source, None, "no_face", "no face was found") for source in failed]
    for number in range(first, first + people):
        name = f"p{number:02d}"
        for photo in range(photos):
            source = f"{name}/{name}_{photo + 1:04d}.png"
            records.append(record(name if named else None, source, person(number, photo)))
    store.append(records)
    return folder


def tiny_net(dim: int = 8, size: int = SIZE, seed: int = 0) -> nn.Module:
    """A convolution, a norm and a linear layer, with weights from `seed`."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(4 * (size // 2) ** 2, dim)
    )


def save_run(
    folder: Path,
    net: str = "mobilefacenet-half",
    dim: int = 16,
    size: int = SIZE,
    seed: int = 0,
) -> Path:
    """A run folder that holds an untrained network."""
    torch.manual_seed(seed)
    save_model(folder / MODEL, net, build(net, dim=dim, size=size), Contract(dim=dim, size=size))
    return folder


def onnx_of(net: nn.Module, path: Path, *, size: int = SIZE, batch: int | None = None, dim: int = 8) -> Path:
    """A `tiny_net` as an ONNX file, its graph written out by hand: independent of the exporter, and quick.

    Args:
        batch: the batch size frozen into the graph; None leaves it free.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    assert isinstance(net, nn.Sequential)
    weights = {key: value.detach().numpy() for key, value in net.state_dict().items() if value.ndim > 0}
    weights["2.weight"] = weights["2.weight"].reshape(-1, 1, 1)
    nodes = [
        helper.make_node("Conv", ["input", "0.weight", "0.bias"], ["a"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node(
            "BatchNormalization", ["a", "1.weight", "1.bias", "1.running_mean", "1.running_var"], ["b"], epsilon=1e-5
        ),
        helper.make_node("PRelu", ["b", "2.weight"], ["c"]),
        helper.make_node("Flatten", ["c"], ["d"]),
        helper.make_node("Gemm", ["d", "4.weight", "4.bias"], ["embedding"], transB=1),
    ]
    count = "batch" if batch is None else batch
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [count, 3, size, size])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [count, dim])],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def contract_file(path: Path, **values: object) -> Path:
    """A contract as a user writes it."""
    path.write_text("".join(f"{key}: {value}\n" for key, value in values.items()))
    return path


def keys(file: Path) -> set[str]:
    """What a safetensors file holds, by the first part of its names."""
    with safe_open(file, "pt") as opened:
        return {key.split(".")[0] for key in opened.keys()}  # noqa: SIM118  # no mapping


class Killed(BaseException):
    """A run that ends as by a kill: nothing that catches exceptions catches it."""


def killed_after(step: int) -> Callable[..., Iterator[dict[str, float]]]:
    """What stands in for the progress of a training and ends it once `step` steps are done."""

    def rows_until(rows: Iterator[dict[str, float]], *_: object, **__: object) -> Iterator[dict[str, float]]:
        for row in rows:
            yield row
            if row["step"] == step:
                raise Killed

    return rows_until
