"""insightface's .rec sets, read in place."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from recordio import MAGIC, write_set

from facekd.core.pixels import decode_crop, encode_crop
from facekd.crops.cropset import CropSet
from facekd.crops.read import merge, read_crops
from facekd.errors import UserError


def crop(number: int) -> bytes:
    return encode_crop(np.random.default_rng(number).integers(0, 256, (112, 112, 3), np.uint8))


def people(crops: CropSet) -> list[str]:
    """The labels that the identities were made from."""
    return [str(identity).split("-")[1] for identity in crops.identities]


LABELS: list[tuple[float, ...]] = [(0,), (0,), (7,), (7, 1, 2)]


@pytest.fixture
def four(tmp_path: Path) -> Path:
    return write_set(tmp_path / "set", [crop(i) for i in range(4)], LABELS)


def test_crops_and_identities(four: Path) -> None:
    crops = read_crops(four)
    assert crops.ids == ("train-1", "train-2", "train-3", "train-4")
    assert people(crops) == ["0", "0", "7", "7"]
    assert (crops.size, crops.template) == (112, "arcface")
    assert [crops.encoded(i) for i in range(4)] == [crop(i) for i in range(4)]
    assert np.array_equal(crops.take(np.array([2])).pixels(0), decode_crop(crop(2)))
    assert read_crops(four / "train.rec").ids == crops.ids


def test_an_index_in_any_order_or_without_a_first_record(four: Path, tmp_path: Path) -> None:
    index = four / "train.idx"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(reversed(lines)))
    assert [read_crops(four).encoded(i) for i in range(4)] == [crop(i) for i in range(4)]
    index.write_text("".join(lines[1:5]))
    assert people(read_crops(four)) == ["0", "0", "7", "7"]


def test_images_that_hold_the_magic_word(tmp_path: Path) -> None:
    images = [crop(0), crop(1) + bytes(-len(crop(1)) % 4) + MAGIC + b"ab" + MAGIC * 3 + b"z", crop(2) + MAGIC]
    crops = read_crops(write_set(tmp_path / "set", images, [(1,), (2,), (2,)]))
    assert [crops.encoded(i) for i in range(3)] == images


def test_it_merges_with_other_sets(four: Path, tmp_path: Path) -> None:
    other = write_set(tmp_path / "other", [crop(9)], [(7,)])
    both = merge([read_crops(four), read_crops(other)])
    assert people(both) == ["0", "0", "7", "7", "7"]
    assert len(set(both.identities)) == 3  # each set's 7 is somebody else
    assert both.encoded(4) == crop(9)


def test_a_set_cut_anywhere_is_refused(tmp_path: Path) -> None:
    """Even where the cut falls between two records, or into one of a record's two parts: the index names the rest."""
    images = [crop(0), crop(1)[: -(len(crop(1)) % 4) or None] + MAGIC + b"more", crop(2)]
    rec = write_set(tmp_path / "set", images, [(1,), (2,), (2,)]) / "train.rec"
    data = rec.read_bytes()
    offsets = [int(line.split("\t")[1]) for line in (tmp_path / "set" / "train.idx").read_text().splitlines()]
    middle = data.index(MAGIC, offsets[2] + 4)  # where the second part of the second image begins
    assert read_crops(rec).encoded(1) == images[1]
    for cut in (*offsets[1:], *(at + 8 for at in offsets), middle, middle + 4, middle + 9, len(data) - 1):
        rec.write_bytes(data[:cut])
        with pytest.raises(UserError, match=r"cut short|ends in the middle|lacks its other parts|hold no record"):
            read_crops(rec)
    rec.write_bytes(data)
    index = rec.with_suffix(".idx")
    index.write_text(index.read_text().replace(f"\t{offsets[2]}\n", f"\t{middle}\n"))
    with pytest.raises(UserError, match=f"no record begins at byte {middle}"):
        read_crops(rec)


