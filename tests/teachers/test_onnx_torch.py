"""An ONNX teacher in PyTorch says what ONNX Runtime makes of its file, or is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from toy import SIZE, contract_file, onnx_of, tiny_net

from facekd.errors import UserError
from facekd.teachers.teacher import Teacher, default_backend, load_teacher


def loaded(path: Path, backend: str | None) -> Teacher:
    contract = contract_file(path.with_suffix(".yaml"), dim=8, size=SIZE, flip=True)
    return load_teacher(path, contract, torch.device("cpu"), backend)


def weights_in_half_precision(path: Path) -> Path:
    """The graph with its weights kept in float16 and cast where they are used, as OpenCV's SFace is stored."""
    model = onnx.load(path)
    for tensor in list(model.graph.initializer):
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{tensor.name} half")
        model.graph.initializer.remove(tensor)
        model.graph.initializer.append(half)
        model.graph.node.insert(0, helper.make_node("Cast", [half.name], [tensor.name], to=TensorProto.FLOAT))
    onnx.save(model, path)
    return path


def batch_in_its_shape(path: Path) -> Path:
    """The graph with a last step that is written for one crop."""
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, 8], np.int64), "shape"))
    model.graph.node.append(helper.make_node("Reshape", ["before", "shape"], ["embedding"]))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("change", [lambda path: path, weights_in_half_precision])
def test_pytorch_teaches_as_onnxruntime_does(tmp_path: Path, change: object) -> None:
    assert callable(change)
    file = change(onnx_of(tiny_net(), tmp_path / "net.onnx"))
    images = torch.randn(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    one, two = (loaded(file, backend).embed(images) for backend in (None, "torch"))
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
    assert not two.requires_grad


def test_a_batch_that_is_frozen_into_the_graph_is_refused(tmp_path: Path) -> None:
    file = batch_in_its_shape(onnx_of(tiny_net(), tmp_path / "net.onnx", batch=1))
    assert loaded(file, None).embed(torch.zeros(3, 3, SIZE, SIZE)).shape == (3, 8)  # ONNX Runtime takes one by one
    with pytest.raises(UserError, match=r"net\.onnx: can't be made a PyTorch network .* use the onnxruntime"):
        loaded(file, "torch")


def test_a_missing_converter_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx2torch", None)  # as where it is not installed
    with pytest.raises(UserError, match=r"pip install 'facekd\[torch\]'"):
        loaded(onnx_of(tiny_net(), tmp_path / "net.onnx"), "torch")


def test_other_embeddings_than_onnxruntimes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        """A converter that gets a network wrong: it gives another one."""

        @staticmethod
        def convert(_: object) -> torch.nn.Module:
            return tiny_net(seed=1)

    monkeypatch.setitem(sys.modules, "onnx2torch", Wrong)
    with pytest.raises(UserError, match="gives other embeddings in PyTorch"):
        loaded(onnx_of(tiny_net(), tmp_path / "net.onnx"), "torch")


def test_on_a_gpu_pytorch_runs_onnx_teachers_where_it_can(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_backend(torch.device("cpu")) == "onnxruntime"
    assert default_backend(torch.device("cuda")) == "torch"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # as where onnx2torch is not installed
    assert default_backend(torch.device("cuda")) == "onnxruntime"
