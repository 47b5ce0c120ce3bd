"""The parts of ``enroll.py`` about speed and memory."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from _align_stage import high_water

from facekd.core.types import Array

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "shared" / "data"
WEIGHTS = DATA / "weights"
YUNET = WEIGHTS / "face_detection_yunet_2023mar.onnx"
TURNS = 5


def lfw_names(count: int, per_person: int = 1) -> list[str]:
    """Names of photos in lfw.zip, spread over it; with `per_person` all photos of the first people who have as many."""
    with zipfile.ZipFile(DATA / "lfw.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.lower().endswith(".jpg"))
    people: dict[str, list[str]] = {}
    for name in names:
        people.setdefault(name.split("/")[-2], []).append(name)
    names = [name for own in people.values() if len(own) >= per_person for name in own]
    if per_person > 1:
        return names[:count]
    return [names[int(place)] for place in np.linspace(0, len(names) - 1, min(count, len(names)))]


def write_photos(path: Path, count: int, per_person: int = 10) -> Path:
    """A zip of LFW's photos again and again, each with bytes of its own at its end."""
    names = lfw_names(100_000)
    with zipfile.ZipFile(DATA / "lfw.zip") as lfw, zipfile.ZipFile(path, "w") as archive:
        for number in range(count):
            data = lfw.read(names[number % len(names)])
            person = f"{number // per_person:06d}"
            archive.writestr(f"{person}/{number:06d}.jpg", data + number.to_bytes(4, "big"))
    return path


def overlap(quick: bool, largest: int) -> dict[str, Any]:
    """Photos in a second: each stage alone, and the enrollment, in turns."""
    del largest
    result: dict[str, Any] = {"cores": len(os.sched_getaffinity(0))}
    models = ["foamliu_mobilefacenet"] if quick else ["foamliu_mobilefacenet", "w600k_mbf"]
    for model in models:
        for detector in ["yunet"] if quick else ["mtcnn", "yunet"]:
            result[f"{detector} {model}"] = _overlap(model, detector, 64 if quick else 500, 2 if quick else TURNS)
    return result


def _overlap(model: str, detector: str, count: int, turns: int) -> dict[str, Any]:
    from facekd.commands.enroll import enroll
    from facekd.core.pixels import decode_crop
    from facekd.engines.local import batches
    from facekd.engines.mapper import on_cores
    from facekd.ingest.alignment import BATCH, align_batch, detector_of
    from facekd.ingest.photos import load_embedder
    from facekd.photos.find import find_photos
    from facekd.settings.photos import FaceSearch

    path = WEIGHTS / f"{model}.onnx"
    search = FaceSearch(detector=detector, weights=YUNET if detector == "yunet" else None)  # type: ignore[arg-type]
    embedder = load_embedder(path)
    align = partial(align_batch, make_detector=partial(detector_of, search), choose="best", min_face=20, size=112)
    wall: dict[str, list[float]] = {"align": [], "embed": [], "write": [], "enroll": []}
    busy: list[float] = []  # core seconds of both stages alone, as a share of the enrollment's
    with tempfile.TemporaryDirectory() as folder:
        source = write_photos(Path(folder) / "photos.zip", count)
        files = find_photos(source).photos
        for turn in range(turns + 1):
            start, cpu = time.perf_counter(), time.process_time()
            records = [record for some in on_cores(align, batches(files, BATCH)) for record in some]
            wall["align"].append(time.perf_counter() - start)
            crops = np.stack([decode_crop(record.crops[0].image) for record in records if record.crops])
            parts = [crops[at : at + BATCH] for at in range(0, len(crops), BATCH)]
            start = time.perf_counter()
            vectors = np.concatenate(list(on_cores(embedder.embed, parts)))
            wall["embed"].append(time.perf_counter() - start)
            cpu = time.process_time() - cpu
            wall["write"].append(_write_alone(Path(folder) / f"alone-{turn}", vectors))
            start, before = time.perf_counter(), time.process_time()
            summary = enroll(
                source,
                Path(folder) / f"gallery-{turn}",
                model=path,
                detector=detector,  # type: ignore[arg-type]
                weights=search.weights,
                accept_suspects=True,
                quiet=True,
            )
            wall["enroll"].append(time.perf_counter() - start)
            busy.append(cpu / (time.process_time() - before))
            assert summary.embedded == count, summary
    seconds = {name: values[1:] for name, values in wall.items()}  # the first turn warms up
    rates = {f"{name}_per_s": round(count / statistics.median(values), 1) for name, values in seconds.items()}
    shares = {
        "of_slowest_stage_alone_on_all_cores": lambda t: max(t["align"], t["embed"], t["write"]) / t["enroll"],
        # Two stages, a core each: alone on one core a stage takes as many times longer as there are cores.
        "of_slowest_stage_on_half_the_cores": lambda t: 2 * max(t["align"], t["embed"]) / t["enroll"],
        "of_what_the_cores_allow": lambda t: (t["align"] + t["embed"]) / t["enroll"],
    }
    rows = [dict(zip(seconds, values, strict=True)) for values in zip(*seconds.values(), strict=True)]
    return {
        "photos": count,
        **rates,
        **{name: round(statistics.median(share(row) for row in rows), 3) for name, share in shares.items()},
        "of_its_core_seconds": round(statistics.median(busy[1:]), 3),
    }


