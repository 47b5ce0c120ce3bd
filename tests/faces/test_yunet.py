"""YuNet against OpenCV's, faces that fill the photo, and the landmarks measured again by O-Net."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from facekd.core.types import Array, Faces
from facekd.errors import UserError
from facekd.faces import mtcnn, mtcnn_nets, yunet
from facekd.faces.refine import WEIGHTS as ONET
from facekd.faces.refine import _pixels, load_refiner
from facekd.photos.synth import Rendered, person, render

DATA = Path(__file__).parents[3] / "shared" / "data"


def read(archive: str, every: int, count: int) -> list[Array]:
    if not (DATA / archive).exists():
        pytest.skip(f"{archive} is not at hand")
    with zipfile.ZipFile(DATA / archive) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))[::every][:count]
        found = [cv2.imdecode(np.frombuffer(file.read(name), np.uint8), cv2.IMREAD_COLOR_RGB) for name in names]
    assert len(found) == count
    return found


@pytest.fixture(scope="module")
def drawn() -> list[Rendered]:
    return [render(person(3, number), 0, 0) for number in range(12)]


def eyes(landmarks: Array) -> float:
    return float(np.linalg.norm(landmarks[1] - landmarks[0]))


def apart(faces: Faces, landmarks: Array) -> float:
    """Mean distance of the nearest face's landmarks, in distances between the eyes."""
    return float(np.linalg.norm(faces.landmarks - landmarks, axis=2).mean(axis=1).min(initial=np.inf) / eyes(landmarks))


