"""What quality.py compares: ways to spoil a photo, measures of a crop, embeddings kept, and the picture."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from facekd.console import progress
from facekd.core.files import atomic_write
from facekd.core.pixels import to_input, unit
from facekd.core.types import Array
from facekd.crops.cropset import CropSet
from facekd.deploy.embedder import CropEmbedder
from facekd.faces.align import sharpness
from facekd.faces.detail import detail
from facekd.reports.axes import legend, styled
from facekd.reports.svg import render

CROPS = 256  # embedded together
PHOTOS = 12  # of a person whose pairs count
IMPOSTORS = 400_000  # pairs of strangers that are drawn


def jpeg(pixels: Array, quality: int = 90) -> Array:
    """The crop after a JPEG file."""
    _, data = cv2.imencode(".jpg", pixels, (cv2.IMWRITE_JPEG_QUALITY, quality))
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def blown_up(side: int) -> Callable[[Array, np.random.Generator], Array]:
    """The crop from a photo in which it was `side` pixels wide."""

    def spoil(crop: Array, rng: np.random.Generator) -> Array:
        del rng
        small = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA)
        return jpeg(cv2.resize(small, crop.shape[:2], interpolation=cv2.INTER_CUBIC), 85)

    return spoil


def blurred(sigma: float) -> Callable[[Array, np.random.Generator], Array]:
    """Out of focus by a Gaussian of so many pixels of the crop."""
    return lambda crop, rng: jpeg(cv2.GaussianBlur(crop, (0, 0), sigma))


def smeared(length: int) -> Callable[[Array, np.random.Generator], Array]:
    """Moved by so many pixels of the crop, in some direction."""

    def spoil(crop: Array, rng: np.random.Generator) -> Array:
        line = np.zeros((length, length), np.float32)
        line[length // 2] = 1
        middle = (length - 1) / 2
        turn = cv2.getRotationMatrix2D((middle, middle), float(rng.uniform(0, 180)), 1)
        kernel = cv2.warpAffine(line, turn, (length, length))
        return jpeg(cv2.filter2D(crop, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT))

    return spoil


def noisy(spoil: Callable[[Array, np.random.Generator], Array], sigma: float) -> Callable[..., Array]:
    """With noise of so many gray levels in each channel afterwards."""
    return lambda crop, rng: np.clip(np.rint(spoil(crop, rng) + rng.normal(0, sigma, crop.shape)), 0, 255).astype(
        np.uint8
    )


SPOILED: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    **{f"blown up from {side} px": blown_up(side) for side in (18, 22, 26, 32, 40, 48, 64, 80)},
    **{f"blurred by {sigma:g} px": blurred(sigma) for sigma in (1, 1.5, 2, 3)},
    **{f"smeared over {length} px": smeared(length) for length in (7, 11, 15)},
    "blown up from 22 px, noise 6": noisy(blown_up(22), 6.0),
    "JPEG of quality 10": lambda crop, rng: jpeg(crop, 10),
    "a quarter of the light": lambda crop, rng: (crop * 0.25).astype(np.uint8),
}


def gray(pixels: Array) -> Array:
    """float32[S, S]."""
    return cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)


def sharpness_by_contrast(pixels: Array) -> float:
    """Deviation of the Laplacian by that of the gray levels."""
    return sharpness(pixels) / (float(gray(pixels).std()) + 1)


def lost_at(side: int) -> Callable[[Array], float]:
    """What a crop loses when it is reduced to `side` pixels and blown up again, by its contrast."""

    def measure(pixels: Array) -> float:
        levels = gray(pixels)
        small = cv2.resize(levels, (side, side), interpolation=cv2.INTER_AREA)
        again = cv2.resize(small, levels.shape, interpolation=cv2.INTER_CUBIC)
        return float((levels - again).std() / (levels.std() + 1))

    return measure


def unblurred(pixels: Array) -> float:
    """What the gradients lose by a blur of 9 pixels, by the worse axis.

    Source: F. Crété-Roffet et al., "The blur effect: perception and estimation with a new no-reference perceptual blur
    metric", Human Vision and Electronic Imaging 2007.
    """
    levels = gray(pixels)
    kept = []
    for axis, kernel in ((0, (1, 9)), (1, (9, 1))):
        before = np.abs(np.diff(levels, axis=axis))
        after = np.abs(np.diff(cv2.blur(levels, kernel), axis=axis))
        kept.append(np.maximum(0, before - after).sum() / (before.sum() + 1e-6))
    return float(min(kept))


MEASURES: dict[str, Callable[[Array], float | None]] = {
    "detail": detail,
    "sharpness": sharpness,
    "sharpness by contrast": sharpness_by_contrast,
    "loss by halving": lost_at(56),
    "loss at 40 px": lost_at(40),
    "Crété's blur": unblurred,
}


def embedded(name: str, crops: CropSet | Array, places: Array, embedder: CropEmbedder) -> Array:
    """float32[n, D], unit norm, of some crops; kept in `embedded.folder` by the model, the set and the places."""
    key = hashlib.sha256(places.astype(np.int64).tobytes()).hexdigest()[:12]
    path: Path = embedded.folder / f"{name}-{embedder.model_id}-{key}.npy"  # type: ignore[attr-defined]
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = [places[start : start + CROPS] for start in range(0, len(places), CROPS)]
        of = crops.batch if isinstance(crops, CropSet) else crops.__getitem__
        found = [embedder.embed(of(part)) for part in progress(parts, len(parts), f"{name}, {embedder.model_id}")]
        with atomic_write(path) as file:
            np.save(file, np.concatenate(found))
    return np.load(path)


def by_network(name: str, crops: CropSet, places: Array, embedder: CropEmbedder) -> dict[str, Array]:
    """What a network itself says of crops: the length of the embedding, and its likeness to the mirrored crop's."""
    lengths, alike = [], []
    for start in progress(range(0, len(places), CROPS), len(places) // CROPS + 1, f"{name}, mirrored"):
        pixels = crops.batch(places[start : start + CROPS])
        ways = [embedder.network.step(to_input(way, embedder.contract)) for way in (pixels, pixels[:, :, ::-1])]
        lengths.append(np.linalg.norm(ways[0], axis=1))
        alike.append(np.einsum("ij,ij->i", *(unit(way) for way in ways)))
    return {"length of the embedding": np.concatenate(lengths), "likeness to the mirror": np.concatenate(alike)}


def pairs_of(people: Array, seed: int) -> tuple[Array, Array, Array]:
    """Places of the two photos of each pair, and whether they show one person.

    All pairs of each person's first PHOTOS photos, and some IMPOSTORS pairs of strangers.
    """
    rng = np.random.default_rng(seed)
    left, right = [], []
    order = np.argsort(people, kind="stable")
    for own in np.split(order, np.flatnonzero(people[order][1:] != people[order][:-1]) + 1):
        one, other = np.triu_indices(min(len(own), PHOTOS), 1)
        left.append(own[one])
        right.append(own[other])
    genuine = sum(map(len, left))
    drawn = rng.integers(0, len(people), (2, IMPOSTORS))
    strangers = drawn[:, people[drawn[0]] != people[drawn[1]]]
    same = np.arange(genuine + strangers.shape[1]) < genuine
    return np.concatenate([*left, strangers[0]]), np.concatenate([*right, strangers[1]]), same


def picture(result: Mapping[str, Any]) -> str:
    """FNMR of the default network against the share of pairs rejected, by each measure."""
    shown = {
        "LFW with spoiled photos, default": "LFW's pairs and those of a spoiled photo with a good one",
        "CelebA, held-out people, default": "CelebA, held-out people, photos as they are",
        "LFW, default": "LFW, photos as they are",
    }
    names = [name for name, one in result["CelebA, held-out people, default"].items() if isinstance(one, list)]
    looks = {name: (color, dash) for (name, _), color, dash in styled(dict.fromkeys(names))}

    def draw(figure: Figure) -> None:
        for axes, (part, title) in zip(figure.subplots(3, 1), shown.items(), strict=True):
            for name, rows in result[part].items():
                if isinstance(rows, list):
                    color, dash = looks[name]
                    x, y = [one["rejected"] for one in rows], [one["fnmr"] for one in rows]
                    axes.plot(x, y, color=color, linestyle=dash, linewidth=2.2 if name == "detail" else 1.1)
            axes.set_title(title, loc="left", fontsize=12)
            axes.set_ylim(bottom=0)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
            axes.set_ylabel("pairs missed (FNMR)")
        axes.set_xlabel("pairs rejected, those of the worst photos first")
        handles = [axes.plot([], [], color=color, linestyle=dash)[0] for color, dash in looks.values()]
        legend(figure, list(looks), handles)

    text = "Pairs of one person missed against pairs rejected, by each measure of quality, with the default network."
    return render(draw, text, (560.0, 860.0))
