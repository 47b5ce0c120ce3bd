"""Crops to network input: known answers, a slow twin, refusals; stored crops."""

from __future__ import annotations

import warnings

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekd.core.contract import Contract
from facekd.core.pixels import decode_crop, encode_crop, to_input, unit
from facekd.errors import UserError


def slow_input(crops, contract):
    """Pixel by pixel, in Python floats."""
    b, s = len(crops), contract.size
    out = np.empty((b, 3, s, s) if contract.layout == "NCHW" else (b, s, s, 3))
    for i in range(b):
        for y in range(s):
            for x in range(s):
                red, green, blue = (int(v) for v in crops[i, y, x])
                for c, value in enumerate((red, green, blue) if contract.channels == "RGB" else (blue, green, red)):
                    place = (i, c, y, x) if contract.layout == "NCHW" else (i, y, x, c)
                    out[place] = (value - contract.mean[c]) / contract.std[c]
    return out


def random_crops(n: int, size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def test_known_answers() -> None:
    crops = np.zeros((1, 16, 16, 3), np.uint8)
    crops[0, 3, 5] = (255, 51, 0)  # red 255, green 51, blue 0
    usual = Contract(dim=8, size=16)
    assert to_input(crops, usual)[0, :, 3, 5] == pytest.approx([1, -0.6, -1])
    assert to_input(crops, usual).shape == (1, 3, 16, 16)
    # The mean belongs to the channels in the network's order.
    bgr = Contract(dim=8, size=16, channels="BGR", mean=(1, 2, 3), std=(2, 7, 4), layout="NHWC")
    assert to_input(crops, bgr)[0, 3, 5] == pytest.approx([-0.5, 7, 63])
    imagenet = Contract(dim=8, size=16, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    expected = [(255 / 255 - 0.485) / 0.229, (51 / 255 - 0.456) / 0.224, (0 - 0.406) / 0.225]
    assert to_input(crops, imagenet)[0, :, 3, 5] == pytest.approx(expected, rel=1e-6)


@given(
    channels=st.sampled_from(["RGB", "BGR"]),
    layout=st.sampled_from(["NCHW", "NHWC"]),
    mean=st.one_of(st.just((0.0, 0.0, 0.0)), st.tuples(*[st.floats(1.5, 255)] * 3)),
    std=st.tuples(*[st.floats(1, 255)] * 3),
    seed=st.integers(0, 99),
)
def test_equals_a_slow_twin(channels, layout, mean, std, seed) -> None:
    contract = Contract(dim=8, size=16, channels=channels, layout=layout, mean=mean, std=std)
    crops = random_crops(2, 16, seed)
    before = crops.copy()
    values = to_input(crops, contract)
    assert values.dtype == np.float32
    assert values.flags.c_contiguous
    np.testing.assert_allclose(values, slow_input(crops, contract), rtol=1e-5, atol=1e-4)
    assert (crops == before).all()


def test_no_crop_gives_no_input() -> None:
    assert to_input(random_crops(0, 112), Contract(dim=8)).shape == (0, 3, 112, 112)


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [
        ((1, 96, 96, 3), r"takes \(112, 112, 3\): align them at 112 pixels"),
        ((112, 112, 3), r"for one crop give crop\[None\]"),
        ((3, 112, 112), r"give crop.transpose\(1, 2, 0\)\[None\]"),
        ((1, 112, 112), "gray crops have to have three equal channels"),
        ((1, 112, 112, 1), "gray crops have to have three equal channels"),
        ((1, 3, 112, 112), r"channels come last: give crops.transpose\(0, 2, 3, 1\)"),
        ((1, 112, 112, 4), r"give crops\[\.\.\., :3\]"),
        ((7,), "reshape the array"),
        ((1, 1, 112, 112, 3), "reshape the array"),
    ],
)
def test_crops_of_another_shape_are_refused(shape: tuple[int, ...], remedy: str) -> None:
    with pytest.raises(UserError, match=remedy):
        to_input(np.zeros(shape, np.uint8), Contract(dim=8))


def test_crops_of_another_template_are_refused() -> None:
    with pytest.raises(UserError, match="'eyes' for a model that takes 'arcface'"):
        to_input(random_crops(1, 112), Contract(dim=8), template="eyes")


@pytest.mark.parametrize("kind", ["float32", "float64", "int64", "bool"])
def test_crops_that_are_no_bytes_are_refused(kind: str) -> None:
    with pytest.raises(
        UserError, match=f"crops of type {kind}: uint8 RGB crops of shape .* are needed, pixels 0 to 255"
    ):
        to_input(random_crops(1, 112).astype(kind), Contract(dim=8))


def test_unit() -> None:
    vectors = np.array([[3, 4], [0, 0], [1e-20, 0]])
    np.testing.assert_allclose(unit(vectors), [[0.6, 0.8], [0, 0], [1, 0]])
    assert unit(vectors).dtype == np.float32
    assert np.isnan(unit(np.array([[np.nan, 1.0]]))).any()  # never hidden
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what has no direction is told by Embeddings, not by NumPy
        for row in ([np.inf, 1], [3e38, 3e38], [1e-38, 0]):
            assert not abs(np.linalg.norm(unit(np.array([row], np.float32))) - 1) < 1e-3


def test_a_stored_crop_comes_back_almost_unchanged() -> None:
    y, x = np.mgrid[:112, :112]
    smooth = np.stack([x * 2, y * 2, (x + y)], axis=-1).astype(np.uint8)
    again = decode_crop(encode_crop(smooth))
    assert again.shape == (112, 112, 3)
    assert np.abs(again.astype(int) - smooth).mean() < 1
    red = np.zeros((112, 112, 3), np.uint8)
    red[..., 0] = 200
    assert decode_crop(encode_crop(red)).reshape(-1, 3).mean(axis=0) == pytest.approx([200, 0, 0], abs=2)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".jpg"])
def test_crops_of_other_stores_are_read_as_rgb(suffix: str) -> None:
    blue = np.full((64, 64, 3), (250, 20, 10), np.uint8)  # BGR, as OpenCV writes
    pixels = decode_crop(cv2.imencode(suffix, blue)[1].tobytes())
    assert pixels.reshape(-1, 3).mean(axis=0) == pytest.approx([10, 20, 250], abs=4)


@pytest.mark.parametrize("data", [b"", b"no image", b"\xff\xd8\xff\xe0 half a header"])
def test_a_damaged_crop_is_refused(data: bytes) -> None:
    with pytest.raises(UserError, match="no readable image"):
        decode_crop(data)
