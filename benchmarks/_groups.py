"""What groups.py measures on: its sets of crops, their embeddings kept by model, and pairs counted by cell.

A cell holds the people of one age band and group, or of one sex and age band. Every crop of a set shows another person,
as far as is known, so of `n` people there are ``n (n - 1) / 2`` pairs and each is an impostor pair.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from _celeba import held_out_identities, of_people, read_celeba, write_set

from facekd.commands.align import align
from facekd.commands.export import export
from facekd.console import progress
from facekd.core.files import atomic_write, write_text
from facekd.crops.cropset import CropSet
from facekd.crops.read import read_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.rates.intervals import wilson_by_person
from facekd.rates.thresholds import far_interval_by_person

BANDS = ("0-2", "3-9", "10-19", "20-29", "30-39", "40-49", "50-59", "60-69", "70+")
ADULT = BANDS[3:]
GROUPS = ("White", "Latino_Hispanic", "Middle Eastern", "Indian", "East Asian", "Southeast Asian", "Black")
OLDEST = {"more than 70": "70+"}  # FairFace's own name of the last band
SEED = 0
CROPS = 256  # embedded together
ROWS = 512  # of the scores that are looked at together
BIN = 1e-4  # of the histogram of scores that a threshold is taken from
REPEATS = Path(__file__).parent / "fairface_repeats.txt"  # written by _groups_repeats.py
YUNET = "face_detection_yunet_2023mar.onnx"


@dataclass(frozen=True, slots=True)
class People:
    """A set of crops, and of each what is known of whom it shows."""

    name: str
    crops: CropSet
    places: np.ndarray  # int64[N], the crops of the set that are used, in order
    labels: dict[str, np.ndarray]  # str[N] each: age, group, sex, person; and bool[N] again, shown before


def men(data: Path, per_cell: int) -> People:
    """FairFace's men, at most `per_cell` of each age band and group, drawn by SEED; `again`: who was shown before."""
    table = pq.read_table(data / "crops" / "fairface_groups.parquet")
    age = np.array([OLDEST.get(band, band) for band in table["age"].to_pylist()])
    group = np.array(table["group"].to_pylist())
    order = np.random.default_rng(SEED).permutation(len(age))
    chosen = [order[(age[order] == band) & (group[order] == one)][:per_cell] for band in BANDS for one in GROUPS]
    places = np.sort(np.concatenate(chosen))
    crops = read_crops(data / "crops" / "fairface.parquet")
    assert list(crops.sources) == table["path"].to_pylist(), "labels of other crops"
    known = set(REPEATS.read_text(encoding="utf-8").split("\n")) if REPEATS.exists() else set()
    again = np.array([crops.sources[place] in known for place in places])
    return People(f"men-{per_cell}", crops, places, {"age": age[places], "group": group[places], "again": again})


def both(data: Path) -> People:
    """FairFace's women and men, 30 of each sex and age band."""
    path = data / "crops" / "fairface_both.parquet"
    table = pq.read_table(path, columns=["sex", "age"])
    labels = {"age": np.array(table["age"].to_pylist()), "sex": np.array(table["sex"].to_pylist())}
    return People("both", read_crops(path), np.arange(len(table)), labels)


def held_out(data: Path, work: Path) -> People:
    """The held-out people of CelebA."""
    path = work / "held_out.parquet"
    if not path.exists():
        write_set(of_people(read_celeba(data), held_out_identities()), path)
    crops = read_crops(path)
    return People("held_out", crops, np.arange(len(crops)), {"person": np.array(crops.identities)})


