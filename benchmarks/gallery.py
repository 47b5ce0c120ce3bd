"""A gallery of a million people: enrollment as it grows, exact search against FAISS, and the index.

    python benchmarks/gallery.py            # 10**6 x 512-d: about 10 minutes on two idle cores, 10 GB of memory and of
                                            # disk; writes results/gallery.json after each part
    python benchmarks/gallery.py --quick    # 60,000 people, prints only

The people are synthetic and seeded; their embeddings are spread as those of w600k_mbf are on CelebA crops (see PEOPLE
and PHOTOS below), so that an index has real groups to find, and no more. A template is the mean of three photos, a
probe is a fourth. Each part runs in a fresh process, so that its peak memory is its own.
"""

from __future__ import annotations

import argparse
import datetime
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from _record import record

from facekd.core.contract import Contract
from facekd.core.pixels import unit
from facekd.core.types import Array, Embeddings
from facekd.gallery import index
from facekd.gallery.gallery import LEDGER, GalleryTable, Person
from facekd.gallery.meta import GalleryMeta
from facekd.gallery.people import to_table

DIM = 512
META = GalleryMeta(contract=Contract(dim=DIM, weights_sha256="bench"), model="/none", detector="none", min_face=20)
FULL = 10**6  # people
BLOCK = 4096  # people made together
LATE = 4096  # people who come at each size
LOT = 256  # people enrolled together, as 'facekd enroll' does
# The covariance of people's mean embeddings and that of photos about their person's mean have eigenvalues that fall as
# exp(-rank / scale) up to rank 400, and nearly the same eigenvectors: scale and trace of both, and the norm of the mean
# of all, as measured on the 512-d w600k_mbf embeddings of 10,048 CelebA crops of 1,504 people.
PEOPLE, PHOTOS, MEAN = (60.0, 0.464), (140.0, 0.527), 0.10


def deviations(form: tuple[float, float]) -> Array:
    """float32[512]: the standard deviation along each axis."""
    scale, trace = form
    rank = np.arange(DIM)
    values = np.where(rank < 400, np.exp(-rank / scale), 0)
    return np.sqrt(values * trace / values.sum()).astype(np.float32)


def photos(block: int, each: int, salt: int) -> Array:
    """float32[4096, each, 512] of unit norm: photos of the people of a block, others for each salt."""
    means = np.random.default_rng([1, block]).standard_normal((BLOCK, 1, DIM), np.float32) * deviations(PEOPLE)
    means[..., 0] += MEAN
    noise = np.random.default_rng([2, salt, block]).standard_normal((BLOCK, each, DIM), np.float32)
    vectors = means + noise * deviations(PHOTOS)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors


def people(first: int, end: int) -> list[Person]:
    """The enrolled people `first` to `end`, of one block."""
    block = first // BLOCK
    templates = unit(photos(block, 3, 0).mean(axis=1))[first - block * BLOCK : end - block * BLOCK]
    return [Person(f"person-{first + i:08d}", t, (f"{first + i}.jpg",)) for i, t in enumerate(templates)]


