"""What a gallery keeps of photos: read back as written, replaced whole, erased to the last byte."""

from __future__ import annotations

import math
import stat
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from facekd.core.contract import Contract
from facekd.core.types import Array
from facekd.errors import UserError
from facekd.gallery import photos as photos_module
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.meta import GalleryMeta
from facekd.gallery.photos import PhotoTable
from facekd.gallery.place import Place

D = 16
ODD = ("O'Brien", "'; DROP TABLE photos; --", "名前", "é", "e\u0301", "=1+1", "100 %_")


def table(folder: Path) -> PhotoTable:
    return PhotoTable(Place.of(folder), D)


def rows(photos: PhotoTable, names: list[tuple[str, str]], vectors: Array | None = None, digest: str = "d") -> pa.Table:
    """Rows of photos; without vectors they have no embedding."""
    status = "no_face" if vectors is None else "ok"
    common = {"sha256": digest * 64, "stamp": "1", "settings": "s", "status": status, "reason": "", "score": 0.9}
    made = [{"person_id": person, "source": source, **common} for person, source in names]
    if vectors is not None:
        made = [{**row, "embedding": vector} for row, vector in zip(made, vectors, strict=True)]
    return pa.Table.from_pylist(made, photos.schema)


def directions(n: int) -> Array:
    vectors = np.random.default_rng(n).normal(size=(n, D))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_rows_come_back_by_person(tmp_path: Path) -> None:
    photos, vectors = table(tmp_path / "g"), directions(len(ODD))
    names = [(person, f"{person}/1.jpg") for person in ODD]
    photos.put(rows(photos, names, vectors), new=True)
    photos.put(rows(photos, [("é", "é/blurred.jpg")]), new=True)
    for person, vector in zip(ODD, vectors, strict=True):
        known = table(tmp_path / "g").known([person])
        assert {row.source for row in known} == {f"{person}/1.jpg"} | ({"é/blurred.jpg"} if person == "é" else set())
        (batch,) = photos.embeddings([person])
        np.testing.assert_array_equal(batch["embedding"].flatten().to_numpy(), vector)
    assert len(photos.known(list(ODD))) == len(ODD) + 1
    assert photos.known(["nobody"]) == []


def test_a_table_of_before_detail_was_measured(tmp_path: Path) -> None:
    schema = table(tmp_path / "other").schema
    before = schema.remove(schema.get_field_index("detail"))
    connection = lancedb.connect(str(tmp_path / "g"))
    old = rows(table(tmp_path / "other"), [("a", "1"), ("a", "2")], directions(2)).select(before.names)
    connection.create_table("photos", schema=before).add(old)
    photos = table(tmp_path / "g")
    assert [math.isnan(photo.detail) for photo in photos.known(["a"])] == [True, True]
    assert photos.of(["a"]).schema.equals(schema)
    assert photos.rows({"a": ["2"]})["detail"].to_pylist() == [None]
    assert connection.open_table("photos").schema.equals(before), "reading changes nothing"
    new = rows(photos, [("a", "1"), ("b", "1")], directions(2)).drop_columns(["detail"])
    photos.put(new.append_column("detail", pa.array([7.5, 8.0], pa.float64())), new=False)
    for now in (photos, table(tmp_path / "g")):
        known = {(photo.person_id, photo.source): photo.detail for photo in now.known(["a", "b"])}
        assert known.pop(("a", "1")) == 7.5
        assert known.pop(("b", "1")) == 8.0
        assert math.isnan(known.pop(("a", "2")))
        assert not known


def test_a_row_replaces_the_one_of_its_person_and_photo(tmp_path: Path) -> None:
    photos, vectors = table(tmp_path / "g"), directions(3)
    photos.put(rows(photos, [("a", "1"), ("a", "2"), ("b", "1")], vectors), new=True)
    photos.put(rows(photos, [("a", "1"), ("c", "1")], vectors[1:], "e"), new=False)
    found = {(r.person_id, r.source): (r.sha256 or "")[0] for r in photos.known(["a", "b", "c"])}
    assert found == {("a", "1"): "e", ("a", "2"): "d", ("b", "1"): "d", ("c", "1"): "e"}
    photos.forget({"a": ["1", "other"]})
    assert [r.source for r in photos.known(["a"])] == ["2"]
    photos.accept({"a": ["2"]})
    assert [r.accepted for r in photos.known(["a", "b"])].count(True) == 1


