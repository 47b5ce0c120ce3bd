"""Whether a gallery keeps what it promises of one search: strangers named, people missed, mix-ups found.

    python benchmarks/open_set.py --work DIR            # 25 minutes on two cores; writes results/open_set.json
    python benchmarks/open_set.py --work DIR --quick    # two minutes, few people, prints only

Promise: N people of LFW or CelebA (three crops of each) are enrolled, by all of their photos but one or by one; the
left-out photos and one photo of each of up to 4,000 strangers are the searches. The threshold is the gallery's own for
an FPIR of 1 %. TPIR is the share of searches by enrolled people that name the right one. Each N is drawn TRIALS times.
The network's known thresholds were measured on LFW and on 1,358 of CelebA's people, so these are no strangers to it;
another row leaves that knowledge out.

Staff: photos of LFW, everything by default through the commands. Mix-ups: 779 people of LFW, 40 mistakes planted among
them; what else is suspected counts as a false alarm, unless w600k_mbf, which decides nothing here, doubts the same
photo at its threshold for a FAR of 1 %: LFW has wrong labels.
"""

from __future__ import annotations

import argparse
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from _celeba import DATA, read_celeba, write_set
from _record import record
from thresholds import ONE_PERSON

from facekd.api import Embedder
from facekd.commands.align import align
from facekd.commands.embed import embed
from facekd.commands.enroll import enroll
from facekd.commands.identify import identify
from facekd.console import say
from facekd.core.types import Array
from facekd.deploy.default import default_model
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.embeddings import read_embeddings
from facekd.deploy.thresholds import known_thresholds
from facekd.enrollment.calibration import FPIR, scores_of
from facekd.gallery.people import template_of
from facekd.rates.intervals import wilson
from facekd.rates.open_set import WEIGHT, Fit, Tail, cohort_levels, far_for, fpir_interval

SIZES = {"lfw": (100, 400, 779), "celeba": (100, 400, 779, 4000)}
TRIALS, LARGE_TRIALS = 30, 6  # the latter of more than 1,000 people
STRANGERS = 4000
CROPS = 3  # of each of CelebA's people
PEOPLE, KNOWN, UNKNOWN = 500, 400, 100  # of the staff list: enrolled, of whom searched for, strangers
LISTED, TWICE, STRAY, SWAPPED = 779, 16, 14, 10  # people, and mistakes of each kind
ONE = {"default": 0.75, "w600k_mbf": 0.65}  # cosine of two people's means from which they are one
MIDDLE = 500  # x1 + y1 + x2 + y2 of a face in the middle of 250 pixels
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="few people and trials, prints only")
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"promise": {}}
    models = {"default": default_model(), "w600k_mbf": asked.data / "weights" / "w600k_mbf.onnx"}
    for people in ("lfw", "celeba"):
        faces = {name: Faces(asked, people, name, model) for name, model in models.items()}
        twice = doubles(faces)
        result["promise"][f"labels of {people} left out, another one's person"] = len(twice)
        for name, model in models.items():
            known = Tail.of(known_thresholds(CropEmbedder.load(model).contract))
            faces[name].people = [own for place, own in enumerate(faces[name].people) if place not in twice]
            sizes = [size for size in SIZES[people] if size < 400 or not asked.quick]
            result["promise"][f"{name}, {people}"] = [
                row for size in sizes for row in promises(faces[name], size, known, 3 if asked.quick else TRIALS)
            ]
    result["staff"] = staff(asked)
    result["mix-ups"] = mix_ups(asked)
    if not asked.quick:
        record("open_set", result)


class Faces:
    """The embeddings of a set's photos, by person; embedded once into the work folder."""

    def __init__(self, asked: argparse.Namespace, people: str, name: str, model: Path) -> None:
        path = asked.work / f"{people}{'-quick' if asked.quick else ''}.{name}.npz"
        if not path.exists():
            embed(crops_of(asked, people), path, model=model)
        held = read_embeddings(path)
        names = [held.identities[row] if held.identities is not None else None for row in range(len(held.sources))]
        self.vectors = held.embeddings.vectors
        rows: dict[str, list[int]] = defaultdict(list)
        for row, (source, identity) in enumerate(zip(held.sources, names, strict=True)):
            rows[identity or source.rsplit("/", 1)[-1].rsplit("_", 1)[0]].append(row)
        for one, other in ONE_PERSON[people]:  # a label that shows another's person
            rows.pop(other, None) if one in rows else None
        self.people = [np.array(own) for _, own in sorted(rows.items())]


def doubles(faces: dict[str, Faces]) -> set[int]:
    """The second of each two labels whose photos every network takes for one person.

    Both means score at least ONE there, far above either network's threshold for a FAR of 1e-6:
    CelebA's names were collected by machine, and between 0.5 and ONE there are few couples, above it dozens.
    """
    means = {}
    for name, some in faces.items():
        sums = np.stack([some.vectors[own].sum(axis=0) for own in some.people])
        means[name] = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    alike = [mean @ mean.T >= ONE[name] for name, mean in means.items()]
    _, second = np.nonzero(np.triu(np.logical_and.reduce(alike), 1))
    return set(second.tolist())


