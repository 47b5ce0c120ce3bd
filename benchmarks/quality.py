"""Which photos the gate of `facekd enroll` refuses for want of detail, and which measure tells them best.

    python benchmarks/quality.py --work DIR [--only PART ...] [--quick]

writes ``results/quality.json`` and ``results/quality.svg``. Each part is saved when it is done. On two free cores, in
minutes: ``refused`` 4, ``spoiled`` 6, ``reject`` 12. Embeddings are kept in DIR. --quick takes a minute, says only
whether it runs, and writes ``results/quality-quick.json``.

``refused``: photos that the limit refuses, and others around it: LFW as YuNet finds it, CelebA's crops, FairFace's men
by group and age, and its women and men side by side. Many of FairFace's faces are small ones of large photos.

``spoiled``: photos of LFW's people, spoiled in known ways: what the limit refuses of them, the share of pairs with a
good photo of the same person that still match (TAR), and how often two strangers, both spoiled alike, match where 1 in
1,000 do of good photos. Beside it, what other measures refuse of them, each at its limit that refuses as many good
photos of LFW and CelebA.

``reject``: error versus reject (FNMR at the threshold of FAR 1e-3, those of lowest quality rejected first, a pair has
that of its worse photo) on LFW, on 2,000 CelebA crops of people on whom the measure was chosen and on those of
``held_out_identities.txt``, and on LFW's pairs together with pairs of a spoiled photo and a good one.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
from _celeba import DATA, held_out_identities
from _groups import BANDS, GROUPS, OLDEST, YUNET
from _picture import write_picture
from _quality import MEASURES, PHOTOS, SPOILED, by_network, embedded, pairs_of, picture
from _record import RESULTS, record

from facekd.commands.align import align
from facekd.core.files import read_json, write_text
from facekd.core.types import Array
from facekd.crops.cropset import CropSet
from facekd.crops.read import read_crops
from facekd.deploy.default import default_model
from facekd.deploy.embedder import CropEmbedder
from facekd.enrollment.gate import MIN_DETAIL
from facekd.faces.detail import detail
from facekd.rates.counts import curve
from facekd.rates.rates import rate_at
from facekd.rates.rejects import error_vs_reject

LIMITS = (3.0, MIN_DETAIL, 5.0)
FAR, SHARES = 1e-3, (0.0, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
SEED = 0
LOT = 512  # crops in memory together
CELEBA = 2000  # crops of each half of the people
SPOILT = 200  # photos that are spoiled in each way


class Sets:
    """The crops, and who is on them."""

    def __init__(self, work: Path, quick: bool) -> None:
        store, done = work / "lfw", work / "lfw.done"
        if not done.exists():
            align(DATA / "lfw.zip", store, detector="yunet", weights=DATA / "weights" / YUNET)
            write_text(done, "")
        self.lfw = read_crops(store)
        self.celeba, self.fairface, self.both = (
            read_crops(DATA / "crops" / f"{name}.parquet") for name in ("celeba", "fairface", "fairface_both")
        )
        held = set(held_out_identities())
        self.held = np.array([one in held for one in self.celeba.identities])
        self.few = 200 if quick else 10**6

    def drawn(self, chosen: Array) -> Array:
        """Places of CELEBA of the chosen crops: people drawn one after another, PHOTOS of each at most."""
        people = np.array(self.celeba.identities)
        found: list[int] = []
        for person in np.random.default_rng(SEED).permutation(np.unique(people[chosen])):
            if len(found) >= min(CELEBA, self.few):
                break
            found += np.flatnonzero(people == person)[:PHOTOS].tolist()
        return np.sort(found)


def measured(crops: CropSet, places: Array, measure: Callable[[Array], float | None]) -> Array:
    """float64[n] of crops; NaN where there is none."""
    found = []
    for start in range(0, len(places), LOT):
        found += [measure(crop) for crop in crops.batch(places[start : start + LOT])]
    return np.array(found, np.float64)


def refused(sets: Sets, models: dict[str, CropEmbedder]) -> dict[str, Any]:
    """The share of photos that each limit refuses."""
    del models
    values = {
        name: measured(crops, np.arange(min(len(crops), sets.few)), detail)
        for name, crops in (("lfw", sets.lfw), ("celeba", sets.celeba), ("men", sets.fairface), ("both", sets.both))
    }
    labels = pq.read_table(DATA / "crops" / "fairface_groups.parquet").slice(0, sets.few)
    age = np.array([OLDEST.get(band, band) for band in labels["age"].to_pylist()])
    group = np.array(labels["group"].to_pylist())
    sex = np.array(pq.read_table(DATA / "crops" / "fairface_both.parquet", columns=["sex"])["sex"].to_pylist())
    held = sets.held[: sets.few]
    parts = {
        "LFW": values["lfw"],
        "CelebA, people chosen on": values["celeba"][~held],
        "CelebA, held-out people": values["celeba"][held],
        "FairFace, men": values["men"],
        **{f"FairFace, {one}": values["men"][group == one] for one in GROUPS},
        **{f"FairFace, age {band}": values["men"][age == band] for band in BANDS},
        "women, FairFace both": values["both"][sex[: sets.few] == "Female"],
        "men, FairFace both": values["both"][sex[: sets.few] == "Male"],
    }
    result: dict[str, Any] = {name: _shares(part) for name, part in parts.items() if len(part)}
    for name, crops, part in (("LFW", sets.lfw, values["lfw"]), ("CelebA", sets.celeba, values["celeba"])):
        people = np.array(crops.identities[: sets.few])
        for limit in LIMITS:
            lost = set(people) - set(people[part >= limit])
            result[f"people of {name} without a photo at {limit:g}"] = {"lost": len(lost), "of": len(set(people))}
    return result


def _shares(values: Array) -> dict[str, Any]:
    rates = {f"{limit:g}": round(float((values < limit).mean()), 5) for limit in LIMITS}
    shape = {f"{share:g}": round(float(np.quantile(values, share)), 2) for share in (0.001, 0.01, 0.1, 0.5, 0.9)}
    return {"photos": len(values), "refused": rates, "quantiles": shape}


def spoiled_photos(sets: Sets) -> tuple[Array, dict[str, Array]]:
    """Places of LFW crops of people with two or more, and the same crops spoiled in each way."""
    people, counts = np.unique(np.array(sets.lfw.identities), return_counts=True)
    several = np.flatnonzero(np.isin(np.array(sets.lfw.identities), people[(counts >= 2) & (counts <= 8)]))
    rng = np.random.default_rng(SEED)
    places = np.sort(rng.permutation(several[several < sets.few * 5])[: min(SPOILT, sets.few)])
    crops = sets.lfw.batch(places)
    return places, {name: np.stack([spoil(crop, rng) for crop in crops]) for name, spoil in SPOILED.items()}


def spoiled(sets: Sets, models: dict[str, CropEmbedder]) -> dict[str, Any]:
    """What is refused of spoiled photos, and what they would cost."""
    places, made = spoiled_photos(sets)
    people = np.array(sets.lfw.identities)
    every = np.arange(min(len(sets.lfw), 5 * sets.few))
    result: dict[str, Any] = {"photos": len(places), "of spoiled": {name: {} for name in made}}
    good = [(sets.lfw, every[: sets.few]), (sets.celeba, sets.drawn(~sets.held))]
    for name, measure in MEASURES.items():
        known = [measured(*one, measure) for one in good]
        limit = MIN_DETAIL if name == "detail" else min(np.quantile(one, 0.002) for one in known)
        share = [round(float((one < limit).mean()), 5) for one in known]
        result[name] = {"limit": float(limit), "good photos refused": dict(zip(("LFW", "CelebA"), share, strict=True))}
        for kind, crops in made.items():
            low = np.mean([float(measure(crop) or 0) < limit for crop in crops])
            result["of spoiled"][kind][f"refused by {name}"] = round(float(low), 4)
    for model, embedder in models.items():
        whole = embedded("LFW", sets.lfw, every, embedder)
        own, own_people = whole[np.searchsorted(every, places)], people[places]
        strangers = own_people[:, None] != own_people
        same = (own_people[:, None] == people[every]) & (places[:, None] != every)
        threshold = float(np.quantile((own @ own.T)[strangers], 1 - FAR))
        result[f"threshold of {model}"] = round(threshold, 4)
        result["of spoiled"].setdefault("as they are", {})[f"TAR of {model}"] = _tar(own, whole, same, threshold)
        for kind, crops in made.items():
            vectors = embedded(f"spoiled {kind}", crops, np.arange(len(crops)), embedder)
            far = float(((vectors @ vectors.T)[strangers] >= threshold).mean())
            row = {f"TAR of {model}": _tar(vectors, whole, same, threshold), f"FAR of {model}": round(far, 5)}
            result["of spoiled"][kind] |= row
    return result


def _tar(vectors: Array, whole: Array, same: Array, threshold: float) -> float:
    return round(float(((vectors @ whole.T)[same] >= threshold).mean()), 4)


def reject(sets: Sets, models: dict[str, CropEmbedder]) -> dict[str, Any]:
    """Error versus reject by each measure."""
    places, made = spoiled_photos(sets)
    every = np.arange(min(len(sets.lfw), sets.few * 5))
    lists = {
        "LFW": (sets.lfw, every),
        "CelebA, people chosen on": (sets.celeba, sets.drawn(~sets.held)),
        "CelebA, held-out people": (sets.celeba, sets.drawn(sets.held)),
    }
    values = {name: {key: measured(*one, measure) for key, measure in MEASURES.items()} for name, one in lists.items()}
    of_made = {
        key: np.concatenate([[float(measure(crop) or 0) for crop in crops] for crops in made.values()])
        for key, measure in MEASURES.items()
    }
    result: dict[str, Any] = {}
    for model, embedder in models.items():
        for name, (crops, chosen) in lists.items():
            vectors = embedded(name, crops, chosen, embedder)
            people = np.array(crops.identities)[chosen]
            known = dict(values[name])
            if (name, model) == ("CelebA, held-out people", "default"):
                known |= by_network(name, crops, chosen, embedder)
            left, right, same = pairs_of(people, SEED)
            scores = np.einsum("ij,ij->i", vectors[left], vectors[right])
            worse = {key: np.minimum(one[left], one[right]) for key, one in known.items()}
            result[f"{name}, {model}"] = _curves(scores, same, worse)
            if name != "LFW":
                continue
            # Each spoiled photo with the good ones of the same person, beside all the others.
            spoilt = np.concatenate(
                [embedded(f"spoiled {kind}", one, np.arange(len(one)), embedder) for kind, one in made.items()]
            )
            source = np.tile(places, len(made))
            first, second = np.nonzero((people[np.searchsorted(every, source)][:, None] == people) & (
                source[:, None] != every
            ))  # fmt: skip
            more = np.einsum("ij,ij->i", spoilt[first], vectors[second])
            worse = {
                key: np.concatenate([worse[key], np.minimum(of_made[key][first], values[name][key][second])])
                for key in MEASURES
            }
            both = np.concatenate([same, np.ones(len(more), bool)])
            found = _curves(np.concatenate([scores, more]), both, worse)
            result[f"LFW with spoiled photos, {model}"] = found | {"spoiled_pairs": len(more)}
    return result


def _curves(scores: Array, same: Array, worse: dict[str, Array]) -> dict[str, Any]:
    rate = rate_at(curve(scores, same), FAR)
    assert rate.threshold is not None
    assert rate.tar is not None
    found: dict[str, Any] = {"genuine": int(same.sum()), "threshold": rate.threshold, "fnmr": 1 - rate.tar}
    # Shares of the genuine pairs, whose errors are shown; one other pair, which is kept, stands for the strangers.
    scores, genuine = np.append(scores[same], -1.0), np.append(np.ones(same.sum(), bool), False)
    for name, quality in worse.items():
        quality = np.append(quality[same], np.inf)
        kept = error_vs_reject(scores, genuine, quality, rate.threshold, SHARES)
        found[name] = [{"rejected": round(one.rejected, 5), "fnmr": one.fnmr} for one in kept]
    return found


PARTS = {"refused": refused, "spoiled": spoiled, "reject": reject}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/quality"), help="where crops and embeddings are kept")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="a few photos: does it run?")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    name = "quality-quick" if given.quick else "quality"
    path = RESULTS / f"{name}.json"
    result = read_json(path)["result"] if path.exists() else {}
    sets = Sets(given.work, given.quick)
    files = {"default": default_model(), "w600k_mbf": DATA / "weights" / "w600k_mbf.onnx"}
    models = {name: CropEmbedder.load(file) for name, file in files.items()}
    embedded.folder = given.work / ("quick" if given.quick else "embeddings")
    for part in given.only:
        result[part] = PARTS[part](sets, models)
        print(part, json.dumps(result[part], indent=2))
        record(name, result)
    if "reject" in result and not given.quick:
        write_picture(RESULTS / "quality.svg", picture(result["reject"]), "What refusing photos without detail gains")


if __name__ == "__main__":
    main()
