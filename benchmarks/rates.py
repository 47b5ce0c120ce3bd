"""Exact rates at scale against scikit-learn and the bare matrix product.

    python benchmarks/rates.py            # everything, about 3 minutes on two idle cores; writes results/rates.json
    python benchmarks/rates.py --quick    # a tenth of the size, prints only
    python benchmarks/rates.py --files    # lists of ten million rows through 'facekd verify'; writes results/lists.json

Each measurement runs in a fresh process, so that its peak memory is its own. The embeddings are synthetic: persons'
centers with noise, 512-d, unit norm.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _record import record

from facekd.rates.allpairs import all_pairs
from facekd.rates.counts import curve
from facekd.rates.persons import person_rates
from facekd.rates.rates import far_budget, rate_at

WAITED = """
import json, os, subprocess, sys
# A process counts what its parent had when it began, so this small one starts the command.
_, status, used = os.wait4(subprocess.Popen(sys.argv[1:]).pid, 0)
assert status == 0, status
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
FARS = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6]
DIM = 512


def crowd(n: int) -> tuple[np.ndarray, np.ndarray]:
    """float32[n, 512] and int64[n]: photos of about n / 6 persons, in no order, some photos worse than others."""
    rng = np.random.default_rng(n)
    persons = rng.integers(0, n // 6, n)
    centers = rng.standard_normal((n // 6, DIM), np.float32)
    vectors = np.empty((n, DIM), np.float32)
    for start in range(0, n, 4096):
        part = persons[start : start + 4096]
        noise = 1.5 * np.exp(0.3 * rng.standard_normal((len(part), 1), np.float32))
        block = centers[part] + noise * rng.standard_normal((len(part), DIM), np.float32)
        vectors[start : start + 4096] = block / np.linalg.norm(block, axis=1, keepdims=True)
    return vectors, persons


def peak_mb() -> float:
    """The most memory this process has had resident, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmHWM in /proc/self/status: peak memory is measured on Linux only")


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def as_rows(rates: list[Any]) -> list[list[Any]]:
    return [[rate.far_asked, rate.far, rate.tar, rate.threshold] for rate in rates]


def ours(n: int) -> dict[str, Any]:
    """facekd alone: time, peak memory, rates."""
    vectors, persons = crowd(n)
    before = peak_mb()
    took, rates = seconds(lambda: all_pairs(vectors, persons, FARS))
    return {
        "pairs": n * (n - 1) // 2,
        "seconds": took,
        "peak_mb": peak_mb(),
        "embeddings_mb": vectors.nbytes / 2**20,
        "peak_before_mb": before,
        "rates": as_rows(rates),
    }


def scikit_learn(n: int) -> dict[str, Any]:
    """Score the pairs, as thriftily as they can be kept, and read the rates off roc_curve."""
    from sklearn.metrics import roc_curve

    vectors, persons = crowd(n)
    pairs = n * (n - 1) // 2

    def score() -> tuple[np.ndarray, np.ndarray]:
        scores, same = np.empty(pairs, np.float32), np.empty(pairs, bool)
        at = 0
        for start in range(0, n, 1024):
            block = vectors[start : start + 1024] @ vectors[start:].T
            for i in range(len(block)):
                row = block[i, i + 1 :]
                scores[at : at + len(row)] = row
                same[at : at + len(row)] = persons[start + i + 1 :] == persons[start + i]
                at += len(row)
        return scores, same

    scoring, (scores, same) = seconds(score)
    n_genuine = int(same.sum())
    n_impostor = pairs - n_genuine

    def rates() -> list[list[Any]]:
        far, tar, thresholds = roc_curve(same, scores, drop_intermediate=False)
        accepted = np.rint(far * n_impostor).astype(np.int64)
        rows = []
        for asked in FARS:
            last = int(np.searchsorted(accepted, far_budget(asked, n_impostor), side="right")) - 1
            hits = round(float(tar[last]) * n_genuine)
            rows.append([asked, int(accepted[last]) / n_impostor, hits / n_genuine, float(thresholds[last])])
        return rows

    curve_seconds, rows = seconds(rates)
    return {"seconds": scoring + curve_seconds, "scoring_seconds": scoring, "peak_mb": peak_mb(), "rates": rows}


def against_product(n: int) -> dict[str, Any]:
    """facekd and the bare product of all embeddings with all, in turns in one process."""
    vectors, persons = crowd(n)
    other, out = vectors.copy(), np.empty((n, n), np.float32)  # a copy: numpy takes a slower path for A @ A.T
    bare, whole = [], []
    for _ in range(7):
        bare.append(seconds(lambda: np.matmul(vectors, other.T, out=out))[0])
        whole.append(seconds(lambda: all_pairs(vectors, persons, FARS))[0])
    bare, whole = bare[1:], whole[1:]  # the first touches the memory
    return {"bare_product_seconds": statistics.median(bare), "all_pairs_seconds": statistics.median(whole)}


def listed(n: int) -> dict[str, Any]:
    """Counts and rates of a list of n scores that is in memory, against roc_curve."""
    from sklearn.metrics import roc_curve

    rng = np.random.default_rng(0)
    same = rng.random(n) < 0.1
    scores = (rng.standard_normal(n) * 0.1 + 0.4 * same).astype(np.float32)
    facekd_seconds, _ = seconds(lambda: [rate_at(made, far) for made in [curve(scores, same)] for far in FARS])
    sklearn_seconds, _ = seconds(lambda: roc_curve(same, scores, drop_intermediate=False))
    return {"pairs": n, "facekd_seconds": facekd_seconds, "roc_curve_seconds": sklearn_seconds}


def intervals(n: int) -> dict[str, Any]:
    """Rates with their intervals over people: LFW's shape at 6,000 pairs, else a twentieth of the pairs genuine."""
    rng = np.random.default_rng(0)
    small = n == 6000
    n_persons = 4300 if small else 10_000
    fars = [1e-2, 1e-3] if small else FARS[:5]
    same = np.arange(n) < (n // 2 if small else n // 20)
    left = rng.integers(0, n_persons, n)
    right = np.where(same, left, (left + 1 + rng.integers(0, n_persons - 1, n)) % n_persons)
    scores = (rng.standard_normal(n) * 0.1 + 0.4 * same).astype(np.float32)
    took, rates = seconds(lambda: person_rates(scores, same, left, right, fars))
    intervals = [[rate.far_asked, rate.tar, rate.low, rate.high] for rate in rates]
    return {"pairs": n, "persons": n_persons, "seconds": took, "peak_mb": peak_mb(), "intervals": intervals}


def files(n: int) -> dict[str, dict[str, Any]]:
    """`facekd verify` of n rows: a list of scores, and a pair list with stored embeddings (20,000 photos, 128-d)."""
    import pyarrow as pa
    import pyarrow.csv as pacsv

    rng = np.random.default_rng(0)
    photos, dim = 20_000, 128
    who = rng.integers(0, photos // 5, photos)
    vectors = rng.standard_normal((photos // 5, dim))[who] + 1.6 * rng.standard_normal((photos, dim))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    left, right = rng.integers(0, photos, (2, n))
    order, of = np.argsort(who, kind="stable"), np.arange(photos // 5 + 1)
    first = np.searchsorted(who[order], of)
    mated = np.flatnonzero(rng.random(n) < 0.1)
    person = who[left[mated]]
    right[mated] = order[first[person] + (rng.random(len(mated)) * np.diff(first)[person]).astype(int)]
    same = who[left] == who[right]
    starts = range(0, n, 1 << 16)
    score = np.concatenate(
        [np.einsum("pd,pd->p", vectors[left[k : k + (1 << 16)]], vectors[right[k : k + (1 << 16)]]) for k in starts]
    )
    ids = np.array([f"people/p{person:04d}/photo_{i:05d}.jpg" for i, person in enumerate(who)])
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        home, plain = Path(folder), pacsv.WriteOptions(quoting_style="none")
        pacsv.write_csv(pa.table({"score": score, "label": same.astype(np.int8)}), home / "scores.csv", plain)
        a, b = (pa.DictionaryArray.from_arrays(side.astype(np.int32), ids).cast(pa.string()) for side in (left, right))
        pacsv.write_csv(pa.table({"a": a, "b": b, "same": same.astype(np.int8)}), home / "pairs.csv", plain)
        np.savez(home / "e.npz", embeddings=vectors, ids=ids)
        for name, flags in (
            ("scores", ["--scores", home / "scores.csv"]),
            ("pairs", ["--pairs", home / "pairs.csv", "--embeddings", home / "e.npz"]),
        ):
            command = [sys.executable, "-m", "facekd", "verify", *map(str, flags), "--out", str(home / name), "--quiet"]
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", WAITED, *command], check=True, stdout=subprocess.PIPE)
            cpu, peak = json.loads(done.stdout)
            took = time.perf_counter() - start
            (model,) = json.loads((home / name / "report.json").read_text())["models"]
            found[name] = {"rows": n, "cpu_seconds": cpu, "seconds": took, "peak_mb": peak, "eer": model["eer"]}
            found[name] |= {"pairs": model["pairs"]}
    return found


MEASUREMENTS = {work.__name__: work for work in (ours, scikit_learn, against_product, listed, intervals)}


def apart(work: Callable[[int], dict[str, Any]], n: int) -> dict[str, Any]:
    """`work(n)` in a fresh process."""
    done = subprocess.run(
        [sys.executable, __file__, "--only", work.__name__, "--size", str(n)], check=True, stdout=subprocess.PIPE
    )
    result: dict[str, Any] = json.loads(done.stdout)
    print(work.__name__, n, {key: value for key, value in result.items() if key not in ("rates", "intervals")})
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="exact rates at scale, against scikit-learn and the bare product")
    parser.add_argument("--quick", action="store_true", help="a tenth of the size, nothing written")
    parser.add_argument("--only", choices=MEASUREMENTS, help="one measurement, as JSON on the standard output")
    parser.add_argument("--size", type=int, help="photos or pairs for --only")
    parser.add_argument("--files", action="store_true", help="lists of ten million rows through the command alone")
    args = parser.parse_args()
    if args.files:
        found = files(10**6 if args.quick else 10**7)
        print(json.dumps(found, indent=1))
        if not args.quick:
            record("lists", found)
        return
    if args.only:
        print(json.dumps(MEASUREMENTS[args.only](args.size)))
        return

    n = 4000 if args.quick else 13_000
    facekd, sklearn, product = apart(ours, n), apart(scikit_learn, n), apart(against_product, n)
    # 10**6, 10**7, 10**8 and 10**9 pairs
    scale = [apart(ours, photos) for photos in ([1415, 4473] if args.quick else [1415, 4473, 14_143, 44_722])]
    lists = [apart(listed, pairs) for pairs in ([10**6] if args.quick else [10**6, 10**7])]
    sure = [apart(intervals, pairs) for pairs in (6000, 10**6 if args.quick else 10**7)]

    largest, middle = scale[-1], scale[-2]
    reached = {
        "time against scoring + roc_curve (<= 1/12)": facekd["seconds"] / sklearn["seconds"],
        "peak memory against it (<= 1/10)": facekd["peak_mb"] / sklearn["peak_mb"],
        "identical thresholds and rates": facekd["rates"] == sklearn["rates"],
        "time against the bare product (<= 2.5, aim 1.5)": product["all_pairs_seconds"]
        / product["bare_product_seconds"],
        "seconds per 10**6 pairs, two largest": [1e6 * s["seconds"] / s["pairs"] for s in (middle, largest)],
        "peak MB less the embeddings, each size": [s["peak_mb"] - s["embeddings_mb"] for s in scale],
        "intervals of 6,000 pairs, seconds (<= 2)": sure[0]["seconds"],
        f"intervals of {sure[1]['pairs']} pairs, seconds (<= 60)": sure[1]["seconds"],
    }
    for name, value in reached.items():
        print(f"{name}: {value}")
    if not args.quick:
        record(
            "rates",
            {
                "reached": reached,
                "facekd": facekd,
                "scikit_learn": sklearn,
                "product": product,
                "scale": scale,
                "lists": lists,
                "intervals": sure,
            },
        )


if __name__ == "__main__":
    main()
