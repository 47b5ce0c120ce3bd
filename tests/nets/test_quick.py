"""The form that runs is the file's own function, kept for the next process, and never taken where it is another's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import CHANNELS, convolution, model_of
from onnx import TensorProto, helper
from toy import SIZE, contract_file, onnx_of, tiny_net

from facekd.core.contract import Contract
from facekd.core.files import sha256_file
from facekd.core.kept import keep, kept
from facekd.core.types import Array
from facekd.nets import quick
from facekd.nets.facts import Facts
from facekd.nets.files import load_network
from facekd.nets.quick import quick_key, trial_inputs

WEIGHTS = Path(__file__).parents[2].parent / "shared" / "data" / "weights"


def images(count: int, size: int = SIZE) -> Array:
    return np.random.default_rng(count).normal(0, 1, (count, 3, size, size)).astype(np.float32)


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    return contract_file(tmp_path / "contract.yaml", dim=8, size=SIZE)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own cache for each test; and a toy's form is taken however quick it is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(quick, "LEAST_GAIN", np.inf)
    return tmp_path / "cache" / "facekd"


@pytest.mark.parametrize("batch", [None, 1, 4])
def test_the_form_gives_what_the_file_gives(tmp_path: Path, contract: Path, batch: int | None) -> None:
    path = onnx_of(tiny_net().eval(), tmp_path / "net.onnx", batch=batch)
    plain = load_network(path, contract, quick=False)
    first, second = load_network(path, contract), load_network(path, contract)
    assert (plain.rewritten, first.rewritten, second.rewritten) == (False, True, True)
    for count in (0, 1, 5):
        for network in (first, second):
            np.testing.assert_allclose(network.run(images(count)), plain.run(images(count)), atol=1e-5)
    for network in (first, second):
        assert (network.parameters, network.bytes, network.few) == (plain.parameters, plain.bytes, plain.few)
        assert network.contract == plain.contract


def test_a_form_that_is_another_network_or_no_quicker_stays_away(
    tmp_path: Path, contract: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = onnx_of(tiny_net().eval(), tmp_path / "net.onnx")
    other = onnx_of(tiny_net(seed=1).eval(), tmp_path / "other.onnx").read_bytes()
    wanted = load_network(path, contract, quick=False).run(images(3))
    monkeypatch.setattr(quick, "_rewritten", lambda data: other)
    for _ in range(2):
        network = load_network(path, contract)
        assert not network.rewritten
        np.testing.assert_array_equal(network.run(images(3)), wanted)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    monkeypatch.setattr(quick, "LEAST_GAIN", -1)
    assert not load_network(path, contract).rewritten


def test_nothing_to_rewrite_is_kept_as_that(tmp_path: Path, contract: Path, cache: Path) -> None:
    path = onnx_of(tiny_net().eval(), tmp_path / "net.onnx")
    model = onnx.load(str(path))
    for node in model.graph.node:
        if node.op_type == "PRelu":
            node.op_type = "Relu"
            del node.input[1:]
    onnx.save(model, str(path))
    assert not load_network(path, contract).rewritten
    found = kept(quick_key(sha256_file(path)))
    assert found is not None
    assert Facts.from_values(found[0]) == Facts.of(onnx.load(str(path)))
    assert found[1] == b""
    assert not load_network(path, contract).rewritten


@pytest.mark.parametrize("about", [None, {}, {"inputs": 3}, [1, 2]])
def test_an_entry_of_another_kind_is_read_anew(tmp_path: Path, contract: Path, about: object) -> None:
    path = onnx_of(tiny_net().eval(), tmp_path / "net.onnx")
    keep(quick_key(sha256_file(path)), about, b"no network")
    assert load_network(path, contract).rewritten


def test_a_damaged_entry_and_a_cache_that_cant_be_written(tmp_path: Path, contract: Path, cache: Path) -> None:
    path = onnx_of(tiny_net().eval(), tmp_path / "net.onnx")
    wanted = load_network(path, contract).run(images(3))
    (entry,) = cache.iterdir()
    data = bytearray(entry.read_bytes())
    data[-20] ^= 1
    entry.write_bytes(data)
    np.testing.assert_array_equal(load_network(path, contract).run(images(3)), wanted)
    assert entry.read_bytes() != bytes(data)  # made anew
    entry.unlink()
    cache.rmdir()
    cache.write_bytes(b"")
    network = load_network(path, contract)
    assert network.rewritten
    np.testing.assert_array_equal(network.run(images(3)), wanted)


@pytest.mark.skipif(sys.platform == "win32", reason="limits of a process are POSIX's")
def test_where_there_was_no_room_for_it_the_next_load_tries_again(tmp_path: Path, contract: Path, cache: Path) -> None:
    import resource

    path = onnx_of(tiny_net().eval(), tmp_path / "net.onnx")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # as a full disk, for files of more than this
    try:
        cramped = load_network(path, contract)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not cramped.rewritten
    assert not list(cache.iterdir())
    again = load_network(path, contract)
    assert again.rewritten
    np.testing.assert_allclose(cramped.run(images(3)), again.run(images(3)), atol=1e-5)


def test_weights_beside_the_file_run_as_they_come(tmp_path: Path, contract: Path, cache: Path) -> None:
    path = onnx_of(tiny_net().eval(), tmp_path / "net.onnx")
    wanted = load_network(path, contract, quick=False).run(images(3))
    onnx.save(
        onnx.load(str(path)), str(path), save_as_external_data=True, location="weights.bin", size_threshold=0
    )  # fmt: skip
    network = load_network(path, contract)
    assert not network.rewritten
    np.testing.assert_array_equal(network.run(images(3)), wanted)
    assert not cache.exists() or not list(cache.iterdir())


def test_weights_that_are_listed_as_inputs_become_constants() -> None:
    nodes, weights = convolution()
    nodes[0].output[0] = "y"
    model = model_of(nodes, weights)
    assert quick._rewritten(model.SerializeToString()) is None
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [CHANNELS, CHANNELS, 3, 3]))
    form = quick._rewritten(model.SerializeToString())
    assert form is not None
    assert [value.name for value in onnx.load_from_string(form).graph.input] == ["x"]
    narrow = model_of([helper.make_node("Conv", ["x", "n"], ["y"], group=4)], {"n": np.ones((CHANNELS, 4, 1, 1))})
    assert quick._rewritten(narrow.SerializeToString()) is not None
    depthwise = model_of([helper.make_node("Conv", ["x", "n"], ["y"], group=16)], {"n": np.ones((CHANNELS, 1, 1, 1))})
    assert quick._rewritten(depthwise.SerializeToString()) is None


@pytest.mark.parametrize("uint8", [False, True])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_it_is_tried_on_what_the_network_takes(uint8: bool, layout: str) -> None:
    found = trial_inputs(Contract(dim=8, size=48, layout=layout), uint8, 3)
    shape = (3, 3, 48, 48) if layout == "NCHW" and not uint8 else (3, 48, 48, 3)
    assert len(found) == 6
    for one in found:
        assert (one.shape, one.dtype) == (shape, np.uint8 if uint8 else np.float32)
        assert (one[0] == one[2]).all()
    assert len({one.tobytes() for one in found}) == 6


@pytest.mark.parametrize("name", ["w600k_mbf", "sface_2021dec", "reid_retail_0095", "foamliu_mobilefacenet"])
def test_public_networks_give_the_same_embeddings_in_their_form(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = WEIGHTS / f"{name}.onnx"
    if not path.exists():
        pytest.skip(f"{path} is not here")
    monkeypatch.setattr(quick, "RUNS", 1)
    network, plain = load_network(path, threads=1), load_network(path, threads=1, quick=False)
    assert network.rewritten == (name != "foamliu_mobilefacenet")  # which has ReLU6
    a, b = (one.run(images(5, 112)) for one in (network, plain))
    a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
    assert np.abs(a - b).max() < 1e-5


def test_a_kept_form_needs_neither_onnx_nor_torch(tmp_path: Path, contract: Path) -> None:
    """What a first embedding of a process loads is counted in tenths of a second."""
    path = onnx_of(tiny_net().eval(), tmp_path / "net.onnx")
    assert load_network(path, contract).rewritten
    heavy = ("onnx", "torch", "pyarrow", "matplotlib", "scipy", "sklearn", "rich", "lancedb", "PIL")
    program = (
        "import sys, numpy; from facekd import Embedder;"
        f"embedder = Embedder.load({str(path)!r}, {str(contract)!r});"
        f"embedder.embed(numpy.zeros((1, {SIZE}, {SIZE}, 3), numpy.uint8));"
        f"assert embedder.network.rewritten; print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.strip() == "[]"
