"""False matches by age, group and sex, at one threshold: the default network and its rivals.

    python benchmarks/groups.py --work DIR [--lfw-sexes FOLDER] [--model [NAME=]FILE ...]

writes ``results/groups.json``, ``groups.md`` (the tables of the model card) and ``groups.svg``. Without --model it
measures facekd's own network and the rivals in --data/weights; with it these networks only, and the others in the file
stay as they were. Embeddings are kept in DIR by model_id: some 28,000 crops a network, three to eight minutes on two
free cores.

Each age band, group and sex is as FairFace labels it. The men are those of ``fairface.parquet``, at most 200 of each
age band and group, drawn by seed 0, without the crops that show one of them again (``fairface_repeats.txt``, see
`_groups_repeats.py`). Women and men side by side are those of ``fairface_both.parquet``, 30 of each sex and age band,
cut with a wider margin. Every pair then is an impostor pair, as far as is known. Three thresholds: where 1 % and where
0.1 % of all pairs of adult men (20 and older) match, and the network's own at FAR 1e-3 on all pairs of the held-out
people of CelebA. Intervals are 95 %, over people (the dyadic-robust variance of `far_interval_by_person`, in Wilson's
form), the threshold taken as given.

--lfw-sexes is a folder with ``female_names.txt`` and ``male_names.txt``, LFW's photos by sex, a list that M. Afifi and
A. Abdelhamed ("AFIF4", arXiv:1706.04277) made and others passed on; it is not facekd's to pass on.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from _celeba import DATA
from _groups import (
    ADULT,
    BANDS,
    GROUPS,
    SEED,
    across,
    both,
    cells_of,
    embedded,
    fmr_among,
    held_out,
    hits_by_cell,
    lfw,
    lfw_rates,
    men,
    men_thresholds,
    quick_form,
    within,
)
from _groups_shown import shown_cells, write_shown
from _record import RESULTS, record

from facekd.console import say
from facekd.core.files import read_json, write_text
from facekd.deploy.default import default_model
from facekd.rates.allpairs import measure_all_pairs

RIVALS = ("reid_retail_0095", "sface_2021dec", "w600k_mbf", "foamliu_mobilefacenet")
CONTRACTS = {"reid_retail_0095": "dim: 256\n"}  # of those that facekd may not know by digest
PER_CELL = 200
OWN_FAR = 1e-3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--work", type=Path, default=Path("runs/groups"), help="where embeddings are kept")
    parser.add_argument("--lfw-sexes", type=Path, help="folder of female_names.txt and male_names.txt")
    parser.add_argument("--model", action="append", default=[], help="[NAME=]FILE, only these are measured")
    parser.add_argument("--shown", action="store_true", help="write table and picture of what was measured before")
    given = parser.parse_args()
    path = RESULTS / "groups.json"
    kept = read_json(path)["result"] if path.exists() else {"models": {}}
    if not given.shown:
        sets = Sets(given.data, given.work, given.lfw_sexes)
        for name, file in networks(given.model, given.data).items():
            say(f"{name}: {file}")
            kept["models"][name] = measure(name, file, sets, given.work)
            kept |= {"about": sets.about()}
        record("groups", shown_cells(kept))
    write_shown(kept, RESULTS)


def networks(asked: list[str], data: Path) -> dict[str, Path]:
    """The networks to measure, by name."""
    if asked:
        pairs = [text.split("=", 1) if "=" in text else (Path(text).stem, text) for text in asked]
        return {name: Path(file) for name, file in pairs}
    own = default_model()
    return {own.stem: own} | {name: data / "weights" / f"{name}.onnx" for name in RIVALS}


class Sets:
    """What each network is measured on."""

    def __init__(self, data: Path, work: Path, sexes: Path | None) -> None:
        self.men = men(data, PER_CELL)
        self.both = both(data)
        self.held_out = held_out(data, work)
        self.lfw = lfw(data, work, sexes)

    def about(self) -> dict[str, Any]:
        """How many people each part has."""
        once = ~self.men.labels["again"]
        counts = {name: int((self.men.labels["age"][once] == name).sum()) for name in BANDS}
        groups = {name: int((self.men.labels["group"][once] == name).sum()) for name in GROUPS}
        drawn = {"seed": SEED, "per_cell": PER_CELL, "crops": len(once), "shown_again": int((~once).sum())}
        return {
            "men": {**drawn, "people": int(once.sum()), "age": counts, "group": groups},
            "women and men": {"people": len(self.both.places)},
            "held-out people of CelebA": {
                "crops": len(self.held_out.places),
                "people": len(set(self.held_out.labels["person"].tolist())),
            },
        }


def measure(name: str, file: Path, sets: Sets, work: Path) -> dict[str, Any]:
    """All rates of one network."""
    embedder = quick_form(file, contract_of(name, work), work)
    once = ~sets.men.labels["again"]
    vectors = embedded(sets.men, embedder, work)[once]
    labels = {key: values[once] for key, values in sets.men.labels.items()}
    adult = np.isin(labels["age"], ADULT)
    known = embedded(sets.held_out, embedder, work)
    own = measure_all_pairs(known, sets.held_out.labels["person"], [OWN_FAR]).rates[0]
    assert own.threshold is not None
    one, tenth = men_thresholds(vectors[adult], [1e-2, 1e-3])
    thresholds = {"men_1": one, "men_01": tenth, "own": float(own.threshold)}
    found = {key: {"threshold": value} for key, value in thresholds.items()}
    parts = {"men": of_men(labels, vectors, list(thresholds.values()))}
    parts["both"] = of_both(sets.both.labels, embedded(sets.both, embedder, work), list(thresholds.values()))
    for place, key in enumerate(thresholds):
        found[key] |= {part: rates[place] for part, rates in parts.items()}
        if sets.lfw is not None:
            found[key]["lfw"] = lfw_rates(sets.lfw, embedded(sets.lfw, embedder, work), thresholds[key])
    tar = {"tar": own.tar, "low": own.low, "high": own.high}
    return {"model_id": embedder.model_id, "celeba_at_own": tar, "at": found}


def contract_of(name: str, work: Path) -> Path | None:
    """A file with the contract of a rival that facekd may not know; None of any other network."""
    if name not in CONTRACTS:
        return None
    path = work / f"{name}.yaml"
    write_text(path, CONTRACTS[name])
    return path


def of_men(labels: Mapping[str, np.ndarray], vectors: np.ndarray, thresholds: list[float]) -> list[dict[str, Any]]:
    """FMR of men by band and group, at each threshold."""
    cell, names = cells_of(labels, "age", "group")
    age, group = (np.array(column) for column in zip(*names, strict=True))
    adult = np.isin(age, ADULT)
    alike = group[:, None] == group  # bool[C, C]
    asked = {
        "adult": within(adult),
        "adult, same group": within(adult) & alike,
        "adult, across groups": within(adult) & ~alike,
        "under 20": within(~adult),
        "under 20 with adult": across(~adult, adult),
        **{f"age {band}": within(age == band) for band in BANDS},
        **{f"age {band}, same group": within(age == band) & alike for band in BANDS},
        **{f"adult, {one}": within(adult & (group == one)) for one in GROUPS},
        **{
            f"adult, {one} with {other}": across(adult & (group == one), adult & (group == other))
            for place, one in enumerate(GROUPS)
            for other in GROUPS[place + 1 :]
        },
        **{f"age {band}, {one}": within((age == band) & (group == one)) for band in BANDS for one in GROUPS},
    }
    hits = hits_by_cell(vectors, cell, thresholds)
    return [{name: fmr_among(one, cell, counted) for name, counted in asked.items()} for one in hits]


def of_both(labels: Mapping[str, np.ndarray], vectors: np.ndarray, thresholds: list[float]) -> list[dict[str, Any]]:
    """FMR of women and men by band, at each threshold."""
    cell, names = cells_of(labels, "sex", "age")
    sex, age = (np.array(column) for column in zip(*names, strict=True))
    women, adult = sex == "Female", np.isin(age, ADULT)
    alike = sex[:, None] == sex
    asked = {
        "women": within(women & adult),
        "men": within(~women & adult),
        "women with men": across(women & adult, ~women & adult),
        "girls under 20": within(women & ~adult),
        "boys under 20": within(~women & ~adult),
        **{f"women {band}": within(women & (age == band)) for band in BANDS},
        **{f"men {band}": within(~women & (age == band)) for band in BANDS},
        **{f"age {band}, same sex": within(age == band) & alike for band in BANDS},
    }
    hits = hits_by_cell(vectors, cell, thresholds)
    return [{name: fmr_among(one, cell, counted) for name, counted in asked.items()} for one in hits]


if __name__ == "__main__":
    main()