def crops_of(asked: argparse.Namespace, people: str) -> Path:
    path: Path = asked.work / f"{people}{'-quick' if asked.quick else ''}"
    if people == "celeba":
        table = read_celeba(asked.data)
        count: Counter[str] = Counter()
        kept = []
        for place, person in enumerate(table["identity"].to_pylist()[: 3000 if asked.quick else None]):
            count[person] += 1
            kept += [place] if count[person] <= CROPS else []
        return write_set(table.take(kept), path.with_suffix(".parquet"))
    photos = asked.data / "lfw.zip"
    if asked.quick:
        with zipfile.ZipFile(photos) as archive, zipfile.ZipFile(asked.work / "few.zip", "w") as few:
            for name in sorted(archive.namelist())[:1500]:
                few.writestr(name, archive.read(name))
        photos = asked.work / "few.zip"
    align(photos, path)
    return path


def promises(faces: Faces, size: int, known: Tail | None, trials: int) -> Iterator[dict[str, Any]]:
    """FPIR and TPIR at the gallery's own threshold, over draws of people."""
    rng = np.random.default_rng(SEED)
    several = [place for place, own in enumerate(faces.people) if len(own) > 1]
    if size > len(several):
        return
    for photos, tail in (("all but one", known), ("one", known), ("all but one", None)):
        rows = []
        for _ in range(trials if size < 1000 else min(trials, LARGE_TRIALS)):
            enrolled = rng.choice(several, size, replace=False)
            strangers = rng.permutation(np.setdiff1d(np.arange(len(faces.people)), enrolled))[:STRANGERS]
            rows.append(searched(faces, enrolled, strangers, photos, tail, rng))
        found = [row for row in rows if row is not None]
        if not found:
            continue
        columns = {key: np.array([row[key] for row in found]) for key in found[0]}
        row = {
            "people": size,
            "photos of each": photos,
            "network": "known" if tail is not None else "unknown",
            "draws": len(found),
            "fpir": float(columns["fpir"].mean()),
            "fpir_least": float(columns["fpir"].min()),
            "fpir_most": float(columns["fpir"].max()),
            "interval": [float(columns["low"].mean()), float(columns["high"].mean())],
            "share of draws within the interval": float(columns["within"].mean()),
            "tpir": float(columns["tpir"].mean()),
            "misnamed": float(columns["misnamed"].mean()),
            "threshold": float(columns["threshold"].mean()),
        }
        say(", ".join(f"{key} {value}" for key, value in row.items()))
        yield row


def searched(
    faces: Faces, enrolled: Array, strangers: Array, photos: str, known: Tail | None, rng: np.random.Generator
) -> dict[str, float] | None:
    templates, own, probes = [], [], []
    for place in enrolled:
        rows = rng.permutation(faces.people[place])
        used = rows[1:] if photos == "all but one" else rows[1:2]
        template = template_of(faces.vectors[used].astype(np.float64).sum(axis=0))
        assert template is not None
        templates.append(template)
        own.append(faces.vectors[used])
        probes.append(faces.vectors[rows[0]])
    gallery = np.stack(templates)
    measured = scores_of(gallery, enumerate(own), known)
    if measured is None:
        return None
    tail = Tail.of(measured.tail)
    assert tail is not None
    size = len(enrolled)
    threshold = float(tail.cosine(far_for(FPIR, size)))
    low, high = fpir_interval(Fit(tail, measured.sd), threshold, size)
    searches = faces.vectors[[rng.choice(faces.people[place]) for place in strangers]] @ gallery.T
    scores = np.stack(probes) @ gallery.T
    right = scores.argmax(axis=1) == np.arange(size)
    named = scores.max(axis=1) >= threshold + WEIGHT * (cohort_levels(scores) - measured.level)
    fpir = float((searches.max(axis=1) >= threshold + WEIGHT * (cohort_levels(searches) - measured.level)).mean())
    least, most = wilson(fpir * len(strangers), len(strangers))  # of the strangers drawn
    return {
        "fpir": fpir,
        "low": low,
        "high": high,
        "within": float(least <= high and low <= most),
        "tpir": float((named & right).mean()),
        "misnamed": float((named & ~right).mean()),
        "threshold": threshold,
    }


def lfw_people(asked: argparse.Namespace, least: int) -> list[list[bytes]]:
    """The photos of LFW's people with at least so many, drawn by SEED."""
    with zipfile.ZipFile(asked.data / "lfw.zip") as archive:
        names: dict[str, list[str]] = defaultdict(list)
        for name in sorted(archive.namelist()):
            if name.endswith(".jpg"):
                names[name.split("/")[-2]].append(name)
        for one, other in ONE_PERSON["lfw"]:
            names.pop(other, None) if one in names else None
        chosen = [own for own in names.values() if len(own) >= least]
        order = np.random.default_rng(SEED).permutation(len(chosen))
        return [[archive.read(name) for name in chosen[place]] for place in order]


