"""A view is a pure function of (crop, seed, index, number): the teacher's cache stands on it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pyarrow as pa
import pytest

from facekd.core.choices import Augment
from facekd.core.pixels import encode_crop
from facekd.crops import views
from facekd.crops.cropset import CropSet
from facekd.crops.views import augmentation_id, view, view_batch

ASKED = [(seed, index, number) for seed in (0, 7) for index in (0, 1, 900) for number in range(12)]


def crop(index: int) -> np.ndarray:
    return cv2.GaussianBlur(np.random.default_rng(index).integers(0, 256, (112, 112, 3), dtype=np.uint8), (0, 0), 3)


def crop_set(count: int) -> CropSet:
    ids = tuple(str(index) for index in range(count))
    images = pa.chunked_array([[encode_crop(crop(index)) for index in range(count)]], pa.binary())
    return CropSet(Path("memory"), ids, (None,) * count, ids, images, np.arange(count), 112, "arcface")


def shown(crops: CropSet, index: int, number: int, augment: Augment, seed: int = 0) -> np.ndarray:
    return view_batch(crops, seed, np.array([index]), np.array([number]), augment)[0]


def digest(seed: int, index: int, number: int) -> str:
    """Of the plain and of the occluded view."""
    occluded = shown(CROPS, index % 6, number, "occluded", seed)
    return hashlib.sha256(view(crop(index), seed, index, number).tobytes() + occluded.tobytes()).hexdigest()


CROPS = crop_set(6)
EXPECTED = {asked: digest(*asked) for asked in ASKED}


def test_a_view_is_a_crop_and_its_source_is_untouched() -> None:
    pixels = crop(1)
    before = pixels.copy()
    views = [view(pixels, 0, 1, number) for number in range(40)]
    assert all(v.shape == (112, 112, 3) and v.dtype == np.uint8 for v in views)
    assert (pixels == before).all()
    changes = [np.abs(v.astype(int) - pixels).mean() for v in views]
    assert max(changes) > 5
    assert max(changes) < 120  # the strongest light and contrast


def test_every_argument_changes_the_view() -> None:
    assert len(set(EXPECTED.values())) > 0.8 * len(EXPECTED)
    pixels = crop(3)
    views = {view(pixels, *asked).tobytes() for asked in ASKED}  # the same crop under other numbers
    assert len(views) > 0.8 * len(ASKED)


def test_the_steps_of_a_view_are_drawn_independently() -> None:
    # Left half black, right half white: a flip is told from the sides, a change of light from the levels.
    half = np.zeros((112, 112, 3), np.uint8)
    half[:, 56:] = 160
    half[:, :56] = 40
    views = [view(half, 3, 0, number) for number in range(400)]
    flipped = np.array([v[:, :40].mean() > v[:, 72:].mean() for v in views])
    light = np.array([abs(v[:, :40].mean() - 40) + abs(v[:, 72:].mean() - 160) > 4 for v in views])
    light = np.where(flipped, [abs(v[:, :40].mean() - 160) + abs(v[:, 72:].mean() - 40) > 4 for v in views], light)
    assert 0.4 < flipped.mean() < 0.6
    assert 0.4 < light.mean() < 0.75
    assert abs(np.corrcoef(flipped, light)[0, 1]) < 0.15
    untouched = np.mean([(v == half).all() or (v == half[:, ::-1]).all() for v in views])
    assert untouched < 0.25  # each step alone is left out more often than that


def test_the_order_does_not_matter() -> None:
    for asked in reversed(ASKED):
        assert digest(*asked) == EXPECTED[asked]


def test_other_random_generators_do_not_matter() -> None:
    np.random.seed(1)
    assert digest(*ASKED[3]) == EXPECTED[ASKED[3]]
    np.random.seed(2)
    assert digest(*ASKED[3]) == EXPECTED[ASKED[3]]
    before = np.random.random()
    np.random.seed(2)
    digest(*ASKED[5])
    assert np.random.random() == before  # and it leaves them alone


def test_threads_do_not_matter() -> None:
    shuffled = [ASKED[i] for i in np.random.default_rng(0).permutation(len(ASKED))] * 2
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda asked: digest(*asked), shuffled)) == [EXPECTED[asked] for asked in shuffled]


@pytest.mark.slow
def test_processes_do_not_matter() -> None:
    code = """
