"""Multiply-adds counted on an ONNX graph are those counted on the network it was written from."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from toy import onnx_of, tiny_net

from facekd.core.contract import Contract
from facekd.deploy.traced import to_onnx
from facekd.nets import build
from facekd.nets.cost import num_macs
from facekd.nets.onnx_cost import onnx_macs

WEIGHTS = Path(__file__).parents[3] / "shared" / "data" / "weights"


@pytest.mark.parametrize("batch", [None, 1, 8])
def test_as_the_network_it_came_from(tmp_path: Path, batch: int | None) -> None:
    net = tiny_net()
    path = onnx_of(net, tmp_path / "net.onnx", batch=batch)
    assert onnx_macs(path, (1, 3, 32, 32)) == num_macs(net, 32) == 4 * 16 * 16 * 27 + 4 * 16 * 16 * 8


@pytest.mark.slow
def test_an_export_of_ours(tmp_path: Path) -> None:
    net = build("mobilefacenet-half", dim=16, size=32).eval()
    path = tmp_path / "net.onnx"
    path.write_bytes(to_onnx(net, Contract(dim=16, size=32)).SerializeToString())
    assert onnx_macs(path, (1, 3, 32, 32)) == num_macs(net, 32)


def test_a_grouped_convolution_and_a_matrix_product(tmp_path: Path) -> None:
    """6 channels in 3 groups: each output number takes 2 channels times 9 places; then 150 numbers times 7."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], group=3, kernel_shape=[3, 3]),
        helper.make_node("Flatten", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "m"], ["y"]),
    ]
    weights = [
        helper.make_tensor("w", TensorProto.FLOAT, [6, 2, 3, 3], [0.0] * 108),
        helper.make_tensor("m", TensorProto.FLOAT, [150, 7], [0.0] * 1050),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6, 7, 7])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 7])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "g.onnx")
    assert onnx_macs(tmp_path / "g.onnx", (1, 6, 7, 7)) == 150 * 18 + 150 * 7


def test_shapes_that_the_graph_hides(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["a"]),
        helper.make_node("MatMul", ["a", "m"], ["y"]),
    ]
    weights = [helper.make_tensor("m", TensorProto.FLOAT, [3, 2], [0.0] * 6)]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4]),
    ]
    nodes.insert(0, helper.make_node("NonZero", ["x"], ["s0"]))
    nodes.insert(1, helper.make_node("ReduceSum", ["s0"], ["s"], keepdims=0))
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "g.onnx")
    assert onnx_macs(tmp_path / "g.onnx", (1, 3, 4, 4)) is None


@pytest.mark.parametrize(
    ("name", "low", "high"), [("foamliu_mobilefacenet", 200e6, 260e6), ("w600k_mbf", 400e6, 500e6)]
)
def test_public_weights(name: str, low: float, high: float) -> None:
    path = WEIGHTS / f"{name}.onnx"
    if not path.exists():
        pytest.skip("the shared weights are not here")
    found = onnx_macs(path, (1, 3, 112, 112))
    assert found is not None
    assert low < found < high