def filling(photo: Rendered, share: float, size: int) -> tuple[Array, Array]:
    """The part of a photo in which the face takes `share` of the side, `size` pixels wide, and its landmarks there."""
    points = photo.landmarks
    face = 2.6 * max(eyes(points), float(np.ptp(points[:, 1])))  # the height of a head's front
    half, (x, y) = face / share / 2, points.mean(axis=0)
    cut = np.array([[size / (2 * half), 0, 0], [0, size / (2 * half), 0]])
    cut[:, 2] = (size - 1) / 2 - cut[:, :2] @ (x, y)
    pixels = cv2.warpAffine(photo.pixels, cut, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return pixels, points @ cut[:, :2].T + cut[:, 2]


# The same faces as OpenCV's


def test_boxes_scores_and_points_are_opencvs() -> None:
    photos = [*read("lfw.zip", 900, 8), *read("group-photos.zip", 60, 2)]
    photos.append(photos[0][:, :131])
    detect, total = yunet.load(refined=False), 0
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    theirs = cv2.FaceDetectorYN.create(str(yunet.WEIGHTS), "", (32, 32), yunet.SCORE, yunet.OVERLAP, 5000)
    cv2.utils.logging.setLogLevel(before)
    for photo in photos:
        assert max(photo.shape) <= 1024
        theirs.setInputSize(photo.shape[1::-1])
        _, rows = theirs.detect(cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
        small = rows[rows[:, 2:4].max(axis=1) < yunet.LARGE]
        small = small[small[:, 2:4].max(axis=1) >= 20]
        found = detect(photo)
        keep = (found.boxes[:, 2:] - found.boxes[:, :2]).max(axis=1) < yunet.LARGE
        order, mine = np.argsort(-small[:, 14]), np.argsort(-found.scores[keep])
        np.testing.assert_allclose(found.scores[keep][mine], small[order, 14], atol=1e-4)
        np.testing.assert_allclose(found.boxes[keep][mine, :2], small[order, :2], atol=0.01)
        np.testing.assert_allclose(found.landmarks[keep][mine].reshape(-1, 10), small[order, 4:14], atol=0.01)
        total += len(small)
    assert total > 15


def test_the_file_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a YuNet"):
        yunet.load(ONET)
    with pytest.raises(UserError, match="no such file; leave --weights out"):
        yunet.load(tmp_path / "none.onnx")


# Faces of any size


@pytest.mark.parametrize("share", [0.6, 0.8, 0.9, 1.0])
@pytest.mark.parametrize("size", [96, 640, 1000, 2400])
def test_a_face_that_fills_the_photo_is_found(share: float, size: int, drawn: list[Rendered]) -> None:
    detect, count = yunet.load(), 12 if size < 1000 else 4
    errors = [apart(detect(pixels), at) for pixels, at in (filling(one, share, size) for one in drawn[:count])]
    assert sum(error < 0.3 for error in errors) >= count - (count > 4)


def test_a_small_copy_adds_no_face_and_hides_none_among_small_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = [photo for photo in read("group-photos.zip", 13, 8) if min(photo.shape[:2]) > yunet.ROOM]
    assert len(photos) >= 3
    detect = yunet.load(refined=False)
    twice = [detect(photo) for photo in photos]
    monkeypatch.setattr(yunet, "ROOM", 10**6)
    once = [detect(photo) for photo in photos]
    for two, one in zip(twice, once, strict=True):
        sides = (one.boxes[:, 2:] - one.boxes[:, :2]).max(axis=1)
        small = one.boxes[sides < yunet.LARGE / 2]
        assert len(small)
        assert all((two.boxes == box).all(axis=1).any() for box in small)
        assert len(two) <= len(one) + (sides >= yunet.LARGE / 2).sum()


def test_large_and_small_faces_of_one_photo_are_found_together(drawn: list[Rendered]) -> None:
    """A portrait that fills the photo, with a small one in its corner."""
    detect = yunet.load()
    large, at_large = filling(drawn[0], 0.8, 1000)
    small, at_small = filling(drawn[1], 0.6, 120)
    large[:120, :120] = small
    found = detect(large)
    assert apart(found, at_large) < 0.3
    assert apart(found, at_small) < 0.3


def test_a_long_strip_keeps_its_small_faces(drawn: list[Rendered]) -> None:
    """Shrunk to 1024 pixels its faces would be 12 pixels high."""
    face, at = filling(drawn[0], 0.5, 160)
    strip = np.full((200, 5000, 3), 128, np.uint8)
    strip[20:180, 4100:4260] = face
    moved = np.array([4100, 20])
    assert apart(yunet.load()(strip), at + moved) < 0.3
    assert apart(yunet.load()(np.ascontiguousarray(strip.transpose(1, 0, 2)[:, ::-1])), at) > 1  # lies on its side


def test_a_face_cut_by_the_edge_and_a_gray_one(drawn: list[Rendered]) -> None:
    detect = yunet.load()
    pixels, at = filling(drawn[2], 0.7, 300)
    left = round(float(at[0, 0])) - 12  # half a cheek is gone
    cut = pixels[:, left:]
    assert apart(detect(cut), at - np.array([left, 0])) < 0.3
    gray = np.repeat(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[:, :, None], 3, axis=2)
    assert apart(detect(gray), at) < 0.3


# Landmarks


def test_the_refiners_file_is_facenet_pytorchs_network() -> None:
    import onnx
    from onnx import numpy_helper

    ours, again = onnx.load(str(ONET)), onnx.load_from_string(mtcnn_nets.graph("onet", mtcnn_nets.read_weights("onet")))
    assert [node.op_type for node in ours.graph.node] == [node.op_type for node in again.graph.node]
    assert len(ours.graph.initializer) == len(again.graph.initializer) > 20
    for one, two in zip(ours.graph.initializer, again.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(one), numpy_helper.to_array(two))


def test_refined_landmarks_are_nearer_to_the_truth_and_to_mtcnns(drawn: list[Rendered]) -> None:
    raw, refined = yunet.load(refined=False), yunet.load()
    before = [apart(raw(photo.pixels), photo.landmarks) for photo in drawn]
    after = [apart(refined(photo.pixels), photo.landmarks) for photo in drawn]
    assert np.median(after) < np.median(before)
    photos, reference = read("lfw.zip", 500, 14), mtcnn.load()
    errors = []
    for photo in photos:
        at = reference(photo).landmarks[0]
        errors.append((apart(raw(photo), at), apart(refined(photo), at)))
    distance, again = np.median(errors, axis=0)
    assert again < 0.06
    assert again < 0.6 * distance


def test_where_o_net_sees_no_face_the_points_stay() -> None:
    refine = load_refiner()
    photo = np.full((80, 100, 3), 128, np.uint8)
    boxes = np.array(
        [
            [10, 10, 50, 60],  # nothing to see
            [-500, -500, -400, -380],  # beyond the photo
            [-9e6, 0, 9e6, 50],  # a box that would cost gigabytes
            [20, 20, 20, 20],
            [np.nan, 0, 5, 5],
        ],
        np.float32,
    )
    points = np.random.default_rng(0).uniform(0, 80, (5, 5, 2)).astype(np.float32)
    before = points.copy()
    np.testing.assert_array_equal(refine(photo, boxes, points), before)
    np.testing.assert_array_equal(points, before)
    assert refine(photo, boxes[:0], points[:0]).shape == (0, 5, 2)


def test_the_refiner_is_shown_black_beyond_the_edge() -> None:
    photo = np.full((60, 60, 3), 200, np.uint8)
    crop = _pixels(photo, -30, 12, 96)  # two photo pixels to one of the crop
    expected = np.zeros((48, 48), bool)
    expected[:24, 15:45] = True
    np.testing.assert_array_equal(crop[..., 0] == 200, expected)
    np.testing.assert_array_equal(crop[..., 0] == 0, ~expected)


def test_a_face_is_refined_alike_beside_others(drawn: list[Rendered]) -> None:
    """Six faces go through O-Net in two lots; each alone gives the same to a thousandth of a pixel."""
    refine, detect = load_refiner(), yunet.load(refined=False)
    canvas = np.concatenate([filling(photo, 0.6, 150)[0] for photo in drawn[:6]], axis=1)
    faces = detect(canvas)
    assert len(faces) == 6
    together = refine(canvas, faces.boxes, faces.landmarks)
    assert (together != faces.landmarks).any(axis=(1, 2)).sum() >= 5
    for place in range(6):
        alone = refine(canvas, faces.boxes[place : place + 1], faces.landmarks[place : place + 1])[0]
        np.testing.assert_allclose(alone, together[place], atol=1e-3)
