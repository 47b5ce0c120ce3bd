"""How much detail a crop holds: whether the photo it was cut from was sharp, or blown up, smeared or blank."""

from __future__ import annotations

import math

import cv2
import numpy as np

from facekd.core.types import Array

SIZE = 112  # px; larger crops are reduced to it
LEAST = 80  # px; smaller crops can't hold what is looked for
FACE = slice(30, 110), slice(16, 96)  # rows and columns from brows to chin: no edge of the photo, little background
COARSE, FINE = (4, 14), (16, 28)  # cycles over the width of the crop: features of a face, and what sharpens them
NOISE = 44  # cycles, from which on there is little but noise, which is as strong in the finer bands
DIRECTIONS = 4  # a smear leaves the detail across it
LITTLE = 16.0  # squared gray levels, beside which what a blank crop holds is nothing


def _bands() -> tuple[Array, Array]:
    """The taper of the face, and which coefficients of its spectrum are averaged: coarse, noise, fine by direction."""
    side = FACE[0].stop - FACE[0].start
    taper = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    down, right = np.fft.fftfreq(side)[:, None] * SIZE, np.fft.rfftfreq(side)[None] * SIZE  # cycles
    radius, angle = np.hypot(down, right).round(9), np.arctan2(down, right)
    direction = np.rint(angle / math.pi * DIRECTIONS).astype(int) % DIRECTIONS
    fine = (radius >= FINE[0]) & (radius < FINE[1])
    bands = [(radius >= COARSE[0]) & (radius < COARSE[1]), radius >= NOISE]
    bands += [fine & (direction == one) for one in range(DIRECTIONS)]
    twice = np.where((right == 0) | (right == SIZE / 2), 1.0, 2.0)  # the half that a real spectrum leaves out
    weights = np.stack([(band * twice).ravel() for band in bands])
    return np.outer(taper, taper), weights / weights.sum(axis=1, keepdims=True)


_TAPER, _WEIGHTS = _bands()


def detail(pixels: Array) -> float | None:
    """Strength of a face's fine structure (16 to 28 cycles over the crop) in percent of its coarse one (4 to 14).

    The amplitudes are of the gray image's spectrum, the fine ones those of the direction that has least of them, both
    less the noise. A sharp photo has 9 to 19, whatever its light and contrast; one of 22 pixels to the crop's width,
    blown up, has under 4, and a blank one 0.

    Args:
        pixels: uint8[S, S, 3], RGB, a face on the arcface template.

    Returns:
        In [0, inf); None for a crop of under 80 pixels, which can't hold such detail.

    The bands, the place and the gate's limit were chosen by benchmarks/quality.py, which has the measures they beat.
    """
    if len(pixels) < LEAST:
        return None
    gray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if len(gray) != SIZE:
        gray = cv2.resize(gray, (SIZE, SIZE), interpolation=cv2.INTER_AREA if len(gray) > SIZE else cv2.INTER_CUBIC)
    face = gray[FACE].astype(np.float64)
    face -= (face * _TAPER).sum() / _TAPER.sum()
    power = np.abs(np.fft.rfft2(face * _TAPER)) ** 2 / (_TAPER**2).sum()
    coarse, noise, *fine = (_WEIGHTS @ power.ravel()).tolist()
    return 100 * math.sqrt(max(min(fine) - noise, 0.0) / (max(coarse - noise, 0.0) + LITTLE))