import sys
sys.path.insert(0, sys.argv[1])
from test_views import ASKED, digest
print("\\n".join(digest(*asked) for asked in ASKED))
"""
    here = __file__.rsplit("/", 1)[0]
    done = subprocess.run(
        [sys.executable, "-c", code, here], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "5"}
    )
    assert done.stdout.split() == [EXPECTED[asked] for asked in ASKED]


def test_each_step_happens_at_its_rate_and_far_faces_lose_detail() -> None:
    rates = {"HorizontalFlip": 0.5, "Affine": 0.5, "RandomBrightnessContrast": 0.5, "HueSaturationValue": 0.3,
             "Downscale": 0.2, "GaussianBlur": 0.15, "ImageCompression": 0.2, "ToGray": 0.05}  # fmt: skip
    pixels = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
    count = 1500
    happened: Counter[str] = Counter()
    far = []
    for number in range(count):
        seen = view(pixels, 1, 0, number)
        steps = {type(step).__name__ for step in views._pipeline().transforms if step.params}
        happened.update(steps)
        if steps <= {"HorizontalFlip", "Downscale"}:  # nothing else blurs or changes the light
            far.append(("Downscale" in steps, float(seen.std())))
    for step, rate in rates.items():
        assert abs(happened[step] / count - rate) < 4 * (rate * (1 - rate) / count) ** 0.5, step
    assert set(happened) == set(rates)
    noise = float(pixels.std())
    lost = [deviation / noise for low, deviation in far if low]
    assert len(lost) > 10
    assert min(lost) > 0.05
    assert max(lost) < 0.85  # the mean of several pixels of noise
    assert all(deviation == noise for low, deviation in far if not low)


def test_an_occluded_view_is_the_plain_one_with_one_rectangle_covered() -> None:
    found: Counter[str] = Counter()
    shares = []
    for index, number in [(index, number) for index in range(6) for number in range(60)]:
        plain, occluded = shown(CROPS, index, number, "plain"), shown(CROPS, index, number, "occluded")
        differs = (plain != occluded).any(axis=2)
        if not differs.any():
            found["plain"] += 1
            continue
        rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
        here = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert differs[here].mean() > 0.9  # a rectangle, and not two
        height, width = differs[here].shape
        shares.append(height * width / 112**2)
        assert max(height / width, width / height) < 2.1
        patch = occluded[here]
        sources = [other for other in range(6) if (CROPS.pixels(other)[here] == patch).all()]
        if sources:
            assert sources != [index]
            found["patched"] += 1
        elif (patch == patch[0, 0]).all():
            assert np.abs(patch[0, 0] - plain.mean(axis=(0, 1))).max() <= 0.5
            found["mean"] += 1
        else:
            assert patch.std() > 65  # uniform noise; the crops themselves are smooth
            found["noise"] += 1
    assert 1 / 16 * 0.97 < min(shares) < 0.08
    assert 0.22 < max(shares) < 1 / 4 * 1.03
    for kind, share in {"plain": 0.2, "patched": 0.4, "mean": 0.2, "noise": 0.2}.items():
        assert abs(found[kind] / 360 - share) < 4 * (share * (1 - share) / 360) ** 0.5, found


def test_a_patch_may_come_from_any_other_crop_and_never_from_its_own() -> None:
    constant = [np.full((112, 112, 3), 10 * index, np.uint8) for index in range(5)]
    taken: set[int] = set()
    for number in range(200):
        rng = np.random.default_rng(number)
        covered = views.occlude(
            np.full((112, 112, 3), 255, np.uint8), rng, lambda rng=rng: constant[views._another(rng, 2, 5)]
        )
        taken |= set(np.unique(covered).tolist()) & {0, 10, 20, 30, 40} if np.unique(covered).size == 2 else set()
    assert taken == {0, 10, 30, 40}


def test_plain_views_know_nothing_of_other_crops() -> None:
    alone, among = crop_set(1), CROPS
    for number in range(20):
        assert (shown(alone, 0, number, "plain") == shown(among, 0, number, "plain")).all()
        assert (shown(alone, 0, number, "plain") == view(alone.pixels(0), 0, 0, number)).all()
        assert shown(alone, 0, number, "occluded").shape == (112, 112, 3)  # of itself, where there is no other


def test_flips_are_the_crop_and_its_mirror_image_in_turn() -> None:
    first = set()
    for index in range(6):
        plain = CROPS.pixels(index)
        mirrored = plain[:, ::-1]
        assert not (plain == mirrored).all()
        shows = [(shown(CROPS, index, number, "flip") == mirrored).all() for number in range(6)]
        assert all(shows[n] != shows[n + 1] for n in range(5))
        assert all((shown(CROPS, index, n, "flip") == (mirrored if shows[n] else plain)).all() for n in range(6))
        first.add(shows[0])
    assert first == {True, False}  # whose mirror image comes first hangs on the crop


def test_a_batch_is_its_views() -> None:
    places, numbers = np.array([4, 0, 4, 2]), np.array([9, 3, 1, 3])
    for augment in get_args(Augment):
        batch = view_batch(CROPS, 5, places, numbers, augment)
        for row, index, number in zip(batch, places, numbers, strict=True):
            assert (row == shown(CROPS, index, number, augment, seed=5)).all()


def test_the_id_tells_kinds_and_code_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {augmentation_id(augment) for augment in get_args(Augment)}
    assert augmentation_id("plain") in found  # and stays what it was
    monkeypatch.setattr(views, "CODE", views.CODE + 1)
    found |= {augmentation_id(augment) for augment in get_args(Augment)}
    assert len(found) == 2 * len(get_args(Augment))