def test_a_record_that_lost_its_label_or_its_image_is_named(four: Path) -> None:
    rec = four / "train.rec"
    data = rec.read_bytes()
    first = int((four / "train.idx").read_text().splitlines()[1].split("\t")[1])
    rec.write_bytes(data[: first + 12] + struct.pack("<f", float("nan")) + data[first + 16 :])
    with pytest.raises(UserError, match=rf"the record at byte {first} has a label that is no number"):
        read_crops(rec)
    rec.write_bytes(data[: first + 32] + bytes(64) + data[first + 96 :])
    with pytest.raises(UserError, match=r"train\.rec: crop train-1 is no readable image; copy the set again"):
        read_crops(rec)


@pytest.mark.parametrize("label", [2.0**24, 2.0**24 + 2, -(2.0**24), 0.5])
@pytest.mark.parametrize("more", [(), (3.0, 4.0)])
def test_labels_that_float32_mixes_up_are_refused(tmp_path: Path, label: float, more: tuple[float, ...]) -> None:
    assert np.float32(2**24) == np.float32(2**24 + 1)  # two people, one number
    folder = write_set(tmp_path / "set", [crop(0), crop(1)], [(0, *more), (label, *more)])
    with pytest.raises(UserError, match=r"train\.rec: crop 2 has the label -?[\d.]+; they are whole numbers under 2"):
        read_crops(folder)
    folder = write_set(tmp_path / "good", [crop(0), crop(1)], [(0, *more), (2.0**24 - 1, *more)])
    assert people(read_crops(folder)) == ["0", str(2**24 - 1)]


def test_a_damaged_set_is_one_clear_sentence(four: Path) -> None:
    rec, index = four / "train.rec", four / "train.idx"
    data, lines = rec.read_bytes(), index.read_text()
    last = int(lines.splitlines()[4].split("\t")[1])
    for cut in (last + 4, last + 40, last + 400, 100, 3):
        rec.write_bytes(data[:cut])
        with pytest.raises(UserError, match=r"cut short|ends in the middle|hold no record"):
            read_crops(four)
    rec.write_bytes(data[:40] + bytes(100) + data[140:])
    with pytest.raises(UserError, match=r"no record begins at byte \d+"):
        read_crops(four)
    rec.write_bytes(data)
    for text, sentence in {
        lines + f"99\t{len(data) + 400}\n": r"its index names a record at \d+",
        lines + f"99\t{len(data)}\n": rf"is {len(data)} bytes long and its index names a record at {len(data)}: .*copy",
        lines + f"99\t{2**62}\n": f"its index names a record at {2**62}",
        lines + f"99\t{2**64}\n": "not an index of lines",
        lines + "99\t-4\n": "its index names a record at -4",
        lines.replace("\n2\t", "\n1\t"): "names the key 1 for several records",
        "\n".join(lines.splitlines()[:3]): "names 2 of 4 images",
        "a b c": "not an index of lines",
        "1 2\n3 4\n": "not an index of lines",
        "": "is empty",
        "0\t0\n": "names 0 of 4 images",
    }.items():
        index.write_text(text)
        with pytest.raises(UserError, match=sentence):
            read_crops(four)
    index.unlink()
    with pytest.raises(UserError, match=r"train\.idx: no such file; a \.rec set is a \.rec and an \.idx"):
        read_crops(four)


def test_a_label_of_nobody_and_a_record_of_nothing(tmp_path: Path) -> None:
    images = [crop(i) for i in range(4)]
    folder = write_set(tmp_path / "one", images, [(-1,), (0,), (1,), (1,)])
    assert [name is None for name in read_crops(folder).identities] == [True, False, False, False]
    for label in (-2, 0.5, -1.5):
        folder = write_set(tmp_path / f"set{label}", images, [(label,), (0,), (1,), (1,)])
        with pytest.raises(UserError, match=rf"has the label {label:g}; they are whole numbers"):
            read_crops(folder)
    folder = write_set(tmp_path / "empty", [images[0], b"", *images[2:]], [(0,), (0,), (1,), (1,)])
    with pytest.raises(UserError, match="names 3 of 4 images"):
        read_crops(folder)
    index = folder / "train.idx"
    index.write_text("".join(index.read_text().splitlines(keepends=True)[1:]))  # without the first record
    with pytest.raises(UserError, match="the record of key 2 holds no image; leave it out"):
        read_crops(folder)
