"""The thresholds that facekd carries for known networks and for its own: measured, with intervals over people.

    python benchmarks/thresholds.py                                # about 30 minutes on two cores
    python benchmarks/thresholds.py --model default                # one network only; the results of others stay
    python benchmarks/thresholds.py --model runs/student           # any run folder or ONNX file: printed, not kept

All pairs of the 1,358 held-out people of CelebA and all pairs of LFW's photos by their names. At each FAR the strictest
of the thresholds of either set and of both together is taken, so that what is promised holds on each. A set says
nothing on its own about a FAR for which it has fewer than 3 / FAR couples of people: CelebA's 0.9 million reach to
1e-5, LFW's 9.2 million to 1e-6, and neither estimates that one (30 / FAR); its interval shows it.

Couples of labels that show one person (ONE_PERSON) are left out: at a FAR of 1e-6 they alone would decide.

Writes results/thresholds.json, facekd/core/known_thresholds/NAME.yaml, and WORK/NAME.json for 'facekd export
--thresholds'; prints what goes into the metadata of an exported file.
"""

from __future__ import annotations

import argparse
import math
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from _celeba import DATA, held_out_identities, of_people, read_celeba, write_set
from _impostors import Scores, all_pairs_of, pooled, rates_at, threshold_at
from _record import RESULTS, record

from facekd.commands.align import align
from facekd.core.calibration import KNOWN_THRESHOLDS
from facekd.core.contract import KNOWN
from facekd.core.files import atomic_write, read_json, write_json, write_text
from facekd.crops.read import read_crops
from facekd.deploy.default import default_model
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.thresholds import THRESHOLDS, thresholds_text
from facekd.evaluation.judged import embed_crops
from facekd.evaluation.protocols import everybody

