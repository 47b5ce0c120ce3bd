"""An exported graph takes the norm once, in plain operators, however its source took it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from toy import SIZE, contract_file, onnx_of, tiny_net

from facekd.commands.export import export
from facekd.deploy.embedder import CropEmbedder
from facekd.nets.graph import Graph


@pytest.mark.parametrize("norm", ["ReduceL2", "clamped", "LpNormalization", "summed", "twice", "of another"])
def test_a_norm_that_is_there_is_not_taken_twice(tmp_path: Path, norm: str) -> None:
    """Networks whose output is called as an export's input, and already has unit norm."""
    graph = Graph(onnx.load(str(onnx_of(tiny_net().eval(), tmp_path / "net.onnx"))))
    (output,) = graph.proto.graph.output
    raw = graph.name("raw")
    graph.rename(output.name, raw)
    axes, least = graph.weight("axes", np.array([-1], np.int64)), graph.weight("least", np.array(1e-12, np.float32))
    node = onnx.helper.make_node
    tails = {
        "ReduceL2": [node("ReduceL2", [raw, axes], ["tail_n"], keepdims=1), node("Div", [raw, "tail_n"], ["input"])],
        "clamped": [
            node("ReduceL2", [raw, axes], ["tail_n"], keepdims=1),
            node("Clip", ["tail_n", least], ["tail_c"]),
            node("Shape", [raw], ["tail_s"]),
            node("Expand", ["tail_c", "tail_s"], ["tail_e"]),
            node("Div", [raw, "tail_e"], ["input"]),
        ],
        "LpNormalization": [node("LpNormalization", [raw], ["input"], axis=1, p=2)],
        "summed": [
            node("Mul", [raw, raw], ["tail_q"]),
            node("ReduceSum", ["tail_q", axes], ["tail_m"], keepdims=1),
            node("Sqrt", ["tail_m"], ["tail_n"]),
            node("Max", ["tail_n", least], ["tail_c"]),
            node("Div", [raw, "tail_c"], ["input"]),
        ],
        "twice": [
            node("ReduceL2", [raw, axes], ["tail_n"], keepdims=1),
            node("Div", [raw, "tail_n"], ["tail_u"]),
            node("LpNormalization", ["tail_u"], ["input"], axis=1, p=2),
        ],
        # no unit norm: what it is divided by is another number, and has to stay
        "of another": [
            node("Abs", [raw], ["tail_p"]),
            node("ReduceL2", ["tail_p", axes], ["tail_n"], keepdims=1),
            node("Div", ["tail_p", "tail_n"], ["tail_d"]),
            node("Add", ["tail_d", raw], ["input"]),
        ],
    }
    if graph.proto.graph.input[0].name == "input":
        graph.rename("input", graph.name("embedding"))  # and the input as its output
    graph.nodes += tails[norm]
    output.name = "input"
    model = graph.model()
    model.opset_import[0].version = 18
    onnx.save(model, str(tmp_path / "normed.onnx"))
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE)
    done = export(tmp_path / "normed.onnx", tmp_path / "m.onnx", contract=contract, quiet=True)
    made = onnx.load(str(done.path))
    assert ([v.name for v in made.graph.input], [v.name for v in made.graph.output]) == (["input"], ["embedding"])
    kinds = [n.op_type for n in made.graph.node]
    assert kinds.count("Sqrt") == 1
    assert kinds.count("Div") == (2 if norm == "of another" else 1)
    assert not {"Expand", "Clip", "LpNormalization"} & set(kinds)
    assert ("ReduceL2" in kinds) == (norm == "of another")
    crops = np.random.default_rng(5).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
    wanted = CropEmbedder.load(tmp_path / "normed.onnx", contract).embed(crops)
    np.testing.assert_allclose(CropEmbedder.load(done.path).embed(crops), wanted, atol=1e-6)
