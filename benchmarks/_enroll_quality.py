"""The parts of ``enroll.py`` about quality: what weighting photos gains, and what refused photos would cost."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.compute as pc
from _enroll_parts import DATA, WEIGHTS, YUNET, lfw_names

from facekd.core.types import Array


def fusion(quick: bool, largest: int) -> dict[str, Any]:
    """What weights by quality gain over the plain mean."""
    del largest
    names = lfw_names(240 if quick else 100_000, 4)
    others = [] if quick else lfw_names(1_500)
    result: dict[str, Any] = {}
    for model in ("foamliu_mobilefacenet", "w600k_mbf"):
        for spoilt in (False, True):
            photos = _embedded(model, sorted({*names, *others}), spoilt)
            result[f"{model} {'every other photo spoilt' if spoilt else 'as they are'}"] = _weighted(photos, quick)
    return result


def _embedded(model: str, names: list[str], spoilt: bool) -> dict[str, Any]:
    """The embeddings and quality of photos; of those to be enrolled every other one is spoilt, where that is asked."""
    from facekd.engines.mapper import on_cores
    from facekd.faces.align import align_face, choose, eye_distance, pose
    from facekd.faces.detect import load_detector
    from facekd.ingest.photos import load_embedder
    from facekd.photos.decode import decode

    detect = load_detector("yunet", weights=YUNET, threads=1)
    embedder = load_embedder(WEIGHTS / f"{model}.onnx")
    seen: dict[str, int] = {}
    jobs = []
    for name in names:
        person = name.split("/")[-2]
        seen[person] = place = seen.get(person, -1) + 1
        jobs.append((name, person, place))
    archive = zipfile.ZipFile(DATA / "lfw.zip")

    def work(job: tuple[str, str, int]) -> dict[str, Any] | None:
        name, person, place = job
        photo = decode(archive.read(name), name)
        pixels = photo.pixels
        if spoilt and place % 4 == 0:  # of the enrolled ones, which are the even ones, every other
            small = cv2.resize(pixels, None, fx=0.22, fy=0.22, interpolation=cv2.INTER_AREA)
            pixels = cv2.resize(small, pixels.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        photo = type(photo)(pixels, name, photo.sha256)
        faces = detect([pixels])[0]
        if len(faces) == 0:
            return None
        (face,) = choose(faces, pixels.shape[:2], "best")
        crop = align_face(photo, faces.boxes[face], faces.landmarks[face])
        return {
            "person": person,
            "enrolled": place % 2 == 0,
            "vector": embedder.embed(crop.pixels[None])[0],
            "sharpness": crop.quality,
            "score": float(faces.scores[face]),
            "eyes": eye_distance(faces.landmarks[face]),
            "yaw": abs(pose(faces.landmarks[face])[0]),
        }

    rows = [row for row in on_cores(work, jobs) if row is not None]
    return {key: np.array([row[key] for row in rows]) for key in rows[0]}


def _weighted(photos: dict[str, Any], quick: bool) -> dict[str, Any]:
    from facekd.rates.identification import search, tpir_at_fpir

    names, count = np.unique(photos["person"], return_counts=True)
    mated = names[count >= 4]
    known = np.isin(photos["person"], mated[::2])  # the other half of the people are strangers
    enrolled = known & photos["enrolled"]
    fpir = 0.1 if quick else 0.01
    weights = {
        "plain mean": np.ones(len(photos["person"])),
        "by sharpness": photos["sharpness"],
        "by log sharpness": np.log1p(photos["sharpness"]),
        "by detector score": photos["score"],
        "by cosine of yaw": np.cos(photos["yaw"]),
        "by sharpness, score and yaw": photos["sharpness"] * photos["score"] * np.cos(photos["yaw"]),
    }
    people = np.unique(photos["person"][enrolled])
    place = np.searchsorted(people, photos["person"][enrolled])
    hits: dict[str, Array] = {}
    rates: dict[str, Any] = {}
    probes = ~enrolled
    for name, weight in weights.items():
        total = np.zeros((len(people), photos["vector"].shape[1]))
        np.add.at(total, place, photos["vector"][enrolled] * weight[enrolled, None])
        templates = (total / np.linalg.norm(total, axis=1, keepdims=True)).astype(np.float32)
        searches = search(templates, people, photos["vector"][probes], photos["person"][probes])
        rate = tpir_at_fpir(searches, fpir)
        ok = (searches.rank == 1) & (searches.mate >= (rate.threshold or np.inf))
        hits[name] = ok[searches.mated]
        genuine = searches.mate[searches.mated]
        rates[name] = {
            "tpir": rate.tar,
            "low": rate.low,
            "high": rate.high,
            "mean_genuine_score": round(float(genuine.mean()), 4),
            "least_1_percent": round(float(np.quantile(genuine, 0.01)), 4),
        }
    owners = photos["person"][probes][searches.mated]
    for name in weights:
        if name != "plain mean":
            rates[name]["gain"] = _difference(hits["plain mean"], hits[name], owners)
    size = {"people": len(people), "enrolled_photos": int(enrolled.sum()), "probes_mated": len(owners)}
    return {**size, "probes_unmated": int(probes.sum() - len(owners)), "fpir": fpir, "by_weight": rates}


def _difference(plain: Array, other: Array, owners: Array) -> dict[str, float]:
    """Points gained, with a 95 % interval: people are drawn anew, with all their probes."""
    people, place = np.unique(owners, return_inverse=True)
    gain = np.bincount(place, other.astype(float) - plain, len(people))
    size = np.bincount(place, minlength=len(people))
    rng = np.random.default_rng(0)
    draws = [rng.integers(0, len(people), len(people)) for _ in range(2000)]
    means = [100 * gain[draw].sum() / size[draw].sum() for draw in draws]
    low, high = np.quantile(means, [0.025, 0.975])
    return {"points": round(100 * gain.sum() / size.sum(), 3), "low": round(low, 3), "high": round(high, 3)}


def suspects(quick: bool, largest: int) -> dict[str, Any]:
    """Who is held back at which threshold."""
    del largest
    from facekd.commands.enroll import enroll
    from facekd.gallery.photos import PhotoTable
    from facekd.gallery.place import Place

    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        photos = DATA / "lfw.zip"
        if quick:
            photos = Path(folder) / "some.zip"
            with zipfile.ZipFile(DATA / "lfw.zip") as lfw, zipfile.ZipFile(photos, "w") as archive:
                for name in lfw_names(150, 2):
                    archive.writestr(name, lfw.read(name))
        gallery = Path(folder) / "gallery"
        how: dict[str, Any] = {
            "model": WEIGHTS / "w600k_mbf.onnx",
            "detector": "yunet",
            "weights": YUNET,
            "quiet": True,
        }
        # Everybody is held back, so that each of the dry runs judges the same photos of people who are all new.
        everyone = enroll(photos, gallery, suspect_threshold=1.0, **how)
        rows = PhotoTable(Place.of(gallery), 512).table.to_arrow()
        rows = rows.filter(pc.equal(rows["status"], "ok"))
        persons = np.array(rows["person_id"].to_pylist())
        vectors = rows["embedding"].combine_chunks().flatten().to_numpy().reshape(len(rows), -1)
        result |= {"people": len(set(persons)), "photos": len(persons), "statuses_at_1": everyone.statuses}
        for threshold in (0.2, 0.25, 0.3, 0.35, 0.4):
            found = enroll(photos, gallery, suspect_threshold=threshold, dry_run=True, **how)
            kinds = [one.kind for one in found.suspects]
            result[str(threshold)] = {
                **_pair_rates(vectors, persons, threshold),
                "held_back": len(found.held_back),
                "pairs_of_ids": kinds.count("two_ids"),
                "odd_photos": kinds.count("two_people"),
            }
    return result


def _pair_rates(vectors: Array, persons: Array, threshold: float) -> dict[str, float]:
    accepted, total = np.zeros(2, np.int64), np.zeros(2, np.int64)
    for start in range(0, len(vectors), 1024):
        block = vectors[start : start + 1024] @ vectors.T
        later = np.arange(len(vectors)) > np.arange(start, start + len(block))[:, None]
        same = persons[start : start + 1024, None] == persons
        for kind, chosen in enumerate((later & same, later & ~same)):
            accepted[kind] += int((block[chosen] >= threshold).sum())
            total[kind] += int(chosen.sum())
    return {"far": float(accepted[1] / total[1]), "frr": float(1 - accepted[0] / total[0])}


def gate(quick: bool, largest: int) -> dict[str, Any]:
    """What photos cost that the gate would refuse: the TAR of pairs with one such photo, at the FAR of all pairs."""
    del largest
    from facekd.engines.mapper import on_cores
    from facekd.faces.align import align_face, choose, eye_distance, pose
    from facekd.faces.detect import load_detector
    from facekd.ingest.photos import load_embedder
    from facekd.photos.decode import decode
    from facekd.rates.counts import curve
    from facekd.rates.rates import rate_at

    names = lfw_names(120 if quick else 1_600, 4)
    detect = load_detector("yunet", weights=YUNET, threads=1)
    embedder = load_embedder(WEIGHTS / "w600k_mbf.onnx")
    archive = zipfile.ZipFile(DATA / "lfw.zip")

    def work(job: tuple[str, float | None]) -> dict[str, Any] | None:
        name, eyes = job
        photo = decode(archive.read(name), name)
        pixels = photo.pixels
        if eyes is not None:
            scale = eyes / 42.0  # LFW's own distance, near enough: what comes out is measured
            pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        faces = detect([pixels])[0]
        if len(faces) == 0:
            return None
        (face,) = choose(faces, pixels.shape[:2], "best")
        crop = align_face(type(photo)(pixels, name, photo.sha256), faces.boxes[face], faces.landmarks[face])
        return {
            "person": name.split("/")[-2],
            "vector": embedder.embed(crop.pixels[None])[0],
            "eyes": eye_distance(faces.landmarks[face]),
            "yaw": abs(np.rad2deg(pose(faces.landmarks[face])[0])),
            "score": float(faces.scores[face]),
        }

    def columns(jobs: list[tuple[str, float | None]]) -> dict[str, Any]:
        rows = [row for row in on_cores(work, jobs) if row is not None]
        return {key: np.array([row[key] for row in rows]) for key in rows[0]}

    whole = columns([(name, None) for name in names])
    upper = np.triu_indices(len(whole["person"]), 1)
    scores = (whole["vector"] @ whole["vector"].T)[upper]
    same = (whole["person"][:, None] == whole["person"])[upper]
    every = rate_at(curve(scores, same), 1e-3)
    assert every.threshold is not None
    result: dict[str, Any] = {"photos": len(names), "threshold": every.threshold, "tar": every.tar, "far": 1e-3}

    def tar(photos: dict[str, Any], chosen: Array) -> dict[str, float]:
        """Of pairs of a chosen photo with a whole one of the same person, another photo."""
        cosines = photos["vector"][chosen] @ whole["vector"].T
        genuine = (photos["person"][chosen][:, None] == whole["person"]) & (cosines < 0.999)
        hits = cosines[genuine] >= every.threshold
        return {
            "photos": int(chosen.sum()),
            "pairs": len(hits),
            "tar": round(float(hits.mean()), 4) if len(hits) else -1,
        }

    for eyes in (8, 12, 16, 20, 28):
        small = columns([(name, float(eyes)) for name in names])
        found = {"found_share": round(len(small["person"]) / len(names), 4)}
        median = {"median_eyes": round(float(np.median(small["eyes"])), 1)}
        result[f"eyes {eyes}"] = {**found, **median, **tar(small, np.ones(len(small["person"]), bool))}
    for low, high in ((0, 15), (15, 30), (30, 45), (45, 60), (60, 90)):
        result[f"yaw {low}-{high}"] = tar(whole, (whole["yaw"] >= low) & (whole["yaw"] < high))
    for low, high in ((0.0, 0.8), (0.8, 0.9), (0.9, 0.95), (0.95, 1.01)):
        result[f"score {low}-{high}"] = tar(whole, (whole["score"] >= low) & (whole["score"] < high))
    return result
