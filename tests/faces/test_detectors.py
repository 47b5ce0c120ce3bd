"""The detectors: one protocol, any photo, and our MTCNN against facenet-pytorch's, step by step and as a whole."""

from __future__ import annotations

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekd.core.types import Array, Faces
from facekd.errors import UserError
from facekd.faces import mtcnn, mtcnn_nets
from facekd.faces.detect import NAMES, Detect, load_detector
from facekd.faces.nms import nms

DATA = Path(__file__).parents[3] / "shared" / "data"
PIXELS = np.random.default_rng(7)


def read(archive: str, every: int, count: int) -> list[Array]:
    """`count` photos of an archive of the data folder, uint8[H, W, 3] RGB."""
    path = DATA / archive
    if not path.exists():
        pytest.skip(f"{path.name} is not at hand")
    with zipfile.ZipFile(path) as file:
        names = sorted(name for name in file.namelist() if name.endswith(".jpg"))[::every][:count]
        found = [cv2.imdecode(np.frombuffer(file.read(name), np.uint8), cv2.IMREAD_COLOR_RGB) for name in names]
    assert len(found) == count
    return found


@pytest.fixture(scope="module")
def lfw() -> list[Array]:
    return read("lfw.zip", 500, 14)


@pytest.fixture(scope="module")
def groups() -> list[Array]:
    return read("group-photos.zip", 60, 2)


@pytest.fixture(scope="module")
def detectors() -> dict[str, Detect]:
    return {name: load_detector(name, threads=1) for name in NAMES}


def overlap(a: Array, b: Array) -> Array:
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    inter = sides.clip(0).prod(axis=2)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(axis=1), (b[:, 2:] - b[:, :2]).prod(axis=1)
    return np.asarray(inter / (area_a[:, None] + area_b - inter))


def same_bits(a: Faces, b: Faces) -> bool:
    pairs = ((a.boxes, b.boxes), (a.scores, b.scores), (a.landmarks, b.landmarks))
    return all(np.array_equal(one, other) for one, other in pairs)


# Suppression


def slow_nms(boxes: Array, scores: Array, threshold: float, over: str, pixel: int) -> list[int]:
    left = sorted(range(len(boxes)), key=lambda index: -scores[index])
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        x1, y1, x2, y2 = boxes[best]
        for other in list(left):
            u1, v1, u2, v2 = boxes[other]
            inter = max(min(x2, u2) - max(x1, u1) + pixel, 0) * max(min(y2, v2) - max(y1, v1) + pixel, 0)
            area, its = (x2 - x1 + pixel) * (y2 - y1 + pixel), (u2 - u1 + pixel) * (v2 - v1 + pixel)
            whole = area + its - inter if over == "union" else min(area, its)
            if whole > 0 and float(inter / whole) > threshold:  # float32 against float64, as torchvision
                left.remove(other)
    return kept


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 4, st.integers(0, 5)), max_size=40),
    st.sampled_from([0.3, 0.5, 0.75]),
    st.sampled_from(["union", "smaller"]),
    st.sampled_from([0, 1]),
)
def test_suppression_is_the_greedy_one(rows: list[tuple[int, ...]], threshold: float, over: str, pixel: int) -> None:
    values = np.array(rows, np.float32).reshape(-1, 5)
    boxes = np.concatenate([values[:, :2], values[:, :2] + values[:, 2:4]], axis=1)
    scores = values[:, 4] / 5
    assert nms(boxes, scores, threshold, over=over, pixel=pixel).tolist() == slow_nms(  # type: ignore[arg-type]
        boxes, scores, threshold, over, pixel
    )


def test_suppression_of_more_boxes_than_a_block() -> None:
    corner = PIXELS.integers(0, 60, (700, 2))
    boxes = np.concatenate([corner, corner + PIXELS.integers(10, 20, (700, 2))], axis=1).astype(np.float32)
    scores = PIXELS.integers(0, 100, 700).astype(np.float32)
    kept = nms(boxes, scores, 0.5).tolist()
    assert 10 < len(kept) < 500
    assert kept == slow_nms(boxes, scores, 0.5, "union", 0)


# Resampling and networks


def area(pixels: Array, shape: tuple[int, int]) -> Array:
    """float32[3, h, w] by torch's area interpolation, which facenet-pytorch uses."""
    import torch

    values = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None].float()
    return np.asarray(torch.nn.functional.interpolate(values, size=shape, mode="area")[0].numpy())


@pytest.mark.parametrize("size", [24, 48])
def test_crops_are_torchs_area_means(size: int) -> None:
    photo = PIXELS.integers(0, 256, (211, 160, 3), dtype=np.uint8)
    corners = np.array([[0, 0, 160, 211], [3, 5, 27, 29], [10, 20, 11, 22], [100, 7, 160, 100], [0, 210, 160, 211]])
    crops = mtcnn._crops(mtcnn._integral(photo), corners, size)
    for crop, (x1, y1, x2, y2) in zip(crops, corners, strict=True):
        np.testing.assert_allclose(crop, area(photo[y1:y2, x1:x2], (size, size)), atol=1e-4)


