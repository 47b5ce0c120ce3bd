"""A file for a device gives the network's embeddings in the device's own runtime, or it is not written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from toy import SIZE, contract_file, write_store

from facekd.cli import run
from facekd.commands.export import export
from facekd.core.contract import Contract
from facekd.core.files import read_json
from facekd.core.pixels import to_input
from facekd.core.types import Array
from facekd.crops.read import read_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.targets.feed import with_pixels
from facekd.deploy.targets.module import PlainModule
from facekd.deploy.targets.run import runner
from facekd.deploy.targets.table import TARGETS, check_target, target_of
from facekd.errors import UserError
from facekd.nets.files import DEVICES
from facekd.settings.evaluation import ExportedFile, NetworkContract

DIM = 24


def crops(count: int) -> Array:
    return np.random.default_rng(count).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What face networks are made of, once each, as somebody else's ONNX file with means of its own."""
    folder = tmp_path_factory.mktemp("source")
    shapes = {
        "stem": (16, 3, 3, 3), "depth": (16, 1, 3, 3), "project": (16, 16, 1, 1), "down": (4, 16, 1, 1),
        "up": (16, 4, 1, 1), "reduce": (32, 16, 3, 3), "whole": (32, 1, 8, 8), "embed": (DIM, 32, 1, 1),
    }  # fmt: skip
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape) for name, shape in shapes.items()}
    weights |= {f"{name}_bias": rng.normal(0, 0.3, shape[0]) for name, shape in shapes.items()}
    weights |= {f"slope_{n}": rng.uniform(-0.2, 0.9, (16, 1, 1)) for n in (1, 2)}
    at, nodes = "x", list[onnx.NodeProto]()

    def add(op: str, *others: str, **attributes: object) -> str:
        nonlocal at
        made = f"image_{len(nodes)}"
        nodes.append(helper.make_node(op, [at, *others], [made], **attributes))
        at = made
        return at

    def convolve(name: str, **attributes: object) -> str:
        return add("Conv", name, f"{name}_bias", **attributes)

    convolve("stem", pads=[1, 1, 1, 1], strides=[2, 2])
    first = add("PRelu", "slope_1")
    convolve("depth", pads=[1, 1, 1, 1], group=16)
    add("PRelu", "slope_2")
    projected = convolve("project")
    add("GlobalAveragePool")
    convolve("down")
    add("Relu")
    convolve("up")
    add("Sigmoid")
    add("Mul", projected)
    add("Add", first)
    convolve("reduce", pads=[1, 1, 1, 1], strides=[2, 2])
    add("LeakyRelu", alpha=0.25)
    convolve("whole", group=32)
    convolve("embed")
    add("Flatten")
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(at, TensorProto.FLOAT, ["batch", DIM])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "network.onnx"))
    contract_file(folder / "contract.yaml", dim=DIM, size=SIZE, mean=[123.0, 117.0, 104.0], std=[58.0, 57.0, 57.5])
    return folder / "network.onnx"


def contract_of(source: Path) -> Path:
    return source.with_name("contract.yaml")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("store") / "crops", people=8, photos=6)


def needed(ending: str) -> None:
    for package in TARGETS[ending].needs:
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'facekd[{TARGETS[ending].extra}]'")


CASES = [
    pytest.param(ending, precision, marks=[] if ending == ".xml" else pytest.mark.slow, id=f"{ending}-{precision}")
    for ending, target in TARGETS.items()
    for precision in target.precisions
    if precision != "int8"
]


