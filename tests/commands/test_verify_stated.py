"""Stated identities stand, and a photo that a file of embeddings lacks is a failure to enroll."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest

from facekd.cli import run
from facekd.core.types import Array

PEOPLE, PHOTOS = 12, 4
WHO = np.repeat(np.arange(PEOPLE), PHOTOS)
IDS = [f"c{i}" for i in range(len(WHO))]


def vectors(seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    made = rng.standard_normal((PEOPLE, 16))[WHO] + 0.7 * rng.standard_normal((len(WHO), 16))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def saved(path: Path, rows: Sequence[int], people: Sequence[str] | None, sources: Sequence[str], seed: int = 0) -> Path:
    arrays = {
        "ids": np.array([IDS[i] for i in rows]),
        "sources": np.array([sources[i] for i in rows]),
        "identities": np.array(["" if people is None else people[i] for i in rows]),
    }
    np.savez(path, embeddings=vectors(seed)[list(rows)], model_id=np.array(f"m{seed}"), **arrays)
    return path


def judged(out: Path, *flags: object, code: int = 0) -> dict[str, Any]:
    assert run(["verify", *map(str, flags), "--far", "0.1", "--out", str(out), "--quiet"]) == code
    found: dict[str, Any] = json.loads((out / "report.json").read_text()) if code == 0 else {}
    return found


def pair_list(path: Path) -> Path:
    rows = [f"{IDS[i]},{IDS[j]},{int(WHO[i] == WHO[j])}" for i in range(len(WHO)) for j in range(i)]
    path.write_text("a,b,same\n" + "\n".join(rows) + "\n")
    return path


CAMERAS = [f"CAM{i % 4}/CAM{i % 4}_{i:04d}.jpg" for i in range(len(WHO))]
PERSONS = [f"p{who:02d}" for who in WHO]


@pytest.mark.parametrize("protocol", ["--all-pairs", "--identification"])
def test_a_name_never_overrules_what_is_stated(tmp_path: Path, protocol: str) -> None:
    """Photos of one camera lie in one folder named for it, as LFW's lie in a folder for each person."""
    found = []
    for name, sources in (("plain", IDS), ("cameras", CAMERAS)):
        file = saved(tmp_path / f"{name}.npz", range(len(WHO)), PERSONS, sources)
        (model,) = judged(tmp_path / name, "--embeddings", file, protocol)["models"]
        found.append(model)
    if protocol == "--all-pairs":
        assert found[0]["tar"] == found[1]["tar"]
        assert found[0]["pairs"] == found[1]["pairs"] == {"genuine": 72, "impostor": 1056}
    else:
        assert {one["gallery"]["people"] for one in found} == {PEOPLE // 2}


def test_names_stand_in_where_nothing_is_stated_and_the_report_says_so(tmp_path: Path) -> None:
    lfw = [f"P{who:02d}/P{who:02d}_{i % PHOTOS + 1:04d}.jpg" for i, who in enumerate(WHO)]
    named = saved(tmp_path / "named.npz", range(len(WHO)), PERSONS, lfw)
    bare = saved(tmp_path / "bare.npz", range(len(WHO)), None, lfw)
    path = tmp_path / "list.csv"
    rows = [f"{lfw[i]},{lfw[j]},{int(WHO[i] == WHO[j])}" for i in range(len(WHO)) for j in range(i)]
    path.write_text("a,b,same\n" + "\n".join(rows) + "\n")
    stated = judged(tmp_path / "s", "--embeddings", named, "--pairs", path)
    by_name = judged(tmp_path / "n", "--embeddings", bare, "--pairs", path)
    assert stated["models"][0]["tar"] == by_name["models"][0]["tar"]
    assert [one["pairs"]["people"] for one in (stated, by_name)] == ["stated", "photo names"]
    said = "people are known by their photos' names only"
    assert said in (tmp_path / "n" / "report.md").read_text().replace("\\", "")
    assert said not in (tmp_path / "s" / "report.md").read_text().replace("\\", "")


def test_a_photo_that_the_file_lacks_is_a_failure_to_enroll(tmp_path: Path) -> None:
    pairs = pair_list(tmp_path / "p.csv")
    kept = [i for i in range(len(WHO)) if i not in (3, 20)]
    file = saved(tmp_path / "e.npz", kept, PERSONS, IDS)
    result = judged(tmp_path / "o", "--embeddings", file, "--pairs", pairs)
    (model,) = result["models"]
    values = [
        float(vectors()[i] @ vectors()[j]) if i in kept and j in kept else -np.inf
        for i in range(len(WHO))
        for j in range(i)
    ]
    same = [WHO[i] == WHO[j] for i in range(len(WHO)) for j in range(i)]
    tar, far, _ = oracles.tar_at_far(values, same, "0.1")
    assert model["tar"][0]["tar"] == pytest.approx(float(tar))
    assert model["tar"][0]["far"] == pytest.approx(float(far))
    assert model["failures_to_enrol"] == {"photos": 2, "pairs": 2 * 47 - 1}
    assert (model["interval"], result["pairs"]["people"]) == ("identities", "stated")  # the partners say who it was


def test_a_list_of_other_photos_is_still_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = pair_list(tmp_path / "p.csv")
    file = saved(tmp_path / "e.npz", range(20), PERSONS, IDS)
    judged(tmp_path / "o", "--embeddings", file, "--pairs", pairs, code=2)
    assert "28 of the 48 photos" in capsys.readouterr().err


def test_each_file_has_its_own_failures(tmp_path: Path) -> None:
    pairs = pair_list(tmp_path / "p.csv")
    one = saved(tmp_path / "one.npz", range(1, len(WHO)), PERSONS, IDS)
    two = saved(tmp_path / "two.npz", range(len(WHO) - 3), PERSONS, IDS, seed=1)
    result = judged(tmp_path / "o", "--embeddings", one, "--embeddings", two, "--pairs", pairs)
    assert [model["failures_to_enrol"]["photos"] for model in result["models"]] == [1, 3]
    assert [model["interval"] for model in result["models"]] == ["identities"] * 2
    assert result["models"][0]["pairs"] == result["models"][1]["pairs"]


def test_an_id_embedded_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = pair_list(tmp_path / "p.csv")
    file = saved(tmp_path / "e.npz", [*range(len(WHO)), 5], PERSONS, IDS)
    assert run(["verify", "--embeddings", str(file), "--pairs", str(pairs), "--out", str(tmp_path / "o")]) == 0
    assert "1 rows repeat an id with the same embedding; counted once" in capsys.readouterr().err
    with np.load(file) as found:
        arrays = dict(found)
    arrays["embeddings"][-1] = arrays["embeddings"][0]
    np.savez(file, **arrays)
    judged(tmp_path / "o2", "--embeddings", file, "--pairs", pairs, code=2)
    assert "1 ids are embedded more than once, not all alike (first: c5)" in capsys.readouterr().err
