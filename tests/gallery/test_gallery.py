"""The gallery: bound to a model, exact, replaced whole, erased to the last byte."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekd.core.contract import Contract
from facekd.core.types import Array, Embeddings
from facekd.errors import UserError
from facekd.gallery.gallery import LEDGER, Answer, GalleryTable, Person, template_of
from facekd.gallery.meta import GalleryMeta, OwnScores, read_meta, write_meta

D = 32
META = GalleryMeta(contract=Contract(dim=D, weights_sha256="a"), model="/models/a.onnx", detector="mtcnn", min_face=20)
ODD_IDS = ("O'Brien", "'; DROP TABLE people; --", '"', "back\\slash", "名前", "100 %_", "=1+1", " ", "é", "e\u0301")


def directions(n: int, seed: int = 0) -> Array:
    vectors = np.random.default_rng(seed).normal(size=(n, D))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def persons(ids: list[str] | tuple[str, ...], vectors: Array) -> list[Person]:
    return [Person(i, v, (f"{i}/1.jpg",)) for i, v in zip(ids, vectors, strict=True)]


def filled(folder: Path, ids: list[str] | tuple[str, ...], vectors: Array) -> GalleryTable:
    gallery = GalleryTable.create(folder, META)
    with gallery.writing():
        assert gallery.upsert(persons(ids, vectors)) == len(ids)
    return gallery


def probes(vectors: Array, model_id: str = META.model_id) -> Embeddings:
    return Embeddings(vectors, tuple(str(i) for i in range(len(vectors))), model_id)


def nameless(meta: GalleryMeta) -> GalleryMeta:
    """Without the gallery's id, which is another each time."""
    return replace(meta, gallery_id=None)


def files_with(folder: Path, data: bytes) -> list[str]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    assert paths
    return [str(path) for path in paths if data in path.read_bytes()]


@settings(max_examples=15, deadline=None)
@given(people=st.integers(1, 40), asked=st.integers(1, 70), k=st.integers(1, 6), seed=st.integers(0, 999))
def test_search_is_the_exact_one(
    tmp_path_factory: pytest.TempPathFactory, people: int, asked: int, k: int, seed: int
) -> None:
    templates = directions(people, seed)
    wanted = directions(asked, seed + 1000)
    wanted[0] = templates[0]
    ids = [f"p{i}" for i in range(people)]
    gallery = filled(tmp_path_factory.mktemp("gallery"), ids, templates)

    found = gallery.search(probes(wanted), k)

    assert len(found) == asked
    for vector, matches in zip(wanted, found, strict=True):
        # The twin: sort all cosines in Python.
        cosines = {name: float(np.float64(vector) @ np.float64(t)) for name, t in zip(ids, templates, strict=True)}
        best = sorted(cosines, key=lambda name: -cosines[name])[:k]
        assert [match.score for match in matches] == pytest.approx([cosines[name] for name in best], abs=1e-5)
        assert [cosines[match.person_id] for match in matches] == pytest.approx([m.score for m in matches], abs=1e-5)
    assert found[0][0].person_id == "p0"


def test_the_answer_is_the_nearest_person_or_nobody(tmp_path: Path) -> None:
    angle = np.deg2rad([0, 30])
    templates = np.zeros((2, D), np.float32)
    templates[:, 0], templates[:, 1] = np.cos(angle), np.sin(angle)
    gallery = filled(tmp_path / "g", ["east", "north-east"], templates)
    probe = np.zeros((1, D), np.float32)
    probe[0, :2] = np.cos(np.deg2rad(60)), -np.sin(np.deg2rad(60))  # 60 degrees from the one, 90 from the other

    assert gallery.identify(probes(probe), 0.49) == [Answer("east", pytest.approx(0.5, abs=1e-6))]
    assert gallery.identify(probes(probe), 0.51) == [Answer(None, pytest.approx(0.5, abs=1e-6))]
    # A score that equals the threshold is accepted.
    exact = np.eye(1, D, dtype=np.float32)
    assert gallery.identify(probes(exact), 1.0) == [Answer("east", 1.0)]


def test_nobody_can_be_named_from_an_empty_gallery(tmp_path: Path) -> None:
    gallery = GalleryTable.create(tmp_path / "g", META)
    assert gallery.search(probes(directions(2))) == [[], []]
    with pytest.raises(UserError, match="nobody is enrolled"):
        gallery.identify(probes(directions(1)), 0.5)


def test_a_person_is_replaced_and_an_unchanged_one_is_left_alone(tmp_path: Path) -> None:
    before, after = directions(3, 1), directions(3, 2)
    gallery = filled(tmp_path / "g", ["a", "b", "c"], before)
    again = GalleryTable.open(tmp_path / "g")  # another process's view
    with again.writing():
        version = again.table.version
        assert again.upsert(persons(["a", "b", "c"], before)) == 0
        assert again.table.version == version
        assert again.upsert([Person("b", after[1], ("b/1.jpg", "b/2.jpg")), *persons(["d"], after[:1])]) == 2
    gallery = GalleryTable.open(tmp_path / "g")
    assert len(gallery) == 4
    people = gallery.people(["a", "b", "d", "nobody"])
    assert set(people) == {"a", "b", "d"}
    np.testing.assert_array_equal(people["a"].template, before[0])
    np.testing.assert_array_equal(people["b"].template, after[1])
    assert people["b"].sources == ("b/1.jpg", "b/2.jpg")
    rows = {row["person_id"]: row for row in gallery.table.to_arrow().to_pylist()}
    assert {name: row["photos"] for name, row in rows.items()} == {"a": 1, "b": 2, "c": 1, "d": 1}
    assert rows["b"]["updated"] > rows["a"]["updated"]


