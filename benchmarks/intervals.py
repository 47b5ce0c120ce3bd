"""How often the 95 % intervals hold the truth, on simulated lists whose truth is known.

    python benchmarks/intervals.py            # 1,000 lists of each shape, some minutes; writes results/intervals.json
    python benchmarks/intervals.py --quick    # 100 lists, prints only

Persons differ in how alike their photos are, so pairs that share a person depend on each other. The truth is the
TAR at the FAR in the whole population of persons, found once by a simulation far larger than any list. Beside the
intervals of facekd.rates.persons stand what is usually printed (Wilson and Clopper-Pearson, as if pairs were
independent) and the bootstrap over persons without the shrinkage that persons.py adds.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
from _record import record

from facekd.rates import persons
from facekd.rates.counts import curve
from facekd.rates.exact_interval import clopper_pearson
from facekd.rates.persons import paired_differences, person_rates, resampled_tars
from facekd.rates.rates import rate_at

DIM = 24
FARS = [0.1, 0.03, 0.01]
RESAMPLES = 500

Listed = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # cosine, same, person left, person right


def photos(rng: np.random.Generator, n_persons: int, n_photos: int) -> np.ndarray:
    """float64[persons, photos, DIM], unit norm."""
    center = rng.standard_normal((n_persons, 1, DIM))
    spread = 0.62 * np.exp(0.35 * rng.standard_normal((n_persons, 1, 1)))
    vectors = center + spread * rng.standard_normal((n_persons, n_photos, DIM))
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def all_of(rng: np.random.Generator, n_persons: int, n_photos: int) -> Listed:
    """All pairs of all photos."""
    vectors = photos(rng, n_persons, n_photos).reshape(n_persons * n_photos, DIM)
    left, right = np.triu_indices(len(vectors), 1)
    left_person, right_person = left // n_photos, right // n_photos
    return (vectors @ vectors.T)[left, right], left_person == right_person, left_person, right_person


def drawn(rng: np.random.Generator, n_persons: int, n: int) -> Listed:
    """n genuine and n impostor pairs of persons drawn at random from n_persons, four photos each."""
    vectors = photos(rng, n_persons, 4)
    same = np.arange(2 * n) < n
    left = rng.integers(0, n_persons, 2 * n)
    right = np.where(same, left, (left + 1 + rng.integers(0, n_persons - 1, 2 * n)) % n_persons)
    photo = rng.integers(0, 4, 2 * n)
    other = np.where(same, (photo + 1 + rng.integers(0, 3, 2 * n)) % 4, rng.integers(0, 4, 2 * n))
    return (vectors[left, photo] * vectors[right, other]).sum(-1), same, left, right


SHAPES: dict[str, Callable[[np.random.Generator], Listed]] = {
    "all pairs of 100 persons x 4 photos": partial(all_of, n_persons=100, n_photos=4),
    "LFW's shape: 3000 + 3000 pairs of 4300 persons": partial(drawn, n_persons=4300, n=3000),
    "1000 + 1000 pairs of 200 persons": partial(drawn, n_persons=200, n=1000),
}


def truth() -> dict[float, float]:
    """TAR at each FAR in the population."""
    rng = np.random.default_rng(2**31)
    genuine, impostor = [], []
    for _ in range(100):
        vectors = photos(rng, 4000, 2)
        genuine.append((vectors[:, 0] * vectors[:, 1]).sum(-1))
        impostor.append((vectors[:1500, 0] @ vectors[1500:3500, 0].T).ravel().astype(np.float32))
    thresholds = np.quantile(np.concatenate(impostor), [1 - far for far in FARS])
    return {far: float((np.concatenate(genuine) >= t).mean()) for far, t in zip(FARS, thresholds, strict=True)}


def one_list(shape: str, seed: int) -> dict[str, Any]:
    """The intervals of one list by each method, and what the paired test says of equal and unequal models."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    rng = np.random.default_rng(seed)
    values, same, left, right = SHAPES[shape](rng)
    made = curve(values, same)
    plain = [rate_at(made, far) for far in FARS]
    ours = person_rates(values, same, left, right, FARS, resamples=RESAMPLES, seed=seed)
    with mock.patch.object(persons, "_shrinkage", lambda left, right, accepted, n: [1.0] * len(accepted)):
        unshrunk = resampled_tars(values, same, left, right, FARS, resamples=RESAMPLES, seed=seed)
    models = {name: values + 0.05 * rng.standard_normal(len(values)) for name in ("a", "b")}
    equal = paired_differences(models["a"], models["b"], same, left, right, FARS, resamples=RESAMPLES, seed=seed)
    return {
        "tar": [rate.tar for rate in plain],
        "Wilson, pairs independent": [(rate.low, rate.high) for rate in plain],
        "Clopper-Pearson, pairs independent": [
            clopper_pearson(round(rate.tar * rate.n_genuine), rate.n_genuine) for rate in plain if rate.tar is not None
        ],
        "bootstrap over persons, percentiles": list(zip(*np.quantile(unshrunk, [0.025, 0.975], axis=0), strict=True)),
        "facekd": [(rate.low, rate.high) for rate in ours],
        "equal models told apart at 5 %": [found.p_value < 0.05 for found in equal if found.p_value is not None],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="coverage of the 95 % intervals of TAR at FAR")
    parser.add_argument("--quick", action="store_true", help="100 lists of each shape, nothing written")
    n_lists = 100 if parser.parse_args().quick else 1000

    true_tar = truth()
    print("TAR in the population:", true_tar)
    result: dict[str, Any] = {"lists": n_lists, "resamples": RESAMPLES, "true_tar": true_tar, "shapes": {}}
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores) as pool:
        for shape in SHAPES:
            start = time.perf_counter()
            lists = list(pool.map(partial(one_list, shape), range(n_lists), chunksize=5))
            rows: dict[str, Any] = {}
            for method in lists[0]:
                if method == "tar":
                    rows["standard deviation of TAR"] = np.std([found["tar"] for found in lists], axis=0).tolist()
                elif method.startswith("equal"):
                    rows[method] = np.mean([found[method] for found in lists], axis=0).tolist()
                else:
                    bounds = np.array([found[method] for found in lists])  # [lists, FARs, 2]
                    truths = np.array(list(true_tar.values()))
                    holds = (bounds[..., 0] <= truths) & (truths <= bounds[..., 1])
                    rows[method] = {
                        "coverage": holds.mean(axis=0).tolist(),
                        "width": (bounds[..., 1] - bounds[..., 0]).mean(axis=0).tolist(),
                    }
            result["shapes"][shape] = rows
            print(f"\n{shape} ({time.perf_counter() - start:.0f} s); FAR {FARS}")
            for method, row in rows.items():
                print(f"  {method}: {row}")
    if n_lists == 1000:
        record("intervals", result)


if __name__ == "__main__":
    main()