@pytest.mark.parametrize(("ending", "precision"), CASES)
def test_the_runtime_gives_the_networks_embeddings_alone_and_together(
    source: Path, store: Path, tmp_path: Path, ending: str, precision: str
) -> None:
    needed(ending)
    out = tmp_path / f"student{ending}"
    arguments = [str(source), str(out), "--contract", str(contract_of(source)), "--crops", str(store)]
    assert run(["export", *arguments, "--precision", precision]) == 0
    embedder = CropEmbedder.load(source, contract_of(source))
    given = read_crops(store).batch(np.arange(9))
    wanted = embedder.embed(given)
    call = runner(out, ending, precision)
    least = 0.99999 if precision == "fp32" else 0.9999
    for count in (1, 3, 9):
        got = np.concatenate([call(given[at : at + count]) for at in range(0, 9, count)])
        assert got.shape == wanted.shape
        assert got.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=2e-3 if precision == "fp16" else 1e-5)
        assert (got * wanted).sum(axis=1).min() >= least
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {out.name, f"{out.name}.json"} | ({"student.bin"} if ending == ".xml" else set())  # nothing hidden
    about = read_json(tmp_path / f"{out.name}.json")
    assert about["input"]["mean"] is about["input"]["std"] is None  # pixels as they are
    assert about["input"]["channels"] == "RGB"
    assert about["input"]["layout"] == TARGETS[ending].layout


@pytest.mark.parametrize("ending", [".xml"])
def test_fp32_is_the_source_and_fp16_another_model(source: Path, tmp_path: Path, ending: str) -> None:
    needed(ending)
    given = {"foreign": foreign(source), "quiet": True}
    whole = export(source, tmp_path / f"a{ending}", **given)
    half = export(source, tmp_path / f"b{ending}", file=ExportedFile(precision="fp16"), **given)
    assert whole.model_id == CropEmbedder.load(source, contract_of(source)).model_id
    assert half.model_id != whole.model_id
    assert (tmp_path / "b.bin").stat().st_size < 0.6 * (tmp_path / "a.bin").stat().st_size
    assert export(source, tmp_path / f"c{ending}", **given).model_id == whole.model_id
    assert (tmp_path / "a.bin").read_bytes() == (tmp_path / "c.bin").read_bytes()


def foreign(source: Path) -> NetworkContract:
    return NetworkContract(contract=contract_of(source))


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("mean", [(0.0, 0.0, 0.0), (127.5, 127.5, 127.5), (123.0, 117.0, 104.0)])
@pytest.mark.parametrize("std", [(1.0, 1.0, 1.0), (58.0, 57.0, 57.5)])
def test_pixels_are_all_that_a_device_feeds(
    channels: str, layout: str, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    if std[0] == 1 and mean[0] != 0:
        mean = (1.0, 2.0, 3.0)
    contract = Contract(dim=3, size=SIZE, channels=channels, layout=layout, mean=mean, std=std)
    shape = [3, SIZE, SIZE] if layout == "NCHW" else [SIZE, SIZE, 3]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *shape])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made = with_pixels(model, contract)
    onnx.checker.check_model(made, full_check=True)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    given = crops(3)
    (got,) = session.run(None, {"input": given.transpose(0, 3, 1, 2).astype(np.float32)})
    np.testing.assert_allclose(got, to_input(given, contract), rtol=1e-5, atol=1e-5)


