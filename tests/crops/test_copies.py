"""Copies of pictures, by definition and in numbers that a set may have of one person."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from toy import SETTINGS, person, record

from facekd.crops import copies as module
from facekd.crops.copies import copies_within, hashes_apart, picture_hash
from facekd.crops.read import read_crops
from facekd.crops.store import CropStore


def test_the_distance_is_the_number_of_bits_that_differ() -> None:
    hashes = np.random.default_rng(0).random((7, 64)) < 0.5
    expected = [[int((a != b).sum()) for b in hashes[:3]] for a in hashes]
    assert hashes_apart(hashes, hashes[:3]).tolist() == expected
    assert picture_hash(np.zeros((32, 32, 3), np.uint8)).shape == (64,)


def test_each_copy_is_of_the_first_whatever_the_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CropStore.create(tmp_path / "crops", SETTINGS)
    store.append([record("a", f"{i}.png", person(i % 3, 0)) for i in range(10)])
    crops = read_crops(tmp_path / "crops")
    order = [int(source.removesuffix(".png")) for source in crops.sources]
    vectors = np.eye(3, dtype=np.float32)[[i % 3 for i in order]]
    seen: dict[int, int] = {}
    expected = {}
    for place, i in enumerate(order):
        if i % 3 in seen:
            expected[place] = seen[i % 3]
        seen.setdefault(i % 3, place)
    assert copies_within(crops, vectors, ["a"] * 10) == expected
    monkeypatch.setattr(module, "BLOCK", 4)
    assert copies_within(crops, vectors, ["a"] * 10) == expected
    assert copies_within(crops, vectors, [str(i) for i in range(10)]) == {}
    unlike = np.eye(10, dtype=np.float32)  # one hash, but the network sees others
    assert copies_within(crops, unlike, ["a"] * 10) == {}


@pytest.mark.slow
@pytest.mark.parametrize("alike", [False, True])
def test_many_crops_of_one_name_take_seconds(monkeypatch: pytest.MonkeyPatch, alike: bool) -> None:
    """As where a set calls everybody 'unknown': no table of all against all is made, whether all are alike or none."""
    count = 20_000
    hashes = np.random.default_rng(0).random((count, 64)) < 0.5
    monkeypatch.setattr(module, "picture_hash", lambda place: hashes[0 if alike else place])

    class Places:
        """Crops whose pixels are not looked at."""

        def pixels(self, place: int) -> int:
            return place

    began = time.process_time()
    found = copies_within(Places(), np.ones((count, 1), np.float32), ["x"] * count)  # type: ignore[arg-type]
    assert found == (dict.fromkeys(range(1, count), 0) if alike else {})
    assert time.process_time() - began < 30