def probes(n: int, asked: int, salt: int = 1) -> tuple[Embeddings, list[str]]:
    """A new photo of each of some of the people that `enroll` enrolled, and who they are."""
    n -= 3 * LATE
    blocks = np.unique(np.linspace(0, (n - 1) // BLOCK, 32).astype(int))
    vectors, ids = [], []
    for block in blocks:
        rows = np.random.default_rng([3, salt, block]).integers(
            0, min(BLOCK, n - block * BLOCK), -(-asked // len(blocks))
        )
        vectors.append(photos(int(block), 1, salt)[rows, 0])
        ids += [f"person-{block * BLOCK + row:08d}" for row in rows]
    return Embeddings(np.concatenate(vectors)[:asked], tuple(map(str, range(asked))), META.model_id), ids[:asked]


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


def spread(values: list[float]) -> dict[str, float]:
    """Median and 99th percentile in milliseconds."""
    return {"p50_ms": 1e3 * statistics.median(values), "p99_ms": 1e3 * float(np.quantile(values, 0.99))}


def disk_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 2**20


def enroll(folder: Path, n: int) -> dict[str, Any]:
    """Enrollment at sizes that grow to `n`: lots of 256 new people, and what ends a run."""
    gallery = GalleryTable.create(folder, META)
    sizes = [max(n // 100, LATE), max(n // 10, 2 * LATE), n]
    known = 0
    found: dict[str, Any] = {"sizes": {}}
    with gallery.writing():
        for size in sizes:
            filling = time.perf_counter()
            # Up to the size in one go, which is not measured: a first enrollment of thousands.
            batches: list[pa.Table] = []
            while len(gallery) + LATE + sum(map(len, batches)) < size:
                end = min(known // BLOCK * BLOCK + BLOCK, known + size - LATE - len(gallery) - sum(map(len, batches)))
                batches.append(to_table(people(known, end), DIM, datetime.datetime.now(datetime.UTC)))
                known = end
                if len(batches) == 16:
                    gallery.table.add(pa.concat_tables(batches))
                    batches = []
            if batches:
                gallery.table.add(pa.concat_tables(batches))
            gallery.finish(META, LEDGER.empty_table())
            filling = time.perf_counter() - filling
            lots = [strangers(size, start, LOT) for start in range(0, LATE, LOT)]
            took = [seconds(lambda lot=lot: gallery.upsert(lot))[0] for lot in lots]
            again = [seconds(lambda lot=lot: gallery.upsert(lot))[0] for lot in lots]
            end, _ = seconds(lambda: gallery.finish(META, LEDGER.empty_table()))
            found["sizes"][size] = {
                "people": len(gallery),
                "people_per_second": LOT / statistics.median(took),
                "unchanged_people_per_second": LOT / statistics.median(again),
                "finish_seconds": end,
                "filling_seconds": filling,
            }
            print(size, found["sizes"][size], file=sys.stderr)
    rates = [row["people_per_second"] for row in found["sizes"].values()]
    return {
        **found,
        "rate_at_the_largest_to_the_smallest": rates[-1] / rates[0],
        "disk_mb": disk_mb(folder),
        "peak_mb": peak_mb(),
    }


def strangers(size: int, start: int, n: int) -> list[Person]:
    """New people who come at that size."""
    vectors = unit(np.random.default_rng([4, size, start]).standard_normal((n, DIM), np.float32))
    return [Person(f"late-{size}-{start + i:06d}", v, (f"{start + i}.jpg",)) for i, v in enumerate(vectors)]


def search(folder: Path, n: int) -> dict[str, Any]:
    """Exact search and FAISS's IndexFlatIP in turns, in one process, over the same templates."""
    import faiss

    gallery = GalleryTable.open(folder)
    wanted, ids = probes(n, 64)
    loading, _ = seconds(lambda: gallery.search(wanted, exact=True))
    ours_mb = peak_mb()
    flat = faiss.IndexFlatIP(DIM)
    flat.add(gallery._templates.now().vectors)
    one = [Embeddings(wanted.vectors[i : i + 1], wanted.ids[i : i + 1], META.model_id) for i in range(64)]
    times: dict[str, list[float]] = {"facekd 1": [], "faiss 1": [], "facekd 64": [], "faiss 64": []}
    for turn in range(50):
        probe = one[turn % 64]
        times["faiss 1"].append(seconds(lambda probe=probe: flat.search(probe.vectors, 1))[0])
        times["facekd 1"].append(seconds(lambda probe=probe: gallery.search(probe, exact=True))[0])
    for _ in range(5):
        took, (_, rows) = seconds(lambda: flat.search(wanted.vectors, 1))
        times["faiss 64"].append(took)
        took, answers = seconds(lambda: gallery.search(wanted, exact=True))
        times["facekd 64"].append(took)
    templates = gallery._templates.now()
    same = [templates.ids[row] == matches[0].person_id for (row,), matches in zip(rows, answers, strict=True)]
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "people": len(gallery),
        "threads": faiss.omp_get_max_threads(),
        "loading_seconds": loading,
        "facekd_1_probe": spread(times["facekd 1"]),
        "faiss_1_probe": spread(times["faiss 1"]),
        "facekd_probes_per_second": 64 / medians["facekd 64"],
        "faiss_probes_per_second": 64 / medians["faiss 64"],
        "time_to_faiss_1_probe": medians["facekd 1"] / medians["faiss 1"],
        "time_to_faiss_64_probes": medians["facekd 64"] / medians["faiss 64"],
        "same_answers": float(np.mean(same)),
        "rank_1": float(np.mean([m[0].person_id == who for m, who in zip(answers, ids, strict=True)])),
        "peak_mb_without_faiss": ours_mb,
    }


def by_index(folder: Path, n: int) -> dict[str, Any]:
    """The index: what it finds of what exact search finds, with how many comparisons and how fast."""
    gallery = GalleryTable.open(folder)
    wanted, ids = probes(n, 1024)
    exact = gallery.search(wanted, exact=True)
    del gallery  # and its templates
    gallery = GalleryTable.open(folder)
    with gallery.writing():
        building, _ = seconds(gallery.build_index)
    gallery = GalleryTable.open(folder)
    first, _ = seconds(lambda: gallery.search(part(wanted, 0, 1)))
    took = [seconds(lambda i=i: gallery.search(part(wanted, i, i + 1)))[0] for i in range(1, 513)]
    many, found = seconds(lambda: gallery.search(wanted))
    counts = [comparisons(gallery, wanted.vectors[i]) for i in range(32)]
    same = [a[0].person_id == b[0].person_id for a, b in zip(found, exact, strict=True)]
    known = [b[0].person_id == who for b, who in zip(exact, ids, strict=True)]
    state = gallery.indexed()
    assert state is not None
    bits = statistics.mean(counts) - index.PARTITIONS
    floats = index.PARTITIONS + index.REFINE
    bytes_of_bits = DIM / 8 + 12
    return {
        "people": len(gallery),
        "partitions": index.PARTITIONS,
        "nprobes": index.NPROBES,
        "refine": index.REFINE,
        "building_seconds": building,
        "recall_at_1": float(np.mean(same)),
        "recall_at_1_where_the_person_is_first": float(np.mean([s for s, k in zip(same, known, strict=True) if k])),
        "rank_1_exact": float(np.mean(known)),
        # A comparison of bits reads a 32nd of what one of templates reads, and its correction factors.
        "comparisons_of_bits": bits,
        "comparisons_of_512_floats": floats,
        "times_fewer_comparisons_of_512_floats": len(gallery) / floats,
        "times_fewer_bytes_compared": len(gallery) * 4 * DIM / (floats * 4 * DIM + bits * bytes_of_bits),
        "first_probe_ms": 1e3 * first,
        "1_probe": spread(took),
        "probes_per_second": len(ids) / many,
        "index_mb": state.bytes / 2**20,
        "table_mb": gallery.table.stats()["total_bytes"] / 2**20,
        "disk_mb_with_versions_of_the_last_day": disk_mb(folder),
        "peak_mb_with_building": peak_mb(),
    }


def resident(folder: Path, n: int) -> dict[str, Any]:
    """Memory of a process that identifies by the index alone."""
    gallery = GalleryTable.open(folder)
    wanted, _ = probes(n, 256)
    gallery.search(part(wanted, 0, 1))
    after_one = peak_mb()
    gallery.search(wanted)
    return {"after_1_probe_mb": after_one, "after_256_probes_mb": peak_mb()}


def part(wanted: Embeddings, start: int, end: int) -> Embeddings:
    return Embeddings(wanted.vectors[start:end], wanted.ids[start:end], wanted.model_id)


def comparisons(gallery: GalleryTable, vector: Array) -> int:
    """How many templates and centroids one probe was compared with, as LanceDB counts them."""
    plan = index.query(gallery.table, vector).limit(1).select(["person_id", "_distance"]).analyze_plan()
    numbers = {
        name: re.findall(rf"{name}=([\d.]+)( [KM])?", plan) for name in ("index_comparisons", "partitions_ranked")
    }
    factor = {"": 1, " K": 1e3, " M": 1e6}
    return int(sum(float(value) * factor[unit] for found in numbers.values() for value, unit in found))


MEASUREMENTS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    work.__name__: work for work in (enroll, search, by_index, resident)
}


def apart(work: Callable[[Path, int], dict[str, Any]], folder: Path, n: int) -> dict[str, Any]:
    """`work(folder, n)` in a fresh process."""
    command = [sys.executable, __file__, "--only", work.__name__, "--folder", str(folder), "--size", str(n)]
    took, done = seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.PIPE))
    result: dict[str, Any] = json.loads(done.stdout)
    result["part_seconds"] = took
    print(work.__name__, json.dumps(result, indent=2))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="a gallery of a million people")
    parser.add_argument("--quick", action="store_true", help="60,000 people, nothing written")
    parser.add_argument("--only", choices=MEASUREMENTS, help="one measurement, as JSON on the standard output")
    parser.add_argument("--folder", type=Path, help="of the gallery, for --only; else a temporary one")
    parser.add_argument("--size", type=int, default=FULL, help="people; written down only if a million")
    args = parser.parse_args()
    if args.only:
        print(json.dumps(MEASUREMENTS[args.only](args.folder, args.size)))
        return
    n = 60_000 if args.quick else args.size
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        results: dict[str, Any] = {}
        for name, work in MEASUREMENTS.items():
            results[name] = apart(work, Path(folder) / "g", n)
            if n == FULL:
                record("gallery", results)
    reached = {
        "enroll rate, largest to smallest size (flat)": results["enroll"]["rate_at_the_largest_to_the_smallest"],
        "exact search, time to FAISS, 1 probe (<= 1.3)": results["search"]["time_to_faiss_1_probe"],
        "exact search, time to FAISS, 64 probes (<= 1.3)": results["search"]["time_to_faiss_64_probes"],
        "index, recall@1 (>= 0.99)": results["by_index"]["recall_at_1"],
        "index, times fewer comparisons of 512 floats (>= 20)": results["by_index"][
            "times_fewer_comparisons_of_512_floats"
        ],
        "index, times fewer bytes compared, bits counted (>= 20)": results["by_index"]["times_fewer_bytes_compared"],
    }
    for name, value in reached.items():
        print(f"{name}: {value:.4g}")
    if n == FULL:
        record("gallery", {**results, "reached": reached})


if __name__ == "__main__":
    main()
