"""The recipes of examples/align against facekd's own matrix and crop, on drawn photos."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekd.core.geometry import similarity, template_points, warp
from facekd.core.types import Array
from facekd.faces import yunet
from facekd.photos.synth import person, render

RECIPES = Path(__file__).parents[2] / "examples" / "align"
Recipe = Callable[[Array, Array], tuple[Array, Array]]  # photo and points -> matrix and crop
JAVASCRIPT = """
import { readFileSync, writeSync } from 'node:fs';
const { similarity, warp } = await import(process.argv[1]);
const { points, width, height } = JSON.parse(process.argv[2]);
const rgb = readFileSync(0);
const data = new Uint8Array(width * height * 4);
for (let i = 0; i < width * height * 3; i++) data[Math.floor(i / 3) * 4 + (i % 3)] = rgb[i];
const matrix = similarity(points);
console.error(matrix.join(' '));
writeSync(1, warp({ data, width, height }, matrix));
"""


def in_python() -> Recipe:
    found = runpy.run_path(str(RECIPES / "align.py"))

    def recipe(photo: Array, points: Array) -> tuple[Array, Array]:
        matrix = found["similarity"](points)
        return matrix, found["warp"](photo, matrix)

    return recipe


def by(command: list[str], photo: bytes) -> tuple[Array, Array]:
    done = subprocess.run(command, input=photo, capture_output=True, check=True)
    matrix = np.array(done.stderr.split(), float).reshape(2, 3)
    return matrix, np.frombuffer(done.stdout[-112 * 112 * 3 :], np.uint8).reshape(112, 112, 3)


def in_javascript() -> Recipe:
    if (node := shutil.which("node")) is None:
        pytest.skip("node is not at hand")

    def recipe(photo: Array, points: Array) -> tuple[Array, Array]:
        about = json.dumps({"points": points.tolist(), "width": photo.shape[1], "height": photo.shape[0]})
        script = str(RECIPES / "align.js")
        return by([node, "--input-type=module", "-e", JAVASCRIPT, script, about], photo.tobytes())

    return recipe


def of_ppm(program: list[str]) -> Recipe:
    def recipe(photo: Array, points: Array) -> tuple[Array, Array]:
        header = f"P6\n{photo.shape[1]} {photo.shape[0]}\n255\n".encode()
        return by([*program, *(repr(value) for value in points.ravel().tolist())], header + photo.tobytes())

    return recipe


def in_cpp(folder: Path) -> Recipe:
    if (compiler := shutil.which("g++")) is None:
        pytest.skip("g++ is not at hand")
    program = str(folder / "align")
    subprocess.run(
        [compiler, "-O2", "-std=c++17", "-Wall", "-Wextra", "-Werror", str(RECIPES / "align.cpp"), "-o", program],
        check=True,
    )
    return of_ppm([program])


def in_kotlin(folder: Path) -> Recipe:
    if (compiler := shutil.which("kotlinc") or os.environ.get("KOTLINC")) is None:
        pytest.skip("kotlinc is not at hand")
    program = str(folder / "align.jar")
    subprocess.run([compiler, str(RECIPES / "Align.kt"), "-include-runtime", "-d", program], check=True)
    return of_ppm(["java", "-jar", program])


@pytest.fixture(scope="module", params=["python", "javascript", "cpp", "kotlin"])
def recipe(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    if request.param in ("python", "javascript"):
        return in_python() if request.param == "python" else in_javascript()
    folder = tmp_path_factory.mktemp("built")
    return in_cpp(folder) if request.param == "cpp" else in_kotlin(folder)


@pytest.mark.slow
@pytest.mark.parametrize(("times", "mean"), [(1, 0.01), (0.4, 0.01), (5, 0.05)])
def test_the_crop_is_facekds(recipe: Recipe, times: float, mean: float) -> None:
    """Photos of their size, smaller and larger than the crop; to one level of 255."""
    for number in range(3):
        drawn = render(person(3, number), 0, 0)
        photo = cv2.resize(drawn.pixels, None, fx=times, fy=times, interpolation=cv2.INTER_CUBIC)
        points = (drawn.landmarks.astype(np.float64) + 0.5) * times - 0.5
        wanted = similarity(points, template_points("arcface", 112))
        matrix, crop = recipe(photo, points)
        np.testing.assert_allclose(matrix, wanted, atol=1e-9)
        difference = np.abs(crop.astype(int) - warp(photo, wanted, 112))
        assert difference.mean() < mean
        assert difference.max() <= 1


def test_a_face_at_the_edge_is_black_beyond_it(recipe: Recipe) -> None:
    photo = np.full((60, 80, 3), 200, np.uint8)
    points = template_points("arcface", 112) - (40, 30)
    matrix, crop = recipe(photo, points)
    assert (crop[:29] == 0).all()
    assert np.abs(crop.astype(int) - warp(photo, matrix, 112)).max() <= 1


def test_the_detectors_points_are_facekds() -> None:
    """In Python by OpenCV's own driver of the same file; facekd measures its points again unless told not to."""
    found = runpy.run_path(str(RECIPES / "align.py"))
    photo = render(person(3, 1), 0, 0).pixels
    rows = found["detect"](cv2.cvtColor(photo, cv2.COLOR_RGB2BGR), str(yunet.WEIGHTS))
    wanted = yunet.load(refined=False)(photo)
    np.testing.assert_allclose(rows[0, 4:14].reshape(5, 2), wanted.landmarks[0], atol=0.01)
