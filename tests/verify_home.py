"""What the tests of 'facekd verify' share: a store of patterns, two untrained models, and every pair of the store."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from toy import save_run, write_store

from facekd.cli import run
from facekd.core.types import Array
from facekd.crops.cropset import CropSet
from facekd.crops.read import read_crops
from facekd.crops.records import PhotoRecord
from facekd.crops.store import CropStore
from facekd.deploy.embedder import CropEmbedder

PEOPLE, PHOTOS = 8, 5
ALL = list(itertools.combinations(range(PEOPLE * PHOTOS), 2))


def make_home(home: Path) -> Path:
    """A store, two models, a list of all pairs with groups, the same as a .bin set, and stored embeddings."""
    write_store(home / "crops", people=PEOPLE, photos=PHOTOS, failed=["p90/p90_0001.png"])
    lost = PhotoRecord("p01/p01_0099.png", "p01", "no_face", "no face was found")
    CropStore.open(home / "crops").append([lost])
    save_run(home / "a", "iresnet18-quarter", dim=4)
    save_run(home / "b", "iresnet18-quarter", dim=4, seed=3)
    crops = read_crops(home / "crops")
    listed(home / "pairs.csv", crops)
    (home / "set.bin").write_bytes(
        pickle.dumps(
            (
                [crops.encoded(i) for pair in ALL for i in pair],
                [crops.identities[i] == crops.identities[j] for i, j in ALL],
            ),
            4,
        )
    )
    for name in "ab":
        flags = ["--model", str(home / name), str(home / "crops"), str(home / f"{name}.parquet")]
        assert run(["embed", *flags, "--quiet"]) == 0
    return home


def listed(path: Path, crops: CropSet) -> Path:
    rows = ["a,b,same,sex,camera"]
    for i, j in ALL:
        same = crops.identities[i] == crops.identities[j]
        # People 0 to 5 are f, 6 and 7 m; a pair across is neither.
        sexes = {"f" if k // PHOTOS < 6 else "m" for k in (i, j)}
        sex = sexes.pop() if len(sexes) == 1 else "mixed"
        rows.append(f"{crops.sources[i]},{crops.sources[j]},{int(same)},{sex},{'odd' if (i + j) % 2 else 'even'}")
    path.write_text("\n".join(rows) + "\n")
    return path


def vectors(home: Path, model: str) -> Array:
    crops = read_crops(home / "crops")
    return CropEmbedder.load(home / model).embed(crops.batch(np.arange(len(crops))))


def cosines(home: Path, model: str) -> tuple[Array, Array, Array, Array]:
    """Scores, labels and people of ALL."""
    embedded = vectors(home, model)
    left, right = np.array(ALL).T
    values = np.einsum("pd,pd->p", embedded[left], embedded[right]).clip(-1, 1)
    return values, left // PHOTOS == right // PHOTOS, left // PHOTOS, right // PHOTOS


def ran(
    home: Path, out: Path, *flags: object, code: int = 0, fars: Sequence[float] = (0.1, 0.01, 0.001)
) -> dict[str, Any]:
    """The report.json of a run at `fars`."""
    given = [*map(str, flags), *(f"--far={far}" for far in fars)]
    assert run(["verify", *given, "--out", str(out), "--quiet"]) == code
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found
