"""facekd verify --identification: the rates are those of looking at each probe, and no probe is lost."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import SETTINGS, person, record
from verify_home import PEOPLE, PHOTOS, make_home, ran, vectors

from facekd.cli import run
from facekd.commands.verify import verify
from facekd.core.types import Array
from facekd.crops.gallery_split import deal_gallery, read_gallery_split
from facekd.crops.read import read_crops
from facekd.crops.records import PhotoRecord
from facekd.crops.store import CropStore
from facekd.errors import UserError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FPIRS = (0.2, 0.01)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("identification"))


def searched(home: Path, out: Path, *flags: object) -> dict[str, Any]:
    return ran(home, out, "--identification", *flags, fars=FPIRS)


def split_of(path: Path) -> dict[str, list[str]]:
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    return {kind: [row["photo"] for row in rows if row["set"] == kind] for kind in ("gallery", "probe")}


def by_hand(home: Path, model: str, split: dict[str, list[str]]) -> tuple[list[int], list[float], list[float]]:
    """Rank (0: lost) and score of each mated probe, best score of each unknown one; -inf without a crop."""
    crops = read_crops(home / "crops")
    embedded: dict[str, Array] = dict(zip(crops.sources, vectors(home, model).astype(float), strict=True))
    gallery = {photo: embedded[photo] for photo in split["gallery"] if photo in embedded}
    people = {photo.split("/")[0] for photo in split["gallery"]}
    ranks, hits, alarms = [], [], []
    for photo in split["probe"]:
        own = photo.split("/")[0]
        best = {}
        for other, vector in gallery.items():
            score = float(embedded[photo] @ vector) if photo in embedded else -np.inf
            name = other.split("/")[0]
            best[name] = max(score, best.get(name, -np.inf))
        if own not in people:
            alarms.append(max(best.values()))
            continue
        lost = photo not in embedded or own not in best
        rank = 0 if lost else sum(score >= best[own] for score in best.values())
        ranks.append(rank)
        hits.append(best[own] if rank == 1 else -np.inf)
    return ranks, hits, alarms


def agrees(rates: dict[str, Any], ranks: list[int], hits: list[float], alarms: list[float]) -> None:
    assert rates["probes"] == {"mated": len(ranks), "unknown": len(alarms)}
    for row in rates["ranks"]:
        if row["rank"] > len(rates["cmc"]["found"]):
            assert row["found"] is row["low"] is row["high"] is None  # the gallery has not so many people
            continue
        assert row["found"] == pytest.approx(np.mean([0 < rank <= row["rank"] for rank in ranks]))
        assert row["low"] <= row["found"] <= row["high"]
    for row in rates["tpir"]:
        budget = int(row["fpir_asked"] * len(alarms) + 1e-9)
        if budget < 3 or row["support"] == "none":  # or too few people
            assert (row["tpir"], row["fpir"], row["threshold"], row["support"]) == (None, None, None, "none")
            continue
        threshold = sorted(alarms, reverse=True)[budget]  # may not be accepted any more
        assert row["tpir"] == pytest.approx(np.mean([hit > threshold for hit in hits]))
        assert row["fpir"] == pytest.approx(np.mean([alarm > threshold for alarm in alarms]))
        assert row["low"] <= row["tpir"] <= row["high"]


@pytest.mark.slow
def test_a_dealt_gallery(home: Path, tmp_path: Path) -> None:
    result = searched(home, tmp_path / "o", "--model", home / "a", "--model", home / "b", "--crops", home / "crops")
    split = split_of(tmp_path / "o" / "split.csv")
    people = [photo.split("/")[0] for photo in split["gallery"]]
    assert len(people) == len(set(people)) == PEOPLE // 2
    assert len(split["probe"]) == PEOPLE * PHOTOS + 1 - len(people)  # p01's photo without a face is among them
    assert result["split"]["seed"] == 0
    assert "half of the people" in result["split"]["rule"]
    assert result["split"]["left_out"] == {"without crop and identity": 1}
    for rates, model in zip(result["models"], "ab", strict=True):
        agrees(rates, *by_hand(home, model, split))
        assert sum(rates["failures_to_enrol"].values()) in (1, 2)  # a lost gallery photo loses its person too
        assert rates["gallery"] == {"people": 4, "photos": 4}
        assert [row["support"] for row in rates["tpir"]] == ["none", "none"]  # probes of four others
    assert [cost["model"] for cost in result["costs"]] == ["a", "b"]
    assert not (tmp_path / "o" / "thresholds.json").exists()  # an export would take them for thresholds of pairs
    again = searched(home, tmp_path / "p", "--model", home / "a", "--model", home / "b", "--crops", home / "crops",
                     "--split", tmp_path / "o" / "split.csv")  # fmt: skip
    assert again["models"] == result["models"]
    assert again["split"]["seed"] is None
    assert (tmp_path / "p" / "split.csv").read_text() == (tmp_path / "o" / "split.csv").read_text()


def test_a_gallery_of_the_users(home: Path, tmp_path: Path) -> None:
    """p01 is enrolled by a photo without a face, p00 by two photos and p02 by one of two; p03 to p07 are unknown."""
    gallery = ["p01/p01_0099.png", "p00/p00_0001.png", "p00/p00_0002.png", "p02/p02_0001.png"]
    probes = [f"p{n:02d}/p{n:02d}_{k:04d}.png" for n in range(8) for k in range(3, 6)]
    rows = [f"{photo.removesuffix('.png')},Gallery" for photo in gallery] + [f"{photo},probe" for photo in probes]
    path = tmp_path / "split.csv"
    path.write_text("\ufeff" + "\r\n".join(["photo,set", *rows, rows[-1]]), encoding="utf-8")
    result = searched(home, tmp_path / "o", "--model", home / "a", "--crops", home / "crops", "--split", path)
    (rates,) = result["models"]
    agrees(rates, *by_hand(home, "a", {"gallery": gallery, "probe": probes}))
    assert rates["gallery"] == {"people": 3, "photos": 4}
    assert rates["failures_to_enrol"] == {"gallery_photos": 1, "people": 1, "mated_probes": 3, "unknown_probes": 0}
    assert rates["ranks"][0]["found"] <= 6 / 9
    assert len(rates["cmc"]["found"]) == 2  # so many people can be ranked
    assert result["split"]["left_out"] == {"repeated": 1}
    page = (tmp_path / "o" / "report.html").read_text()
    for shown in (
        "too few unknown probes",
        "1 gallery photos gave no crop, for which 1 of these people",
        "3 probes of enrolled people count as",
    ):
        assert shown in page


def test_stored_embeddings_give_the_same(home: Path, tmp_path: Path) -> None:
    with open(tmp_path / "s.csv", "w") as file:
        rows = [(n, k) for n in range(PEOPLE) for k in range(1, PHOTOS + 1)]
        lines = [f"p{n:02d}/p{n:02d}_{k:04d},{'gallery' if n < 4 and k == 1 else 'probe'}" for n, k in rows]
        file.write("\n".join(["photo,set", *lines]))
    flags = ["--split", tmp_path / "s.csv"]
    by_crops = searched(home, tmp_path / "c", "--model", home / "a", "--crops", home / "crops", *flags)
    by_file = searched(home, tmp_path / "e", "--embeddings", home / "a.parquet", *flags)
    one, two = by_crops["models"][0], by_file["models"][0]
    for key in ("model_id", "probes", "gallery", "ranks", "failures_to_enrol"):
        assert one[key] == two[key]
    for mine, theirs in zip(one["tpir"], two["tpir"], strict=True):
        assert mine["tpir"] == theirs["tpir"]
    assert by_file["costs"] == []


def test_without_unknown_probes_there_are_ranks_only(home: Path, tmp_path: Path) -> None:
    lines = [f"p{n:02d}/p{n:02d}_{k:04d},{'gallery' if k == 1 else 'probe'}" for n in range(8) for k in (1, 2, 3)]
    (tmp_path / "s.csv").write_text("\n".join(["photo,set", *lines]))
    result = searched(home, tmp_path / "o", "--embeddings", home / "a.parquet", "--split", tmp_path / "s.csv")
    (rates,) = result["models"]
    assert rates["probes"] == {"mated": 16, "unknown": 0}
    assert rates["ranks"][0]["found"] is not None
    assert all(row["tpir"] is None and row["support"] == "none" for row in rates["tpir"])
    assert (tmp_path / "o" / "report.html").read_text().count("<svg") == 1


def test_the_console_says_who_was_looked_for(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--identification", "--embeddings", str(home / "a.parquet"), "--far", "0.4", "--out", str(tmp_path / "o")]
    assert run(["verify", *flags]) == 0
    shown = capsys.readouterr()
    assert "16 probes of enrolled people and 20 of others, in a gallery of 4 people with 4 photos" in shown.out
    for words in ("rank-1", "rank-10", "TPIR@4e-1", "† Fewer than 30 / FPIR unknown probes"):
        assert words in shown.out
    text = (tmp_path / "o" / "report.md").read_text()
    assert "1 model in a gallery of 4 people from a.parquet: a ranks the right person first for" in text
    assert "run.yaml" in text


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("photo,set\np00/p00_0001,gallery\np00/p00_0001,probe", "line 3: 'p00/p00_0001' is in the gallery and a probe"),
        ("photo,set\np00/p00_0001,train", "line 2: set is 'train'; use gallery or probe"),
        ("photo,sets\np00/p00_0001,probe", "no column 'set'; did you mean 'sets'"),
        ("photo;set\np00/p00_0001;probe", "parted by commas"),
        ("photo,set\np00/p00_0001,gallery", "no photo is in the set 'probe'"),
        ("photo,set\np00/p00_0001,gallery\np77/x,probe", r"1 photos of .*s\.csv are not in it \(first: 'p77/x'\)"),
        ("photo,set\np00/p00_0001,gallery\np90/p90_0001.png,probe", None),
        ("photo,set\np01/p01_0099,gallery\np01/p01_0001,probe", "so nobody is enrolled"),
        ("photo,set\np00/p00_0001,gallery\np01/p01_0001,probe", "no probe shows an enrolled person"),
        ("photo,set\np00/p00_0001,gallery\n,probe", "line 3: names no photo"),
        ("", "no column 'photo'"),
    ],
)
def test_splits_that_are_none(home: Path, tmp_path: Path, rows: str, words: str | None) -> None:
    (tmp_path / "s.csv").write_text(rows)
    if words is None:  # p90's photo has no face; its name says whom it shows
        split, repeated = read_gallery_split(tmp_path / "s.csv")
        assert (split.gallery, split.probes, repeated) == (("p00/p00_0001",), ("p90/p90_0001.png",), 0)
        return
    with pytest.raises(UserError, match=words):
        verify(model=[home / "a"], identification=True, split=tmp_path / "s.csv", crops=home / "crops",
               out=tmp_path / "o", quiet=True)  # fmt: skip


def test_a_photo_of_nobody_known_is_refused(home: Path, tmp_path: Path) -> None:
    store = CropStore.create(tmp_path / "crops", SETTINGS)
    store.append([record("ann", "a.png", person(0, 1)), record("ann", "b.png", person(0, 2)),
                  record(None, "c.png", person(1, 1))])  # fmt: skip
    (tmp_path / "s.csv").write_text("photo,set\na.png,gallery\nb.png,probe\nc.png,probe\n")
    with pytest.raises(UserError, match=r"who 1 of its photos show is not known \(first: 'c\.png'\)"):
        verify(model=[home / "a"], identification=True, split=tmp_path / "s.csv", crops=tmp_path / "crops",
               out=tmp_path / "o", quiet=True)  # fmt: skip
    with pytest.raises(UserError, match="one person only"):
        verify(model=[home / "a"], identification=True, crops=tmp_path / "crops", out=tmp_path / "o", quiet=True)
    assert not (tmp_path / "o").exists()


def test_the_deal_is_of_the_names_alone() -> None:
    photos = [f"{person}/{k}" for person in "abcdefg" for k in range(4)]
    persons = [photo[0] for photo in photos]
    split = deal_gallery(photos, persons, 0)
    assert len(split.gallery) == len({photo[0] for photo in split.gallery}) == 3
    assert sorted(split.gallery + split.probes) == sorted(photos)
    order = np.random.default_rng(0).permutation(len(photos))
    other = deal_gallery([photos[i] for i in order], [persons[i] for i in order], 0)
    assert set(other.gallery) == set(split.gallery)
    assert {deal_gallery(photos, persons, seed).gallery for seed in range(5)} != {split.gallery}


def test_the_same_bytes_are_no_probe_of_themselves(home: Path, tmp_path: Path) -> None:
    store = CropStore.create(tmp_path / "crops", SETTINGS)
    records = [record(f"p{n}", f"p{n}/{k}.png", person(n, k)) for n in range(4) for k in range(3)]
    twin = PhotoRecord("p0/again.png", "p0", "duplicate", "the same bytes", crop_ids=records[0].crop_ids)
    store.append([*records, twin])
    lines = [f"p{n}/{k}.png,{'gallery' if n < 2 and k == 0 else 'probe'}" for n in range(4) for k in range(3)]
    (tmp_path / "s.csv").write_text("\n".join(["photo,set", *lines, "p0/again.png,probe"]))
    flags = ["--model", home / "a", "--crops", tmp_path / "crops", "--split", tmp_path / "s.csv"]
    result = searched(home, tmp_path / "o", *flags)
    assert result["split"]["left_out"] == {"same bytes": 1}
    assert result["models"][0]["probes"] == {"mated": 4, "unknown": 6}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_report_renders_in_a_browser(home: Path, tmp_path: Path) -> None:
    searched(home, tmp_path, "--model", home / "a", "--model", home / "b", "--crops", home / "crops")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--enable-logging=stderr", "--dump-dom", (tmp_path / "report.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert ":CONSOLE" not in done.stderr
    assert done.stdout.count("<svg") == 3  # CMC, TPIR at FPIR, cost
    fpir = "False positive identification rate (FPIR)"
    for words in ("CMC with 95&nbsp;% bands by people", fpir, "The split: half of"):
        assert words in done.stdout
    assert json.loads((tmp_path / "report.json").read_text())["requirements"] == []
