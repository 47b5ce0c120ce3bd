"""How often the 95 % intervals hold the truth, on simulated people whose truth is known.

    python benchmarks/intervals.py            # 1,000 lists of each kind, an hour; writes results/intervals.json
    python benchmarks/intervals.py --quick    # 100 lists, prints only
    python benchmarks/intervals.py --correlations  # how pairs of the same people correlate; results/correlations.json

People differ in how alike their photos are, so pairs that share a person depend on each other. The truth is the TAR at
the FAR among all people there are, each counting alike, found once by a simulation far larger than any list. Beside
the intervals of facekd.rates stand what is usually printed (Wilson's, as if pairs were independent) and what facekd
had before: each person's pairs as one draw, the threshold as given.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from _record import record

from facekd.crops.read import read_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.rates.allpairs import measure_all_pairs
from facekd.rates.counts import curve
from facekd.rates.intervals import wilson
from facekd.rates.persons import ListOfPeople, paired_differences
from facekd.rates.rates import rate_at

DIM = 24
FARS = [0.1, 0.03, 0.01, 0.001]
LISTS = 1000
DATA = Path(__file__).parents[2] / "shared" / "data"
Counts = Callable[[np.random.Generator], np.ndarray]


def pareto(rng: np.random.Generator, people: int) -> np.ndarray:
    """Photos of each: 2 to 60, the median 3; one person in ten has 13 or more."""
    return np.clip(np.floor(1.6 * rng.random(people) ** (-1 / 1.1) + 0.5), 2, 60).astype(int)


def log_normal(rng: np.random.Generator, people: int) -> np.ndarray:
    """Photos of each: the median 5, σ 0.8."""
    return np.clip(np.round(5 * np.exp(0.8 * rng.standard_normal(people))), 1, 200).astype(int)


def fixed(rng: np.random.Generator, people: int, photos: int) -> np.ndarray:
    return np.full(people, photos)


@dataclass(frozen=True)
class People:
    """How many people there are, with how many photos, and of what kind."""

    counts: Counts
    kind: str = "plain"  # or "look-alikes" in clusters of 4, or "hard": one in twenty three times as spread


SHAPES = {
    "100 people x 4": People(partial(fixed, people=100, photos=4)),
    "92 people x 20": People(partial(fixed, people=92, photos=20)),
    "30 people x 20": People(partial(fixed, people=30, photos=20)),
    "100 people, Pareto": People(partial(pareto, people=100)),
    "400 people, Pareto": People(partial(pareto, people=400)),
    "100 people, log-normal": People(partial(log_normal, people=100)),
    "look-alikes in clusters of 4": People(partial(fixed, people=100, photos=5), "look-alikes"),
    "5 % of people three times as hard": People(partial(fixed, people=100, photos=5), "hard"),
}
PAIRED = [name for name in SHAPES if name not in ("92 people x 20", "400 people, Pareto")]


def drawn(rng: np.random.Generator, shape: People) -> tuple[np.ndarray, np.ndarray]:
    """float32[N, DIM], unit norm, and whose each is."""
    photos = shape.counts(rng)
    person = np.repeat(np.arange(len(photos)), photos)
    center, spread = character(rng, len(photos), shape.kind)
    vectors = center[person] + spread[person, None] * rng.standard_normal((len(person), DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32), person


def character(rng: np.random.Generator, people: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """What each person looks like, and how much the photos differ."""
    center = rng.standard_normal((people, DIM))
    if kind == "look-alikes":
        shared = np.repeat(rng.standard_normal((-(-people // 4), DIM)), 4, axis=0)[:people]
        center = np.sqrt(0.4) * shared + np.sqrt(0.6) * center
    spread = 0.62 * np.exp(0.35 * rng.standard_normal(people))
    if kind == "hard":
        spread = np.where(rng.random(people) < 0.05, 3 * spread, spread)
    return center, spread


@cache
def truth(kind: str) -> tuple[float, ...]:
    """TAR at each FAR among all people; of look-alikes in lists of 100, where three others are alike."""
    rng = np.random.default_rng(2**31)
    genuine, impostor = [], []
    for _ in range(60):
        center, spread = character(rng, 4000, kind)
        one, other = (center + spread[:, None] * rng.standard_normal((4000, DIM)) for _ in range(2))
        one, other = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (one, other))
        genuine.append((one * other).sum(1))
        if kind != "look-alikes":
            impostor.append((one[:1500] @ one[1500:3500].T).ravel().astype(np.float32))
        else:
            blocks = one.reshape(40, 100, DIM)
            impostor.append((blocks @ blocks.transpose(0, 2, 1))[:, *np.triu_indices(100, 1)].ravel())
    thresholds = np.quantile(np.concatenate(impostor), [1 - far for far in FARS])
    scores = np.concatenate(genuine)
    return tuple(float((scores >= threshold).mean()) for threshold in thresholds)


def listed(rng: np.random.Generator, shape: People) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A pair list: all genuine pairs, and four times as many impostor pairs drawn at random."""
    vectors, person = drawn(rng, shape)
    left, right = np.triu_indices(len(person), 1)
    kept = person[left] == person[right]
    left, right = left[kept], right[kept]
    n = 4 * len(left)
    one, other = rng.integers(0, len(person), (2, 2 * n))
    apart = np.flatnonzero(person[one] != person[other])[:n]
    left, right = np.concatenate([left, one[apart]]), np.concatenate([right, other[apart]])
    values = np.einsum("nd,nd->n", vectors[left], vectors[right])
    return values, person[left] == person[right], person[left], person[right]