def test_means_are_right_where_the_integral_image_wraps() -> None:
    photo = np.full((3000, 3000, 3), 255, np.uint8)  # the sum over it is more than 2**31
    crops = mtcnn._crops(mtcnn._integral(photo), np.array([[2900, 2900, 3000, 3000], [0, 0, 3000, 3000]]), 24)
    assert crops.min() == crops.max() == 255


class Recorder:
    """Stands where P-Net does; keeps the pixels that it is given and finds nothing, or what the real one finds."""

    def __init__(self, net: object | None = None) -> None:
        self.net, self.strips = net, []  # type: ignore[var-annotated]

    def run(self, outputs: None, inputs: dict[str, Array]) -> list[Array]:
        self.strips.append(inputs["pixels"])
        if self.net is not None:
            return self.net.run(outputs, inputs)  # type: ignore[attr-defined,no-any-return]
        return [np.full((1, 5, 1, 1), -9, np.float32)]


def test_a_level_is_torchs_area_mean_of_the_photo() -> None:
    photo = PIXELS.integers(0, 256, (120, 171, 3), dtype=np.uint8)
    seen = Recorder()
    mtcnn._level(mtcnn._integral(photo), (73, 103), seen)
    assert len(seen.strips) == 1
    np.testing.assert_allclose(seen.strips[0][0], area(photo, (73, 103)), atol=1e-4)


@pytest.mark.parametrize("shape", [(73, 103), (74, 102), (12, 40), (13, 12), (90, 12), (91, 13)])
def test_strips_find_what_the_whole_level_has(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    sums = mtcnn._integral(PIXELS.integers(0, 256, (150, 180, 3), dtype=np.uint8))
    monkeypatch.setattr(mtcnn, "THRESHOLDS", (1e-6, 0.7, 0.7))  # so that there are many hits to compare
    net = mtcnn_nets.load_net("pnet")
    whole = mtcnn._level(sums, shape, net)
    monkeypatch.setattr(mtcnn, "STRIP_PIXELS", 1)
    seen = Recorder(net)
    strips = mtcnn._level(sums, shape, seen)
    assert len(whole) > 0
    assert (len(seen.strips) > 1) == (shape[0] > 28)
    np.testing.assert_array_equal(strips[:, :2], whole[:, :2])
    np.testing.assert_allclose(strips, whole, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "shape"),
    [("pnet", (1, 3, 12, 12)), ("pnet", (2, 3, 33, 40)), ("rnet", (5, 3, 24, 24)), ("onet", (5, 3, 48, 48))],
)
def test_networks_answer_as_facenet_pytorchs(name: mtcnn_nets.Name, shape: tuple[int, ...]) -> None:
    from facekd.faces.torchvision_cpu import repair

    repair()
    import facenet_pytorch
    import torch

    pixels = PIXELS.integers(0, 256, shape).astype(np.float32)
    reference = {"pnet": facenet_pytorch.PNet, "rnet": facenet_pytorch.RNet, "onet": facenet_pytorch.ONet}[name]()
    with torch.no_grad():
        *others, classes = reference((torch.from_numpy(pixels) - 127.5) * 0.0078125)
    logits, rest = np.split(mtcnn_nets.load_net(name).run(None, {"pixels": pixels})[0], [1], axis=1)
    np.testing.assert_allclose(mtcnn._probability(logits), classes[:, 1:], atol=1e-5)
    np.testing.assert_allclose(rest, np.concatenate([other.numpy() for other in others], axis=1), atol=1e-5)


# The cascade as a whole


@pytest.mark.slow
def test_mtcnn_finds_facenet_pytorchs_faces(
    detectors: dict[str, Detect], lfw: list[Array], groups: list[Array]
) -> None:
    small = cv2.resize(lfw[0], (61, 43))
    beyond = lfw[1][40:, 110:]  # a face cut by the photo's edge
    photos = [*lfw, *groups, small, beyond, np.ascontiguousarray(lfw[2].transpose(1, 0, 2))]
    ours, theirs = detectors["mtcnn"](photos), detectors["facenet"](photos)
    assert sum(map(len, theirs)) > 20
    for mine, reference in zip(ours, theirs, strict=True):
        assert len(mine) == len(reference)
        if len(mine):
            nearest = overlap(reference.boxes, mine.boxes).argmax(axis=1)
            np.testing.assert_allclose(mine.boxes[nearest], reference.boxes, atol=0.02)
            np.testing.assert_allclose(mine.landmarks[nearest], reference.landmarks, atol=0.02)
            np.testing.assert_allclose(mine.scores[nearest], reference.scores, atol=1e-4)


