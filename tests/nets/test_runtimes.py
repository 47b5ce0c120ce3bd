"""One embedder from many threads, in a forked process and in each runtime: the same embeddings."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import SIZE, contract_file, onnx_of, save_run, tiny_net

from facekd.core.types import Array
from facekd.deploy.embedder import CropEmbedder
from facekd.errors import UserError
from facekd.nets.runtimes import pieces, spread

HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
KINDS = [
    "onnxruntime",
    "torch",
    pytest.param("openvino", marks=pytest.mark.skipif(not HAS_OPENVINO, reason="no OpenVINO")),
]


def crops(count: int) -> Array:
    return np.random.default_rng(count).integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)


def embedder_of(kind: str, folder: Path, threads: int | None = 2) -> CropEmbedder:
    if kind == "torch":
        return CropEmbedder.load(save_run(folder / "run"), threads=threads, backend="torch")
    contract = contract_file(folder / "c.yaml", dim=8, size=SIZE)
    return CropEmbedder.load(onnx_of(tiny_net().eval(), folder / "net.onnx"), contract, threads, kind)


@given(st.integers(0, 500), st.integers(1, 64), st.integers(1, 16))
def test_pieces_cover_everything_once_and_leave_no_thread_idle(count: int, threads: int, step: int) -> None:
    found = pieces(count, threads, step)
    assert [i for part in found for i in range(count)[part]] == list(range(count))
    assert all(len(range(count)[part]) <= step for part in found)
    assert len(found) >= min(count, threads) // 2


def test_spread_keeps_the_order_and_raises_what_a_part_raises() -> None:
    parts = pieces(100, 4, 3)
    assert spread(lambda part: part.start, parts, 4) == [part.start for part in parts]
    names: set[str] = set()
    barrier = threading.Barrier(2, timeout=10)

    def meet(part: slice) -> None:
        names.add(threading.current_thread().name)
        barrier.wait()  # passes only when two parts run at once

    spread(meet, pieces(8, 2, 1), 2)
    assert len(names) == 2
    with pytest.raises(ZeroDivisionError):
        spread(lambda part: 1 // part.start, pieces(4, 2, 1), 2)


@pytest.mark.parametrize("kind", KINDS)
def test_many_threads_share_one_embedder(tmp_path: Path, kind: str) -> None:
    embedder = embedder_of(kind, tmp_path)
    wanted = [embedder.embed(crops(count)) for count in range(1, 13)]
    with ThreadPoolExecutor(6) as pool:
        for got, want in zip(pool.map(lambda count: embedder.embed(crops(count)), [*range(1, 13)] * 5), wanted * 5,
                             strict=True):  # fmt: skip
            np.testing.assert_allclose(got, want, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_process_embeds_too(tmp_path: Path, kind: str) -> None:
    embedder = embedder_of(kind, tmp_path)
    wanted = embedder.embed(crops(40))  # every thread that the runtime has is running by now
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            os.write(write, np.ascontiguousarray(embedder.embed(crops(40))).tobytes())
        finally:
            os._exit(0)
    os.close(write)
    timer = threading.Timer(60, lambda: os.kill(child, 9))  # a child that hangs gives nothing
    timer.start()
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    timer.cancel()
    np.testing.assert_allclose(np.frombuffer(data, np.float32).reshape(wanted.shape), wanted, atol=1e-5)
    np.testing.assert_allclose(embedder.embed(crops(40)), wanted, atol=1e-5)  # and the parent goes on


@pytest.mark.skipif(not HAS_OPENVINO, reason="no OpenVINO")
def test_the_runtimes_agree(tmp_path: Path) -> None:
    one, two = embedder_of("onnxruntime", tmp_path), embedder_of("openvino", tmp_path)
    assert one.model_id == two.model_id
    np.testing.assert_allclose(one.embed(crops(21)), two.embed(crops(21)), atol=1e-5)


def test_a_backend_that_does_not_run_such_a_file(tmp_path: Path) -> None:
    folder, path = save_run(tmp_path / "run"), onnx_of(tiny_net(), tmp_path / "net.onnx")
    with pytest.raises(UserError, match=r"onnxruntime runs an exported network; 'facekd export .*run model\.onnx'"):
        CropEmbedder.load(folder, backend="onnxruntime")
    with pytest.raises(UserError, match="torch runs a run folder"):
        CropEmbedder.load(path, backend="torch")
    with pytest.raises(UserError, match="no backend 'onxruntime'; did you mean 'onnxruntime'"):
        CropEmbedder.load(path, backend="onxruntime")


def test_a_missing_openvino_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # as where it is not installed
    with pytest.raises(UserError, match=r"pip install 'facekd\[export\]'"):
        embedder_of("openvino", tmp_path)