def test_int8_that_saves_no_room_is_said(
    source: Path, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a network as small as this one the graph itself is most of the file."""
    needed(".xml")
    out = tmp_path / "m.xml"
    arguments = [str(source), str(out), "--contract", str(contract_of(source)), "--crops", str(store)]
    assert run(["export", *arguments, "--precision", "int8"]) == 0
    assert "m.xml: is larger than fp16; judged on crops of more people" in capsys.readouterr().err


def test_a_contract_that_adds_the_mirrored_crop_is_refused(source: Path) -> None:
    with pytest.raises(UserError, match="mirror image"):
        with_pixels(onnx.load(str(source)), Contract(dim=DIM, size=SIZE, flip=True))


def one_node(op: str, weights: dict[str, Array], **attributes: object) -> onnx.ModelProto:
    """A graph of one operator on float32[N, 4, 6, 6]."""
    graph = helper.make_graph(
        [helper.make_node(op, ["x", *weights], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def floats(*shape: int) -> Array:
    made: Array = np.random.default_rng(shape).normal(size=shape).astype(np.float32)
    return made


def whole(*values: int) -> Array:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("op", "weights", "attributes"),
    [
        ("Conv", {"w": floats(8, 4, 3, 3), "b": floats(8)}, {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ("Conv", {"w": floats(8, 2, 3, 3)}, {"pads": [0, 1, 1, 0], "group": 2}),
        ("Conv", {"w": floats(4, 1, 3, 3), "b": floats(4)}, {"dilations": [2, 2], "group": 4}),
        ("PRelu", {"slope": floats(4, 1, 1)}, {}),
        ("LeakyRelu", {}, {"alpha": -0.3}),
        ("Relu", {}, {}),
        ("Clip", {"low": np.float32(0), "high": np.float32(6)}, {}),
        ("Clip", {"low": np.float32(-0.5)}, {}),
        ("Sigmoid", {}, {}),
        ("HardSwish", {}, {}),
        ("Max", {"least": np.float32(0.1)}, {}),
        ("Add", {"w": floats(1, 4, 1, 1)}, {}),
        ("Div", {"w": floats(1, 4, 1, 1)}, {}),
        ("GlobalAveragePool", {}, {}),
        ("ReduceSum", {"axes": whole(1)}, {"keepdims": 1}),
        ("ReduceMean", {}, {"axes": [2, 3], "keepdims": 0}),
        ("Flatten", {}, {"axis": 1}),
        ("Reshape", {"shape": whole(0, 144)}, {}),
        ("Reshape", {"shape": whole(-1, 4, 36)}, {}),
        ("Transpose", {}, {"perm": [0, 2, 3, 1]}),
        ("Slice", {"from": whole(1), "to": whole(5), "axis": whole(3)}, {}),
        ("BatchNormalization", {"g": floats(4), "s": floats(4), "m": floats(4), "v": floats(4) ** 2}, {}),
        ("Resize", {"roi": floats(0), "scales": np.array([1, 1, 4 / 3, 7 / 6], np.float32)}, {"mode": "linear"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_operator_is_what_onnx_says(op: str, weights: dict[str, Array], attributes: dict[str, object]) -> None:
    model = one_node(op, {name: np.asarray(value) for name, value in weights.items()}, **attributes)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    net = PlainModule(model, "a file").eval()
    for count in (1, 3):
        given = floats(count, 4, 6, 6)
        (wanted,) = session.run(None, {"x": given})
        with torch.no_grad():
            np.testing.assert_allclose(net(torch.from_numpy(given)).numpy(), wanted, rtol=1e-4, atol=1e-5)


def test_an_operator_that_no_target_holds_is_named() -> None:
    for model in (one_node("Selu", {}), one_node("Conv", {"w": floats(8, 4, 3, 3)}, auto_pad="SAME_UPPER")):
        with pytest.raises(UserError, match=rf"a \.pte can't hold the operator {model.graph.node[0].op_type} "):
            PlainModule(model, "a .pte")


def test_the_ending_chooses_and_others_are_listed(source: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert target_of(Path("a.b.onnx")) is None
    for ending, target in TARGETS.items():
        assert target_of(Path(f"runs/x.y{ending}")) is target
    assert run(["export", str(source), "student.zip", "--contract", str(contract_of(source))]) == 2
    said = capsys.readouterr().err
    assert "student.zip" in said
    assert all(ending in said for ending in (".onnx", *TARGETS))


def test_a_file_for_a_device_is_no_model_for_facekd(source: Path, tmp_path: Path) -> None:
    assert set(DEVICES) == set(TARGETS)
    for ending in TARGETS:
        (tmp_path / f"student{ending}").write_bytes(b"anything")
        with pytest.raises(UserError, match="is a file for a device, which facekd writes and does not run"):
            CropEmbedder.load(tmp_path / f"student{ending}", contract_of(source))


def test_a_missing_converter_is_named_with_what_brings_it() -> None:
    target = replace(TARGETS[".tflite"], needs=("torch", "no_such_converter"))
    with pytest.raises(UserError, match=r"no_such_converter; install it with: pip install 'facekd\[tflite\]'"):
        check_target(target, "fp32", False)


def test_what_a_target_has_not_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(UserError, match=r"\.pte in fp32"):
        check_target(TARGETS[".pte"], "int8", False)
    with pytest.raises(UserError, match="takes the pixels"):
        check_target(TARGETS[".xml"], "fp32", True)


def test_where_nothing_can_be_written_is_said(source: Path, tmp_path: Path) -> None:
    needed(".xml")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="can't be written"):
        export(source, tmp_path / "file" / "student.xml", foreign=foreign(source), quiet=True)


def test_a_converter_that_fails_leaves_what_was_there(source: Path, tmp_path: Path) -> None:
    """The source is sound and its contract is not: another size than the network's is refused, the old file stays."""
    needed(".xml")
    old = tmp_path / "student.xml"
    old.write_text("old")
    contract_file(tmp_path / "other.yaml", dim=DIM, size=SIZE + 16)
    arguments = [str(source), str(old), "--contract", str(tmp_path / "other.yaml")]
    assert run(["export", *arguments]) == 2
    assert old.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"student.xml", "other.yaml"}