def test_any_id_is_only_text(tmp_path: Path) -> None:
    vectors = directions(len(ODD_IDS))
    gallery = filled(tmp_path / "g", ODD_IDS, vectors)
    assert [a.person_id for a in gallery.identify(probes(vectors), 0.9)] == list(ODD_IDS)
    with gallery.writing():
        assert gallery.upsert(persons(ODD_IDS, vectors)) == 0
        for left, person_id in zip(range(len(ODD_IDS) - 1, -1, -1), ODD_IDS, strict=True):
            assert gallery.delete(person_id)
            assert len(gallery) == left


def test_a_template_is_the_direction_of_the_mean() -> None:
    vectors = directions(5).astype(np.float64)
    template = template_of(vectors.sum(axis=0))
    assert template is not None
    assert template.dtype == np.float32
    mean = vectors.mean(axis=0)
    np.testing.assert_allclose(template, mean / np.sqrt((mean**2).sum()), atol=1e-7)
    assert template_of(vectors[0] - vectors[0]) is None


def test_a_template_of_another_length_than_one_never_enters(tmp_path: Path) -> None:
    gallery = GalleryTable.create(tmp_path / "g", META)
    with gallery.writing(), pytest.raises(UserError, match="unit norm"):
        gallery.upsert(persons(["a"], directions(1) * 2))
    assert len(gallery) == 0


def test_another_model_is_refused_by_name(tmp_path: Path) -> None:
    gallery = filled(tmp_path / "g", ["a"], directions(1))
    other = replace(META, contract=replace(META.contract, weights_sha256="b"))
    assert other.model_id != META.model_id
    for attempt in (
        lambda: gallery.search(probes(directions(1), other.model_id)),
        lambda: GalleryTable.open(tmp_path / "g", other.model_id),
        lambda: GalleryTable.create(tmp_path / "g", other),
    ):
        with pytest.raises(UserError) as error:
            attempt()
        for part in (META.model_id, other.model_id, "facekd embed --model /models/a.onnx"):
            assert part in str(error.value)


def test_crops_of_two_detectors_never_mix(tmp_path: Path) -> None:
    GalleryTable.create(tmp_path / "g", META)
    with pytest.raises(UserError, match="enrolled with --detector mtcnn, not yunet"):
        GalleryTable.create(tmp_path / "g", replace(META, detector="yunet"))


def test_weights_of_a_detector_never_mix(tmp_path: Path) -> None:
    meta = replace(META, detector="yunet", weights_sha256="1" * 64)
    GalleryTable.create(tmp_path / "g", meta)
    assert nameless(GalleryTable.open(tmp_path / "g").meta) == meta
    GalleryTable.create(tmp_path / "g", meta)
    with pytest.raises(UserError, match=r"sha256 111111111111…, these are 222222222222…"):
        GalleryTable.create(tmp_path / "g", replace(meta, weights_sha256="2" * 64))


def test_what_the_gallery_is_bound_to_comes_back(tmp_path: Path) -> None:
    meta = replace(META, threshold=0.25, calibrated={1e-3: 0.3, 1e-4: 0.4}, weights="/w.onnx")
    gallery = GalleryTable.create(tmp_path / "g", meta)
    assert nameless(GalleryTable.open(tmp_path / "g").meta) == meta
    gallery_id = gallery.meta.gallery_id
    assert gallery_id is not None
    with gallery.writing():
        gallery.finish(replace(META, model="/moved.onnx"), LEDGER.empty_table())
    assert read_meta(tmp_path / "g") == replace(META, model="/moved.onnx", gallery_id=gallery_id) == gallery.meta


def test_a_gallery_has_an_id_that_no_other_has_and_that_stays(tmp_path: Path) -> None:
    ids = [GalleryTable.create(tmp_path / name, META).meta.gallery_id for name in ("a", "b")]
    copied = GalleryTable.create(tmp_path / "c", GalleryTable.open(tmp_path / "a").meta)  # as an import does
    assert len({*ids, copied.meta.gallery_id}) == 3
    assert GalleryTable.create(tmp_path / "a", META).meta.gallery_id == ids[0]
    write_meta(tmp_path / "b", META)  # of before galleries had ids
    gallery = GalleryTable.open(tmp_path / "b")
    assert gallery.meta.gallery_id is None
    with gallery.writing():
        gallery.keep(replace(META, fpir=0.02))
        made = gallery.meta.gallery_id
        gallery.keep(META)
    assert made is not None
    assert read_meta(tmp_path / "b").gallery_id == made