FARS = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
KEPT = 0.02  # share of the impostor pairs whose scores are kept: an interval at 1e-2 needs more than 1 %
DIGITS = 4  # of a threshold that is carried
DEFAULT = "default"
# Found among the couples of the highest scores of reid_retail_0095 and looked at: another spelling of a name, or a
# photo of the other person. Who only looks alike, twins and children too, stays in.
ONE_PERSON = {
    "celeba": (
        ("celeba_3077", "celeba_3078"),
        ("celeba_1500", "celeba_3128"),
        ("celeba_2463", "celeba_7636"),
        ("celeba_2975", "celeba_486"),
    ),
    "lfw": (
        ("Chyung_Dai-chul", "Dai_Chul_Chyung"),
        ("Cristina_Fernandez", "Cristina_Kirchner"),
        ("Diana_Taurasi", "Shavon_Earp"),
        ("Felipe_De_Borbon", "Prince_Felipe"),
        ("Gabrielle_Rose", "Martha_Bowen"),
        ("Hasan_Wirayuda", "Hassan_Wirajuda"),
        ("John_Barnett", "John_Burnett"),
        ("Joseph_Blatter", "Sepp_Blatter"),
        ("Mireya_Elisa_Moscoso_Rodriguez", "Mireya_Moscoso"),
        ("Nan_Wang", "Wang_Nan"),
        ("Odai_Hussein", "Uday_Hussein"),
    ),
}
WHAT = {
    "celeba": "all pairs of the 1,358 held-out people of CelebA",
    "lfw": "all pairs of LFW's 7,701 photos of view 2, by name",
    "both": "all pairs of each of these two sets, counted together",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = sorted(path.stem for path in KNOWN.glob("*.yaml"))
    parser.add_argument(
        "--model", action="append", help=f"{', '.join([DEFAULT, *names])}, or the path of a network; else these all"
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=Path("runs/thresholds"))
    given = parser.parse_args()
    result = read_json(RESULTS / "thresholds.json")["result"] if (RESULTS / "thresholds.json").exists() else {}
    for name in given.model or [DEFAULT, *names]:
        path = default_model() if name == DEFAULT else Path(name)
        if name in names:
            path = given.data / "weights" / f"{name}.onnx"
        found = measure(path, given.data, given.work)
        show(path, found)
        write_json(given.work / f"{path.stem}.json", for_export(found))
        if name == DEFAULT or name in names:
            result[path.stem] = found
            write_text(KNOWN_THRESHOLDS / f"{path.stem}.yaml", carried(path.stem, found))
            record("thresholds", result)


def measure(model: Path, data: Path, work: Path) -> dict[str, Any]:
    """The thresholds of a network on each set, and those to be carried."""
    embedder = CropEmbedder.load(model)
    sets: dict[str, Scores] = {}
    as_labeled: dict[str, Any] = {}
    for name, crops in (("celeba", celeba(data, work)), ("lfw", lfw(data, work))):
        people = everybody(read_crops(crops), crops)
        vectors = embedded(name, people.ids, crops, embedder, work)
        labeled = vectors, people.persons, people.failed_persons, KEPT
        as_labeled[name] = [threshold_at(all_pairs_of(*labeled), far) for far in FARS]
        sets[name] = all_pairs_of(*labeled, ONE_PERSON[name])
    sets["both"] = pooled([sets["celeba"], sets["lfw"]])
    lists = {name: about(name, scores) for name, scores in sets.items()}
    rows = []
    for far in FARS:
        found = {name: threshold_at(scores, far) for name, scores in sets.items()}
        stated = {name: one for name, one in found.items() if one is not None}
        if not stated:
            continue
        strictest = max(stated, key=lambda name: float(stated[name]["threshold"]))
        threshold = up(float(stated[strictest]["threshold"]))
        rows.append(
            {
                "far": far,
                "threshold": threshold,
                "low": down(float(stated[strictest]["low"])),
                "high": up(float(stated[strictest]["high"])),
                "list": strictest,
                "by_list": found,
                "at_it": {name: rates_at(scores, threshold) for name, scores in sets.items()},
            }
        )
    contract = embedder.contract
    return {
        "model_id": contract.model_id,
        "weights_sha256": contract.weights_sha256,
        "date": date.today().isoformat(),
        "lists": lists,
        "thresholds": rows,
        "as_labeled": as_labeled,
    }


def celeba(data: Path, work: Path) -> Path:
    """The crops of the held-out people; they were cut by YuNet."""
    path = work / "held_out.parquet"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_set(of_people(read_celeba(data), held_out_identities()), path)
    return path


def lfw(data: Path, work: Path) -> Path:
    """The crop store of LFW's photos, by YuNet."""
    store = work / "lfw"
    align(data / "lfw.zip", store, detector="yunet", weights=data / "weights" / "face_detection_yunet_2023mar.onnx")
    return store


def embedded(name: str, ids: tuple[str, ...], crops: Path, embedder: CropEmbedder, work: Path) -> np.ndarray:
    """float32[N, D], unit norm, of these crops; kept in WORK by the model's id."""
    path = work / "embeddings" / f"{name}-{embedder.model_id}.npz"
    if path.exists():
        with np.load(path) as kept:
            if tuple(kept["ids"].tolist()) == ids:
                return np.asarray(kept["vectors"])
    started = time.process_time()
    vectors = embed_crops(f"model {embedder.model_id}", embedder, read_crops(crops), ids, quiet=False).vectors
    print(f"{name}: {len(ids)} crops embedded in {time.process_time() - started:.0f} CPU s")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        np.savez(file, ids=np.array(ids), vectors=vectors)
    return vectors


def about(name: str, scores: Scores) -> dict[str, Any]:
    """What a set holds."""
    return {
        "what": WHAT[name],
        "crops": "cut by YuNet 2023-03, 112 pixels, arcface template",
        "people": len(scores.photos),
        "photos": int(scores.photos.sum()),
        "impostor_pairs": scores.n,
        "couples": scores.couples,
        "genuine_pairs": int(scores.genuine_pairs.sum()),
    }


def up(value: float) -> float:
    """Rounded toward the stricter."""
    return math.ceil(value * 10**DIGITS) / 10**DIGITS


def down(value: float) -> float:
    return math.floor(value * 10**DIGITS) / 10**DIGITS


def carried(name: str, found: dict[str, Any]) -> str:
    """The file that the package carries, as `facekd.core.calibration` reads it."""
    kept = ("what", "crops", "people", "photos", "impostor_pairs", "couples")
    lines = [
        f"# Thresholds of {name} for one comparison of two photos: at most a share `far` of the pairs of different",
        "# people reach it. low and high: 95 % interval over people. Written by benchmarks/thresholds.py.",
        f"model_id: '{found['model_id']}'",
        f"date: '{found['date']}'",
        "lists:",
    ]
    for list_name, one in found["lists"].items():
        lines += [f"  {list_name}:", *(f"    {key}: {_scalar(one[key])}" for key in kept)]
    lines.append("thresholds:")
    for one in found["thresholds"]:
        values = ", ".join(f"{key}: {one[key]:.{DIGITS}f}" for key in ("threshold", "low", "high"))
        lines.append(f"- {{far: {one['far']:.1e}, {values}, list: {one['list']}}}")
    return "\n".join(lines) + "\n"


def _scalar(value: object) -> str:
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def for_export(found: dict[str, Any]) -> dict[str, Any]:
    """The same as 'facekd verify' writes it, for 'facekd export --thresholds'."""
    thresholds = {f"{one['far']:g}": {"threshold": one["threshold"]} for one in found["thresholds"]}
    return {"models": {found["model_id"]: {"thresholds": thresholds}}}


def show(model: Path, found: dict[str, Any]) -> None:
    """A line for each FAR, and what goes into a file's metadata."""
    print(f"{model.stem}, model {found['model_id']}")
    for one in found["thresholds"]:
        at = "; ".join(
            f"{name} TAR {100 * rates['tar']:.1f} % ({100 * rates['tar_low']:.1f} to {100 * rates['tar_high']:.1f}), "
            f"FAR {rates['far']:.1e}"
            for name, rates in one["at_it"].items()
            if name != "both"
        )
        where = f"{one['threshold']:.4f} ({one['low']:.4f} to {one['high']:.4f}), {one['list']}"
        print(f"  FAR {one['far']:g}: {where}; at it {at}")
    print(f"  {THRESHOLDS}: {thresholds_text({one['far']: one['threshold'] for one in found['thresholds']})}")


if __name__ == "__main__":
    main()