def test_many_people_are_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos_module, "IN_LIST", 7)
    photos = table(tmp_path / "g")
    keys = [(f"p'{person}", f"{photo}.jpg") for person in range(9) for photo in range(person + 1)]
    photos.put(rows(photos, keys, directions(len(keys))), new=True)
    some = {
        "p'0": [],
        "p'4": ["0.jpg", "3.jpg"],
        "p'8": [f"{n}.jpg" for n in range(1, 9)],
        "p'5": ["5.jpg"],
        "none": ["1.jpg"],
    }
    wanted = {(person, source) for person, sources in some.items() for source in sources} - {("none", "1.jpg")}
    assert {(row["person_id"], row["source"]) for row in photos.rows(some).to_pylist()} == wanted
    before = photos.table.version
    photos.accept(some)
    everybody = [f"p'{person}" for person in range(9)]
    assert {(one.person_id, one.source) for one in photos.known(everybody) if one.accepted} == wanted
    assert photos.table.version - before == 3  # 12 photos, seven at a time, and no person's seven in two
    photos.exclude({"p'4": ["0.jpg"], "p'3": ["2.jpg"]}, "why")
    assert {(one.person_id, one.source) for one in photos.known(everybody) if one.status == "excluded"} == {
        ("p'4", "0.jpg"),
        ("p'3", "2.jpg"),
    }
    photos.forget(some)
    left = {(one.person_id, one.source) for one in photos.known(everybody)}
    assert left == set(keys) - wanted
    photos.forget({})
    photos.accept({"p'0": []})
    assert len(photos.rows({})) == 0


@pytest.mark.parametrize("people", [1, 2, 300])
def test_erasing_leaves_no_byte(tmp_path: Path, people: int) -> None:
    folder = tmp_path / "g"
    GalleryTable.create(folder, GalleryMeta(contract=Contract(dim=D), model="m", detector="mtcnn", min_face=20))
    photos, vectors = table(folder), directions(people)
    ids = [f"person-{i:03d}-{'xyz' * 4}" for i in range(people)]
    earlier = directions(people + 1)[-1:]
    photos.put(rows(photos, [(ids[-1], "old-photo.jpg")], earlier), new=True)
    photos.put(rows(photos, [(one, f"{one}/new-photo.jpg") for one in ids], vectors), new=True)
    photos.put(rows(photos, [(ids[-1], "old-photo.jpg")]), new=False)
    photos.tidy()
    needles = [earlier[0].tobytes()[:16], vectors[-1].tobytes()[:16], ids[-1].encode(), b"old-photo.jpg"]

    def holding(needle: bytes) -> list[Path]:
        return [path for path in folder.rglob("*") if path.is_file() and needle in path.read_bytes()]

    assert holding(needles[1])  # the search can find something
    assert holding(needles[2])
    gallery = GalleryTable.open(folder)
    with gallery.writing():
        gallery.delete_all([ids[-1], "nobody"])
    for needle in needles:
        assert holding(needle) == []
    assert len(table(folder).known(ids)) == people - 1


def test_asking_for_the_table_does_not_make_it(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    assert not PhotoTable.exists(Place.of(tmp_path / "g"))
    assert list((tmp_path / "g").iterdir()) == []
    table(tmp_path / "g")
    assert PhotoTable.exists(Place.of(tmp_path / "g"))


def test_its_files_are_for_their_owner_only(tmp_path: Path) -> None:
    photos = table(tmp_path / "g")
    photos.put(rows(photos, [("a", "1")], directions(1)), new=True)
    files = [path for path in (tmp_path / "g").rglob("*") if path.is_file()]
    assert files
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_a_table_of_another_form_is_refused(tmp_path: Path) -> None:
    table(tmp_path / "g")
    with pytest.raises(UserError, match=r"can't be opened .Schema Error"):
        PhotoTable(Place.of(tmp_path / "g"), D + 1)


def test_a_table_whose_first_writer_was_killed_before_it_wrote(tmp_path: Path) -> None:
    GalleryTable.create(tmp_path / "g", GalleryMeta(contract=Contract(dim=D), model="m", detector="none", min_face=20))
    (tmp_path / "g" / "photos.lance" / "_versions").mkdir(parents=True)
    assert PhotoTable(Place.of(tmp_path / "g"), D).known(["anybody"]) == []
