"""What facekd enroll makes of a person's photos: a sum that no order changes, weighted by quality."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from people import DIM, contents, enrolled, pattern, save, write_people

from facekd.enrollment.people import added, main_direction
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.photos import PhotoTable


def test_the_sum_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(1000, 32))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    weights = rng.uniform(0, 8, 1000)
    wanted = added(vectors, weights)
    for _ in range(5):
        parts = np.split(rng.permutation(1000), [100, 333, 700])
        assert (sum(added(vectors[part], weights[part]) for part in parts) == wanted).all()
    np.testing.assert_allclose(wanted / 2.0**36, (vectors.astype(np.float64) * weights[:, None]).sum(axis=0), atol=1e-7)


def test_a_sharp_photo_counts_more_than_a_blurred_one(tmp_path: Path, folder: Path, model: Path) -> None:
    shutil.rmtree(folder / "p00")
    save(folder / "p00" / "sharp.png", pattern(0, 1))
    save(folder / "p00" / "blurred.png", cv2.GaussianBlur(pattern(1, 2), (0, 0), 4))
    enrolled(folder, tmp_path / "g", model, accept_suspects=True)
    home = GalleryTable.open(tmp_path / "g")
    rows = {row["source"]: row for row in PhotoTable(home.place, DIM).of(["p00"]).to_pylist()}
    sharp, blurred = rows["p00/sharp.png"], rows["p00/blurred.png"]
    assert sharp["quality"] > 10 * blurred["quality"]
    wanted = sum(np.array(row["embedding"]) * math.log(1 + row["quality"]) for row in (sharp, blurred))
    template = home.people(["p00"])["p00"].template
    np.testing.assert_allclose(template, wanted / np.linalg.norm(wanted), atol=1e-6)
    assert template @ np.array(sharp["embedding"]) > 0.9


def test_the_main_direction_is_that_of_the_larger_group() -> None:
    def around(angle: float, count: int) -> np.ndarray:
        angles = np.deg2rad(angle + np.linspace(-5, 5, count))
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    # The mean of all would lie between the groups, and match neither nor both.
    both = np.concatenate([around(0, 5), around(90, 4)])
    np.testing.assert_allclose(main_direction(both, 0.9), [1, 0], atol=0.01)
    np.testing.assert_allclose(main_direction(both, -1.0), both.mean(0) / np.linalg.norm(both.mean(0)), atol=1e-6)


def test_a_person_with_more_photos_than_are_held_at_once(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_people(tmp_path / "people", 2, 30)
    save(folder / "p00" / "stray.png", pattern(8))
    monkeypatch.setattr("facekd.enrollment.people.SAMPLE", 12)
    few = enrolled(folder, tmp_path / "few", model)
    monkeypatch.setattr("facekd.enrollment.people.TOGETHER", 5)
    many = enrolled(folder, tmp_path / "many", model)
    assert [one.source for one in few.suspects] == [one.source for one in many.suspects] == ["p00/stray.png"]
    assert contents(tmp_path / "few") == contents(tmp_path / "many")
    assert DIM == 48