def lfw(data: Path, work: Path, sexes: Path | None) -> People | None:
    """The LFW photos of `data` whose sex a list says; None without lists.

    Args:
        sexes: a folder with ``female_names.txt`` and ``male_names.txt``, a photo's file name on each line.
    """
    if sexes is None:
        return None
    store, done = work / "lfw", work / "lfw.done"
    if not done.exists():
        align(data / "lfw.zip", store, detector="yunet", weights=data / "weights" / YUNET)
        write_text(done, "")
    said: dict[str, set[str]] = {}  # sexes said of a person's photos
    for sex in ("female", "male"):
        for line in (sexes / f"{sex}_names.txt").read_text(encoding="utf-8").split():
            said.setdefault(line.removesuffix(".jpg").rsplit("_", 1)[0], set()).add(sex)
    crops = read_crops(store)
    found = [said.get(str(name), set()) for name in crops.identities]
    places = np.array([place for place, sex in enumerate(found) if len(sex) == 1])
    labels = {
        "person": np.array([crops.identities[place] for place in places]),
        "sex": np.array([next(iter(found[place])) for place in places]),
    }
    return People("lfw", crops, places, labels)


def quick_form(model: Path, contract: Path | None, work: Path) -> CropEmbedder:
    """The same model, written as `export` does: the same id and embeddings, computed faster."""
    path = work / "exported" / model.name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        export(model, path, contract=contract, quiet=True)
    return CropEmbedder.load(path)


def embedded(people: People, embedder: CropEmbedder, work: Path) -> np.ndarray:
    """float32[N, D], unit norm, of the people of a set; kept in WORK by the model's id."""
    path = work / "embeddings" / f"{people.name}-{embedder.model_id}.npz"
    if path.exists():
        with np.load(path) as kept:
            if np.array_equal(kept["places"], people.places):
                return np.asarray(kept["vectors"])
    aside = path.with_suffix(".parts")  # what a killed run has embedded is kept
    parts = [people.places[start : start + CROPS] for start in range(0, len(people.places), CROPS)]
    label = f"{people.name}, model {embedder.model_id}"
    found = []
    for number, part in enumerate(progress(parts, len(parts), label)):
        piece = aside / f"{len(people.places)}-{number}.npy"
        if not piece.exists():
            with atomic_write(piece) as file:
                np.save(file, embedder.embed(people.crops.batch(part)))
        found.append(np.load(piece))
    vectors = np.concatenate(found)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3), "a crop has no embedding"
    with atomic_write(path) as file:
        np.savez(file, places=people.places, vectors=vectors)
    shutil.rmtree(aside)
    return vectors


def cells_of(labels: Mapping[str, np.ndarray], *asked: str) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """int64[N], the cell of each person, and each cell's labels."""
    names = list(zip(*(labels[name].tolist() for name in asked), strict=True))
    cells = sorted(set(names))
    number = {cell: place for place, cell in enumerate(cells)}
    return np.array([number[name] for name in names]), cells


def men_thresholds(vectors: np.ndarray, fmrs: Sequence[float]) -> list[float]:
    """For each of `fmrs` the lowest multiple of BIN that at most this share of all pairs of rows reaches."""
    counts = np.zeros(math.ceil(2 / BIN) + 2, np.int64)
    for start in range(0, len(vectors), ROWS):
        block = vectors[start : start + ROWS] @ vectors.T
        block[np.arange(len(block)), start + np.arange(len(block))] = -1
        counts += np.bincount(((block.ravel() + 1) / BIN).astype(np.int32).clip(0), minlength=len(counts))
    counts[0] -= len(vectors)  # each with itself
    reached = counts[::-1].cumsum()[::-1] / (len(vectors) * (len(vectors) - 1))
    return [round(float(np.argmax(reached <= fmr)) * BIN - 1, 4) for fmr in fmrs]


def hits_by_cell(vectors: np.ndarray, cell: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """int32[T, N, C]: how many others of each cell score at least each threshold with each person."""
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], np.arange(cell.max() + 1))
    found = np.zeros((len(thresholds), len(vectors), len(starts)), np.int32)
    sorted_vectors = vectors[order]
    for start in range(0, len(vectors), ROWS):
        block = sorted_vectors[start : start + ROWS] @ sorted_vectors.T
        block[np.arange(len(block)), start + np.arange(len(block))] = -np.inf
        for number, threshold in enumerate(thresholds):
            reached = (block >= np.float32(threshold)).view(np.uint8)
            rows = order[start : start + ROWS]
            found[number, rows] = np.add.reduceat(reached, starts, axis=1, dtype=np.int32)
    return found


