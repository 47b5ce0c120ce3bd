"""People who do not exist: exact from their seeds, findable by a detector, and not told apart by color alone."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from itertools import pairwise

import cv2
import numpy as np
import pytest

from facekd.core.geometry import ARCFACE, similarity, warp
from facekd.photos.synth import DrawnPerson, Rendered, jpeg, person, render
from facekd.photos.synth.shots import rotation, shoot

SEED = 5


def digest(index: int, photo: int) -> str:
    return hashlib.sha256(jpeg(render(person(SEED, index), SEED, photo))).hexdigest()


@pytest.fixture(scope="module")
def album() -> list[tuple[int, Rendered]]:
    """Five photos of each of 16 people."""
    return [(index, render(person(SEED, index), SEED, photo)) for index in range(16) for photo in range(5)]


def test_any_order_process_and_number_of_threads_gives_the_same_bytes() -> None:
    wanted = [(0, 0), (0, 3), (1, 0), (7, 2)]
    forward = [digest(*which) for which in wanted]
    backward = [digest(*which) for which in reversed(wanted)]
    assert backward[::-1] == forward

    program = (
        "import cv2, hashlib; cv2.setNumThreads(1)\n"
        "from facekd.photos.synth import jpeg, person, render\n"
        f"for i, j in {wanted[::-1]}:\n"
        f"    print(hashlib.sha256(jpeg(render(person({SEED}, i), {SEED}, j))).hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == forward[::-1]


def test_every_seed_person_and_photo_is_another() -> None:
    pictures = [
        jpeg(render(person(seed, index), seed, photo)) for seed in (0, 1) for index in (0, 1) for photo in (0, 1)
    ]
    assert len(set(pictures)) == 8
    assert person(3, 4) == person(3, 4)
    assert person(3, 4) != person(4, 3)


def test_the_person_stays_and_the_photo_changes() -> None:
    who: DrawnPerson = person(SEED, 2)
    shots = [shoot(who, SEED, photo)[0] for photo in range(40)]
    for name in ("yaw", "smile", "light", "gain", "blur", "quality", "cloth"):
        assert len({getattr(shot, name) for shot in shots}) > 10, name
    assert np.degrees(np.abs([shot.yaw for shot in shots]).max()) < 35


def test_a_photo_has_the_size_and_the_landmarks_that_it_promises(album: list[tuple[int, Rendered]]) -> None:
    for _, photo in album:
        height, width, channels = photo.pixels.shape
        assert photo.pixels.dtype == np.uint8
        assert channels == 3
        assert 200 <= height == width <= 256
        assert photo.landmarks.shape == (5, 2)
        assert photo.landmarks.dtype == np.float32
        assert (photo.landmarks > 0).all()
        assert (photo.landmarks < width).all()
        left, right, nose, mouth_left, mouth_right = photo.landmarks
        assert left[0] < right[0]
        assert mouth_left[0] < mouth_right[0]
        assert max(left[1], right[1]) < nose[1] < max(mouth_left[1], mouth_right[1])
        # A crop is neither blown up nor shrunk by much, so its grain is a camera's.
        matrix = similarity(photo.landmarks, ARCFACE)
        assert 0.5 < np.hypot(matrix[0, 0], matrix[0, 1]) < 1.4
        decoded = cv2.imdecode(np.frombuffer(jpeg(photo), np.uint8), cv2.IMREAD_COLOR_RGB)
        assert decoded.shape == photo.pixels.shape
        assert np.abs(decoded.astype(int) - photo.pixels).mean() < 12


def test_eyes_and_mouth_are_painted_where_the_landmarks_say(album: list[tuple[int, Rendered]]) -> None:
    """In the mean crop the pupils are darker than the cheeks, the mouth than the lip, and the lips redder."""
    shaven = [photo for index, photo in album if person(SEED, index).beard == "none"]
    assert len(shaven) >= 20
    mean = np.mean([warp(photo.pixels, similarity(photo.landmarks, ARCFACE), 112) for photo in shaven], axis=0)

    def patch(x: float, y: float) -> np.ndarray:
        column, row = round(x), round(y)
        return np.asarray(mean[row - 2 : row + 3, column - 2 : column + 3].mean(axis=(0, 1)))

    for x, y in ARCFACE[:2]:
        assert patch(x, y).mean() < 0.85 * patch(x, y + 16).mean()
    mouth, lips, skin = patch(56, 92), patch(56, 97), patch(56, 87)
    assert mouth.mean() < 0.95 * skin.mean()
    assert lips[0] / lips[1] > 1.03 * skin[0] / skin[1]


def test_a_turned_head_turns_the_way_that_its_yaw_says() -> None:
    """With positive yaw the nose moves to the picture's right of the eyes' middle."""
    checked = 0
    for photo in range(30):
        shot, _ = shoot(person(SEED, 1), SEED, photo)
        if abs(shot.yaw) < 0.15 or abs(shot.roll) > 0.1:
            continue
        marks = render(person(SEED, 1), SEED, photo).landmarks
        assert np.sign(marks[2, 0] - marks[:2, 0].mean()) == np.sign(shot.yaw)
        checked += 1
    assert checked >= 5


def test_rotation_is_one() -> None:
    turn = rotation(shoot(person(SEED, 0), SEED, 0)[0])
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


def test_colors_alone_do_not_tell_people_apart_but_photos_of_one_person_are_alike(
    album: list[tuple[int, Rendered]],
) -> None:
    crops = np.stack([warp(photo.pixels, similarity(photo.landmarks, ARCFACE), 112) for _, photo in album])
    identity = np.array([index for index, _ in album])
    left, right = np.triu_indices(len(identity), 1)
    same = identity[left] == identity[right]

    color = crops[:, 56:84, 20:92].mean(axis=(1, 2))
    by_color = -np.linalg.norm(color[left] - color[right], axis=1)
    gray = np.stack([cv2.resize(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), (16, 16)) for crop in crops])
    gray = gray.reshape(len(crops), -1).astype(float)
    gray = gray - gray.mean(axis=1, keepdims=True)
    gray /= np.linalg.norm(gray, axis=1, keepdims=True)
    by_pixels = (gray[left] * gray[right]).sum(axis=1)
    for scores in (by_color, by_pixels):
        assert 0.55 < area_under_roc(scores, same) < 0.9


def area_under_roc(scores: np.ndarray, same: np.ndarray) -> float:
    """The share of (genuine, impostor) couples of pairs in the right order, counted one by one."""
    genuine, impostor = scores[same], scores[~same]
    return float(np.mean(genuine[:, None] > impostor[None, :]))


def test_mtcnn_finds_the_faces_and_their_landmarks(album: list[tuple[int, Rendered]]) -> None:
    from facekd.faces.detect import load_detector

    photos = [photo for _, photo in album]
    found = load_detector("mtcnn", threads=1)([photo.pixels for photo in photos])
    errors = []
    for photo, faces in zip(photos, found, strict=True):
        matrix = similarity(photo.landmarks, ARCFACE)
        scale = np.hypot(matrix[0, 0], matrix[0, 1])
        apart = np.linalg.norm(faces.landmarks - photo.landmarks, axis=2).mean(axis=1) * scale
        if len(apart) and apart.min() < 12:
            errors.append(float(apart.min()))
    assert len(errors) >= 0.98 * len(photos)
    assert np.mean(errors) < 3.5  # pixels of the crop


def test_neighbors_in_index_are_not_alike() -> None:
    """A person's traits don't drift with the index: no trait of neighbors is correlated."""
    people = [person(SEED, index) for index in range(200)]
    for name in ("width", "eye_x", "nose_w", "mouth_y"):
        values = np.array([getattr(who, name) for who in people])
        steps = np.array([(a - values.mean()) * (b - values.mean()) for a, b in pairwise(values)])
        assert abs(steps.mean() / values.var()) < 0.25, name
