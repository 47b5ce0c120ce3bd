"""How much detail a crop holds: known answers, an independent sum over the spectrum, and what spoils a photo."""

from __future__ import annotations

import cmath
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekd.core.types import Array
from facekd.faces.detail import detail

LIMIT = 4.0


def textured(seed: int = 0, size: int = 112) -> Array:
    """uint8[S, S, 3] with a spectrum as photos have it: amplitudes fall as 1 / frequency."""
    rng = np.random.default_rng(seed)
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)) * size
    spectrum = np.fft.fft2(rng.normal(size=(size, size))) / np.maximum(radius, 1)
    levels = np.fft.ifft2(spectrum).real
    levels = np.clip(128 + 45 * (levels - levels.mean()) / levels.std(), 0, 255).astype(np.uint8)
    return np.repeat(levels[..., None], 3, axis=2)


def blown_up(pixels: Array, side: int) -> Array:
    small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, pixels.shape[:2], interpolation=cv2.INTER_CUBIC))


def smeared(pixels: Array, length: int, turned: float) -> Array:
    line = np.zeros((length, length), np.float32)
    line[length // 2] = 1
    middle = ((length - 1) / 2,) * 2
    kernel = cv2.warpAffine(line, cv2.getRotationMatrix2D(middle, turned, 1), (length, length))
    return np.asarray(cv2.filter2D(pixels, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT))


def slow_detail(pixels: Array) -> float:
    """The definition, coefficient by coefficient, on the whole plane of frequencies."""
    gray = np.rint(pixels @ np.array([0.299, 0.587, 0.114]))[30:110, 16:96]
    taper = np.array([math.sin(math.pi * (k + 0.5) / 80) ** 2 for k in range(80)])
    window = taper[:, None] * taper
    gray = gray - (gray * window).sum() / window.sum()
    wave = np.array([[cmath.exp(-2j * math.pi * u * k / 80) for k in range(80)] for u in range(80)])
    power = np.abs(wave @ (gray * window) @ wave.T) ** 2 / (window**2).sum()
    bands: dict[object, list[float]] = {}
    for u in range(80):
        for v in range(80):
            down, right = ((k if k < 40 else k - 80) * 1.4 for k in (u, v))  # cycles over 112 pixels
            radius = round(math.hypot(down, right), 9)
            if 4 <= radius < 14:
                bands.setdefault("coarse", []).append(power[u, v])
            elif 16 <= radius < 28:
                sector = round(math.degrees(math.atan2(down, right)) / 45) % 4
                bands.setdefault(sector, []).append(power[u, v])
            elif radius >= 44:
                bands.setdefault("noise", []).append(power[u, v])
    mean = {name: sum(values) / len(values) for name, values in bands.items()}
    fine = max(min(mean[sector] for sector in range(4)) - mean["noise"], 0)
    return 100 * math.sqrt(fine / (max(mean["coarse"] - mean["noise"], 0) + 16))


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_sum_over_the_spectrum(seed: int) -> None:
    assert detail(textured(seed)) == pytest.approx(slow_detail(textured(seed)), rel=1e-9)


def test_a_blank_crop_has_none() -> None:
    for level in (0, 90, 255):
        assert detail(np.full((112, 112, 3), level, np.uint8)) == 0
    ramp = np.repeat(np.linspace(0, 255, 112).astype(np.uint8)[None, :, None], 112, axis=0).repeat(3, axis=2)
    assert (detail(ramp) or 0.0) < 1


@given(st.integers(0, 10_000), st.floats(0.3, 1.0), st.integers(-20, 20))
def test_light_and_contrast_have_no_say(seed: int, contrast: float, brightness: int) -> None:
    sharp = textured(seed)
    other = np.clip(np.rint(128 + brightness + contrast * (sharp.astype(float) - 128)), 0, 255).astype(np.uint8)
    assert detail(other) == pytest.approx(detail(sharp), rel=0.15)


@given(st.integers(0, 10_000), st.floats(0, 180))
def test_what_spoils_a_photo_lowers_it(seed: int, turned: float) -> None:
    sharp = textured(seed)
    good = detail(sharp)
    assert good is not None
    assert good > 2 * LIMIT
    levels = [detail(blown_up(sharp, side)) or 0.0 for side in (18, 32, 56)]
    assert levels == sorted(levels)
    assert levels[0] < LIMIT
    assert levels[2] > 0.6 * good
    assert (detail(smeared(sharp, 11, turned)) or 0.0) < 0.6 * good
    noise = np.random.default_rng(seed).normal(0, 6, sharp.shape)
    assert (detail(np.clip(np.rint(blown_up(sharp, 18) + noise), 0, 255).astype(np.uint8)) or 0.0) < 2 * LIMIT


def test_crops_of_other_sizes() -> None:
    sharp = textured(3)
    large = cv2.resize(sharp, (224, 224), interpolation=cv2.INTER_CUBIC)
    assert detail(large) == pytest.approx(detail(sharp), rel=0.1)
    assert detail(sharp[:79, :79]) is None
