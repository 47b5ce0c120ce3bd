"""The exported file is its network: same embeddings at any batch size, same contract, or nothing is written."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from toy import SIZE, save_run, write_store

from facekd.cli import run
from facekd.core.pixels import to_input, unit
from facekd.core.types import Array
from facekd.deploy.embedder import Embedder
from facekd.deploy.export import check_parity
from facekd.errors import UserError
from facekd.nets.files import METADATA, load_network
from facekd.nets.saved import MODEL, SavedModel, load_model, save_model
from facekd.stages.export import Exported, export


def crops(count: int) -> Array:
    return np.random.default_rng(count).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose norms have seen pictures, as after a training."""
    folder = save_run(tmp_path_factory.mktemp("export") / "run", "mobilefacenet", dim=24)
    saved = load_model(folder)
    for seed in range(3):
        saved.net.train()(torch.randn(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed)))
    save_model(folder / MODEL, saved.name, saved.net, saved.contract)
    return folder


@pytest.fixture(scope="module")
def exported(folder: Path) -> Exported:
    return export(folder, folder.parent / "model.onnx", quiet=True)


@pytest.fixture(scope="module")
def saved(folder: Path) -> SavedModel:
    return load_model(folder)


def test_any_batch_size_gives_the_networks_unit_embeddings(exported: Exported, saved: SavedModel) -> None:
    session = onnxruntime.InferenceSession(exported.path, providers=["CPUExecutionProvider"])
    inputs = to_input(crops(17), saved.contract)
    with torch.no_grad():
        wanted = unit(saved.net(torch.from_numpy(inputs)).numpy())
    for count in (1, 3, 17):
        (got,) = session.run(None, {"input": inputs[:count]})
        np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(got, wanted[:count], atol=1e-4)


def test_the_file_is_whole_checked_and_says_what_it_expects(exported: Exported, saved: SavedModel) -> None:
    model = onnx.load(str(exported.path))
    onnx.checker.check_model(model, full_check=True)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata[METADATA]) == json.loads(saved.contract.to_json())
    assert metadata["facekd.net"] == "mobilefacenet"
    assert exported.bytes == exported.path.stat().st_size
    assert exported.least_cosine > 0.99999
    assert [path.name for path in exported.path.parent.iterdir() if path.is_file()] == ["model.onnx"]  # no second file


def test_the_embedder_of_the_file_is_the_runs(exported: Exported, folder: Path) -> None:
    one, two = Embedder.load(folder), Embedder.load(exported.path)
    # The same network, only written otherwise: their embeddings may meet.
    assert one.model_id == two.model_id == exported.model_id
    np.testing.assert_allclose(one.embed(crops(9)), two.embed(crops(9)), atol=1e-4)
    assert two.network.parameters == pytest.approx(one.network.parameters, rel=0.01)


def test_the_parity_check_tells_how_far_apart_the_two_are(exported: Exported, saved: SavedModel) -> None:
    parity = check_parity(saved.net, exported.path.read_bytes(), saved.contract, crops(5))
    assert parity.crops == 5
    assert 0.99999 < parity.least_cosine < 1.00001
    assert parity.largest_difference < 1e-4


def test_a_network_that_differs_from_its_source_is_refused(exported: Exported, saved: SavedModel) -> None:
    other = copy.deepcopy(saved.net)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.02 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    with pytest.raises(UserError, match=r"is not its source: on one of 4 crops .* under 0.9999; nothing was written"):
        check_parity(other, exported.path.read_bytes(), saved.contract, crops(4))
    with torch.no_grad():
        next(other.parameters()).fill_(torch.nan)
    with pytest.raises(UserError, match="is not its source"):
        check_parity(other, exported.path.read_bytes(), saved.contract, crops(4))


def test_nothing_is_written_where_the_check_fails(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of_another_network(net: torch.nn.Module, contract: object, about: object) -> bytes:
        return (folder.parent / "model.onnx").read_bytes()

    monkeypatch.setattr("facekd.deploy.export.to_onnx", of_another_network)
    with pytest.raises(UserError, match="is not its source"):
        export(save_run(tmp_path / "other", "mobilefacenet", dim=24, seed=4), tmp_path / "m.onnx", quiet=True)
    assert not list(tmp_path.glob("*m.onnx*"))


def test_it_is_checked_on_the_users_crops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = write_store(tmp_path / "crops", people=2, photos=2)
    folder = save_run(tmp_path / "run", "iresnet18-quarter")
    assert run(["export", str(folder), str(tmp_path / "m.onnx"), "--crops", str(store)]) == 0
    assert load_network(tmp_path / "m.onnx").contract == load_model(folder).contract
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "over 4 crops" in shown.err.splitlines()[-1]
    assert len(shown.err.splitlines()) == 2  # the exporter's own chatter is no news to a user


def test_a_wrong_name_and_a_missing_run_are_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(UserError, match=r"has to end in \.onnx"):
        export(folder, tmp_path / "model.pt", quiet=True)
    with pytest.raises(UserError, match="no trained network there"):
        export(tmp_path / "nothing", tmp_path / "model.onnx", quiet=True)
