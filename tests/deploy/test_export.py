"""The exported file is its network: same embeddings at any batch size, same contract, or nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from toy import SIZE, contract_file, onnx_of, save_run, tiny_net, write_store

from facekd.cli import run
from facekd.commands.export import Exported, export
from facekd.core.contract import Contract
from facekd.core.pixels import to_input, unit
from facekd.core.types import Array
from facekd.crops.read import read_crops
from facekd.deploy.card import CARD
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.export import PRECISION, SOURCE, check_parity
from facekd.deploy.thresholds import read_thresholds
from facekd.deploy.traced import to_onnx
from facekd.errors import UserError
from facekd.nets.files import INPUT, METADATA, UINT8, json_beside, load_network
from facekd.nets.graph import Graph
from facekd.nets.saved import MODEL, SavedModel, load_model, save_model


def crops(count: int) -> Array:
    return np.random.default_rng(count).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def metadata(path: Path) -> dict[str, str]:
    return {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(str(path)).graph.node}


def settled(folder: Path, activation: str = "prelu", seed: int = 0) -> Path:
    """A run whose norms have seen pictures and whose slopes differ, as after a training."""
    from facekd.nets import build

    torch.manual_seed(seed)
    net = build("mobilefacenet-half", dim=24, size=SIZE, activation=activation)
    for module in net.modules():
        if isinstance(module, torch.nn.PReLU):
            torch.nn.init.uniform_(module.weight, -0.2, 0.9)
    for _ in range(3):
        net.train()(torch.randn(8, 3, SIZE, SIZE))
    save_model(folder / MODEL, "mobilefacenet-half", net, Contract(dim=24, size=SIZE))
    return folder


@pytest.fixture(autouse=True)
def written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch writes each network once for all tests: it takes seconds."""

    def once(net: torch.nn.Module, contract: Contract) -> Any:
        if contract.weights_sha256 not in WRITTEN:
            WRITTEN[contract.weights_sha256] = to_onnx(net, contract)
        return WRITTEN[contract.weights_sha256]

    monkeypatch.setattr("facekd.deploy.traced.to_onnx", once)


WRITTEN: dict[str, Any] = {}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return settled(tmp_path_factory.mktemp("export") / "run")


@pytest.fixture(scope="module")
def exported(folder: Path) -> Exported:
    return export(folder, folder.parent / "model.onnx", terms="of nobody", quiet=True)


@pytest.fixture(scope="module")
def saved(folder: Path) -> SavedModel:
    return load_model(folder)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_store(tmp_path_factory.mktemp("store") / "crops", people=8, photos=6)


@pytest.fixture(scope="module")
def pairs(store: Path) -> Path:
    """All pairs of the store's photos."""
    found = read_crops(store)
    rows = [
        f"{a},{b},{int(who == other)}"
        for i, (a, who) in enumerate(zip(found.sources, found.identities, strict=True))
        for b, other in list(zip(found.sources, found.identities, strict=True))[i + 1 :]
    ]
    path = store.parent / "pairs.csv"
    path.write_text("\n".join(["a,b,same", *rows]) + "\n")
    return path


def test_any_batch_size_gives_the_networks_unit_embeddings(exported: Exported, saved: SavedModel) -> None:
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    inputs = to_input(crops(17), saved.contract)
    with torch.no_grad():
        wanted = unit(saved.net(torch.from_numpy(inputs)).numpy())
    for count in (1, 3, 17):
        (got,) = session.run(None, {session.get_inputs()[0].name: inputs[:count]})
        np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(got, wanted[:count], atol=1e-4)


def test_the_file_is_whole_checked_and_says_what_it_expects(exported: Exported, saved: SavedModel) -> None:
    model = onnx.load(str(exported.path))
    onnx.checker.check_model(model, full_check=True)
    found = metadata(exported.path)
    assert json.loads(found[METADATA]) == json.loads(saved.contract.to_json())
    assert found["facekd.net"] == "mobilefacenet-half"
    assert found[PRECISION] == "fp32"
    for said in (saved.contract.model_id, "of nobody", "least 1.0000", "size 32", "float32[N, 24]", "Thresholds: none"):
        assert said in found[CARD]
    assert exported.bytes == exported.path.stat().st_size
    assert exported.least_cosine > 0.99999
    beside = sorted(path.name for path in exported.path.parent.iterdir() if path.is_file())
    assert beside == ["model.onnx", "model.onnx.json"]  # no third file
    assert "PRelu" not in operators(exported.path)


