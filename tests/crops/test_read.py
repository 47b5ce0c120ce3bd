"""Crops from a store and from Hugging Face image Parquet."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facekd.core.pixels import encode_crop
from facekd.crops.read import merge, photo_names, read_crops
from facekd.crops.records import AlignedCrop, PhotoRecord
from facekd.crops.store import CropStore
from facekd.errors import UserError

SETTINGS = {"detector": "none", "size": 16, "template": "arcface", "choose": "largest"}


def color(number: int, size: int = 16) -> np.ndarray:
    return np.full((size, size, 3), (number * 20, 255 - number * 20, 100), np.uint8)


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()


def hub(path: Path, images: list[bytes | None], **columns: list) -> Path:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    image = pa.array([{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(images)], kind)
    pq.write_table(pa.table({"image": image, **columns}), path)
    return path


def store(path: Path, photos: list[tuple[str, str, int]]) -> Path:
    """A store of (source, status, number of the crop's color)."""
    records = []
    for source, status, number in photos:
        record = PhotoRecord(source, source.split("/")[0] if "/" in source else None, status, sha256=source)
        if status in ("ok", "duplicate"):
            record.crop_ids.append(f"crop-{number}")
        if status == "ok":
            record.crops.append(
                AlignedCrop(
                    crop_id=f"crop-{number}", image=encode_crop(color(number)), identity=record.identity,
                    source=source, sha256=source, box=(0,) * 4, landmarks=(0,) * 10, matrix=(0,) * 6,
                    score=1, quality=1, eyes=8, yaw=0, pitch=0, roll=0,
                )
            )  # fmt: skip
        records.append(record)
    CropStore.create(path, SETTINGS).append(records)
    return path


def test_hugging_face_parquet(tmp_path: Path) -> None:
    path = hub(tmp_path / "faces.parquet", [png(color(i)) for i in range(3)], identity=["b", None, "a"])
    crops = read_crops(path)
    assert crops.ids == ("faces-0", "faces-1", "faces-2")
    assert crops.identities == ("b", None, "a")
    assert (crops.size, crops.template, len(crops)) == (16, "arcface", 3)
    assert (crops.batch(np.array([2, 0])) == np.stack([color(2), color(0)])).all()
    taken = crops.take(np.array([2, 1]))
    assert (taken.ids, taken.identities) == (("faces-2", "faces-1"), ("a", None))
    assert (taken.pixels(0) == color(2)).all()
    assert taken.take(np.array([1])).ids == ("faces-1",)
    assert taken.digest() != crops.digest()
    assert read_crops(path).digest() == crops.digest()


def test_numbers_as_identities_and_no_identities(tmp_path: Path) -> None:
    images = [png(color(i)) for i in range(2)]
    assert read_crops(hub(tmp_path / "a.parquet", images, identity=[7, None])).identities == ("7", None)
    assert read_crops(hub(tmp_path / "b.parquet", images)).identities == (None, None)


def test_a_store(tmp_path: Path) -> None:
    crops = read_crops(store(tmp_path / "s", [("b/1", "ok", 1), ("a/1", "ok", 2), ("c/1", "no_face", 0)]))
    assert crops.ids == ("crop-2", "crop-1")
    assert crops.identities == ("a", "b")
    assert np.abs(crops.pixels(0).astype(int) - color(2)).max() <= 2


def test_merging_puts_the_same_name_in_one_class(tmp_path: Path) -> None:
    first = read_crops(hub(tmp_path / "a.parquet", [png(color(1)), png(color(2))], identity=["x", "y"]))
    second = read_crops(store(tmp_path / "s", [("y/1", "ok", 3)]))
    both = merge([first, second])
    assert both.identities == ("x", "y", "y")
    assert (both.pixels(1) == color(2)).all()
    assert np.abs(both.pixels(2).astype(int) - color(3)).max() <= 2
    large = read_crops(hub(tmp_path / "l.parquet", [png(color(1, 32))], identity=["x"]))
    with pytest.raises(UserError, match=r"crops of 32 pixels.*of 16: align both alike"):
        merge([first, large])


def test_text_that_is_no_utf8_is_a_sentence(tmp_path: Path) -> None:
    path = hub(tmp_path / "a.parquet", [png(color(1)), png(color(2))], identity=["anna", "bert"])
    path.write_bytes(path.read_bytes().replace(b"anna", b"\xff\xfe\xff\xfe"))
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read_crops(path)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda p: p / "none", "no such crop store or Parquet file"),
        (lambda p: p, "no crop store"),
        (lambda p: hub(p / "a.parquet", []), "holds no crop"),
        (lambda p: store(p / "s", [("a/1", "no_face", 0)]), "holds no crop"),
        (lambda p: hub(p / "a.parquet", [b"no image"]), "no readable image"),
        (lambda p: hub(p / "a.parquet", [None, None]), "2 of 2 images have no bytes"),
    ],
)
def test_what_holds_no_crops(tmp_path: Path, make, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_crops(make(tmp_path))


def test_files_that_are_no_image_parquet(tmp_path: Path) -> None:
    text = tmp_path / "x.parquet"
    text.write_text("text")
    with pytest.raises(UserError, match="not a readable Parquet file"):
        read_crops(text)
    good = hub(tmp_path / "good.parquet", [png(color(1))] * 9).read_bytes()
    for cut in range(0, len(good), 40):
        text.write_bytes(good[:cut])
        with pytest.raises(UserError, match="not a readable Parquet file"):
            read_crops(text)
    pq.write_table(pa.table({"image": ["a.png"], "label": [1]}), text)
    with pytest.raises(UserError, match="no column image with bytes and path"):
        read_crops(text)
    other = tmp_path / "photo.zip"
    other.write_text("x")
    with pytest.raises(UserError, match="run 'facekd align"):
        read_crops(other)


def test_a_crop_of_another_size_is_named(tmp_path: Path) -> None:
    crops = read_crops(hub(tmp_path / "a.parquet", [png(color(1)), png(color(1, 32)), b"\x89PNG broken"]))
    with pytest.raises(UserError, match="crop a-1 is 32x32, the first is 16x16"):
        crops.pixels(1)
    with pytest.raises(UserError, match="no readable image"):
        crops.pixels(2)


def test_the_names_a_pair_list_may_use(tmp_path: Path) -> None:
    photos = [
        ("lfw/Ann/Ann_0001.jpg", "ok", 1),
        ("lfw/Ann/Ann_0002.jpg", "no_face", 0),
        ("lfw/Bob/Bob_0001.jpg", "duplicate", 1),
        ("lfw/Bob/1.jpg", "ok", 2),
        ("lfw/Cid/1.jpg", "ok", 3),
    ]
    names = photo_names(store(tmp_path / "s", photos))
    for name in ("lfw/Ann/Ann_0001.jpg", "lfw/Ann/Ann_0001", "Ann/Ann_0001", "Ann_0001", "Ann_0001.jpg", "crop-1"):
        assert names[name] == "crop-1", name
    assert names["Bob/Bob_0001"] == "crop-1"  # the same bytes: the first photo's crop
    assert names["Ann/Ann_0002"] is None  # known, and gave no crop
    assert (names["Bob/1"], names["Cid/1"]) == ("crop-2", "crop-3")
    assert "1" not in names  # whose?
    assert "1.jpg" not in names
    assert "Cid/2" not in names
