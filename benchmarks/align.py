"""Alignment: detectors against facenet-pytorch and marked boxes; all of LFW; cost against number; area-correct warping.

    python benchmarks/align.py [--only PART ...]

writes ``results/align.json``. The parts, each of some minutes: ``detectors``, ``lfw_mtcnn``, ``lfw_yunet``,
``cost_1000``, ``cost_4000``, ``cost_16000``, ``area``. With --only the other parts in the file stay as they were.

In ``detectors`` every ratio comes from one run in which the detectors take turns, some photos
at a time; the median is over these turns. Photos are decoded beforehand. Both cores: facenet-pytorch spreads
each network over torch's threads, the others work on several photos at once.

Run it when nothing else runs. Beside other work facenet-pytorch's two threads wait for each other and its speed
can fall to a tenth, which would flatter every ratio. So each race notes ``cores_used_by_others``, and a ratio
measured while the cores were not free is null.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import io
import json
import os
import statistics
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from facekd.core.types import Array, Faces
from facekd.faces.detect import NAMES, load_detector

DATA = Path(__file__).parents[2] / "shared" / "data"
SETS = {"lfw": "lfw.zip", "groups": "group-photos.zip"}
TURN = {"lfw": 20, "groups": 6}  # photos a turn
PARTS = ("detectors", "lfw_mtcnn", "lfw_yunet", "cost_1000", "cost_4000", "cost_16000", "area")
LEAST = 20  # pixels; marked boxes with a shorter side below it are ignored


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=int, default=1000, help="photos of lfw.zip, spread over it")
    parser.add_argument("--groups", type=int, default=134, help="photos of group-photos.zip")
    parser.add_argument("--memory-of", nargs=2, metavar=("DETECTOR", "SET"), help=argparse.SUPPRESS)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    arguments = parser.parse_args()
    counts = {"lfw": arguments.photos, "groups": arguments.groups}
    if arguments.memory_of:
        print(json.dumps(peak_memory(*arguments.memory_of, counts[arguments.memory_of[1]])))
        return
    from _align_stage import all_of_lfw, area_step, cost

    for part in arguments.only:
        kind, _, which = part.partition("_")
        load = round(os.getloadavg()[0], 2)  # of the minute before
        if kind == "detectors":
            result = detectors(counts)
        elif kind == "lfw":
            result = all_of_lfw(which)
        elif kind == "cost":
            result = cost(int(which))
        else:
            result = area_step()
        result["measured"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        result["load_average"] = load
        keep(part, result)
        print(json.dumps({part: result}, indent=2))


def keep(part: str, result: dict[str, Any]) -> None:
    """Put one part into ``results/align.json``, and what follows from several once they are there."""
    from _record import RESULTS, record

    path = RESULTS / "align.json"
    parts = json.loads(path.read_text())["result"] if path.exists() else {}
    parts[part] = result
    if {"lfw_mtcnn", "lfw_yunet"} <= parts.keys():
        mtcnn, yunet = (parts[f"lfw_{name}"]["lfw_accuracy"] for name in ("mtcnn", "yunet"))
        parts["lfw_points_mtcnn_above_yunet"] = {name: round(100 * (mtcnn[name] - yunet[name]), 3) for name in mtcnn}
    record("align", {name: parts[name] for name in (*PARTS, "lfw_points_mtcnn_above_yunet") if name in parts})


def detectors(counts: dict[str, int]) -> dict[str, Any]:
    """Speed, agreement, memory and recall of every detector."""
    result: dict[str, Any] = {"min_face": LEAST, "photos": counts}
    for name, count in counts.items():
        names, photos = read(name, count)
        for threads in (1, 2):
            faces, result[f"{name}_{threads}_cores"] = race(photos, TURN[name], threads)
        result[f"{name}_agreement"] = agreement(faces["facenet"], faces["mtcnn"])
        result[f"{name}_agreement_of_yunet"] = agreement(faces["facenet"], faces["yunet"])
        result[f"{name}_memory_MiB"] = {detector: memory(detector, name, count) for detector in NAMES}
        if name == "groups":
            truth = marked_boxes()
            result["groups_marked"] = {
                detector: against_marks(found, [truth[photo] for photo in names]) for detector, found in faces.items()
            }
    return result


def read(name: str, count: int) -> tuple[list[str], list[Array]]:
    """Names and uint8[H, W, 3] RGB pixels of `count` photos spread evenly over a set."""
    with zipfile.ZipFile(DATA / SETS[name]) as archive:
        every = sorted(member for member in archive.namelist() if member.lower().endswith(".jpg"))
        chosen = [every[index] for index in np.linspace(0, len(every) - 1, min(count, len(every))).astype(int)]
        return chosen, [
            cv2.imdecode(np.frombuffer(archive.read(member), np.uint8), cv2.IMREAD_COLOR_RGB) for member in chosen
        ]


def detector(name: str, threads: int) -> Any:
    return load_detector(name, min_face=LEAST, threads=threads)


def race(photos: list[Array], turn: int, threads: int) -> tuple[dict[str, list[Faces]], dict[str, Any]]:
    """What each detector finds, and how fast, taking turns over the same photos."""
    cv2.setNumThreads(1)  # what is raced is photos on as many cores as are given
    run = {name: detector(name, threads) for name in NAMES}
    for detect in run.values():
        detect(photos[:turn])
    found: dict[str, list[Faces]] = {name: [] for name in NAMES}
    wall: dict[str, list[float]] = {name: [] for name in NAMES}
    busy = dict.fromkeys(NAMES, 0.0)
    started, ours, everyone = time.perf_counter(), time.process_time(), busy_seconds()
    for start in range(0, len(photos), turn):
        part = photos[start : start + turn]
        for name, detect in run.items():
            before, cpu = time.perf_counter(), time.process_time()
            found[name] += detect(part)
            wall[name].append((time.perf_counter() - before) / len(part))
            busy[name] += time.process_time() - cpu
    others = busy_seconds() - everyone - (time.process_time() - ours)
    taken = others / (time.perf_counter() - started)
    free = taken + threads <= (os.cpu_count() or 1) + 0.1
    report: dict[str, Any] = {"cores_used_by_others": round(taken, 2)}
    for name in NAMES:
        ratio = statistics.median(a / b for a, b in zip(wall["facenet"], wall[name], strict=True))
        report[name] = {
            "photos_per_s": round(1 / statistics.median(wall[name]), 2),
            "cpu_ms_per_photo": round(1e3 * busy[name] / len(photos), 2),
            "times_facenet": round(ratio, 2) if free else None,
            "faces": sum(map(len, found[name])),
        }
    return found, report


def agreement(reference: list[Faces], ours: list[Faces]) -> dict[str, float | int]:
    """How many of the reference's faces are found (IoU > 0.7), and how far their landmarks are apart."""
    total, distances = 0, []
    for theirs, mine in zip(reference, ours, strict=True):
        total += len(theirs)
        if len(theirs) and len(mine):
            iou = overlap(theirs.boxes, mine.boxes)
            best = iou.argmax(axis=1)
            apart = np.linalg.norm(theirs.landmarks - mine.landmarks[best], axis=2).mean(axis=1)
            distances += apart[iou.max(axis=1) > 0.7].tolist()
    return {
        "reference_faces": total,
        "our_faces": sum(map(len, ours)),
        "found_share": len(distances) / total,
        "landmarks_mean_px": float(np.mean(distances)),
        "landmarks_max_px": float(np.max(distances)),
    }


