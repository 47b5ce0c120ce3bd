"""Embeddings as numpy, pandas, polars and DuckDB write them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facekd.core.types import Array
from facekd.deploy.embeddings import read_embeddings
from facekd.errors import UserError

IDS = ["a.jpg", "b.jpg", "c d.jpg"]


def rows(dtype: str = "float32") -> Array:
    made = np.random.default_rng(0).standard_normal((3, 8))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(dtype)


LISTS: dict[str, Callable[[], pa.Array]] = {
    "pandas: lists of doubles": lambda: pa.array(rows("float64").tolist(), pa.list_(pa.float64())),
    "DuckDB: lists of floats": lambda: pa.array(rows().tolist(), pa.list_(pa.field("element", pa.float32()))),
    "polars: large lists": lambda: pa.array(rows().tolist(), pa.large_list(pa.float32())),
    "polars: arrays": lambda: pa.array(rows("float64").tolist(), pa.list_(pa.float64(), 8)),
    "half floats": lambda: pa.array(list(rows("float16")), pa.list_(pa.float16())),
}


@pytest.mark.parametrize("kind", LISTS)
def test_parquet_of_others(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "e.parquet"
    pq.write_table(
        pa.table({"id": pa.array(IDS).dictionary_encode(), "embedding": LISTS[kind](), "x": [1, 2, 3]}), path
    )
    found = read_embeddings(path)
    assert found.embeddings.ids == tuple(IDS)
    assert (found.sources, found.identities) == (tuple(IDS), (None,) * 3)
    np.testing.assert_allclose(found.embeddings.vectors, rows(), atol=1e-3 if kind == "half floats" else 1e-7)
    assert found.embeddings.model_id.startswith("file-")
    assert read_embeddings(path).embeddings.model_id == found.embeddings.model_id


@pytest.mark.parametrize("listed", ["e.txt", "e.csv"])
def test_an_npy_with_its_ids_beside_it(tmp_path: Path, listed: str) -> None:
    np.save(tmp_path / "e.npy", rows())
    text = "\n".join(IDS) if listed == "e.txt" else "id,identity\na.jpg,Ann\nb.jpg,Ann\nc d.jpg,\n"
    (tmp_path / listed).write_text(text)
    found = read_embeddings(tmp_path / "e.npy")
    assert found.embeddings.ids == tuple(IDS)
    assert found.identities == ((None,) * 3 if listed == "e.txt" else ("Ann", "Ann", None))
    np.testing.assert_array_equal(found.embeddings.vectors, rows())


def test_an_npz_of_arrays(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", embeddings=rows(), ids=np.array(IDS))
    assert read_embeddings(tmp_path / "e.npz").embeddings.ids == tuple(IDS)
    np.savez(tmp_path / "f.npz", features=rows("float64"), ids=np.arange(3))
    assert read_embeddings(tmp_path / "f.npz").embeddings.ids == ("0", "1", "2")


def test_what_is_changed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "e.npz", embeddings=5 * rows("float64"), ids=np.array(IDS))
    found = read_embeddings(tmp_path / "e.npz").embeddings.vectors
    np.testing.assert_allclose(found, rows(), atol=1e-7)
    said = capsys.readouterr().err
    assert "its embeddings are float64; taken as float32" in said
    assert "3 of its 3 embeddings are not of unit norm; normalized" in said
    read_embeddings(tmp_path / "e.npz", quiet=True)
    assert capsys.readouterr().err == ""


def test_what_facekd_wrote_is_not_normalized(tmp_path: Path) -> None:
    np.savez(tmp_path / "e.npz", embeddings=5 * rows(), ids=np.array(IDS), model_id=np.array("m"))
    with pytest.raises(UserError, match="not of unit norm"):
        read_embeddings(tmp_path / "e.npz")


def test_what_can_not_be_read(tmp_path: Path) -> None:
    hole = rows()
    hole[1] = 0
    for values, ids, words in (
        (rows(), np.array(IDS[:2]), "2 ids for 3 embeddings"),
        (rows()[0], np.array(IDS), "of shape"),
        (hole, np.array(IDS), r"1 of its 3 embeddings are zero or not finite \(first: b\.jpg\); leave them out"),
        (rows().astype(int), np.array(IDS), "are int64, not floats"),
        (rows(), np.array(["a", "", "c"]), "row 2 has no id"),
        (rows(), np.array([1.5, 2, 3]), "its ids are float64"),
        (np.array([[None]]), np.array(["a"]), "objects, which would have to be executed"),
    ):
        np.savez(tmp_path / "e.npz", embeddings=values, ids=ids)
        with pytest.raises(UserError, match=words):
            read_embeddings(tmp_path / "e.npz")
    np.save(tmp_path / "e.npy", rows())
    with pytest.raises(UserError, match=r"put one list of ids beside it, e\.txt"):
        read_embeddings(tmp_path / "e.npy")
    np.savez(tmp_path / "e.npz", embeddings=rows(), ids=np.array(IDS))
    with pytest.raises(UserError, match="does not say which model"):
        read_embeddings(tmp_path / "e.npz", "m")


def test_an_archive_that_unpacks_to_far_more_is_refused_unread(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "e.npz", embeddings=np.zeros((70_000, 1024), np.float32), ids=np.array(IDS))
    assert (tmp_path / "e.npz").stat().st_size < 1 << 20
    with pytest.raises(UserError, match=r"embeddings unpacks to 273 MiB of \d+ KiB"):
        read_embeddings(tmp_path / "e.npz")