def write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def staff(asked: argparse.Namespace) -> dict[str, Any]:
    """500 people by one photo each, all defaults: who is enrolled, who is named."""
    scale = 10 if asked.quick else 1
    everybody = lfw_people(asked, 2)[: (PEOPLE + UNKNOWN) // scale]
    work = asked.work / f"staff{scale}"
    for number, photos in enumerate(everybody):
        enrolled = number < PEOPLE // scale
        write(work / (f"people/p{number:03d}/0.jpg" if enrolled else f"strangers/{number}.jpg"), photos[0])
        if number < KNOWN // scale:
            write(work / "known" / f"p{number:03d}.jpg", photos[1])
    summary = enroll(work / "people", work / "gallery")
    known = identify(work / "gallery", work / "known")
    strangers = identify(work / "gallery", work / "strangers")
    # Of several faces in a photo LFW names the one in the middle.
    best = {}
    for face in sorted(known.faces, key=lambda face: -abs(sum(face.box or (0,)) - MIDDLE)):
        best[Path(face.source).stem] = face.person
    return {
        "people": PEOPLE // scale,
        "enrolled": summary.enrolled,
        "held_back": len(summary.held_back),
        "not_enrolled": len(summary.not_enrolled),
        "promise": None if summary.promise is None else summary.promise.said(),
        "known": len(list((work / "known").iterdir())),
        "named_right": sum(person == name for name, person in best.items()),
        "named_wrong": sum(person not in (None, name) for name, person in best.items()),
        "strangers": UNKNOWN // scale,
        "strangers_named": len({face.source for face in strangers.faces if face.person is not None}),
    }


def mix_ups(asked: argparse.Namespace) -> dict[str, Any]:
    """40 mistakes among 779 people: one person under two ids, a stranger's photo, folders that were swapped later."""
    scale = 10 if asked.quick else 1
    listed, twice, stray, swapped = (
        number if scale == 1 else max(2, number // scale) for number in (LISTED, TWICE, STRAY, SWAPPED)
    )
    everybody = [photos for photos in lfw_people(asked, 2) if len(photos) > 1]
    several = [photos for photos in everybody if len(photos) >= 4]
    others = [photos for photos in everybody if len(photos) < 4]
    people = (several[: twice + stray + swapped] + others)[: listed - twice]
    strangers = others[listed:][:stray]
    work, planted = asked.work / f"mix{scale}", set()
    for number, photos in enumerate(people):
        name = f"p{number:03d}"
        half = photos[: len(photos) // 2] if number < twice else photos
        for place, data in enumerate(half):
            write(work / "people" / name / f"{place}.jpg", data)
        if number < twice:
            for place, data in enumerate(photos[len(half) :]):
                write(work / "people" / f"q{number:03d}" / f"{place}.jpg", data)
            planted.add(frozenset((name, f"q{number:03d}")))
        elif number < twice + stray:
            write(work / "people" / name / "stray.jpg", strangers[number - twice][0])
            planted.add(frozenset((name,)))
    first = enroll(work / "people", work / "gallery")
    found = {frozenset(one for one in (s.person, s.other) if one) for s in first.suspects}
    # A planted photo that the gate refuses is found, too.
    found |= {frozenset((photo.source.split("/")[0],)) for photo in first.failed if photo.source.endswith("stray.jpg")}
    odd = {one.source for one in first.suspects if one.source is not None}
    doubted = doubted_by_another(asked, work / "people", [sorted(one) for one in found - planted], odd)
    result: dict[str, Any] = {
        "people": listed,
        "first night": {
            "planted": len(planted),
            "found": len(planted & found),
            "false_alarms": len(found - planted) - len(doubted),
            "suspected, and doubted by w600k_mbf too": len(doubted),
        },
    }
    enroll(work / "people", work / "gallery", accept_suspects=True, quiet=True)
    names = [f"p{number:03d}" for number in range(twice + stray, twice + stray + swapped)]
    for one, other in zip(names[::2], names[1::2], strict=True):
        (work / "people" / one).rename(work / "people" / "aside")
        (work / "people" / other).rename(work / "people" / one)
        (work / "people" / "aside").rename(work / "people" / other)
    second = enroll(work / "people", work / "gallery", replace=True)
    noticed = {s.person for s in second.suspects if s.person in names}
    result["second night, folders swapped"] = {
        "planted": len(names),
        "found": len(noticed),
        "false_alarms": len({s.person for s in second.suspects} - set(names)),
    }
    return result


def doubted_by_another(asked: argparse.Namespace, people: Path, suspected: list[list[str]], odd: set[str]) -> list[str]:
    """Of people whose photos are said not to match, those of whom w600k_mbf says so: LFW has wrong labels."""
    embedder = Embedder.load(asked.data / "weights" / "w600k_mbf.onnx")
    least = embedder.thresholds()[1e-2]
    found = []
    for person in (one for (one, *others) in suspected if not others):
        photos = {photo.source: photo for photo in embedder.embed_photos(people / person) if photo.ok}
        doubted = [source for source in photos if f"{person}/{source}" in odd]
        rest = [photo.vectors[0] for source, photo in photos.items() if source not in doubted[:1]]
        if doubted and rest and float((photos[doubted[0]].vectors[0] @ np.stack(rest).T).max()) < least:
            found.append(person)
    return found


if __name__ == "__main__":
    main()