def test_what_was_measured_on_a_gallery_ages_with_the_people_written(tmp_path: Path) -> None:
    own = OwnScores(
        people=60, compared=60, tail={1e-2: 0.3, 1e-6: 0.5}, sd=0.01, alike={1e-2: 0.3, 1e-6: 0.5},
        genuine={0.01: 0.4}, genuine_people=9,
    )  # fmt: skip
    gallery = GalleryTable.create(tmp_path / "g", replace(META, own=own, fpir=0.02, gate={"min_eyes": 16.0}))
    assert read_meta(tmp_path / "g") == gallery.meta
    assert read_meta(tmp_path / "g").own == own
    with gallery.writing():
        gallery.upsert([])
        assert read_meta(tmp_path / "g").own == own
        gallery.upsert([Person("a", directions(1)[0], ("a/0.jpg",))])
    assert read_meta(tmp_path / "g").own == replace(own, written=1)
    assert not read_meta(tmp_path / "g").own.stale
    with gallery.writing():
        gallery.upsert(persons(("b", "c", "d"), directions(3, 1)))
    assert read_meta(tmp_path / "g").own.stale  # of sixty people


def test_the_folder_is_its_owners_only(tmp_path: Path) -> None:
    filled(tmp_path / "deep" / "g", ["a"], directions(1))
    assert stat.S_IMODE((tmp_path / "deep" / "g").stat().st_mode) == 0o700


def test_folders_that_are_no_gallery(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something that is no gallery"):
        GalleryTable.create(tmp_path / "other", META)
    with pytest.raises(UserError, match="holds something that is no gallery"):
        GalleryTable.create(tmp_path / "other" / "letter.txt", META)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["letter.txt"]
    with pytest.raises(UserError, match="no gallery; make one with 'facekd enroll"):
        GalleryTable.open(tmp_path / "nowhere")
    GalleryTable.create(tmp_path / "g", META)
    (tmp_path / "g" / "contract.json").write_text('{"dim": 99}')
    with pytest.raises(UserError, match="copy the gallery again"):
        GalleryTable.open(tmp_path / "g")


def test_one_command_writes_at_a_time(tmp_path: Path) -> None:
    first = filled(tmp_path / "g", ["a"], directions(1))
    second = GalleryTable.open(tmp_path / "g")
    with first.writing():
        with pytest.raises(UserError, match="another command is writing it"), second.writing():
            pass
        first.upsert(persons(["b"], directions(1, 7)))
    with second.writing():  # it sees what the first one wrote
        assert second.upsert(persons(["b"], directions(1, 7))) == 0
        assert len(second) == 2


def test_the_ledger_keeps_the_latest_enrollment_of_each_person(tmp_path: Path) -> None:
    gallery = GalleryTable.create(tmp_path / "g", META)

    def row(source: str, person: str | None, status: str) -> dict[str, str | None]:
        return {"source": source, "person": person, "status": status, "reason": "", "detail": None}

    first = [row("a/1", "a", "ok"), row("a/2", "a", "no_face"), row("b/1", "b", "ok"), row("x", None, "no_person")]
    second = [row("b/2", "b", "ok"), row("y", None, "no_person")]
    for rows in (first, second):
        with gallery.writing():
            gallery.finish(META, pa.Table.from_pylist(rows, LEDGER))
    assert GalleryTable.open(tmp_path / "g").ledger().to_pylist() == [*first[:2], *second]


@pytest.mark.parametrize("people", [1, 2, 300])
def test_deleting_leaves_no_byte(tmp_path: Path, people: int) -> None:
    """LanceDB alone would hide one row of 300 and keep its vector, and name it in its log."""
    vectors = directions(people)
    ids = [f"person-{i:03d}-{'xyz' * 4}" for i in range(people)]
    gallery = filled(tmp_path / "g", ids, vectors)
    who = people - 1
    with gallery.writing():
        # An earlier template and two earlier files: old versions have to go too.
        earlier = directions(1, 55)[0]
        gallery.upsert([Person(ids[who], earlier, ("old-photo.jpg",))])
        gallery.upsert([Person(ids[who], vectors[who], ("new-photo.jpg",))])
        ledger = [{"source": f"{name}/1.jpg", "person": name, "status": "ok", "reason": ""} for name in ids]
        ledger.append({"source": "stray.jpg", "person": None, "status": "no_person", "reason": ""})
        gallery.finish(META, pa.Table.from_pylist(ledger, LEDGER))
    needles = [vectors[who].tobytes(), vectors[who][:4].tobytes(), earlier[:4].tobytes(), ids[who].encode()]
    needles += [b"old-photo.jpg", b"new-photo.jpg"]
    assert files_with(tmp_path / "g", needles[0])  # the search below can find something

    with gallery.writing():
        assert gallery.delete(ids[who])
        assert not gallery.delete("nobody")

    for needle in needles:
        assert files_with(tmp_path / "g", needle) == []
    again = GalleryTable.open(tmp_path / "g")
    assert len(again) == people - 1
    assert {row["person"] for row in again.ledger().to_pylist()} == {*ids[:who], None}
    if who:
        assert [a.person_id for a in again.identify(probes(vectors[:who]), 0.99)] == ids[:who]
