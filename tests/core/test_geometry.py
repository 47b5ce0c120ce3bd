"""Similarity and warp against independent twins and known answers."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from facekd.core.geometry import ARCFACE, similarity, template_points, warp

RNG = np.random.default_rng(7)
IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


def umeyama(source, target):
    """The paper's own algorithm, by singular values (eqs. 38 to 43), with its sign for mirrored points left free.

    Umeyama maximizes over rotations; here the similarity may be a turn by any angle but never a mirroring.
    """
    n = len(source)
    mu_x, mu_y = source.mean(axis=0), target.mean(axis=0)
    sigma_x = ((source - mu_x) ** 2).sum() / n
    covariance = (target - mu_y).T @ (source - mu_x) / n
    u, d, vt = np.linalg.svd(covariance)
    s = np.diag([1.0, 1.0 if np.linalg.det(u) * np.linalg.det(vt) > 0 else -1.0])
    rotation = u @ s @ vt
    scale = np.trace(np.diag(d) @ s) / sigma_x
    return np.column_stack([scale * rotation, mu_y - scale * rotation @ mu_x])


coordinate = st.floats(-2000, 2000, allow_nan=False).map(lambda v: round(v, 3))
points = st.lists(st.tuples(coordinate, coordinate), min_size=5, max_size=5).map(np.array)


@given(points, points)
def test_similarity_equals_umeyama(source, target) -> None:
    assume(((source - source.mean(axis=0)) ** 2).sum() > 1)
    twin = umeyama(source, target)
    assume(np.abs(twin[:, :2]).max() > 1e-4)
    np.testing.assert_allclose(similarity(source, target), twin, rtol=1e-6, atol=1e-6 * (1 + np.abs(twin).max()))


@given(points, st.floats(-math.pi, math.pi), st.floats(0.05, 20), coordinate, coordinate)
def test_similarity_finds_the_one_that_was_applied(source, angle, scale, dx, dy) -> None:
    assume(((source - source.mean(axis=0)) ** 2).sum() > 1)
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    matrix = np.array([[a, -b, dx], [b, a, dy]])
    target = source @ matrix[:, :2].T + matrix[:, 2]
    np.testing.assert_allclose(similarity(source, target), matrix, rtol=1e-6, atol=1e-5)


def test_similarity_is_the_best_of_many() -> None:
    source, target = RNG.normal(0, 30, (5, 2)), RNG.normal(0, 30, (5, 2))
    best = similarity(source, target)

    def error(m):
        return ((source @ m[:, :2].T + m[:, 2] - target) ** 2).sum()

    for _ in range(200):
        a, b, dx, dy = RNG.normal(0, 0.1, 4)
        assert error(best + np.array([[a, -b, dx], [b, a, dy]])) >= error(best)


@pytest.mark.parametrize(
    "source",
    [
        np.full((5, 2), 3.0),
        np.full((5, 2), np.nan),
        np.array([[0, 0], [1, 1], [2, 2], [3, 3], [np.inf, 0]]),
        np.full((5, 2), 3.0) + np.eye(5, 2) * 1e-6,
    ],
)
def test_degenerate_landmarks_are_refused(source) -> None:
    with pytest.raises(ValueError, match="landmarks"):
        similarity(source, ARCFACE)


def test_mirrored_landmarks_of_a_symmetric_shape_are_refused() -> None:
    # The best similarity shrinks everything to a point: nothing of the photo would be left in the crop.
    square = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
    with pytest.raises(ValueError, match="landmarks"):
        similarity(square * [-1, 1], square * 40 + 56)


def test_template_scales_about_the_corner() -> None:
    np.testing.assert_allclose(template_points("arcface", 112), ARCFACE)
    # A crop of twice the size: the middle of an old pixel is the middle of four new ones.
    np.testing.assert_allclose(template_points("arcface", 224), ARCFACE * 2 + 0.5)
    corner = (template_points("arcface", 56) + 0.5) / 56
    np.testing.assert_allclose(corner, (ARCFACE + 0.5) / 112)


def noise(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_warp_by_the_identity_is_exact() -> None:
    photo = noise(112, 112)
    assert (warp(photo, IDENTITY, 112) == photo).all()


@given(st.integers(-130, 130), st.integers(-130, 130))
def test_warp_by_whole_pixels_is_exact_and_black_outside(dx, dy) -> None:
    photo = np.random.default_rng(3).integers(1, 256, (90, 140, 3), dtype=np.uint8)
    crop = warp(photo, np.array([[1.0, 0, dx], [0, 1, dy]]), 112)
    expected = np.zeros_like(crop)
    for y in range(max(0, dy), min(112, 90 + dy)):
        left, right = max(0, dx), min(112, 140 + dx)
        if left < right:
            expected[y, left:right] = photo[y - dy, left - dx : right - dx]
    assert (crop == expected).all()


def test_warp_by_a_quarter_turn_is_exact() -> None:
    photo = noise(112, 112)
    matrix = np.array([[0.0, -1, 111], [1, 0, 0]])  # (x, y) -> (111 - y, x): clockwise on the screen
    assert (warp(photo, matrix, 112) == np.rot90(photo, -1)).all()


@pytest.mark.parametrize("factor", [2, 3, 8])
def test_shrinking_by_a_whole_factor_averages_every_pixel(factor: int) -> None:
    photo = noise(112 * factor, 112 * factor)
    matrix = np.array([[1 / factor, 0, (1 / factor - 1) / 2], [0, 1 / factor, (1 / factor - 1) / 2]])
    mean = photo.reshape(112, factor, 112, factor, 3).mean(axis=(1, 3))
    assert np.abs(warp(photo, matrix, 112) - mean).max() <= 1


def test_a_checkerboard_eight_times_too_large_becomes_gray() -> None:
    y, x = np.mgrid[: 112 * 8, : 112 * 8]
    board = np.repeat((((x + y) % 2) * 255).astype(np.uint8)[..., None], 3, axis=2)
    for shift, angle in [(0.0, 0.0), (0.31, 0.0), (0.0, 0.2)]:
        a, b = math.cos(angle) / 8, math.sin(angle) / 8
        middle = np.array([447.5, 447.5])
        rotation = np.array([[a, -b], [b, a]])
        matrix = np.column_stack([rotation, np.array([55.5 + shift, 55.5]) - rotation @ middle])
        inside = warp(board, matrix, 112)[20:-20, 20:-20].astype(int)
        assert np.abs(inside - 128).max() < 10, (shift, angle)
    naive = cv2.warpAffine(board, np.array([[1 / 8, 0, 0], [0, 1 / 8, 0]]), (112, 112))[20:-20, 20:-20]
    assert np.abs(naive.astype(int) - 128).max() > 100  # what would happen without


@given(st.floats(0.06, 3), st.floats(-math.pi, math.pi), st.floats(-300, 1500), st.floats(-300, 1500))
def test_warp_puts_a_blob_where_the_matrix_says(scale, angle, x, y) -> None:
    height, width = 600, 900
    ys, xs = np.mgrid[:height, :width]
    x, y = min(max(x, 60), width - 61), min(max(y, 60), height - 61)
    spread = 4 / scale
    blob = 255 * np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * spread**2))
    a, b = scale * math.cos(angle), scale * math.sin(angle)
    matrix = np.array([[a, -b, 0], [b, a, 0]])
    matrix[:, 2] = np.array([50.25, 61.5]) - matrix[:, :2] @ (x, y)
    crop = warp(np.repeat(blob[..., None], 3, axis=2).astype(np.uint8), matrix, 112)[..., 0].astype(float)
    if spread * 4 < min(x, y, width - 1 - x, height - 1 - y):  # the whole blob lies in the photo
        grid_y, grid_x = np.mgrid[:112, :112]
        center = (grid_x * crop).sum() / crop.sum(), (grid_y * crop).sum() / crop.sum()
        assert center == pytest.approx((50.25, 61.5), abs=0.15)


@pytest.mark.parametrize("shape", [(24, 40_000), (40_000, 24)])
@pytest.mark.parametrize("scale", [1.0, 0.2])
def test_a_panorama_is_warped_too(shape: tuple[int, int], scale: float) -> None:
    photo = np.zeros((*shape, 3), np.uint8)
    long = int(np.argmax(shape))
    photo[(slice(None),) * long + (slice(39_000, 39_020),)] = 200
    middle = np.array([39_010.0, 12]) if long == 1 else np.array([12.0, 39_010])
    matrix = np.column_stack([np.eye(2) * scale, 56 - middle * scale])
    assert warp(photo, matrix, 112)[56, 56].tolist() == pytest.approx([200] * 3, abs=10)


def test_a_face_outside_the_photo_is_black() -> None:
    photo = np.full((80, 80, 3), 255, np.uint8)
    for far in ((-500.0, 0.0), (0.0, 500.0), (9000.0, 9000.0)):
        for scale in (0.1, 1.0):
            matrix = np.column_stack([np.eye(2) * scale, far])
            assert warp(photo, matrix, 112).max() == 0
