"""The parts of ``align.py`` that run the whole stage: all of LFW, cost against number, area-correct warping."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facekd.core.geometry import warp
from facekd.core.types import Array, Photo
from facekd.faces.align import align_face
from facekd.faces.detect import load_detector

DATA = Path(__file__).parents[2] / "shared" / "data"
TEACHERS = ("w600k_mbf", "sface_2021dec")


def all_of_lfw(detector: str) -> dict[str, Any]:
    """Every photo of LFW through `detector`: its ledger, and the accuracy of both external teachers on the crops."""
    from facekd.commands.align import align
    from facekd.commands.verify import verify
    from facekd.crops.store import CropStore

    with tempfile.TemporaryDirectory() as folder:
        crops = Path(folder) / "crops"
        start = time.perf_counter()
        summary = align(DATA / "lfw.zip", crops, detector=detector, quiet=True)  # type: ignore[arg-type]
        seconds = time.perf_counter() - start
        rates = Path(folder) / "rates.json"
        verify(
            model=[DATA / "weights" / f"{name}.onnx" for name in TEACHERS],
            pairs=DATA / "lfw_pairs.txt",
            crops=crops,
            json=rates,
            out=Path(folder) / "verify",
            quiet=True,
        )
        rows = len(CropStore.open(crops).ledger())
        models = json.loads(rates.read_text())["models"]
    return {
        "photos": summary.photos,
        "ledger_rows": rows,
        "statuses": summary.statuses,
        "ok_share": round((summary.photos - summary.failed) / summary.photos, 5),
        "photos_per_s": round(summary.photos / seconds, 1),
        "lfw_accuracy": {name: one["accuracy"]["mean"] for name, one in zip(TEACHERS, models, strict=True)},
    }


def cost(count: int) -> dict[str, float]:
    """Speed and greatest resident memory of ``facekd align`` for `count` photos: LFW again and again.

    A few bytes after the end of each JPEG make every photo another one, so that none is a duplicate.
    """
    with tempfile.TemporaryDirectory() as folder:
        photos = Path(folder) / "photos.zip"
        with zipfile.ZipFile(DATA / "lfw.zip") as lfw, zipfile.ZipFile(photos, "w") as archive:
            names = sorted(name for name in lfw.namelist() if name.lower().endswith(".jpg"))
            for number in range(count):
                data = lfw.read(names[number % len(names)])
                archive.writestr(f"{number % 1000:03d}/{number:06d}.jpg", data + number.to_bytes(4, "big"))
        code = (
            "import json, sys, time; from pathlib import Path; from _align_stage import measured; "
            "print(json.dumps(measured(Path(sys.argv[1]), Path(sys.argv[2]))))"
        )
        command = [sys.executable, "-c", code, str(photos), str(Path(folder) / "crops")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
        return dict(json.loads(done.stdout.splitlines()[-1]))


def measured(photos: Path, out: Path) -> dict[str, float]:
    """``facekd align`` in this process: photos aligned in a second, and memory before and at its greatest."""
    from facekd.commands.align import align
    from facekd.ingest.alignment import detector_of
    from facekd.settings.photos import FaceSearch

    detector_of(FaceSearch())
    loaded = high_water()
    start = time.perf_counter()
    summary = align(photos, out, quiet=True)
    seconds = time.perf_counter() - start
    assert "duplicate" not in summary.statuses, summary.statuses
    return {
        "photos": summary.photos,
        "photos_per_s": round(summary.photos / seconds, 1),
        "loaded_MiB": loaded,
        "peak_MiB": high_water(),
    }


def area_step() -> dict[str, Any]:
    """Do crops of a large photo show the same person as crops of that photo shrunk beforehand?

    Faces of group-photos.zip that are larger than their crop are warped to 112 pixels from the photo, and from the
    photo shrunk (area average) to the crop's scale. The cosine of the two embeddings is taken with the area step of
    ``core.geometry.warp`` and with bilinear sampling alone.
    """
    from facekd.deploy.embedder import CropEmbedder

    embedders = {name: CropEmbedder.load(DATA / "weights" / f"{name}.onnx", None) for name in TEACHERS}
    detect = load_detector("yunet")
    result: dict[str, Any] = {}
    for least in (1.5, 2, 3):
        crops: dict[str, list[Array]] = {"area": [], "bilinear": [], "shrunk": []}
        for photo, faces, place in every_face(detect):
            face = align_face(photo, faces.boxes[place], faces.landmarks[place])
            times = 1 / float(np.sqrt(np.linalg.det(face.matrix[:, :2])))
            if times < least:
                continue
            crops["area"].append(face.pixels)
            crops["bilinear"].append(cv2.warpAffine(photo.pixels, face.matrix, (112, 112), flags=cv2.INTER_LINEAR))
            height, width = photo.pixels.shape[:2]
            size = (round(width / times), round(height / times))
            small = cv2.resize(photo.pixels, size, interpolation=cv2.INTER_AREA)
            x, y = width / size[0], height / size[1]  # small -> photo
            back = np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])
            crops["shrunk"].append(warp(small, face.matrix @ back, 112))
        report: dict[str, Any] = {"faces": len(crops["area"])}
        for name, embedder in embedders.items() if crops["area"] else ():
            vectors = {kind: embedder.embed(np.stack(pixels)) for kind, pixels in crops.items()}
            for kind in ("area", "bilinear"):
                cosines = (vectors[kind] * vectors["shrunk"]).sum(axis=1)
                report[f"{name}_{kind}"] = {
                    "median": round(float(np.median(cosines)), 4),
                    "least": round(float(cosines.min()), 4),
                }
        result[f"photo_at_least_{least}_times_the_crop"] = report
    return result


def every_face(detect: Any) -> Any:
    """Each face found in the group photos: its photo, all faces of that, and its place among them."""
    with zipfile.ZipFile(DATA / "group-photos.zip") as archive:
        for name in sorted(name for name in archive.namelist() if name.lower().endswith(".jpg")):
            pixels = cv2.imdecode(np.frombuffer(archive.read(name), np.uint8), cv2.IMREAD_COLOR_RGB)
            (faces,) = detect([pixels])
            for place in range(len(faces)):
                yield Photo(pixels, name, "0" * 64), faces, place


def high_water() -> float:
    """Greatest resident memory of this process so far, in MiB.

    Not ``getrusage``: its ``ru_maxrss`` is handed down by the parent, so a small child shows its parent's peak.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return round(next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024)
