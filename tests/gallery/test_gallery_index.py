"""The index of a large gallery: nobody enrolled is missed, and a damaged one says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_gallery import META, D, directions, files_with, persons, probes

from facekd.core.types import Array
from facekd.errors import UserError
from facekd.gallery import index
from facekd.gallery.gallery import LEDGER, Answer, GalleryTable, Person

PEOPLE = 600


@pytest.fixture
def vectors() -> Array:
    return directions(PEOPLE, 3)


@pytest.fixture
def indexed(tmp_path: Path, vectors: Array, monkeypatch: pytest.MonkeyPatch) -> GalleryTable:
    """A gallery that has grown over the size from which it is indexed."""
    monkeypatch.setattr(index, "INDEX_FROM", 500)
    monkeypatch.setattr(index, "IDS_FROM", 100)
    monkeypatch.setattr(index, "PARTITIONS", 8)
    monkeypatch.setattr(index, "NPROBES", 8)
    gallery = GalleryTable.create(tmp_path / "g", META)
    with gallery.writing():
        gallery.upsert(persons([f"p{i}" for i in range(400)], vectors[:400]))
        gallery.finish(META, LEDGER.empty_table())
        assert gallery.indexed() is None
        gallery.upsert(persons([f"p{i}" for i in range(400, PEOPLE)], vectors[400:]))
        gallery.finish(META, LEDGER.empty_table())
    return gallery


def test_a_gallery_that_grows_gets_its_index_and_finds_everybody(indexed: GalleryTable, vectors: Array) -> None:
    found = indexed.indexed()
    assert found is not None
    assert (found.people, found.outside) == (PEOPLE, 0)
    assert 0 < found.bytes < PEOPLE * D * 4
    by_index = indexed.search(probes(vectors), 3)
    assert [matches[0].person_id for matches in by_index] == [f"p{i}" for i in range(PEOPLE)]
    # 32 bits may mislead about the second and third; the scores of whom it finds are exact all the same.
    templates = dict(zip((f"p{i}" for i in range(PEOPLE)), vectors, strict=True))
    for vector, matches in zip(vectors, by_index, strict=True):
        assert len({match.person_id for match in matches}) == 3
        cosines = [float(vector @ templates[match.person_id]) for match in matches]
        assert [match.score for match in matches] == pytest.approx(cosines, abs=1e-5)
        assert cosines == sorted(cosines, reverse=True)


def test_fewer_groups_are_fewer_comparisons(
    indexed: GalleryTable, vectors: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index is what answers: with one group of eight searched, some strangers are not looked at."""
    monkeypatch.setattr(index, "NPROBES", 1)
    wanted = directions(100, 77)
    by_index, exact = indexed.search(probes(wanted)), indexed.search(probes(wanted), exact=True)
    missed = sum(a[0].person_id != b[0].person_id for a, b in zip(by_index, exact, strict=True))
    assert 0 < missed < 100
    # Somebody enrolled lies in the group of the own centroid.
    assert [m[0].person_id for m in indexed.search(probes(vectors[:50]))] == [f"p{i}" for i in range(50)]


def test_people_enrolled_replaced_and_erased_after_the_index_was_built(
    indexed: GalleryTable, vectors: Array, tmp_path: Path
) -> None:
    new = directions(3, 9)
    again = GalleryTable.open(tmp_path / "g")
    with again.writing():
        again.upsert([Person("new", new[0], ("n.jpg",)), Person("p7", new[1], ("7.jpg",))])
        assert again.indexed() is not None
        assert again.indexed().outside == 2  # type: ignore[union-attr]
        assert again.identify(probes(new[:2]), 0.99) == [
            Answer("new", pytest.approx(1)),
            Answer("p7", pytest.approx(1)),
        ]
        assert again.identify(probes(vectors[7:8]), 0.99)[0].person_id is None  # the earlier template is gone
        assert set(again.delete_all(["p5", "new", "nobody"])) == {"p5", "new"}
        assert (
            again.identify(probes(np.stack([vectors[5], new[0]])), 0.99)
            == [Answer(None, pytest.approx(0, abs=0.9))] * 2
        )
        found = again.indexed()
        assert found is not None  # it was built anew
        assert (found.people, found.outside) == (PEOPLE - 1, 0)
    for needle in (vectors[5].tobytes(), vectors[5][:4].tobytes(), new[0][:4].tobytes(), b"n.jpg", b"p5/1.jpg"):
        assert files_with(tmp_path / "g", needle) == []
    assert files_with(tmp_path / "g", vectors[6][:4].tobytes())


def test_an_enrollment_takes_new_people_into_the_index(indexed: GalleryTable) -> None:
    with indexed.writing():
        indexed.upsert(persons([f"q{i}" for i in range(50)], directions(50, 8)))
        assert indexed.indexed().outside == 50  # type: ignore[union-attr]
        indexed.finish(META, LEDGER.empty_table())
    found = indexed.indexed()
    assert found is not None
    assert (found.people, found.outside) == (PEOPLE + 50, 0)
    answers = indexed.identify(probes(directions(50, 8)), 0.99)
    assert [answer.person_id for answer in answers] == [f"q{i}" for i in range(50)]


