"""A view is a pure function of (crop, seed, index, number): the teacher's cache stands on it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from facekd.crops.views import view

ASKED = [(seed, index, number) for seed in (0, 7) for index in (0, 1, 900) for number in range(12)]


def crop(index: int) -> np.ndarray:
    return cv2.GaussianBlur(np.random.default_rng(index).integers(0, 256, (112, 112, 3), dtype=np.uint8), (0, 0), 3)


def digest(seed: int, index: int, number: int) -> str:
    return hashlib.sha256(view(crop(index), seed, index, number).tobytes()).hexdigest()


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
