"""A network of which a crop's embedding is not its own: it depends on the crops beside it, or on chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from toy import SIZE, contract_file

from facekd.errors import UserError
from facekd.nets.files import load_network


def graph_of(path: Path, nodes: list[onnx.NodeProto], output: list[object], count: object = "N", dim: int = 3) -> Path:
    """A network of these nodes, from `input` to `embedding`."""
    shapes = [("input", [count, 3, SIZE, SIZE]), ("embedding", output)]
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes)
    graph = helper.make_graph(nodes, "rows", [given], [made])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), str(path))
    return path


def mean_of(axes: list[int], name: str = "embedding", kept: int = 0) -> onnx.NodeProto:
    return helper.make_node("ReduceMean", ["input"], [name], axes=axes, keepdims=kept)


ROWS = {
    "one row for all crops": ([mean_of([0, 2, 3])], [3]),
    "one row of rank two": ([mean_of([0, 2, 3], "m", 1), helper.make_node("Flatten", ["m"], ["embedding"])], ["N", 3]),
    "less the mean of the batch": (
        [
            mean_of([2, 3], "each"),
            helper.make_node("ReduceMean", ["each"], ["all"], axes=[0]),
            helper.make_node("Constant", [], ["most"], value_float=0.9),
            helper.make_node("Mul", ["all", "most"], ["part"]),
            helper.make_node("Sub", ["each", "part"], ["embedding"]),
        ],
        ["N", 3],
    ),
    "a dropout left on": (
        [
            helper.make_node("Constant", [], ["on"], value=helper.make_tensor("on", TensorProto.BOOL, [], [True])),
            helper.make_node("Constant", [], ["few"], value_float=0.1),
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("Dropout", ["flat", "few", "on"], ["embedding"]),
        ],
        ["N", 3 * SIZE * SIZE],
    ),
}


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("kind", ROWS)
def test_a_crops_embedding_is_its_own(tmp_path: Path, kind: str, quick: bool) -> None:
    nodes, output = ROWS[kind]
    path = graph_of(tmp_path / "net.onnx", nodes, output)
    contract = contract_file(tmp_path / "contract.yaml", dim=output[-1], size=SIZE)
    said = r"net\.onnx: (gives (numbers of shape|(a|the same) crop another embedding)|takes one crop and not 2)"
    for _ in range(2):  # a refused one is not kept as sound
        with pytest.raises(UserError, match=said) as caught:
            load_network(path, contract, quick=quick)
        assert "\n" not in str(caught.value)


def test_of_one_crop_at_a_time_a_mean_over_the_batch_is_sound(tmp_path: Path) -> None:
    path = graph_of(tmp_path / "net.onnx", [mean_of([0, 2, 3])], [3], count=1)
    contract = contract_file(tmp_path / "contract.yaml", dim=3, size=SIZE)
    given = np.random.default_rng(5).normal(0, 1, (5, 3, SIZE, SIZE)).astype(np.float32)
    np.testing.assert_allclose(load_network(path, contract).run(given), given.mean((2, 3)), atol=1e-5)


def test_nothing_is_printed_of_a_network_that_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    contract = contract_file(tmp_path / "contract.yaml", dim=8, size=SIZE)
    shape = helper.make_node("Constant", [], ["shape"], value_ints=[1, 7])
    path = graph_of(tmp_path / "net.onnx", [shape, helper.make_node("Reshape", ["input", "shape"], ["embedding"])], [])
    with pytest.raises(UserError, match=r"net\.onnx: "):
        load_network(path, contract)
    assert capfd.readouterr() == ("", "")
