"""Files of embeddings and the thresholds inside a model."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from onnx import TensorProto, helper

from facekd.core.contract import Contract
from facekd.core.types import Embeddings
from facekd.deploy.embeddings import Embedded, read_embeddings, write_embeddings
from facekd.deploy.thresholds import THRESHOLDS, read_thresholds
from facekd.errors import UserError

CONTRACT = Contract(dim=8, weights_sha256="a")


def pieces(sizes: list[int]) -> list[Embedded]:
    rng = np.random.default_rng(0)
    made = []
    for number, n in enumerate(sizes):
        vectors = rng.normal(size=(n, 8))
        vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
        embeddings = Embeddings(vectors, tuple(f"{number}-{i}" for i in range(n)), CONTRACT.model_id)
        made.append(Embedded(embeddings, (None, *("名前",) * n)[:n], tuple(f"a b/{i}.jpg" for i in range(n))))
    return made


@pytest.mark.parametrize("name", ["e.parquet", "e.npz"])
@pytest.mark.parametrize("sizes", [[3, 1, 0, 2], [], [4000, 4000, 4000]])
def test_what_is_written_comes_back(tmp_path: Path, name: str, sizes: list[int]) -> None:
    path, made = tmp_path / name, pieces(sizes)
    assert write_embeddings(path, iter(made), CONTRACT) == sum(sizes)
    read = read_embeddings(path, CONTRACT.model_id)
    assert read.embeddings.model_id == CONTRACT.model_id
    assert read.embeddings.ids == tuple(i for piece in made for i in piece.embeddings.ids)
    assert read.identities == tuple(i for piece in made for i in piece.identities)
    assert read.sources == tuple(s for piece in made for s in piece.sources)
    wanted = np.concatenate([np.zeros((0, 8), np.float32), *(piece.embeddings.vectors for piece in made)])
    np.testing.assert_array_equal(read.embeddings.vectors, wanted)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_parquet_file_is_what_others_can_read(tmp_path: Path) -> None:
    write_embeddings(tmp_path / "e.parquet", pieces([2]), CONTRACT, '{"command": "embed"}')
    table = pq.read_table(tmp_path / "e.parquet")
    assert table.schema.names == ["id", "identity", "source", "embedding", "int_id", "uuid", "sha256", "stamp"]
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 8)
    assert table["identity"].to_pylist() == [None, "名前"]
    metadata = table.schema.metadata
    assert metadata[b"facekd.model_id"].decode() == CONTRACT.model_id
    assert Contract.from_mapping(json.loads(metadata[b"facekd.contract"]), "file") == CONTRACT
    assert metadata[b"facekd.run"] == b'{"command": "embed"}'


def test_another_models_embeddings_are_refused(tmp_path: Path) -> None:
    other = Contract(dim=8, weights_sha256="b").model_id
    for name in ("e.parquet", "e.npz"):
        write_embeddings(tmp_path / name, pieces([2]), CONTRACT)
        with pytest.raises(UserError, match=f"{CONTRACT.model_id}.*{other}.*embed the photos again"):
            read_embeddings(tmp_path / name, other)


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    def broken() -> Iterator[Embedded]:
        yield from pieces([5000])
        raise RuntimeError("the machine went away")

    with pytest.raises(RuntimeError, match="went away"):
        write_embeddings(tmp_path / "e.parquet", broken(), CONTRACT)
    assert list(tmp_path.iterdir()) == []


def test_files_that_hold_no_embeddings(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "images.parquet")
    (tmp_path / "noise.parquet").write_bytes(b"nothing of the kind")
    (tmp_path / "noise.npz").write_bytes(b"nothing of the kind")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    for name, sentence in {
        "images.parquet": "holds no embeddings.*embed them first",
        "noise.parquet": "not a readable Parquet file",
        "noise.npz": "holds no embeddings",
        "other.npz": "holds no embeddings",
        "missing.parquet": "no such file of embeddings",
    }.items():
        with pytest.raises(UserError, match=sentence):
            read_embeddings(tmp_path / name)
    with pytest.raises(UserError, match=r"written as \.parquet or \.npz"):
        write_embeddings(tmp_path / "e.csv", pieces([1]), CONTRACT)


def model_with(path: Path, metadata: dict[str, str]) -> Path:
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", shape[:1], shape[1:])
    model = helper.make_model(graph)
    helper.set_model_props(model, metadata)
    onnx.save(model, str(path))
    return path


def test_thresholds_come_from_the_models_metadata(tmp_path: Path) -> None:
    assert read_thresholds(tmp_path / "a-run-folder") == {}
    assert read_thresholds(model_with(tmp_path / "plain.onnx", {})) == {}
    given = model_with(tmp_path / "given.onnx", {THRESHOLDS: '{"0.001": 0.25, "1e-4": 0.375}'})
    assert read_thresholds(given) == {1e-3: 0.25, 1e-4: 0.375}
    for name in ("given.ONNX", "given.onnx.1", "given"):  # it runs under any name, so its thresholds count under any
        assert read_thresholds(given.rename(tmp_path / name)) == {1e-3: 0.25, 1e-4: 0.375}
        given = tmp_path / name


@pytest.mark.parametrize(
    "text",
    ["[]", "{", '{"often": 0.5}', '{"0.1": null}', '{"0.1": 7}', '{"0.1": NaN}', '{"3": 0.5}', "[" * 100_000],
    ids=lambda text: text[:9],
)
def test_bad_thresholds_are_no_thresholds(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match=r"facekd\.thresholds.*export it again"):
        read_thresholds(model_with(tmp_path / "m.onnx", {THRESHOLDS: text}))


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_floats_of_another_width_are_read_as_float32(dtype: str, tmp_path: Path) -> None:
    vectors = np.eye(4, 8)
    texts = {"ids": ["a", "b", "c", "d"], "identities": [""] * 4, "sources": ["a", "b", "c", "d"]}
    arrays = {name: np.array(values) for name, values in texts.items()}
    np.savez(tmp_path / "e.npz", embeddings=vectors.astype(dtype), model_id=np.array("m"), **arrays)
    found = read_embeddings(tmp_path / "e.npz").embeddings.vectors
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, vectors.astype(np.float32))
    with pytest.raises(UserError, match="embeddings of type float64: give float32"):
        Embeddings(vectors, ("a", "b", "c", "d"), "m")


def test_a_parquet_of_another_writer_is_read_or_refused_in_a_sentence(tmp_path: Path) -> None:
    rows = np.eye(3, 5).tolist()
    lists = pa.array(rows, pa.list_(pa.float64()))
    whole = {"id": ["a", "b", "c"], "identity": ["p", "p", None], "source": ["a", "b", "c"], "embedding": lists}
    path = tmp_path / "e.parquet"

    def write(**columns: Any) -> Path:
        table = pa.table({**whole, **columns})
        pq.write_table(table.replace_schema_metadata({"facekd.model_id": "m"}), path)
        return path

    np.testing.assert_array_equal(read_embeddings(write()).embeddings.vectors, np.eye(3, 5, dtype=np.float32))
    for columns, words in (
        ({"embedding": pa.array([None, *rows[1:]], pa.list_(pa.float32()))}, "1 rows have no embedding"),
        ({"embedding": pa.array([[1.0], *rows[1:]], pa.list_(pa.float32()))}, "of 2 lengths"),
        ({"embedding": pa.array([1.0, 1.0, 1.0])}, "holds double, not lists of float32"),
        ({"embedding": pa.array([[1], [0], [1]], pa.list_(pa.int64()))}, "not lists of float32"),
    ):
        with pytest.raises(UserError, match=words):
            read_embeddings(write(**columns))
    for name in ("id", "embedding"):
        table = pa.table(whole).drop_columns([name]).replace_schema_metadata({"facekd.model_id": "m"})
        pq.write_table(table, path)
        with pytest.raises(UserError, match=f"has no column '{name}'"):
            read_embeddings(path)