@pytest.mark.slow
def test_a_killed_export_leaves_no_half_file(source: Path, tmp_path: Path) -> None:
    needed(".xml")
    out = tmp_path / "student.xml"
    command = [sys.executable, "-m", "facekd", "export", str(source), str(out), "--contract", str(contract_of(source))]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    whole, taken = out.with_suffix(".bin").read_bytes(), time.perf_counter() - start
    rng = np.random.default_rng(0)
    for _ in range(5):
        for old in (out, out.with_suffix(".bin")):
            old.unlink(missing_ok=True)
        with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
            time.sleep(float(rng.uniform(0.5, 1.1)) * taken)
            os.killpg(process.pid, signal.SIGKILL)
        seen = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
        seen.discard("student.xml.json")
        assert seen in (set(), {"student.bin"}, {"student.xml", "student.bin"})  # an .xml is never without its .bin
        assert "student.bin" not in seen or out.with_suffix(".bin").read_bytes() == whole


def test_core_mls_operations_take_what_coremltools_names() -> None:
    """By hand, as its reference of MIL gives them: every name of an argument, and what comes out."""
    from facekd.deploy.targets.mil import OPERATIONS

    x = torch.from_numpy(floats(1, 4, 6, 6))
    one = torch.ones(4)
    for name, given, wanted in (
        ("relu", {}, x.clamp(min=0)),
        ("relu6", {}, x.clamp(0, 6)),
        ("sigmoid", {}, 1 / (1 + (-x).exp())),
        ("tanh", {}, x.tanh()),
        ("prelu", {"alpha": 0.5 * one}, torch.where(x > 0, x, 0.5 * x)),
        ("leaky_relu", {"alpha": np.float32(0.5)}, torch.where(x > 0, x, 0.5 * x)),
        ("clip", {"alpha": np.float32(-1), "beta": np.float32(1)}, x.clamp(-1, 1)),
        ("linear", {"weight": torch.ones(2, 6), "bias": torch.ones(2)}, x.sum(3, keepdim=True).expand(1, 4, 6, 2) + 1),
        ("matmul", {"y": torch.ones(6, 2), "transpose_x": False}, x.sum(3, keepdim=True).expand(1, 4, 6, 2)),
        ("reduce_mean", {"axes": np.array([2, 3]), "keep_dims": np.True_}, x.mean((2, 3), keepdim=True)),
        ("reshape", {"shape": np.array([1, 144])}, x.flatten(1)),
        ("transpose", {"perm": np.array([0, 2, 3, 1])}, x.permute(0, 2, 3, 1)),
        ("batch_norm", {"mean": one, "variance": 4 * one, "epsilon": np.float32(0)}, (x - 1) / 2),
        ("slice_by_index", {"begin": np.array([0, 0, 1, 0]), "end": np.array([1, 4, 5, 6])}, x[:, :, 1:5]),
    ):
        torch.testing.assert_close(OPERATIONS[name](x=x, **given), wanted, rtol=1e-5, atol=1e-6)


def test_an_onnx_file_says_no_shape_of_what_is_inside(source: Path, tmp_path: Path) -> None:
    """tract takes an inner shape of free batch for a contradiction where it is told how many crops come."""
    made = export(source, tmp_path / "student.onnx", foreign=foreign(source), quiet=True)
    model = onnx.load(str(made.path))
    assert model.opset_import[0].version == 17
    assert not model.graph.value_info