def test_a_smaller_least_face_means_more_faces(groups: list[Array], detectors: dict[str, Detect]) -> None:
    (few,) = load_detector("mtcnn", min_face=60, threads=1)(groups[:1])
    (reference,) = load_detector("facenet", min_face=60, threads=1)(groups[:1])
    (many,) = detectors["mtcnn"](groups[:1])
    assert len(few) == len(reference)
    assert len(few) < len(many)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_photos_faces_are_the_same_bits_in_any_batch(
    name: str, detectors: dict[str, Detect], lfw: list[Array], groups: list[Array]
) -> None:
    detect = detectors[name]
    photos = [*lfw[:4], groups[0], lfw[4][:200, 30:], np.zeros((5, 9, 3), np.uint8)]
    alone = [detect([photo])[0] for photo in photos]
    together = detect(photos)
    backwards = detect(photos[::-1])[::-1]
    assert sum(map(len, alone)) >= 6
    for one, two, three in zip(alone, together, backwards, strict=True):
        assert same_bits(one, two)
        assert same_bits(one, three)


@pytest.mark.parametrize("name", ["mtcnn", "yunet"])
def test_threads_change_no_bit(name: str, detectors: dict[str, Detect], lfw: list[Array]) -> None:
    one = detectors[name](lfw)
    two = load_detector(name, threads=2)(lfw)
    assert all(same_bits(a, b) for a, b in zip(one, two, strict=True))


# Every detector on every photo


def odd_photos() -> dict[str, Array]:
    noise = PIXELS.integers(0, 256, (90, 140, 3), dtype=np.uint8)
    return {
        "one pixel": np.zeros((1, 1, 3), np.uint8),
        "one row": noise[:1],
        "one column": noise[:, :1],
        "narrow and long": np.tile(noise[:22], (1, 20, 1)),
        "long and one pixel high": np.tile(noise[:1], (1, 40, 1)),
        "just one window": noise[:20, :20],
        "noise": noise,
        "gray": np.repeat(noise[:, :, :1], 3, axis=2),
        "black": np.zeros((64, 64, 3), np.uint8),
        "white": np.full((65, 63, 3), 255, np.uint8),
        "every other pixel": noise[::2, ::2],
        "backwards": noise[::-1, ::-1, ::-1],
        "Fortran order": np.asfortranarray(noise),
        "read-only": np.frombuffer(noise.tobytes(), np.uint8).reshape(noise.shape),
    }


@pytest.mark.parametrize("kind", odd_photos())
@pytest.mark.parametrize("name", NAMES)
def test_odd_photos_are_answered(name: str, kind: str, detectors: dict[str, Detect]) -> None:
    photo = odd_photos()[kind]
    before = photo.copy()
    (faces,) = detectors[name]([photo])
    assert np.isfinite(faces.boxes).all()
    assert faces.boxes.dtype == faces.scores.dtype == faces.landmarks.dtype == np.float32
    assert np.array_equal(photo, before)


@pytest.mark.parametrize("name", NAMES)
def test_no_photo_gives_no_answer(name: str, detectors: dict[str, Detect]) -> None:
    assert detectors[name]([]) == []


@pytest.mark.parametrize("name", NAMES)
def test_landmarks_come_in_the_order_of_faces(name: str, detectors: dict[str, Detect], lfw: list[Array]) -> None:
    found = detectors[name](lfw)
    points = np.stack([faces.landmarks[(faces.boxes[:, 2] - faces.boxes[:, 0]).argmax()] for faces in found])
    x, y = np.median(points, axis=0).T
    assert x[0] < x[2] < x[1]  # eyes, with the nose between
    assert x[3] < x[2] < x[4]  # corners of the mouth
    assert max(y[0], y[1]) < y[2] < min(y[3], y[4])
    assert all(((faces.scores >= 0) & (faces.scores <= 1)).all() for faces in found)


def test_yunet_finds_the_face_of_an_enlarged_photo(detectors: dict[str, Detect], lfw: list[Array]) -> None:
    small, large = detectors["yunet"]([lfw[0], cv2.resize(lfw[0], (2500, 2500), interpolation=cv2.INTER_CUBIC)])
    best = overlap(small.boxes[:1] * 10, large.boxes)
    assert best.max() > 0.7


def test_yunet_drops_faces_under_the_least_size(lfw: list[Array]) -> None:
    every = load_detector("yunet", threads=1)(lfw)
    large = load_detector("yunet", threads=1, min_face=90)(lfw)
    for all_of_them, few in zip(every, large, strict=True):
        assert len(few) == ((all_of_them.boxes[:, 2:] - all_of_them.boxes[:, :2]).max(axis=1) >= 90).sum()
    assert 0 < sum(map(len, large)) < sum(map(len, every))


def test_mistakes_are_answered_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'mtcnn'"):
        load_detector("mtcn")
    with pytest.raises(UserError, match="no such file"):
        load_detector("yunet", weights=tmp_path / "none.onnx")
    (tmp_path / "bad.onnx").write_bytes(b"no network")
    with pytest.raises(UserError, match="not a YuNet"):
        load_detector("yunet", weights=tmp_path / "bad.onnx")
    with pytest.raises(UserError, match="carries its own weights"):
        load_detector("mtcnn", weights=tmp_path / "bad.onnx")
    with pytest.raises(UserError, match="pixels"):
        load_detector("mtcnn", min_face=0)
