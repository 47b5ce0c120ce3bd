"""Four sites split by person against one site with all the data, and against one site alone, at equal steps.

    python benchmarks/federate.py            # writes results/federate.json; goes on where it was stopped
    python benchmarks/federate.py --quick    # two rounds: does it run? writes nothing

CelebA crops of PEOPLE people whom ``held_out_identities.txt`` does not name, dealt out by person. All arms learn from
the same teacher, w600k_mbf, by its embeddings alone, take ROUNDS × STEPS steps of BATCH crops from the same weights,
those that ``facekd narrow`` computes from the teacher's layers on OTHERS other people, and follow the same learning
rate. ``together`` and ``alone`` are ``facekd distill``; in ``federated`` the four sites take their steps at the same
time and begin each round at the average, their optimizers without momentum.

Judged on all pairs of the crops of STRANGERS held-out people; intervals are 95 %, over people, of differences too.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _celeba import DATA, held_out_identities, of_people, read_celeba, write_set
from _real import facekd
from _record import record

from facekd.nets.saved import MODEL

SITES, PEOPLE, OTHERS, STRANGERS = 4, 800, 400, 200
ROUNDS, STEPS, BATCH = 5, 10, 32
NET, TEACHER = "mobilefacenet-half", "w600k_mbf.onnx"
FARS = (1e-2, 1e-3)


def main() -> None:
    """Train the arms and judge them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=Path("runs/benchmark-federate"))
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    rounds, steps = (2, 2) if asked.quick else (ROUNDS, STEPS)
    work = asked.work / ("quick" if asked.quick else "full")
    about = prepare(asked.data, work)
    teacher = str(asked.data / "weights" / TEACHER)
    total = rounds * steps
    begun = work / "narrow" / "run"
    narrow = ["narrow", teacher, "--net", NET, "--data", str(work / "others.parquet"), "--held-out", "0"]
    if not (begun / MODEL).exists() and facekd([*narrow, "--out", str(begun)], work / "narrow", None):
        raise SystemExit(1)
    shared = ["--teacher", teacher, "--net", NET, "--batch", str(BATCH), "--held-out", "0",
              "--init-from", str(begun)]  # fmt: skip
    seconds = {}
    for arm, words in {
        "alone": ["distill", *_plain(work / "site.parquet", total), *shared],
        "together": ["distill", *_plain(work / "all.parquet", total), *shared],
        "federated": ["federate", "--simulate", str(SITES), "--data", str(work / "all.parquet"), *shared,
                      "--rounds", str(rounds), "--steps", str(steps)],
    }.items():  # fmt: skip
        start = time.monotonic()
        if not (work / arm / "run" / MODEL).exists():
            code = facekd([*words, "--out", str(work / arm / "run")], work / arm, None)
            if code != 0:
                raise SystemExit(code)
            seconds[arm] = round(time.monotonic() - start, 1)
    found = {"about": {**about, "rounds": rounds, "steps": steps, "batch": BATCH, "net": NET, "teacher": TEACHER},
             "seconds_of_those_trained_now": seconds, **judge(work, asked.data)}  # fmt: skip
    if not asked.quick:
        record("federate", found)


def _plain(data: Path, steps: int) -> list[str]:
    from facekd.crops.read import read_crops

    epochs = steps * BATCH / len(read_crops(data))
    return ["--data", str(data), "--term", "embedding=10", "--epochs", repr(epochs)]


def prepare(data: Path, work: Path) -> dict[str, Any]:
    """Write the crops of all sites, of the first one, and of strangers; how many there are comes back."""
    from facekd.crops.training import read_training_crops
    from facekd.recipes.site import SiteFiles, site_crops

    table = read_celeba(data)
    held = held_out_identities()
    free = sorted(set(table["identity"].to_pylist()) - set(held))
    trained, others = free[:PEOPLE], free[PEOPLE : PEOPLE + OTHERS]
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "strangers.parquet").exists():
        write_set(of_people(table, trained), work / "all.parquet")
        write_set(of_people(table, others), work / "others.parquet")
        write_set(of_people(table, held[:STRANGERS]), work / "strangers.parquet")
    place = SiteFiles((work / "all.parquet",), data / "weights" / TEACHER, held_out=0.0, dealt_to=SITES)
    parts = [site_crops(place, number) for number in range(SITES)]
    own = set(parts[0].train.identities)
    if not (work / "site.parquet").exists():
        write_set(of_people(table, {name for name in own if name is not None}), work / "site.parquet")
    whole = read_training_crops([work / "all.parquet"], 0.0, 0)
    return {
        "crops": len(whole.train),
        "people": len(whole.names),
        "crops_of_sites": [len(part.train) for part in parts],
        "strangers": STRANGERS,
    }


def judge(work: Path, data: Path) -> dict[str, Any]:
    """Rates of each arm and of the teacher on strangers, and what federated lacks of together and gains on alone."""
    from facekd.crops.read import read_crops
    from facekd.deploy.embedder import CropEmbedder
    from facekd.evaluation.judged import embed_crops
    from facekd.evaluation.lists import everyone, list_rates, pair_scores
    from facekd.evaluation.results import plain
    from facekd.rates.persons import paired_differences

    compared = everyone(read_crops(work / "strangers.parquet"), 10_000_000)
    scores, rates = {}, {}
    networks = {arm: work / arm / "run" for arm in ("federated", "together", "alone", "narrow")}
    for arm, path in {**networks, "teacher": data / "weights" / TEACHER}.items():
        vectors = embed_crops(arm, CropEmbedder.load(path), compared.crops, compared.ids, True).vectors
        scores[arm] = pair_scores(vectors, vectors, compared)
        rates[arm] = plain(list_rates(scores[arm], compared, FARS))
        print(arm, [(rate["far_asked"], rate["tar"]) for rate in rates[arm]["tar"]], flush=True)
    differences = {}
    for other in ("together", "alone", "narrow"):
        found = paired_differences(scores["federated"], scores[other], compared.same, *compared.persons, FARS)
        differences[f"federated_less_{other}"] = [asdict(one) for one in found]
        print("federated less", other, differences[f"federated_less_{other}"], flush=True)
    return {"rates": rates, "differences": differences}


if __name__ == "__main__":
    sys.exit(main())