def test_a_few_new_people_do_not_have_a_large_gallery_written_anew(
    indexed: GalleryTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "g" / "people.lance" / "data"
    before = {path.name for path in data.iterdir()}
    new = directions(6, 8)
    with indexed.writing():
        for number in range(3):
            indexed.upsert(persons([f"q{number}", f"r{number}"], new[2 * number : 2 * number + 2]))
        indexed.finish(META, LEDGER.empty_table())
    assert before < {path.name for path in data.iterdir()}
    found = indexed.indexed()
    assert found is not None
    assert (found.people, found.outside) == (PEOPLE, 6)
    answers = [answer.person_id for answer in indexed.identify(probes(new), 0.99)]
    assert answers == ["q0", "r0", "q1", "r1", "q2", "r2"]
    monkeypatch.setattr(index, "SMALL_FILES", 3)
    with indexed.writing():
        indexed.finish(META, LEDGER.empty_table())
    found = indexed.indexed()
    assert found is not None
    assert (found.people, found.outside) == (PEOPLE + 6, 0)
    assert [answer.person_id for answer in indexed.identify(probes(new), 0.99)] == answers


@pytest.mark.parametrize("damage", ["cut", "gone", "noise"])
def test_a_damaged_index_says_so_and_can_be_built_anew(
    indexed: GalleryTable, vectors: Array, tmp_path: Path, damage: str
) -> None:
    files = list((tmp_path / "g").rglob("*.idx"))
    assert files
    for path in files:
        data = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(data[: len(data) // 2] if damage == "cut" else bytes(255 - b for b in data))
    gallery = GalleryTable.open(tmp_path / "g")
    with pytest.raises(UserError, match=r"its index can't be read .* build it anew with 'facekd gallery index"):
        gallery.search(probes(vectors[:3]))
    assert [m[0].person_id for m in gallery.search(probes(vectors[:3]), exact=True)] == ["p0", "p1", "p2"]
    with gallery.writing():
        gallery.build_index()
    assert [m[0].person_id for m in GalleryTable.open(tmp_path / "g").search(probes(vectors[:3]))] == ["p0", "p1", "p2"]


def test_a_small_gallery_may_be_indexed_and_an_index_dropped(tmp_path: Path) -> None:
    vectors = directions(5)
    gallery = GalleryTable.create(tmp_path / "g", META)
    with gallery.writing():
        gallery.build_index()  # of nobody
        assert gallery.indexed() is None
        gallery.upsert(persons(list("abcde"), vectors))
        gallery.build_index()
        assert gallery.indexed() is not None
        assert [a.person_id for a in gallery.identify(probes(vectors), 0.9)] == list("abcde")
        gallery.drop_index()
        assert gallery.indexed() is None
        assert [a.person_id for a in gallery.identify(probes(vectors), 0.9)] == list("abcde")


def test_embeddings_of_any_dimension_can_be_indexed(tmp_path: Path) -> None:
    vectors = directions(300)[:, :10]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    meta = replace(META, contract=replace(META.contract, dim=10))
    gallery = GalleryTable.create(tmp_path / "g", meta)
    with gallery.writing():
        gallery.upsert(persons([f"p{i}" for i in range(300)], vectors))
        gallery.build_index()
    assert gallery.indexed() is not None
    answers = gallery.identify(probes(vectors, meta.model_id), 0.99)
    assert [answer.person_id for answer in answers] == [f"p{i}" for i in range(300)]


def test_a_long_enrollment_keeps_its_pace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids are indexed and small files joined on the way, not only at the end; what it finds stays the same."""
    monkeypatch.setattr(index, "IDS_FROM", 40)
    monkeypatch.setattr(index, "IDS_EVERY", 20)
    monkeypatch.setattr(index, "FILES", 10)
    vectors = directions(200)
    gallery = GalleryTable.create(tmp_path / "g", META)
    with gallery.writing():
        for start in range(0, 200, 5):
            assert gallery.upsert(persons([f"p{i}" for i in range(start, start + 5)], vectors[start : start + 5])) == 5
            found = gallery.identify(probes(vectors[max(0, start - 3) : start + 5]), 0.99)
            assert [answer.person_id for answer in found] == [f"p{i}" for i in range(max(0, start - 3), start + 5)]
        assert gallery.table.stats()["fragment_stats"]["num_fragments"] < 15
        (ids,) = gallery.table.list_indices()
        assert ids.columns == ["person_id"]
        assert ids.num_unindexed_rows <= 25
        assert gallery.upsert(persons([f"p{i}" for i in range(200)], vectors)) == 0
        assert gallery.upsert(persons([f"p{i}" for i in range(200)], directions(200, 1))) == 200
    assert len(gallery) == 200
