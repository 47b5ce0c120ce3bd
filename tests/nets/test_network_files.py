"""Any network file as one call: what it takes, what it gives, and what is refused with a remedy."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from toy import SIZE, contract_file, onnx_of, save_run, tiny_net

from facekd.core.types import Array
from facekd.errors import UserError
from facekd.nets.cost import num_macs, num_parameters
from facekd.nets.files import METADATA, load_network
from facekd.nets.saved import load_model

WEIGHTS = Path(__file__).parents[2].parent / "shared" / "data" / "weights"


def images(count: int, size: int = SIZE) -> Array:
    return np.random.default_rng(count).normal(0, 1, (count, 3, size, size)).astype(np.float32)


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    return contract_file(tmp_path / "contract.yaml", dim=8, size=SIZE)


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_a_frozen_batch_size_gives_what_a_free_one_gives(tmp_path: Path, contract: Path, batch: int | None) -> None:
    net = tiny_net().eval()
    network = load_network(onnx_of(net, tmp_path / "net.onnx", batch=batch), contract)
    for count in (0, 1, 3, 4, 9):  # fewer than the graph's, as many, and a remainder
        with torch.no_grad():
            wanted = net(torch.from_numpy(images(count))).numpy()
        got = network.run(images(count))
        assert got.dtype == np.float32
        assert got.shape == (count, 8)
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_a_run_folder_gives_what_its_network_gives(tmp_path: Path) -> None:
    folder = save_run(tmp_path / "run", dim=16)
    network, saved = load_network(folder, threads=1), load_model(folder)
    with torch.no_grad():
        wanted = saved.net(torch.from_numpy(images(5))).numpy()
    np.testing.assert_allclose(network.run(images(5)), wanted, atol=1e-5)
    assert network.contract == saved.contract
    assert network.parameters == num_parameters(saved.net)
    assert network.macs == num_macs(saved.net, SIZE)
    assert network.bytes == (folder / "model.safetensors").stat().st_size


def test_an_onnx_file_is_counted(tmp_path: Path, contract: Path) -> None:
    network = load_network(onnx_of(tiny_net(), tmp_path / "net.onnx"), contract)
    assert network.parameters == (4 * 27 + 4) + 4 * 4 + 4 + (8 * 1024 + 8)  # the norm's statistics too: not folded
    assert network.macs is None
    assert network.bytes == (tmp_path / "net.onnx").stat().st_size


def test_no_contract_is_no_guess(tmp_path: Path) -> None:
    path = onnx_of(tiny_net(), tmp_path / "net.onnx")
    with pytest.raises(UserError, match=r"net\.onnx: carries no contract.*--contract FILE.*'dim: 512'"):
        load_network(path)


def test_the_contract_is_bound_to_the_weights(tmp_path: Path) -> None:
    one, two = onnx_of(tiny_net(), tmp_path / "1.onnx"), onnx_of(tiny_net(seed=1), tmp_path / "2.onnx")
    digest = hashlib.sha256(one.read_bytes()).hexdigest()
    own = contract_file(tmp_path / "own.yaml", dim=8, size=SIZE, weights_sha256=digest)
    free = contract_file(tmp_path / "free.yaml", dim=8, size=SIZE)
    assert load_network(one, own).contract == load_network(one, free).contract
    assert load_network(one, free).contract.weights_sha256 == digest
    assert load_network(one, free).contract.model_id != load_network(two, free).contract.model_id
    with pytest.raises(UserError, match="was written for other weights"):
        load_network(two, own)


def test_a_contract_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = onnx_of(tiny_net(), tmp_path / "net.onnx")
    with pytest.raises(UserError, match="gives 8 numbers where its contract says dim: 9"):
        load_network(path, contract_file(tmp_path / "dim.yaml", dim=9, size=SIZE))
    with pytest.raises(UserError, match=r"does not take input \(1, 3, 48, 48\).*correct it to say size: 32$"):
        load_network(path, contract_file(tmp_path / "size.yaml", dim=8, size=48))
    with pytest.raises(UserError, match=r"does not take input \(1, 32, 32, 3\).*correct it to say layout: NCHW$"):
        load_network(path, contract_file(tmp_path / "layout.yaml", dim=8, size=SIZE, layout="NHWC"))
    with pytest.raises(UserError, match=r"no such contract file"):
        load_network(path, tmp_path / "missing.yaml")


def test_a_facekd_run_brings_its_own_contract(tmp_path: Path, contract: Path) -> None:
    with pytest.raises(UserError, match="leave --contract out"):
        load_network(save_run(tmp_path / "run"), contract)


def test_the_metadata_contract(tmp_path: Path, contract: Path) -> None:
    path = onnx_of(tiny_net(), tmp_path / "net.onnx")
    given = load_network(path, contract).contract

    def with_metadata(text: str) -> Path:
        model = onnx.load(str(path))
        helper.set_model_props(model, {METADATA: text})
        onnx.save(model, str(tmp_path / "meta.onnx"))
        return tmp_path / "meta.onnx"

    assert load_network(with_metadata(given.to_json())).contract == given
    with pytest.raises(UserError, match="has no key 'dims'; did you mean 'dim'"):
        load_network(with_metadata('{"dims": 8}'))
    with pytest.raises(UserError, match="its contract is no JSON"):
        load_network(with_metadata("dim: 8"))
    with pytest.raises(UserError, match="its contract is no JSON"):
        load_network(with_metadata("[" * 100_000))
    with pytest.raises(UserError, match="a contract is 'key: value' pairs, not NoneType"):
        load_network(with_metadata("null"))


@pytest.mark.parametrize("content", [b"", b"no network at all", b"\x08\x07"])
def test_a_file_that_is_no_onnx_is_refused_in_one_sentence(tmp_path: Path, contract: Path, content: bytes) -> None:
    path = tmp_path / "fake.onnx"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"fake\.onnx: (not an ONNX network|takes no input)") as caught:
        load_network(path, contract)
    assert "\n" not in str(caught.value)


def beside(path: Path, location: str) -> Path:
    """The network at `path` with its weights in another file, which the model calls `location`."""
    model = onnx.load(str(path))
    onnx.save(model, str(path), save_as_external_data=True, location="weights.bin", size_threshold=0)
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())
    return path


def test_weights_in_a_file_beside_the_model(tmp_path: Path, contract: Path) -> None:
    whole = load_network(onnx_of(tiny_net().eval(), tmp_path / "whole.onnx"), contract)
    path = beside(onnx_of(tiny_net().eval(), tmp_path / "net.onnx"), "weights.bin")
    network = load_network(path, contract)
    np.testing.assert_array_equal(network.run(images(3)), whole.run(images(3)))
    assert network.parameters == whole.parameters
    assert network.bytes == path.stat().st_size + (tmp_path / "weights.bin").stat().st_size
    data = bytearray((tmp_path / "weights.bin").read_bytes())
    data[-1] ^= 1
    (tmp_path / "weights.bin").write_bytes(data)
    assert load_network(path, contract).contract.model_id != network.contract.model_id  # other weights, another model
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(UserError, match=r"its weights lie in 'weights\.bin' beside it, and that is not there"):
        load_network(path, contract)


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/passwd", "a/../../weights.bin", "..\\weights.bin", ""])
def test_weights_outside_the_models_folder_are_not_read(tmp_path: Path, contract: Path, location: str) -> None:
    (tmp_path / "inner").mkdir()
    path = beside(onnx_of(tiny_net(), tmp_path / "inner" / "net.onnx"), location)
    with pytest.raises(UserError, match="outside its own folder; don't trust this file"):
        load_network(path, contract)


@pytest.mark.parametrize("kept", [0.2, 0.5, 0.99])
def test_a_truncated_model_is_refused_in_one_sentence(tmp_path: Path, contract: Path, kept: float) -> None:
    path = onnx_of(tiny_net(), tmp_path / "net.onnx")
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError, match=r"net\.onnx: not an ONNX network") as caught:
        load_network(path, contract)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.onnx: no such model"):
        load_network(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        ([("x", TensorProto.INT64, [1, 3, 32, 32])], TensorProto.INT64),
        ([("x", TensorProto.DOUBLE, [1, 3, 32, 32])], TensorProto.DOUBLE),
        ([("x", TensorProto.FLOAT, [1, 8])], TensorProto.FLOAT),
    ],
)
def test_a_network_that_is_no_embedder_is_refused(
    tmp_path: Path, contract: Path, inputs: list[tuple[str, int, list[int]]], output: int
) -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "other",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info("y", output, inputs[0][2])],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10),
              str(tmp_path / "other.onnx"))  # fmt: skip
    with pytest.raises(UserError, match="an embedder takes one batch of float images"):
        load_network(tmp_path / "other.onnx", contract)


def graph_file(path: Path, inputs: list[onnx.ValueInfoProto], outputs: dict[str, list[int | str]]) -> Path:
    """A graph whose outputs have the shapes given, each made of its first input."""
    nodes, weights = [], []
    for number, (name, shape) in enumerate(outputs.items()):
        nodes.append(helper.make_node("ReduceMean", [inputs[0].name], [f"m{number}"], axes=[2, 3], keepdims=0))
        last = shape[-1] if isinstance(shape[-1], int) else 5
        weights.append(helper.make_tensor(f"w{number}", TensorProto.FLOAT, [3, last], np.ones(3 * last)))
        nodes.append(helper.make_node("MatMul", [f"m{number}", f"w{number}"], [name]))
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, made, weights), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    )
    onnx.save(model, str(path))
    return path


IMAGES = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])


@pytest.mark.parametrize(
    ("outputs", "chosen"),
    [
        ({"norm": ["n", 1], "vector": ["n", 8]}, "vector"),  # AdaFace's, MagFace's
        ({"vector": ["n", 8], "logits": ["n", 100]}, "vector"),
        ({"logits": ["n", 100], "vector": ["n", "d"]}, "vector"),
        ({"one": ["n", 8], "two": ["n", 8]}, None),
        ({"one": ["n", 4], "two": ["n", 6]}, None),
        ({"one": ["n", "d"], "two": ["n", "d"]}, None),
    ],
)
def test_of_several_outputs_the_one_of_the_contracts_length(
    tmp_path: Path, outputs: dict[str, list[int | str]], chosen: str | None
) -> None:
    path = graph_file(tmp_path / "several.onnx", [IMAGES], outputs)
    if chosen == "vector" and outputs["vector"][-1] == "d":
        contract = contract_file(tmp_path / "c.yaml", dim=5, size=SIZE)
    else:
        contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE)
    if chosen is None:
        with pytest.raises(UserError, match=r"gives '.*' \(float\[N, .*which of them is the embedding.*extract_model"):
            load_network(path, contract)
    else:
        assert load_network(path, contract).run(images(3)).shape == (3, 5 if outputs["vector"][-1] == "d" else 8)


@pytest.mark.parametrize(
    ("kind", "shape", "sentence"),
    [
        (TensorProto.FLOAT16, ["n", 3, SIZE, SIZE], "takes float16 of rank 4.*export it with float32 input and output"),
        (TensorProto.DOUBLE, ["n", 3, SIZE, SIZE], "takes double of rank 4.*export it with float32 input and output"),
        (TensorProto.UINT8, ["n", 3, SIZE, SIZE], "takes uint8 of rank 4.*give the float network it was made from, or"),
        (TensorProto.FLOAT, ["n", SIZE, SIZE, 3], r"but 'x' \(float\[N, 32, 32, 3\]\); correct it to say layout: NHWC"),
        (TensorProto.FLOAT, ["n", 48, 48, 3], "correct it to say layout: NHWC and size: 48"),
        (TensorProto.FLOAT, ["n", 1, SIZE, SIZE], "crops have three channels; give a network of color images"),
        (TensorProto.FLOAT, ["n", 3, 48, 32], "crops are square; give a network that takes such"),
        (TensorProto.FLOAT, ["n", 3 * SIZE * SIZE], "takes float of rank 2 and gives .*give another file"),
    ],
)
def test_inputs_of_another_kind_are_named_with_the_remedy(
    tmp_path: Path, contract: Path, kind: int, shape: list[int | str], sentence: str
) -> None:
    value = helper.make_tensor_value_info("x", kind, shape)
    given = helper.make_tensor_value_info("y", kind, shape)
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [given])
    path = tmp_path / "kind.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    with pytest.raises(UserError, match=sentence):
        load_network(path, contract)


def test_a_second_input_is_named(tmp_path: Path, contract: Path) -> None:
    flag = helper.make_tensor_value_info("phase", TensorProto.BOOL, [1])
    path = graph_file(tmp_path / "two.onnx", [IMAGES, flag], {"y": ["n", 8]})
    with pytest.raises(UserError, match=r"make constants of 'phase' \(bool\[1\]\) where it is exported"):
        load_network(path, contract)


def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network whose contract facekd knows by its digest."""
    path = onnx_of(tiny_net().eval(), tmp_path / "known.onnx")
    (tmp_path / "known").mkdir()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    contract_file(tmp_path / "known" / "it.yaml", dim=8, size=SIZE, channels="BGR", mean=[104, 117, 123], std=[1, 1, 1],
                  weights_sha256=digest)  # fmt: skip
    monkeypatch.setattr("facekd.core.contract.KNOWN", tmp_path / "known")
    return path


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"mean": [127.5] * 3, "std": [127.5] * 3},
         r"says mean: \[127\.5, 127\.5, 127\.5\], std: .*, but this network is known to want "
         r"mean: \[104.0, 117.0, 123.0\], std: \[1.0, 1.0, 1.0\]; correct it, or leave --contract out"),
        ({"channels": "RGB"}, "says channels: RGB, but this network is known to want channels: BGR"),
        ({"size": 48}, "says size: 48, but this network is known to want size: 32"),
        ({"dim": 9}, "says dim: 9, but this network is known to want dim: 8"),
        ({"layout": "NHWC"}, "says layout: NHWC, but this network is known to want layout: NCHW"),
    ],
)  # fmt: skip
def test_a_contract_against_the_known_one_is_refused_with_what_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: dict[str, object], sentence: str
) -> None:
    path = known(tmp_path, monkeypatch)
    right = {"dim": 8, "size": SIZE, "channels": "BGR", "mean": [104, 117, 123], "std": [1, 1, 1]}
    wanted = load_network(path).contract
    assert load_network(path, contract_file(tmp_path / "same.yaml", **right)).contract == wanted
    flipped = load_network(path, contract_file(tmp_path / "flip.yaml", **right, flip="true")).contract
    assert flipped.flip  # a choice, and no mistake
    wrong = contract_file(tmp_path / "wrong.yaml", **(right | values))
    with pytest.raises(UserError, match=sentence):
        load_network(path, wrong)
    # An export of it carries its digest on, and is held to it too.
    model = onnx.load(str(path))
    helper.set_model_props(model, {METADATA: replace(wanted, **values).to_json()})  # type: ignore[arg-type]
    onnx.save(model, str(tmp_path / "export.onnx"))
    with pytest.raises(UserError, match=rf"its metadata\): {sentence.split(';')[0]}; export it again from the file"):
        load_network(tmp_path / "export.onnx")
    helper.set_model_props(model, {METADATA: wanted.to_json()})
    onnx.save(model, str(tmp_path / "export.onnx"))
    assert load_network(tmp_path / "export.onnx").contract == wanted
    assert load_network(tmp_path / "export.onnx", tmp_path / "same.yaml").contract == wanted
    with pytest.raises(UserError, match=sentence):
        load_network(tmp_path / "export.onnx", wrong)


@pytest.mark.parametrize(
    ("name", "dim", "mean"),
    [
        ("reid_retail_0095", 256, 127.5),
        ("w600k_mbf", 512, 127.5),
        ("sface_2021dec", 128, 0.0),
        ("foamliu_mobilefacenet", 128, 123.675),
    ],
)
def test_public_weights_are_known_by_their_digest(name: str, dim: int, mean: float) -> None:
    path = WEIGHTS / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    network = load_network(path, threads=1)
    assert (network.contract.dim, network.contract.mean[0]) == (dim, mean)
    assert np.isfinite(network.run(images(1, 112))).all()
