"""A saved network comes back bit for bit, and nothing else is taken for one."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import safe_open
from toy import save_run, tiny_net

from facekd.core.contract import Contract
from facekd.errors import UserError
from facekd.nets import build
from facekd.nets.files import load_network
from facekd.nets.saved import ABOUT, MODEL, digest, load_model, save_model


def parts(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()[ABOUT])  # noqa: SIM118


def write(path: Path, weights: dict[str, torch.Tensor], about: dict[str, Any]) -> None:
    safetensors.torch.save_file(weights, path, {ABOUT: json.dumps(about)})


def test_round_trip(tmp_path: Path) -> None:
    torch.manual_seed(3)
    net = build("mobilefacenet-half", dim=8, size=32)
    net.train()(torch.randn(4, 3, 32, 32))  # the norms' statistics travel too
    contract = save_model(tmp_path / MODEL, "mobilefacenet-half", net, Contract(dim=8, size=32))
    for path in (tmp_path, tmp_path / MODEL):
        saved = load_model(path)
        assert (saved.name, saved.contract) == ("mobilefacenet-half", contract)
        assert not saved.net.training
        images = torch.randn(2, 3, 32, 32)
        with torch.no_grad():
            assert torch.equal(saved.net(images), net.eval()(images))
    assert (tmp_path / MODEL).stat().st_mode & 0o077 == 0  # weights can remember faces: for their owner only


def test_the_activation_comes_back(tmp_path: Path) -> None:
    net = build("mobilefacenet-half", dim=8, size=32, activation="relu").eval()
    save_model(tmp_path / MODEL, "mobilefacenet-half", net, Contract(dim=8, size=32))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(load_model(tmp_path).net(images), net(images))


def test_the_same_weights_have_one_digest_whatever_the_order_and_layout() -> None:
    weights = tiny_net().state_dict()
    turned = {key: value.to(memory_format=torch.channels_last) if value.ndim == 4 else value
              for key, value in reversed(weights.items())}  # fmt: skip
    assert digest(weights) == digest(turned)
    assert digest(weights) != digest({**weights, "0.bias": weights["0.bias"] + 1e-7})
    assert digest({"a": torch.zeros(2, 3)}) != digest({"a": torch.zeros(3, 2)})
    assert digest({"a": torch.zeros(2)}) != digest({"b": torch.zeros(2)})


def test_weights_decide_the_model_id(tmp_path: Path) -> None:
    ids = [load_model(save_run(tmp_path / str(seed), seed=seed)).contract.model_id for seed in (0, 1)]
    assert ids[0] != ids[1]
    assert load_model(save_run(tmp_path / "again")).contract.model_id == ids[0]


def test_the_same_network_is_the_same_file(tmp_path: Path) -> None:
    files = {(save_run(tmp_path / str(i)) / MODEL).read_bytes() for i in range(6)}
    assert len(files) == 1


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    file = save_run(tmp_path) / MODEL
    weights, about = parts(file)
    weights["net.layers.0.0.weight"] += 1e-3
    write(file, weights, about)
    with pytest.raises(UserError, match="not those its contract was made for"):
        load_model(tmp_path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = save_run(tmp_path) / MODEL
    weights, about = parts(file)
    write(file, weights, {**about, "name": "mobilefacenet"})
    with pytest.raises(UserError, match="do not fit mobilefacenet"):
        load_model(tmp_path)
    contract = {**about["contract"], "dim": 17}
    write(file, weights, {**about, "contract": contract})
    with pytest.raises(UserError, match="do not fit mobilefacenet-half"):
        load_model(tmp_path)
    write(file, weights, {**about, "name": "mobilefacenet-hal"})
    with pytest.raises(UserError, match="did you mean 'mobilefacenet-half'"):
        load_model(tmp_path)


@pytest.mark.parametrize("keep", [0, 7, 500, -1])
def test_a_truncated_file_is_refused(tmp_path: Path, keep: int) -> None:
    file = save_run(tmp_path) / MODEL
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UserError, match="not a facekd network"):
        load_model(tmp_path)


def test_safetensors_of_somebody_else_are_refused(tmp_path: Path) -> None:
    safetensors.torch.save_file({"weight": torch.zeros(2)}, tmp_path / MODEL)
    with pytest.raises(UserError, match="not a facekd network"):
        load_model(tmp_path)


def test_a_missing_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no trained network there"):
        load_model(tmp_path)


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("name", ["model.pt", MODEL, "model.onnx"])
def test_a_pickle_is_refused_and_nothing_in_it_runs(tmp_path: Path, name: str) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"net": Trap(sprung)}, tmp_path / name)
    with pytest.raises(UserError, match=r"not a facekd network|not an ONNX network"):
        load_network(tmp_path / name)
    (tmp_path / name).write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(UserError, match=r"not a facekd network|not an ONNX network"):
        load_network(tmp_path / name)
    assert not sprung.exists()