def lfw_like(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """3,000 genuine and 3,000 impostor pairs of people drawn from 4,300, four photos each."""
    vectors, _ = drawn(rng, People(partial(fixed, people=4300, photos=4)))
    same = np.arange(6000) < 3000
    left = rng.integers(0, 4300, 6000)
    right = np.where(same, left, (left + 1 + rng.integers(0, 4299, 6000)) % 4300)
    photo = rng.integers(0, 4, 6000)
    other = np.where(same, (photo + 1 + rng.integers(0, 3, 6000)) % 4, rng.integers(0, 4, 6000))
    values = np.einsum("nd,nd->n", vectors[4 * left + photo], vectors[4 * right + other])
    return values, same, left, right


Ends = list[tuple[float, float]]
NONE = (float("nan"), float("nan"))


def of_all_pairs(shape: People, seed: int) -> dict[str, Ends]:
    """The intervals of all pairs, as facekd has them, as it had them, and of independent pairs."""
    vectors, person = drawn(np.random.default_rng(seed), shape)
    rates = measure_all_pairs(vectors, person, FARS).rates
    found: dict[str, Ends] = {"facekd": [], "before": [], "independent": []}
    left, right = np.triu_indices(len(person), 1)
    genuine = person[left] == person[right]
    left, right = left[genuine], right[genuine]
    scores = np.einsum("nd,nd->n", vectors[left], vectors[right])
    for rate in rates:
        if rate.tar is None:
            for ends in found.values():
                ends.append(NONE)
            continue
        accepted = scores >= np.float32(np.inf if rate.threshold is None else rate.threshold)
        found["facekd"].append((rate.low, rate.high))
        found["before"].append(before(np.bincount(person[left], accepted), np.bincount(person[left])))
        found["independent"].append(wilson(round(rate.tar * rate.n_genuine), rate.n_genuine))
    return found


def before(hits: np.ndarray, n: np.ndarray) -> tuple[float, float]:
    """Wilson's interval at the variance of the persons' sums, the threshold as given."""
    hits, n = hits[n > 0], n[n > 0].astype(float)
    p = hits.sum() / n.sum()
    variance = ((hits - p * n) ** 2).sum() / n.sum() ** 2 * len(n) / max(1, len(n) - 1)
    worth = p * (1 - p) / variance if variance > 0 and 0 < p < 1 else n.sum() ** 2 / (n**2).sum()
    worth = min(worth, n.sum())
    return wilson(p * worth, worth)


def of_list(shape: People | None, seed: int) -> dict[str, Ends]:
    """The intervals of a pair list; None is LFW's shape."""
    rng = np.random.default_rng(seed)
    values, same, left, right = lfw_like(rng) if shape is None else listed(rng, shape)
    people, made = ListOfPeople.of(values, same, left, right), curve(values, same)
    rates, plain = [people.rate(far) for far in FARS], [rate_at(made, far) for far in FARS]
    return {
        "facekd": [NONE if rate.tar is None else (rate.low, rate.high) for rate in rates],
        "independent": [NONE if rate.tar is None else (rate.low, rate.high) for rate in plain],
    }


def of_group(shape: People, seed: int, size: int) -> dict[str, Ends]:
    """The intervals of a group of `size` people at the threshold of the whole list."""
    vectors, person = drawn(np.random.default_rng(seed), shape)
    left, right = np.triu_indices(len(person), 1)
    values, same = (vectors @ vectors.T)[left, right], person[left] == person[right]
    people = ListOfPeople.of(values, same, person[left], person[right])
    group = same & (person[left] < size)
    ends = []
    for far in FARS:
        rate = people.rate(far)
        if rate.tar is None:
            ends.append(NONE)
            continue
        tar = float((values[group] >= (np.inf if rate.threshold is None else rate.threshold)).mean())
        ends.append(people.group_interval(tar, group, far))
    return {"facekd": ends}


def told_apart(shape: People, seed: int) -> list[float]:
    """1 where two equally good models are told apart at 5 %, for each FAR."""
    rng = np.random.default_rng(seed)
    vectors, person = drawn(rng, shape)
    left, right = np.triu_indices(len(person), 1)
    models = []
    for _ in range(2):
        seen = vectors + 0.06 * rng.standard_normal(vectors.shape)
        seen /= np.linalg.norm(seen, axis=1, keepdims=True)
        models.append((seen @ seen.T)[left, right])
    same = person[left] == person[right]
    tests = paired_differences(*models, same, person[left], person[right], FARS)
    return [float("nan") if test.p_value is None else float(test.p_value < 0.05) for test in tests]


def correlations(model: Path) -> dict[str, Any]:
    """How pairs of one person and of one couple of people correlate: 900 people of CelebA, six crops each.

    The correlation of two pairs' outcomes at the threshold for a FAR, over all two pairs of the same people.
    """
    crops = read_crops(DATA / "crops" / "celeba.parquet")
    _, number, photos = np.unique([str(one) for one in crops.identities], return_inverse=True, return_counts=True)
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(photos >= 6))[:900]
    rows = np.concatenate([np.flatnonzero(number == person)[:6] for person in chosen])
    embedder = CropEmbedder.load(model)
    vectors = np.concatenate([embedder.embed(crops.batch(rows[k : k + 64])) for k in range(0, len(rows), 64)])
    scores = vectors @ vectors.T
    people = len(chosen)
    apart = np.sort(scores[np.kron(np.triu(np.ones((people, people), bool), 1), np.ones((6, 6), bool))])[::-1]
    found: dict[str, Any] = {}
    for far in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5):
        accepted = (scores >= apart[int(far * len(apart)) - 1]).reshape(people, 6, people, 6)
        couples = accepted.sum((1, 3))[np.triu_indices(people, 1)]
        own = (~accepted[np.arange(people), :, np.arange(people), :] & np.triu(np.ones((6, 6), bool), 1)).sum((1, 2))
        found[f"{far:g}"] = {"couple": _correlation(couples, 36), "person": _correlation(own, 15)}
        print(model.name, far, found[f"{far:g}"], flush=True)
    return found


