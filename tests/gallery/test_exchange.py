"""Templates as files: the same people come back, of the same model only."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_gallery import META, ODD_IDS, D, directions, filled, probes

from facekd.errors import UserError
from facekd.gallery.exchange import needs_key, read_parquet, take_in, write_faiss, write_parquet
from facekd.gallery.gallery import LEDGER, GalleryTable, Person

KEY = bytes(range(32))
WHOLE = replace(META, threshold=0.3, calibrated={1e-3: 0.4})


@pytest.fixture
def gallery(tmp_path: Path) -> GalleryTable:
    home = GalleryTable.create(tmp_path / "g", WHOLE)
    vectors = directions(len(ODD_IDS))
    with home.writing():
        home.upsert(
            [
                Person(name, vector, (f"{name}/1.jpg", "2.jpg"), 0.1 * place, {"site": name} if place else {})
                for place, (name, vector) in enumerate(zip(ODD_IDS, vectors, strict=True))
            ]
        )
    return home


def same(one: GalleryTable, other: GalleryTable) -> bool:
    a, b = one.people(ODD_IDS), other.people(ODD_IDS)
    assert len(a) == len(ODD_IDS)
    return set(a) == set(b) and all(a[name].same(b[name]) for name in a)


@pytest.mark.parametrize("key", [None, KEY])
def test_out_and_in_again(tmp_path: Path, gallery: GalleryTable, key: bytes | None) -> None:
    out = tmp_path / "t.parquet"
    assert write_parquet(gallery, out, key) == len(ODD_IDS)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert needs_key(out) == (key is not None)
    vector = gallery.people(["back\\slash"])["back\\slash"].template
    assert (vector.tobytes() in out.read_bytes()) == (key is None)
    assert ("名前".encode() in out.read_bytes()) == (key is None)

    meta, people = read_parquet(out, key)
    assert meta == replace(WHOLE, gallery_id=gallery.meta.gallery_id)
    other = GalleryTable.create(tmp_path / "other", meta)
    with other.writing():
        assert list(take_in(other, people, 4)) == [4, 4, len(ODD_IDS) - 8]
    assert same(gallery, GalleryTable.open(tmp_path / "other"))
    meta = GalleryTable.open(tmp_path / "other").meta
    assert meta == replace(WHOLE, gallery_id=meta.gallery_id)
    assert meta.gallery_id != gallery.meta.gallery_id  # it is another gallery
    with other.writing():
        assert sum(take_in(other, people)) == 0  # nothing new
    assert {row["person"] for row in other.ledger().to_pylist()} == set(ODD_IDS)


def test_a_plain_export_is_parquet_for_anybody(tmp_path: Path, gallery: GalleryTable) -> None:
    write_parquet(gallery, tmp_path / "t.parquet")
    table = pq.read_table(tmp_path / "t.parquet")
    assert set(table["person_id"].to_pylist()) == set(ODD_IDS)
    assert table.schema.field("template").type == pa.list_(pa.float32(), D)


def test_people_already_there_are_replaced_and_others_stay(tmp_path: Path, gallery: GalleryTable) -> None:
    write_parquet(gallery, tmp_path / "t.parquet")
    other = filled(tmp_path / "other", ["O'Brien", "somebody else"], directions(2, 8))
    with other.writing():
        row = {"source": "stray.jpg", "person": None, "status": "no_person", "reason": ""}
        other.finish(META, pa.Table.from_pylist([row], LEDGER))
        assert sum(take_in(other, read_parquet(tmp_path / "t.parquet")[1])) == len(ODD_IDS)
    assert len(other) == len(ODD_IDS) + 1
    assert same(gallery, other)
    assert None in other.ledger()["person"].to_pylist()


def test_files_that_are_no_export(tmp_path: Path, gallery: GalleryTable) -> None:
    out = tmp_path / "t.parquet"
    with pytest.raises(UserError, match="can't be read"):
        read_parquet(out)
    out.write_bytes(b"PAR1 no")
    with pytest.raises(UserError, match="no readable export"):
        read_parquet(out)
    pq.write_table(pa.table({"a": [1]}), out)
    with pytest.raises(UserError, match="no export of a gallery, though a Parquet file"):
        read_parquet(out)
    write_parquet(gallery, out, KEY)
    with pytest.raises(UserError, match="is encrypted; give its key"):
        read_parquet(out)
    with pytest.raises(UserError, match="can't be decrypted"):
        read_parquet(out, bytes(32))


def tampered(gallery: GalleryTable, out: Path, change: str) -> None:
    write_parquet(gallery, out)
    table = pq.read_table(out)
    if change == "twice":
        table = pa.concat_tables([table, table.slice(0, 1)])
    elif change == "norm":
        vectors = table["template"].combine_chunks().flatten().to_numpy().reshape(-1, D) * 2
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), D)
        table = table.set_column(1, table.schema.field("template"), column)
    elif change == "column":
        table = table.drop_columns(["photos"])
    else:
        metadata = dict(table.schema.metadata)
        contract = json.loads(metadata[b"facekd.contract"])
        metadata[b"facekd.contract"] = json.dumps({**contract, "weights_sha256": "other"}).encode()
        table = table.replace_schema_metadata(metadata)
    pq.write_table(table, out)


@pytest.mark.parametrize(
    ("change", "words"),
    [("twice", "names a person twice"), ("norm", "unit norm"), ("column", "columns"), ("model", "its contract of")],
)
def test_an_export_that_was_changed(tmp_path: Path, gallery: GalleryTable, change: str, words: str) -> None:
    tampered(gallery, tmp_path / "t.parquet", change)
    with pytest.raises(UserError, match=words):
        read_parquet(tmp_path / "t.parquet")


def test_faiss_finds_the_same_people(tmp_path: Path, gallery: GalleryTable) -> None:
    faiss = pytest.importorskip("faiss", reason="faiss-cpu is not installed")
    people, beside = write_faiss(gallery, tmp_path / "t.faiss")
    ids = json.loads(beside.read_text(encoding="utf-8"))["ids"]
    flat = faiss.read_index(str(tmp_path / "t.faiss"))
    assert people == flat.ntotal == len(ids) == len(ODD_IDS)
    wanted = directions(20, 5)
    scores, rows = flat.search(wanted, 3)
    for own, values, matches in zip(rows, scores, gallery.search(probes(wanted), 3), strict=True):
        assert [ids[row] for row in own] == [match.person_id for match in matches]
        np.testing.assert_allclose(values, [match.score for match in matches], atol=1e-6)
    for path in (beside, tmp_path / "t.faiss"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
