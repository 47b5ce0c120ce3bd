"""What other software reads in an exported file: plain operators, an input that it knows, weights of few bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from toy import SIZE, contract_file, onnx_of, tiny_net

from facekd.commands.export import export
from facekd.core.pixels import to_input
from facekd.core.types import Array
from facekd.deploy.embedder import CropEmbedder
from facekd.errors import UserError
from facekd.nets.graph import Graph


def crops(count: int) -> Array:
    return np.random.default_rng(count).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def opset(model: Any) -> int:
    return int(next(entry.version for entry in model.opset_import if entry.domain == ""))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """An export of a foreign network, of the usual contract."""
    contract = contract_file(tmp_path / "usual.yaml", dim=8, size=SIZE)
    return export(
        onnx_of(tiny_net().eval(), tmp_path / "net.onnx"), tmp_path / "m.onnx", contract=contract, quiet=True
    ).path


def by_opencv(path: Path) -> Callable[[Array], Array]:
    net = cv2.dnn.readNetFromONNX(str(path))

    def run(inputs: Array) -> Array:
        net.setInput(inputs)
        return np.array(net.forward())

    return run


def by_onnx2torch(path: Path) -> Callable[[Array], Array]:
    from facekd.faces.torchvision_cpu import repair

    repair()
    net = pytest.importorskip("onnx2torch").convert(str(path)).eval()

    def run(inputs: Array) -> Array:
        with torch.no_grad():
            return np.array(net(torch.from_numpy(inputs)).numpy())

    return run


def by_openvino(path: Path) -> Callable[[Array], Array]:
    openvino = pytest.importorskip("openvino")
    net = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda inputs: np.array(net(inputs)[0])


@pytest.mark.parametrize("reader", [by_opencv, by_onnx2torch, by_openvino])
def test_others_read_it_and_each_crop_is_the_same_in_any_batch(
    plain: Path, reader: Callable[[Path], Callable[[Array], Array]]
) -> None:
    model = onnx.load(str(plain))
    assert opset(model) <= 18
    assert model.ir_version == 8
    assert not any(a.name == "allowzero" for node in model.graph.node for a in node.attribute)
    run, embedder = reader(plain), CropEmbedder.load(plain)
    wanted = embedder.embed(crops(5))
    for count in (1, 5, 3):
        np.testing.assert_allclose(run(to_input(crops(5)[:count], embedder.contract)), wanted[:count], atol=1e-5)


@pytest.mark.parametrize("version", [13, 20, 22])
def test_a_newer_or_older_opset_is_brought_to_one_that_devices_read(tmp_path: Path, version: int) -> None:
    model = onnx.load(str(onnx_of(tiny_net().eval(), tmp_path / "net.onnx")))
    model.opset_import[0].version = version  # its few operators are the same in all of them
    onnx.save(model, str(tmp_path / "other.onnx"))
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE)
    done = export(tmp_path / "other.onnx", tmp_path / "m.onnx", contract=contract, quiet=True)
    assert opset(onnx.load(str(done.path))) <= 18
    wanted = CropEmbedder.load(tmp_path / "net.onnx", contract).embed(crops(4))
    np.testing.assert_allclose(CropEmbedder.load(done.path).embed(crops(4)), wanted, atol=1e-5)


@pytest.mark.parametrize("flip", ["false", "true"])
@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_standard_input_is_what_other_software_feeds(tmp_path: Path, flip: str, channels: str) -> None:
    source = onnx_of(tiny_net().eval(), tmp_path / "net.onnx")
    contract = contract_file(
        tmp_path / "c.yaml", dim=8, size=SIZE, channels=channels, mean=[1, 2, 3], std=[50, 60, 70], flip=flip
    )  # fmt: skip
    done = export(source, tmp_path / "s.onnx", contract=contract, standard_input=True, quiet=True)
    wanted = CropEmbedder.load(source, contract).embed(crops(7))
    # As insightface does: cv2.dnn.blobFromImages on BGR photos, swapRB, 127.5 and 1 / 127.5.
    fed = cv2.dnn.blobFromImages(
        [crop[..., ::-1].copy() for crop in crops(7)], 1 / 127.5, (SIZE, SIZE), (127.5,) * 3, swapRB=True
    )  # fmt: skip
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(["embedding"], {"input": fed})[0], wanted, atol=1e-5)
    # insightface takes early nodes of these names for a file that wants pixels
    assert not any(
        node.name.startswith(("Sub", "Mul", "_minus", "_mul")) for node in onnx.load(str(done.path)).graph.node
    )
    embedder = CropEmbedder.load(done.path)
    assert embedder.model_id == CropEmbedder.load(source, contract).model_id
    np.testing.assert_allclose(embedder.embed(crops(7)), wanted, atol=1e-5)
    flipped = CropEmbedder.load(export(source, tmp_path / "p.onnx", contract=contract, quiet=True).path).flipping()
    np.testing.assert_allclose(embedder.flipping().embed(crops(7)), flipped.embed(crops(7)), atol=1e-5)
    if flip == "false":  # what asks by the contract, as a teacher does, is served too
        inputs = to_input(crops(7), embedder.contract)
        found, made = embedder.network.run(inputs), CropEmbedder.load(source, contract).network.run(inputs)
        np.testing.assert_allclose(found, made / np.linalg.norm(made, axis=1, keepdims=True), atol=1e-5)
    again = export(done.path, tmp_path / "again.onnx", quiet=True)  # it stays what it is
    np.testing.assert_allclose(CropEmbedder.load(again.path).embed(crops(7)), wanted, atol=1e-5)
    bytes_of = export(done.path, tmp_path / "bytes.onnx", uint8_input=True, quiet=True)
    np.testing.assert_allclose(CropEmbedder.load(bytes_of.path).embed(crops(7)), wanted, atol=1e-5)
    with pytest.raises(UserError, match="a file takes one of the two"):
        export(source, tmp_path / "x.onnx", contract=contract, uint8_input=True, standard_input=True, quiet=True)


def test_weights_that_were_fp16_stay_fp16(tmp_path: Path) -> None:
    """As OpenCV's SFace and Intel's networks hold them: half the file, and not a bit is lost."""
    graph = Graph(onnx.load(str(onnx_of(tiny_net().eval(), tmp_path / "net.onnx"))))
    casts = []
    for name, value in list(graph.weights.items()):
        if value.dtype == np.float32 and value.size > 1:
            half = graph.weight(f"{name}_half", value.astype(np.float16))
            del graph.weights[name]
            casts.append(helper.make_node("Cast", [half], [name], to=TensorProto.FLOAT))
    graph.nodes = casts + graph.nodes
    onnx.save(graph.model(), str(tmp_path / "half.onnx"))
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE)
    before = CropEmbedder.load(tmp_path / "half.onnx", contract)
    done = export(tmp_path / "half.onnx", tmp_path / "m.onnx", contract=contract, quiet=True)
    np.testing.assert_allclose(CropEmbedder.load(done.path).embed(crops(4)), before.embed(crops(4)), atol=1e-6)
    assert done.model_id == before.model_id

    def halves(path: Path) -> int:
        large = [t for t in onnx.load(str(path)).graph.initializer if t.data_type == TensorProto.FLOAT16]
        return sum(int(np.prod(t.dims)) for t in large if np.prod(t.dims) >= 256)

    assert 0 < halves(tmp_path / "half.onnx") == halves(done.path)
    assert halves(export(done.path, tmp_path / "again.onnx", quiet=True).path) == halves(done.path)