def _correlation(counts: np.ndarray, n: int) -> float:
    """Of two of the n outcomes of a unit, of which so many are true in each."""
    share = counts.mean() / n
    both = (counts * (counts - 1.0)).mean() / (n * (n - 1))
    return round(float((both - share**2) / (share * (1 - share))), 4)


def coverage(found: list[dict[str, Ends]], kind: str) -> dict[str, Any]:
    """How often each method's interval holds the truth at each FAR, and how wide it is; None where there is none."""
    rows: dict[str, Any] = {}
    truths = np.array(truth(kind))
    for method in found[0]:
        ends = np.array([one[method] for one in found], float)  # [lists, FARs, 2]
        shown = np.isfinite(ends).all(axis=(0, 2))
        holds = ((ends[..., 0] <= truths) & (truths <= ends[..., 1])).mean(axis=0)
        width = (ends[..., 1] - ends[..., 0]).mean(axis=0)
        rows[method] = {
            name: [round(float(value), 4) if there else None for value, there in zip(values, shown, strict=True)]
            for name, values in (("coverage", holds), ("width", width))
        }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="coverage of the 95 % intervals of TAR at FAR")
    parser.add_argument("--quick", action="store_true", help="100 lists of each kind, nothing written")
    parser.add_argument("--correlations", action="store_true", help="of pairs of the same people of CelebA, alone")
    args = parser.parse_args()
    if args.correlations:
        names = ("w600k_mbf.onnx", "reid_retail_0095.onnx")
        record("correlations", {name: correlations(DATA / "weights" / name) for name in names})
        return
    n = 100 if args.quick else LISTS
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    cells: dict[str, tuple[Callable[[int], Any], str]] = {}
    for name, shape in SHAPES.items():
        cells[f"all pairs: {name}"] = partial(of_all_pairs, shape), shape.kind
    for name in PAIRED:
        cells[f"pair list: {name}"] = partial(of_list, SHAPES[name]), SHAPES[name].kind
    cells["pair list: LFW's shape"] = partial(of_list, None), "plain"
    for size in (10, 30):
        cells[f"group of {size} people of 100 x 4"] = partial(of_group, SHAPES["100 people x 4"], size=size), "plain"
        cells[f"group of {size} people of 100, Pareto"] = (
            partial(of_group, SHAPES["100 people, Pareto"], size=size),
            "plain",
        )
    result: dict[str, Any] = {"lists": n, "fars": FARS, "true_tar": {}, "coverage": {}, "told_apart": {}}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for cell, (work, kind) in cells.items():
            start = time.perf_counter()
            rows = coverage(list(pool.map(work, range(n), chunksize=5)), kind)
            result["true_tar"][kind], result["coverage"][cell] = truth(kind), rows
            print(f"\n{cell} ({time.perf_counter() - start:.0f} s); FAR {FARS}", flush=True)
            for method, row in rows.items():
                print(f"  {method:12s} {row['coverage']}  width {row['width']}", flush=True)
        for name in PAIRED:
            told = np.array(list(pool.map(partial(told_apart, SHAPES[name]), range(n), chunksize=5)))
            result["told_apart"][name] = [round(float(share), 4) for share in told.mean(axis=0)]
            print(f"equal models told apart at 5 %, {name}: {result['told_apart'][name]}", flush=True)
    if n == LISTS:
        record("intervals", result)


if __name__ == "__main__":
    main()
