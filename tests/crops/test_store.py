"""The crop store: whole parts or none, the newest row of each photo, no mixture of settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekd.core.pixels import encode_crop
from facekd.crops.read import merge, photo_names, read_crops
from facekd.crops.records import FAILED, STATUSES, AlignedCrop, PhotoRecord
from facekd.crops.store import CropStore
from facekd.errors import UserError

SETTINGS = {"detector": "none", "size": 16, "template": "arcface", "choose": "largest"}


def record(source: str, version: int = 0, faces: int = 1, status: str = "ok") -> PhotoRecord:
    """A photo whose bytes are `version`, with crops of one color each."""
    made = PhotoRecord(source, source.split("/")[0], status, sha256=f"{source}{version}", width=20, height=30)
    for face in range(faces if status == "ok" else 0):
        pixels = np.full((16, 16, 3), (version * 40, face * 60, 9), np.uint8)
        crop_id = f"{source}-{version}-{face}"
        made.crop_ids.append(crop_id)
        made.chosen.append(face)
        made.boxes.append([0, 0, 16, 16])
        made.crops.append(
            AlignedCrop(
                crop_id=crop_id, image=encode_crop(pixels), identity=made.identity, source=source, sha256=made.sha256,
                box=(0, 0, 16, 16), landmarks=(1.0,) * 10, matrix=(1, 0, 0, 0, 1, 0), score=1.0, quality=2.0,
                eyes=8.0, yaw=0.0, pitch=0.0, roll=0.0,
            )
        )  # fmt: skip
    return made


def new_store(path: Path) -> CropStore:
    return CropStore.create(path / "store", SETTINGS)


def ids(store: CropStore) -> list[str]:
    return store.crops()["crop_id"].to_pylist()


def test_statuses_are_accounted_for() -> None:
    assert set(STATUSES) == {"ok", "duplicate", *FAILED}


def test_rows_and_crops_come_back_in_the_order_of_the_sources(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.append([record("c/1"), record("a/1", faces=2)])
    store.append([record("b/1", status="no_face"), record("a/2")])
    ledger = store.ledger()
    assert ledger["source"].to_pylist() == ["a/1", "a/2", "b/1", "c/1"]
    assert ledger["status"].to_pylist() == ["ok", "ok", "no_face", "ok"]
    assert ids(store) == ["a/1-0-0", "a/1-0-1", "a/2-0-0", "c/1-0-0"]
    assert store.crops()["identity"].to_pylist() == ["a", "a", "a", "c"]
    assert store.parts() == [0, 1]
    again = CropStore.open(tmp_path / "store")
    assert again.crops().equals(store.crops())
    assert again.settings == SETTINGS


def test_a_store_of_before_detail_was_measured_is_read_and_gone_on_with(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.append([record("a/1")])
    path = tmp_path / "store" / "crops" / "part-00000.arrow"
    with pa.OSFile(str(path)) as file:
        table = pa.ipc.open_file(file).read_all().drop_columns(["detail"])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    assert CropStore.open(tmp_path / "store").crops()["detail"].to_pylist() == [None]
    new = record("b/1")
    new.crops = [replace(new.crops[0], detail=12.5)]
    store.append([new])
    assert CropStore.open(tmp_path / "store").crops()["detail"].to_pylist() == [None, 12.5]


def test_an_empty_store(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    assert len(store.ledger()) == len(store.crops()) == 0
    store.append([record("a/1", status="unreadable")])
    assert len(store.ledger()) == 1
    assert len(store.crops()) == 0


def test_crops_without_their_ledger_are_void_and_written_over(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.append([record("a/1")])
    store.append([record("b/1")])
    (tmp_path / "store" / "ledger" / "part-00001.parquet").unlink()  # killed between the two
    assert ids(store) == ["a/1-0-0"]
    assert store.ledger()["source"].to_pylist() == ["a/1"]
    store.append([record("c/1", faces=2)])
    assert store.parts() == [0, 1]
    assert ids(store) == ["a/1-0-0", "c/1-0-0", "c/1-0-1"]


def test_a_later_row_replaces_an_earlier_one(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.append([record("a/1"), record("b/1"), record("c/1")])
    store.append([record("b/1", 1, faces=2), record("c/1", 1, status="unreadable")])
    assert ids(store) == ["a/1-0-0", "b/1-1-0", "b/1-1-1"]
    assert store.ledger()["part"].to_pylist() == [0, 1, 1]
    store.append([record("c/1")])  # the old bytes are back: the same crop id in two parts
    assert ids(store) == ["a/1-0-0", "b/1-1-0", "b/1-1-1", "c/1-0-0"]


@pytest.mark.slow
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2), st.integers(0, 2)), max_size=4), max_size=4)
)
@settings(max_examples=40)
def test_equals_a_dictionary(tmp_path_factory: pytest.TempPathFactory, parts: list[list[tuple[str, int, int]]]) -> None:
    store = new_store(tmp_path_factory.mktemp("store"))
    twin: dict[str, PhotoRecord] = {}
    for part in parts:
        records = [record(source, version, faces) for source, version, faces in part]
        unique = list({r.source: r for r in records}.values())
        store.append(unique)
        twin.update({r.source: r for r in unique})
    assert store.ledger()["source"].to_pylist() == sorted(twin)
    assert ids(store) == [crop for source in sorted(twin) for crop in twin[source].crop_ids]


def test_other_settings_never_enter_the_same_store(tmp_path: Path) -> None:
    new_store(tmp_path)
    assert CropStore.create(tmp_path / "store", SETTINGS).settings == SETTINGS
    with pytest.raises(UserError, match=r"made with other settings \(size=16\); choose another"):
        CropStore.create(tmp_path / "store", {**SETTINGS, "size": 112})


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UserError, match="holds files but no crop store"):
        CropStore.create(tmp_path, SETTINGS)
    with pytest.raises(UserError, match="holds files but no crop store"):
        CropStore.create(tmp_path / "letter.txt", SETTINGS)
    with pytest.raises(UserError, match="no crop store; make one with"):
        CropStore.open(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_a_store_killed_at_its_birth_is_begun_again(tmp_path: Path) -> None:
    (tmp_path / ".store.json.12ab34cd.part").write_text('{"detec')
    assert CropStore.create(tmp_path, SETTINGS).settings == SETTINGS


def test_files_aside_are_no_parts(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.append([record("a/1")])
    for folder, name in (("ledger", ".part-00001.parquet.ab.part"), ("crops", ".part-00001.arrow.ab.part")):
        (tmp_path / "store" / folder / name).write_bytes(b"torn")
    assert store.parts() == [0]
    assert ids(store) == ["a/1-0-0"]


def test_one_process_writes_at_a_time_and_clears_what_a_kill_left(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.append([record("a/1")])
    torn = [tmp_path / "store" / name for name in ("ledger/.part-00001.parquet.ab.part", ".run.yaml.cd.part")]
    for path in torn:
        path.write_bytes(b"torn")
    with CropStore.writing(tmp_path / "store", SETTINGS) as writing:
        assert not any(path.exists() for path in torn)
        with (
            pytest.raises(UserError, match="another command is writing it"),
            CropStore.writing(tmp_path / "store", SETTINGS),
        ):
            pass
        writing.append([record("b/1")])
        assert ids(CropStore.open(tmp_path / "store")) == ["a/1-0-0", "b/1-0-0"]  # readers need not wait
    with CropStore.writing(tmp_path / "store", SETTINGS):
        pass
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").write_text("dear")
    with pytest.raises(UserError, match="holds files but no"), CropStore.writing(tmp_path / "letters", SETTINGS):
        pass
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["one.txt"]
    (tmp_path / "killed").mkdir()
    (tmp_path / "killed" / "lock").touch()  # killed before the store was begun
    with CropStore.writing(tmp_path / "killed", SETTINGS) as begun:
        assert begun.settings == SETTINGS


def test_images_stay_on_disk_where_rows_are_replaced(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.append([record("a/1"), record("b/1"), record("d/1")])
    store.append([record("c/1"), record("b/1", 1, faces=2)])
    before = pa.total_allocated_bytes()
    table, rows = store.mapped()
    assert rows.tolist() == [0, 4, 5, 3, 2]
    assert len(table) == 6
    assert pa.total_allocated_bytes() - before < 500  # of the images nothing was copied
    assert table["crop_id"].take(pa.array(rows)).to_pylist() == ids(store)
    crops = read_crops(tmp_path / "store")
    assert crops.ids == tuple(ids(store))
    assert [crops.encoded(i) for i in range(5)] == store.crops()["image"].to_pylist()
    assert crops.take(np.array([3, 1])).encoded(0) == crops.encoded(3)
    both = merge([crops.take(np.array([4])), crops])
    assert [both.encoded(i) for i in range(6)] == [crops.encoded(i) for i in (4, 0, 1, 2, 3, 4)]


def test_crops_that_the_ledger_names_and_the_part_lacks(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.append([record("a/1")])
    store.append([record("b/1")])
    parts = tmp_path / "store" / "crops"
    (parts / "part-00001.arrow").write_bytes((parts / "part-00000.arrow").read_bytes())
    with pytest.raises(UserError, match="lacks crops that its ledger names"):
        store.crops()


@pytest.mark.parametrize("column", ["image", "crop_id"])
def test_offsets_that_can_not_be_are_a_sentence(tmp_path: Path, column: str) -> None:
    """Arrow believes where a file says that an image lies, and reads whatever memory is there."""
    store = new_store(tmp_path)
    store.append([record("a/1", faces=3)])
    path = tmp_path / "store" / "crops" / "part-00000.arrow"
    lengths = [len(value) for value in store.crops()[column].to_pylist()]
    offsets = np.cumsum([0, *lengths]).astype("<i4")
    data, bad = path.read_bytes(), offsets.copy()
    assert data.count(offsets.tobytes()) == 1
    bad[2] = 0x7FFF0000
    path.write_bytes(data.replace(offsets.tobytes(), bad.tobytes()))
    with pytest.raises(UserError, match="damaged") as error:
        store.crops()
    assert str(path) in str(error.value)


@pytest.mark.parametrize("damage", ["empty", "half", "gone"])
@pytest.mark.parametrize("name", ["crops/part-00000.arrow", "ledger/part-00000.parquet"])
def test_a_damaged_part_is_named(tmp_path: Path, name: str, damage: str) -> None:
    store = new_store(tmp_path)
    store.append([record("a/1")])
    path = tmp_path / "store" / name
    data = path.read_bytes()
    if damage == "gone":
        if name.startswith("ledger"):
            pytest.skip("crops without their ledger are void, which is tested above")
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else data[: len(data) // 2])
    with pytest.raises(UserError, match="damaged") as error:
        store.crops()
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("name", "old"),
    [
        ("crops/part-00000.arrow", b"one/photo.jpg"),
        ("crops/part-00000.arrow", b"crop_id"),
        ("ledger/part-00000.parquet", b"crop_ids"),
    ],
)
def test_text_that_is_no_utf8_is_a_sentence(tmp_path: Path, name: str, old: bytes) -> None:
    """A value, and the name of a column: Arrow reads both, and Python only later finds out."""
    store = CropStore.create(tmp_path, SETTINGS)
    store.append([record("one/photo.jpg")])
    path = tmp_path / name
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, b"\xff" * len(old)))
    with pytest.raises(UserError, match=r"part-00000\.\w+: damaged"):
        CropStore.open(tmp_path).crops()
    if "ledger" in name:
        with pytest.raises(UserError, match=r"part-00000\.\w+: damaged"):
            photo_names(tmp_path)


def test_files_are_private_and_typed(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.append([record("a/1")])
    files = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert len(files) == 3
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    row = pq.read_table(tmp_path / "store" / "ledger" / "part-00000.parquet").to_pylist()[0]
    assert (row["width"], row["height"], row["reason"], row["boxes"]) == (20, 30, "", [[0, 0, 16, 16]])


def test_an_unknown_status_is_a_bug() -> None:
    with pytest.raises(AssertionError):
        PhotoRecord("a", None, "fine")


def test_a_refusal_names_every_setting_that_differs(tmp_path: Path) -> None:
    CropStore.create(tmp_path / "more", {**SETTINGS, "one_setting_more": True})
    with pytest.raises(UserError, match=r"\(one_setting_more=True\)"):
        CropStore.create(tmp_path / "more", SETTINGS)
    CropStore.create(tmp_path / "fewer", {key: value for key, value in SETTINGS.items() if key != "choose"})
    with pytest.raises(UserError, match=r"\(no choose\)"):
        CropStore.create(tmp_path / "fewer", SETTINGS)


def test_settings_that_are_no_mapping_are_refused(tmp_path: Path) -> None:
    (tmp_path / "store.json").write_text("[1]")
    with pytest.raises(UserError, match="holds no settings of a crop store"):
        CropStore.create(tmp_path, SETTINGS)