def _write_alone(folder: Path, vectors: Array) -> float:
    """Seconds to write the rows of so many photos as the enrollment does."""
    import pyarrow as pa

    from facekd.enrollment.photos import PART
    from facekd.gallery.photos import PhotoTable
    from facekd.gallery.place import Place

    folder.mkdir()
    start = time.perf_counter()
    table = PhotoTable(Place.of(folder), vectors.shape[1])
    for at in range(0, len(vectors), PART):
        rows = [
            {"person_id": str(number), "source": str(number), "status": "ok", "embedding": vector}
            for number, vector in enumerate(vectors[at : at + PART], at)
        ]
        table.put(pa.Table.from_pylist(rows, table.schema), new=True)
    return time.perf_counter() - start


def memory(quick: bool, largest: int) -> dict[str, Any]:
    """Greatest resident memory by number of photos, and a second run with nothing new."""
    counts = [100, 200] if quick else [count for count in (1_000, 4_000, 16_000, 50_000) if count <= largest]
    result: dict[str, Any] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            photos = write_photos(Path(folder) / "photos.zip", count)
            first, again = (_measured(photos, Path(folder) / "gallery", "yunet") for _ in range(2))
        times = round(first["seconds"] / again["seconds"], 1)
        result[str(count)] = {"first": first, "second": again, "second_is_faster_times": times}
    return result


def one_person(quick: bool, largest: int) -> dict[str, Any]:
    """Very many photos of one person: small crops, and a network of nothing but means."""
    del largest
    sys.path.insert(0, str(HERE.parent / "tests"))
    from people import pattern, write_model

    result = {}
    for count in (1_000, 2_000) if quick else (1_000, 10_000, 100_000):
        with tempfile.TemporaryDirectory() as folder:
            model = write_model(Path(folder) / "model.onnx", {1e-3: 0.8})
            with zipfile.ZipFile(Path(folder) / "photos.zip", "w") as archive:
                for number in range(count):
                    _, data = cv2.imencode(".png", pattern(1, number))
                    # The last is another person: a folder that holds all of an archive names nobody.
                    archive.writestr(f"{'one' if number < count - 1 else 'two'}/{number:06d}.png", data.tobytes())
            photos = Path(folder) / "photos.zip"
            first, again = (_measured(photos, Path(folder) / "gallery", "none", model) for _ in range(2))
            result[str(count)] = {"first": first, "second": again}
    return result


def _measured(photos: Path, gallery: Path, detector: str, model: Path | None = None) -> dict[str, float]:
    """`measure` in a process of its own."""
    code = (
        "import json, sys; from pathlib import Path; from _enroll_parts import measure; "
        "print(json.dumps(measure(*map(Path, sys.argv[1:4]), sys.argv[4])))"
    )
    model = model or WEIGHTS / "foamliu_mobilefacenet.onnx"
    command = [sys.executable, "-c", code, str(photos), str(gallery), str(model), detector]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def measure(photos: Path, gallery: Path, model: Path, detector: str) -> dict[str, float]:
    """``facekd enroll`` in this process: seconds, and greatest resident memory before and at the end, MiB."""
    import onnx  # noqa: F401

    from facekd.commands.enroll import enroll
    from facekd.enrollment import identification, plan  # noqa: F401  # loaded before the first figure, as the rest is
    from facekd.ingest.photos import load_embedder

    load_embedder(model)
    loaded = high_water()
    start = time.perf_counter()
    summary = enroll(
        photos,
        gallery,
        model=model,
        detector=detector,  # type: ignore[arg-type]
        weights=YUNET if detector == "yunet" else None,
        accept_suspects=True,
        quiet=True,
    )
    seconds = time.perf_counter() - start
    return {
        "embedded": summary.embedded,
        "people": summary.enrolled,
        "seconds": round(seconds, 2),
        "photos_per_s": round(sum(summary.statuses.values()) / seconds, 1),
        "loaded_MiB": loaded,
        "peak_MiB": high_water(),
    }