def test_the_embedder_of_the_file_is_the_runs(exported: Exported, folder: Path) -> None:
    one, two = CropEmbedder.load(folder), CropEmbedder.load(exported.path)
    # The same network, only written otherwise: their embeddings may meet.
    assert one.model_id == two.model_id == exported.model_id
    np.testing.assert_allclose(one.embed(crops(9)), two.embed(crops(9)), atol=1e-4)
    assert two.network.parameters == pytest.approx(one.network.parameters, rel=0.01)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_weights_that_were_changed_are_not_taken_for_the_exported_ones(
    tmp_path: Path, folder: Path, precision: str
) -> None:
    path = export(folder, tmp_path / "m.onnx", precision=precision, quiet=True).path
    wanted = CropEmbedder.load(path)
    json_beside(path).unlink()  # which would tell it too, and is not always copied along
    model = onnx.load(str(path))
    model.producer_name = "another"  # what is no weight may change
    for entry in model.metadata_props:
        if entry.key == CARD:
            entry.value += "\nOurs since May."
    model.graph.initializer.sort(key=lambda tensor: tensor.name)
    onnx.save(model, str(path))
    assert CropEmbedder.load(path).model_id == wanted.model_id
    np.testing.assert_allclose(CropEmbedder.load(path).embed(crops(2)), wanted.embed(crops(2)), atol=1e-6)
    onnx.save(model, str(tmp_path / "large.onnx"), save_as_external_data=True, location="w.bin")
    assert CropEmbedder.load(tmp_path / "large.onnx").contract == wanted.contract
    model = onnx.load(str(path))
    largest = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    data = bytearray(largest.raw_data)
    data[len(data) // 2] ^= 1
    largest.raw_data = bytes(data)
    onnx.save(model, str(path))
    for _ in range(2):
        with pytest.raises(UserError, match=r"m\.onnx: its weights are not those that facekd wrote into it"):
            CropEmbedder.load(path)


def test_the_parity_check_tells_how_far_apart_the_two_are(exported: Exported, folder: Path) -> None:
    parity = check_parity(CropEmbedder.load(folder), CropEmbedder.load(exported.path), crops(5), "fp32")
    assert parity.crops == 5
    assert 0.99999 < parity.least_cosine <= parity.median_cosine < 1.00001
    assert parity.largest_difference < 1e-4


def test_a_network_that_differs_from_its_source_is_refused(
    tmp_path: Path, exported: Exported, saved: SavedModel
) -> None:
    generator = torch.Generator().manual_seed(1)
    for number, disturb in enumerate(
        (lambda p: p + 0.02 * torch.randn(p.shape, generator=generator), torch.zeros_like)
    ):
        other = load_model(exported.path.parent / "run").net
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.copy_(disturb(parameter))
        save_model(tmp_path / str(number) / MODEL, saved.name, other, saved.contract)
        with pytest.raises(
            UserError, match=r"not its source: the worst of 4 crops .*under 0.9999 for fp32; nothing was"
        ):
            check_parity(CropEmbedder.load(tmp_path / str(number)), CropEmbedder.load(exported.path), crops(4), "fp32")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_nothing_is_written_where_the_check_fails(
    tmp_path: Path, folder: Path, store: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    another = load_model(settled(tmp_path / "other", seed=4)).net
    monkeypatch.setattr("facekd.deploy.traced.to_onnx", lambda net, contract: to_onnx(another, contract))
    with pytest.raises(UserError, match="is not its source"):
        export(folder, tmp_path / "m.onnx", precision=precision, crops=store, quiet=True)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*m.onnx*"))


@pytest.mark.slow
def test_it_is_checked_on_the_users_crops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = write_store(tmp_path / "crops", people=2, photos=2)
    folder = save_run(tmp_path / "run", "iresnet18-quarter")
    assert run(["export", str(folder), str(tmp_path / "m.onnx"), "--crops", str(store)]) == 0
    assert load_network(tmp_path / "m.onnx").contract == load_model(folder).contract
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "over 4 crops" in shown.err.splitlines()[-1]  # of fp32 none is kept for calibration
    assert len(shown.err.splitlines()) == 2  # the exporter's own chatter is no news to a user


@pytest.mark.slow
def test_fp16_is_half_the_file_and_another_model(tmp_path: Path, folder: Path, exported: Exported) -> None:
    half = export(folder, tmp_path / "half.onnx", precision="fp16", quiet=True)
    assert half.bytes < 0.62 * exported.bytes
    assert half.least_cosine > 0.999
    assert half.model_id != exported.model_id
    assert metadata(half.path)[SOURCE] == exported.model_id
    assert half.model_id == export(folder, tmp_path / "again.onnx", precision="fp16", quiet=True).model_id
    np.testing.assert_allclose(
        CropEmbedder.load(half.path).embed(crops(3)), CropEmbedder.load(folder).embed(crops(3)), atol=5e-2
    )


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["prelu", "relu"])
def test_int8_is_a_quarter_of_the_file_close_and_another_model(
    tmp_path: Path, store: Path, pairs: Path, activation: str
) -> None:
    folder = settled(tmp_path / "run", activation)
    full = export(folder, tmp_path / "full.onnx", quiet=True)
    small = export(folder, tmp_path / "small.onnx", precision="int8", crops=store, pairs=pairs, quiet=True)
    # A toy: scales and names weigh more than its weights; and PReLU takes two convolutions.
    assert small.bytes < (0.75 if activation == "prelu" else 0.6) * full.bytes
    assert small.median_cosine > 0.97
    assert small.model_id != full.model_id
    assert "QuantizeLinear" in operators(small.path)
    again = export(folder, tmp_path / "again.onnx", precision="int8", crops=store, pairs=pairs, quiet=True)
    assert again.model_id == small.model_id  # of the same crops the same model
    # Its own thresholds came from the pairs, not from its source.
    assert set(read_thresholds(small.path)) == {0.1}  # so few people show no lower FAR
    assert [one.far_asked for one in small.differences if one.difference is not None] == [0.1]
    assert "TAR at FAR 0.1" in metadata(small.path)[CARD]
    assert "some of whose people calibrated it" in metadata(small.path)[CARD], "the list names everybody"


def test_a_worse_tar_is_refused_and_told(
    tmp_path: Path, folder: Path, store: Path, pairs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No export of ours is bad enough: the tolerance is moved until a good one fails.
    monkeypatch.setattr("facekd.evaluation.exported.MOST_LOST", -2.0)
    with pytest.raises(
        UserError, match=r"TAR at FAR 0.1 is [+-]\d+\.\d\d points \(95 % interval .*nothing was written"
    ):
        export(folder, tmp_path / "m.onnx", crops=store, pairs=pairs, quiet=True)
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("flip", ["false", "true"])
def test_uint8_input_is_the_embedders_own_preprocessing(tmp_path: Path, flip: str) -> None:
    source = onnx_of(tiny_net().eval(), tmp_path / "net.onnx")
    contract = contract_file(
        tmp_path / "c.yaml", dim=8, size=SIZE, channels="BGR", mean=[1, 2, 3], std=[50, 60, 70], flip=flip
    )  # fmt: skip
    done = export(source, tmp_path / "u8.onnx", contract=contract, uint8_input=True, quiet=True)
    assert metadata(done.path)[INPUT] == UINT8
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    (fed,) = session.get_inputs()
    assert (fed.type, fed.shape[1:]) == ("tensor(uint8)", [SIZE, SIZE, 3])
    wanted = CropEmbedder.load(source, contract).embed(crops(11))
    np.testing.assert_allclose(session.run(None, {fed.name: crops(11)})[0], wanted, atol=1e-5)
    embedder = CropEmbedder.load(done.path)
    assert embedder.model_id == CropEmbedder.load(source, contract).model_id == done.model_id
    np.testing.assert_allclose(embedder.embed(crops(11)), wanted, atol=1e-5)
    with pytest.raises(UserError, match=r"takes \(32, 32, 3\)"):
        embedder.embed(np.zeros((1, 48, 48, 3), np.uint8))
    with pytest.raises(UserError, match=r"takes uint8 crops.*without --uint8-input"):
        embedder.network.run(to_input(crops(1), embedder.contract))
    with pytest.raises(UserError, match="takes uint8 crops already; export the network it was made from"):
        export(done.path, tmp_path / "again.onnx", quiet=True)


def test_anybodys_embedder_with_a_frozen_batch_and_an_old_opset(tmp_path: Path) -> None:
    net = tiny_net().eval()
    path = onnx_of(net, tmp_path / "frozen.onnx", batch=1)
    model = onnx.load(str(path))
    model.opset_import[0].version = 11
    onnx.save(model, str(path))
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE)
    done = export(path, tmp_path / "m.onnx", contract=contract, quiet=True)
    session = onnxruntime.InferenceSession(done.path, providers=["CPUExecutionProvider"])
    inputs = to_input(crops(5), Contract(dim=8, size=SIZE))
    with torch.no_grad():
        wanted = unit(net(torch.from_numpy(inputs)).numpy())
    np.testing.assert_allclose(session.run(None, {session.get_inputs()[0].name: inputs})[0], wanted, atol=1e-5)
    assert "PRelu" not in operators(done.path)
    with pytest.raises(UserError, match="carries no contract"):
        export(path, tmp_path / "none.onnx", quiet=True)


def test_an_export_of_an_export_is_the_same_graph(tmp_path: Path, folder: Path) -> None:
    """One norm in plain operators, one pair of names, and the same bytes whenever and from whichever it is written."""
    paths = [tmp_path / f"{name}.onnx" for name in ("first", "again", "second")]
    for path in paths[:2]:
        export(folder, path, quiet=True)
    export(paths[0], paths[2], quiet=True)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    first, second = (onnx.load(str(path)) for path in (paths[0], paths[2]))
    for model in (first, second):
        assert [value.name for value in model.graph.input] == ["input"]
        assert [value.name for value in model.graph.output] == ["embedding"]
        kinds = [node.op_type for node in model.graph.node]
        assert kinds[-5:] == ["Mul", "ReduceSum", "Sqrt", "Max", "Div"]
        assert not {"ReduceL2", "LpNormalization"} & set(kinds)
        assert kinds.count("Sqrt") == kinds.count("Div") == 1
    assert [node.op_type for node in first.graph.node] == [node.op_type for node in second.graph.node]


def test_what_is_refused_before_any_work(tmp_path: Path, folder: Path, store: Path) -> None:
    for flags, sentence in (
        ({"model": tmp_path / "model.pt"}, r"has to end in \.onnx"),
        ({"run": tmp_path / "nothing"}, "no such model"),
        ({"run": store}, "no trained network there"),
        ({"precision": "int8"}, "takes its ranges from real faces.*--crops"),
        ({"pairs": store}, "give the store of their crops with --crops"),
        ({"contract": store / "store.json"}, "leave --contract out"),
        ({"precision": "fp16", "thresholds": store}, "are the source's, and fp16 scores otherwise"),
    ):
        given = {"run": folder, "model": tmp_path / "model.onnx", "quiet": True} | flags
        with pytest.raises(UserError, match=sentence):
            export(**given)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_quantized_file_is_not_exported_again(tmp_path: Path, store: Path) -> None:
    source = onnx_of(tiny_net().eval(), tmp_path / "net.onnx")
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE)
    small = export(source, tmp_path / "s.onnx", contract=contract, precision="int8", crops=store, quiet=True)
    with pytest.raises(UserError, match="is quantized already"):
        export(small.path, tmp_path / "again.onnx", quiet=True)


def test_weights_that_nobody_reads_are_not_written(tmp_path: Path) -> None:
    graph = Graph(onnx.load(str(onnx_of(tiny_net(), tmp_path / "net.onnx"))))
    graph.weight("orphan", np.zeros(1000, np.float32))
    assert "orphan" not in {tensor.name for tensor in graph.model().graph.initializer}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_no_path_of_this_machine_is_in_the_file(precision: str, tmp_path: Path) -> None:
    """torch's exporter notes where in the code each node comes from: who installs elsewhere would get another file."""
    export(settled(tmp_path / "run"), tmp_path / "model.onnx", precision=precision, quiet=True)
    data = (tmp_path / "model.onnx").read_bytes()
    for place in (Path(torch.__file__).parent, Path(__file__).parents[2] / "facekd", tmp_path):
        assert str(place).encode() not in data
    assert b"stack_trace" not in data