def against_marks(found: list[Faces], truth: list[tuple[Array, Array]]) -> dict[str, float | int]:
    """Recall and precision at IoU >= 0.5, best score first; a find on an ignored box counts neither way."""
    hits = wanted = false = 0
    for faces, (boxes, ignored) in zip(found, truth, strict=True):
        wanted += int((~ignored).sum())
        free = np.ones(len(boxes), bool)
        for index in np.argsort(-faces.scores, kind="stable"):
            iou = overlap(faces.boxes[index : index + 1], boxes)[0] * free
            best = int(iou.argmax()) if len(boxes) else 0
            if len(boxes) and iou[best] >= 0.5:
                free[best] = False
                hits += int(not ignored[best])
            else:
                false += 1
    return {
        "marked": wanted,
        "recall": round(hits / wanted, 4),
        "precision": round(hits / (hits + false), 4),
        "false": false,
    }


def marked_boxes() -> dict[str, tuple[Array, Array]]:
    """For each photo its marked float[n, 4] boxes and bool[n]: too small or, for the annotators, not to be judged."""
    rows: dict[str, list[list[float]]] = {}
    with zipfile.ZipFile(DATA / SETS["groups"]) as archive:
        text = archive.read("group-photos/boxes.csv").decode()
    for row in csv.DictReader(io.StringIO(text)):
        x, y, w, h = (float(row[key]) for key in "xywh")
        ignored = min(w, h) < LEAST or row["invalid"] == "1"
        rows.setdefault(f"group-photos/{row['file']}", []).append([x, y, x + w, y + h, ignored])
    tables = {photo: np.array(values) for photo, values in rows.items()}
    return {photo: (table[:, :4], table[:, 4] > 0) for photo, table in tables.items()}


def overlap(a: Array, b: Array) -> Array:
    """float[n, m] intersection over union."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    inter = sides.clip(0).prod(axis=2)
    area_a, area_b = (a[:, 2:] - a[:, :2]).prod(axis=1), (b[:, 2:] - b[:, :2]).prod(axis=1)
    return np.asarray(inter / (area_a[:, None] + area_b - inter))


def memory(name: str, photos: str, count: int) -> dict[str, float]:
    """`peak_memory` in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name, photos]
    command += ["--photos", str(min(count, 400)), "--groups", str(min(count, 60))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def peak_memory(name: str, photos: str, count: int) -> dict[str, float]:
    """Greatest resident memory of this process in MiB, with the libraries and photos loaded and after detecting."""
    _, pixels = read(photos, count)
    from _align_stage import high_water

    detect = detector(name, 2)
    loaded = high_water()
    for start in range(0, len(pixels), TURN[photos]):
        detect(pixels[start : start + TURN[photos]])
    return {"loaded": loaded, "peak": high_water()}


def busy_seconds() -> float:
    """Core seconds that all processes of the machine have worked since it started."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