def fmr_among(hits: np.ndarray, cell: np.ndarray, counted: np.ndarray) -> dict[str, Any]:
    """The share of pairs that reach a threshold, with its 95 % interval over people, the threshold taken as given.

    Args:
        hits: int[N, C], of `hits_by_cell`.
        counted: bool[C, C], symmetric: the pairs of which two cells count.
    """
    sizes = np.bincount(cell, minlength=len(counted))
    pairs = (counted @ sizes - np.diag(counted))[cell].astype(np.float64)
    reached = (hits * counted[cell]).sum(axis=1).astype(np.float64)
    low, high = far_interval_by_person(reached[pairs > 0], pairs[pairs > 0])
    return {
        "fmr": float(reached.sum() / pairs.sum()),
        "low": low,
        "high": high,
        "pairs": int(pairs.sum() / 2),
        "people": int((pairs > 0).sum()),
    }


def within(chosen: Sequence[bool]) -> np.ndarray:
    """bool[C, C]: pairs of two people of the chosen cells."""
    return np.outer(chosen, chosen)


def across(left: Sequence[bool], right: Sequence[bool]) -> np.ndarray:
    """bool[C, C]: pairs of one person of the left cells and one of the right ones."""
    return np.outer(left, right) | np.outer(right, left)


def lfw_rates(people: People, vectors: np.ndarray, threshold: float) -> dict[str, Any]:
    """TAR and FMR of each sex over all pairs of photos, and FMR between the sexes, at one threshold."""
    order = np.lexsort((people.labels["person"], people.labels["sex"]))
    vectors, sex = vectors[order], people.labels["sex"][order]
    _, first, photos = np.unique(people.labels["person"][order], return_index=True, return_counts=True)
    by_place = np.argsort(first)
    starts, photos, person_sex = first[by_place], photos[by_place], sex[np.sort(first)]
    rows = []
    for start in range(0, len(vectors), ROWS):
        reached = (vectors[start : start + ROWS] @ vectors.T >= np.float32(threshold)).view(np.uint8)
        rows.append(np.add.reduceat(reached, starts, axis=1, dtype=np.int32))
    hits = np.add.reduceat(np.concatenate(rows), starts, axis=0)  # int32[P, P]: of each couple of people
    genuine = (np.diag(hits) - photos) // 2
    hits[np.diag_indices(len(hits))] = 0
    result: dict[str, Any] = {}
    for name, left, right in (("female", "female", "female"), ("male", "male", "male"), ("both", "female", "male")):
        a, b = person_sex == left, person_sex == right
        part, sizes = hits[np.ix_(a, b)].astype(np.float64), np.outer(photos[a], photos[b]).astype(np.float64)
        if left == right:
            sizes[np.diag_indices(len(sizes))] = 0
        share = part.sum() / sizes.sum()
        halves = 2 if left == right else 1  # a couple stands in the table twice
        couples = float(((part - share * sizes) ** 2).sum()) / halves
        if left == right:
            reached, pairs = part.sum(axis=1), sizes.sum(axis=1)
        else:
            reached = np.concatenate([part.sum(axis=1), part.sum(axis=0)])
            pairs = np.concatenate([sizes.sum(axis=1), sizes.sum(axis=0)])
        low, high = far_interval_by_person(reached, pairs, couples)
        row = {"fmr": float(share), "low": low, "high": high, "pairs": int(sizes.sum() / halves)}
        result[name] = {"fmr": row | {"people": int(a.sum() if left == right else a.sum() + b.sum())}}
        if left == right:
            own = photos[a] * (photos[a] - 1) // 2
            low, high = wilson_by_person(genuine[a], own)
            tar = float(genuine[a].sum() / own.sum())
            result[name]["tar"] = {
                "tar": tar,
                "low": low,
                "high": high,
                "pairs": int(own.sum()),
                "people": int((own > 0).sum()),
            }
    return result
