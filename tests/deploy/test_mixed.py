"""What stays float in an int8 network, weights in blocks, and that neither is written where people are lost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from toy import SIZE, contract_file, write_store

from facekd.cli import run
from facekd.commands.export import export
from facekd.core.types import Array
from facekd.crops.read import read_crops
from facekd.deploy.blocks import block_forms, to_blocks
from facekd.deploy.costs import costliest, embedded
from facekd.deploy.mixed import image_costs, int8_forms, int8_layers, relieved
from facekd.deploy.model_json import json_beside
from facekd.deploy.quantize import from_fp16, to_fp16, to_int8, with_node_names
from facekd.errors import UserError
from facekd.evaluation.exported import on_everybody, on_pairs
from facekd.nets.graph import Graph

DIM = 16


def small_network(loud: float = 1.0) -> Any:
    """Convolutions with Relu, a sum, a pooling and a linear layer.

    Args:
        loud: how many times larger one channel of the first image is than the others; the next layer takes it back.
    """
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(size=(16, 3, 3, 3)) / 5,
        "b1": rng.normal(size=16) / 5,
        "w2": rng.normal(size=(16, 16, 3, 3)) / 12,
        "b2": rng.normal(size=16) / 5,
        "w3": rng.normal(size=(16, 16, 3, 3)) / 12,
        "b3": rng.normal(size=16) / 5,
        "w4": rng.normal(size=(32, 16, 1, 1)) / 4,
        "b4": rng.normal(size=32) / 5,
        "w5": rng.normal(size=(DIM, 32)) / 5,
        "b5": rng.normal(size=DIM) / 5,
    }
    weights["w1"][0] *= loud
    weights["w2"][:, 0] /= loud
    node = helper.make_node
    nodes = [
        node("Conv", ["input", "w1", "b1"], ["c1"], pads=[1] * 4, strides=[2, 2]),
        node("Relu", ["c1"], ["r1"]),
        node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1] * 4, strides=[2, 2]),
        node("Relu", ["c2"], ["r2"]),
        node("Conv", ["r2", "w3", "b3"], ["c3"], pads=[1] * 4),
        node("Add", ["c3", "r2"], ["sum"]),
        node("Relu", ["sum"], ["r3"]),
        node("Conv", ["r3", "w4", "b4"], ["c4"]),
        node("GlobalAveragePool", ["c4"], ["pool"]),
        node("Flatten", ["pool"], ["flat"]),
        node("Gemm", ["flat", "w5", "b5"], ["embedding"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIM])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return with_node_names(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def batches(count: int = 3) -> list[Array]:
    rng = np.random.default_rng(1)
    return [rng.normal(size=(8, 3, SIZE, SIZE)).astype(np.float32) for _ in range(count)]


def loss(model: Any, full: Any, inputs: Sequence[Array]) -> float:
    return float(1 - (embedded(model, inputs) * embedded(full, inputs)).sum(axis=1).mean())


def test_with_every_image_in_float_it_is_the_fp32_network_again() -> None:
    full = small_network()
    small = to_int8(full, batches())
    assert 0 < int8_layers(small)[0] < int8_layers(small)[1]
    freed = relieved(small, full, set(image_costs(full, small, batches(1))))
    assert int8_layers(freed) == (0, 5)
    assert not {"QuantizeLinear", "DequantizeLinear"} & {node.op_type for node in freed.graph.node}
    np.testing.assert_allclose(embedded(freed, batches(1)), embedded(full, batches(1)), atol=1e-6)


def test_each_form_is_closer_to_the_source_and_has_less_in_int8() -> None:
    full, inputs = small_network(), batches()
    made = list(int8_forms(full, inputs))
    assert len(made) > 1
    layers, losses = [int8_layers(one)[0] for one in made], [loss(one, full, inputs) for one in made]
    assert layers == sorted(layers, reverse=True)
    assert layers[-1] > 0
    assert losses[-1] < losses[0]
    for one in made:
        onnx.checker.check_model(one)


def test_the_image_with_a_loud_channel_costs_most() -> None:
    """With one channel a hundred times the others, the codes of the others are few."""
    for loud in (1.0, 100.0):
        full = small_network(loud)
        # Only what follows the second halving is quantized by itself; here the first image is, to see its cost.
        small = to_int8(full, batches())
        graph = Graph(small)
        scale = float(np.concatenate(_values(full, "r1", batches(1))).max()) / 255
        names = graph.weight("s", np.array(scale, np.float32)), graph.weight("z", np.array(0, np.uint8))
        graph.nodes.append(helper.make_node("QuantizeLinear", ["r1", *names], ["unread"]))
        probe = helper.make_node("DequantizeLinear", ["unread", *names], ["unread_too"])
        graph.nodes.append(probe)
        graph.proto.graph.output.append(helper.make_tensor_value_info("unread_too", TensorProto.FLOAT, None))
        costs = image_costs(full, graph.model(), batches(1))
        assert (max(costs, key=lambda name: costs[name]) == "r1") == (loud > 1)


def _values(model: Any, name: str, inputs: Sequence[Array]) -> list[Array]:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return [session.run([name], {"input": one})[0] for one in inputs]


def test_weights_stored_as_fp16_come_back() -> None:
    full = small_network()
    half = to_fp16(full)
    again = from_fp16(half)
    assert not any(node.op_type == "Cast" for node in again.graph.node)
    np.testing.assert_array_equal(embedded(again, batches(1)), embedded(half, batches(1)))


def test_the_costliest_first_until_a_share_of_the_cost_is_left() -> None:
    costs = {"a": 8.0, "b": 4.0, "c": 2.0, "d": 1.0, "e": 1.0}  # 16: after a 8 is left, after b 4 …
    assert list(costliest(costs)) == [{"a"}, {"a", "b"}, {"a", "b", "c"}, {"a", "b", "c", "d"}, set("abcde")]
    assert list(costliest({})) == []


def decoded_by_hand(model: Any, name: str) -> Array:
    """A weight from its codes and scales: the other way round, and byte by byte."""
    weights = Graph(model).weights
    codes, scales = weights[f"{name}_codes"], weights[f"{name}_scales"].astype(np.float32)
    rows = []
    for row, (scale,) in zip(codes, scales, strict=True):
        if codes.dtype == np.uint8:
            numbers = [(int(byte) & 15) - 8 for byte in row] + [(int(byte) >> 4) - 8 for byte in row]
        else:
            numbers = [int(code) for code in row]
        rows.append([number * scale for number in numbers])
    return np.array(rows, np.float32)


@pytest.mark.parametrize("bits", [8, 4])
def test_blocks_of_codes_are_the_weights_to_half_a_step(bits: int) -> None:
    full = small_network()
    made = to_blocks(full, bits)
    onnx.checker.check_model(made)
    before, after = Graph(full).weights, Graph(made).weights
    for name in ("w2", "w3", "w4", "w5"):
        assert name not in after
        rows = before[name].reshape(-1, decoded_by_hand(made, name).shape[1])
        steps = after[f"{name}_scales"].astype(np.float32)
        apart = np.abs(decoded_by_hand(made, name) - rows)
        assert len(np.unique(after[f"{name}_codes"])) <= 256
        if bits == 8:
            assert (apart <= 0.51 * steps).all()
        else:  # a large number may be cut where the others gain by it
            assert (np.sort(apart, axis=1)[:, : -apart.shape[1] // 4] <= 0.51 * steps).all()
            assert after[f"{name}_codes"].nbytes == before[name].size // 2
    # What a runtime makes of it: the network with those very weights.
    by_hand = Graph(full)
    for name in [name for name in before if f"{name}_codes" in after]:
        by_hand.weights[name] = decoded_by_hand(made, name).reshape(before[name].shape)
    np.testing.assert_allclose(embedded(made, batches(1)), embedded(by_hand.model(), batches(1)), atol=1e-6)
    assert loss(made, full, batches()) < (1e-4 if bits == 8 else 0.02)


def test_the_layers_that_lose_most_by_4_bits_get_8() -> None:
    full, inputs = small_network(), batches()
    made = list(block_forms(full, 4, inputs))
    losses = [loss(one, full, inputs) for one in made]
    wide = [sum(value.dtype == np.int8 for value in Graph(one).weights.values()) for one in made]
    assert len(made) > 2
    assert wide[1:] == sorted(set(wide[1:]))  # of the first none but those that no even block divides
    assert wide[0] < wide[1]
    assert losses[-1] < losses[0] / 4
    assert len(list(block_forms(full, 8, inputs))) == 1


@pytest.fixture
def source(tmp_path: Path) -> tuple[Path, Path]:
    onnx.save(small_network(), str(tmp_path / "net.onnx"))
    return tmp_path / "net.onnx", contract_file(tmp_path / "c.yaml", dim=DIM, size=SIZE)


@pytest.mark.parametrize("precision", ["int8", "int8-weights", "int4-weights"])
def test_no_file_of_few_bits_without_people_to_judge_it_by(
    tmp_path: Path, source: tuple[Path, Path], precision: str, capsys: pytest.CaptureFixture[str]
) -> None:
    network, contract = source
    words = ["export", str(network), str(tmp_path / "m.onnx"), "--contract", str(contract), "--precision", precision]
    nameless = write_store(tmp_path / "nameless", people=6, photos=4, named=False)
    few = write_store(tmp_path / "few", people=3, photos=4)
    for crops, sentence in (
        (None, "takes its ranges from real faces"),
        (nameless, "does not say whom its crops show"),
        (few, "shows under four people"),
    ):
        assert run([*words, *([] if crops is None else ["--crops", str(crops)])]) == 2
        said = " ".join(capsys.readouterr().err.split())
        assert sentence in said
        assert "--pairs" in said
    assert not list(tmp_path.glob("*m.onnx*"))


def test_where_no_form_keeps_the_people_apart_nothing_is_written(
    tmp_path: Path, source: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network, contract = source
    store = write_store(tmp_path / "crops", people=8, photos=4)
    monkeypatch.setattr("facekd.evaluation.exported.MOST_LOST", -2.0)  # no export of ours is bad enough
    with pytest.raises(UserError, match=r"TAR at FAR 0\.\d+ is [+-]\d.*points lost in int8; nothing was written"):
        export(network, tmp_path / "m.onnx", contract=contract, precision="int8", crops=store)
    assert "points lost in int8; trying again, with more bits where they count" in capsys.readouterr().err
    assert not list(tmp_path.glob("*m.onnx*"))


def test_it_is_said_on_whom_it_was_judged_and_with_which_interval(tmp_path: Path, source: tuple[Path, Path]) -> None:
    network, contract = source
    store = write_store(tmp_path / "crops", people=8, photos=4)
    done = export(network, tmp_path / "m.onnx", contract=contract, precision="int8-weights", crops=store, quiet=True)
    rates = json.loads(json_beside(done.path).read_text())["rates"]
    assert rates["on"] == "all pairs of 24 crops of 6 people"
    assert rates["difference_to_source"]
    for one in rates["difference_to_source"]:
        assert one["low"] <= one["difference"] <= one["high"]


def test_nobody_who_calibrates_is_judged(tmp_path: Path) -> None:
    crops = read_crops(write_store(tmp_path / "crops", people=12, photos=4))
    trial = on_everybody(crops, 0)
    assert trial is not None
    calibrating = {crops.identities[i] for i in trial.calibrating}
    assert len(calibrating) == 3
    assert not calibrating & set(trial.judged_on.persons)  # type: ignore[union-attr, arg-type]
    # of a list, where there are enough crops of others
    crops = read_crops(write_store(tmp_path / "more", people=30, photos=4))
    rows = ["a,b,same", *(f"p{i:02d}/p{i:02d}_0001.png,p{i:02d}/p{i:02d}_0002.png,1" for i in range(4))]
    rows += [f"p{i:02d}/p{i:02d}_0001.png,p{i + 1:02d}/p{i + 1:02d}_0001.png,0" for i in range(4)]
    (tmp_path / "pairs.csv").write_text("\n".join(rows) + "\n")
    trial = on_pairs(tmp_path / "pairs.csv", crops, tmp_path / "more", 0)
    assert trial.apart
    assert not {crops.identities[i] for i in trial.calibrating} & {f"p{i:02d}" for i in range(5)}
