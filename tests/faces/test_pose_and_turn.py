"""Pose from five points, photos on their side, and photos that are crops already."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekd.core.geometry import ARCFACE, similarity, template_points
from facekd.core.types import Array, Faces, Photo
from facekd.faces import align, cropped
from facekd.faces.align import align_face, eye_distance, pose
from facekd.faces.detect import load_detector
from facekd.faces.turned import detect_turned
from facekd.photos.synth import person, render
from facekd.photos.synth.shots import shoot

ANGLE = st.floats(-0.7, 0.7)


def seen(yaw: float, pitch: float, roll: float, scale: float, shift: tuple[float, float]) -> Array:
    """float32[5, 2]: the head of `pose` turned about its own axes and seen from far away, by plain trigonometry."""
    points = []
    for x, y, z in align._HEAD - align._HEAD.mean(axis=0):
        y, z = y * math.cos(pitch) - z * math.sin(pitch), y * math.sin(pitch) + z * math.cos(pitch)  # looks down
        x, z = x * math.cos(yaw) - z * math.sin(yaw), x * math.sin(yaw) + z * math.cos(yaw)  # to the right
        x, y = x * math.cos(roll) - y * math.sin(roll), x * math.sin(roll) + y * math.cos(roll)  # clockwise
        points.append([x * scale + shift[0], y * scale + shift[1]])
    return np.array(points, np.float32)


@given(ANGLE, ANGLE, st.floats(-3, 3), st.floats(10, 500), st.tuples(st.floats(-500, 500), st.floats(-500, 500)))
def test_the_pose_of_a_turned_head_comes_back(
    yaw: float, pitch: float, roll: float, scale: float, shift: tuple[float, float]
) -> None:
    assert pose(seen(yaw, pitch, roll, scale, shift)) == pytest.approx((yaw, pitch, roll), abs=2e-3)


def test_what_the_signs_mean() -> None:
    assert pose(ARCFACE.astype(np.float32)) == pytest.approx((0, 0, -math.atan2(0.1949, 35.2372)), abs=0.02)
    nose_right, nose_down, clockwise = ARCFACE.copy(), ARCFACE.copy(), ARCFACE @ [[0.8, 0.6], [-0.6, 0.8]]
    nose_right[2, 0] += 5
    nose_down[2, 1] += 5
    assert pose(nose_right)[0] > 0.1
    assert pose(nose_down)[1] > 0.1
    assert pose(clockwise)[2] == pytest.approx(math.asin(0.6), abs=0.02)
    assert eye_distance(ARCFACE.astype(np.float32)) == pytest.approx(35.238, abs=1e-3)
    assert eye_distance(3 * ARCFACE) == pytest.approx(3 * 35.238, abs=3e-3)


def test_the_pose_of_drawn_people_is_told_from_their_landmarks() -> None:
    told, true = [], []
    for number in range(24):
        who = person(8, number)
        shot, _ = shoot(who, 8, 0)
        told.append(pose(render(who, 8, 0).landmarks))
        true.append((shot.yaw, shot.pitch, shot.roll))
    for angle in range(3):
        agreement = np.corrcoef(np.array(told)[:, angle], np.array(true)[:, angle])[0, 1]
        print(("yaw", "pitch", "roll")[angle], round(float(agreement), 3))
        assert abs(agreement) > (0.9, 0.6, 0.9)[angle]  # the sign is that of the drawing's own axes, y up


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_photo_on_its_side_gives_the_crop_of_the_upright_one(degrees: int) -> None:
    detect = load_detector("mtcnn", threads=1)
    pixels = np.ascontiguousarray(render(person(8, 1), 8, 0).pixels[:, 10:])  # not square
    upright = detect([pixels])[0]
    lying = np.ascontiguousarray(np.rot90(pixels, -degrees // 90))  # clockwise: it has to be turned back the other way
    faces, turned = detect_turned(detect, lying)
    assert turned == degrees
    assert len(faces) == len(upright) >= 1
    assert (faces.boxes[0, :2] < faces.boxes[0, 2:]).all()
    x, y = faces.landmarks[0].T
    assert (x > faces.boxes[0, 0]).all()
    assert (x < faces.boxes[0, 2]).all()
    assert (y > faces.boxes[0, 1]).all()
    assert (y < faces.boxes[0, 3]).all()
    crops = [
        align_face(Photo(photo, "", "0" * 64), found.boxes[0], found.landmarks[0]).pixels.astype(int)
        for photo, found in ((pixels, upright), (lying, faces))
    ]
    assert np.abs(crops[0] - crops[1]).mean() < 0.5


def test_the_surest_turn_wins_and_none_is_an_answer() -> None:
    def detect(photos: list[Array]) -> list[Faces]:
        """A face wherever the red corner pixel is at the top left, sure; or at the top right, unsure."""
        (photo,) = photos
        for column, score in ((0, 0.9), (-1, 0.8)):
            if photo[0, column, 0] == 255:
                box = np.array([[0, 0, 1, 1]], np.float32)
                return [Faces(box, np.array([score], np.float32), np.zeros((1, 5, 2), np.float32))]
        return [Faces.none()]

    for row, column, expected in ((-1, -1, 180), (0, -1, 90), (-1, 0, 270)):
        photo = np.zeros((7, 9, 3), np.uint8)
        photo[row, column] = 255
        faces, turned = detect_turned(detect, photo)
        assert turned == expected
        height, width = 7, 9
        corner = (width - 1 if column else 0, height - 1 if row else 0)
        assert faces.boxes.tolist() == [[corner[0], corner[1], corner[0] + 1, corner[1] + 1]]
        assert (faces.landmarks == corner).all()
    faces, turned = detect_turned(detect, np.zeros((7, 9, 3), np.uint8))
    assert (len(faces), turned) == (0, 0)


@given(st.integers(16, 300), st.integers(16, 300))
def test_a_photo_that_is_a_crop_is_its_middle_square(height: int, width: int) -> None:
    faces = cropped.detect_one(np.zeros((height, width, 3), np.uint8))
    side = min(height, width)
    x1, y1, x2, y2 = faces.boxes[0]
    assert x2 - x1 == y2 - y1 == side
    assert (x1 + x2, y1 + y2) == (width, height)
    matrix = similarity(faces.landmarks[0], template_points("arcface", side))
    assert np.allclose(matrix, [[1, 0, -x1], [0, 1, -y1]], atol=1e-3)
