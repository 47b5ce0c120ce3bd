"""facekd verify beyond a pair list: .bin sets, all pairs, stored embeddings, groups, requirements, several models."""

from __future__ import annotations

import itertools
import json
import math
import pickle
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import yaml
from toy import SETTINGS, person, record, save_run, write_store

from facekd.cli import run
from facekd.core.types import Array
from facekd.crops.pairs import read_pairs
from facekd.crops.read import CropSet, by_name, photo_persons, read_crops
from facekd.crops.store import CropStore, PhotoRecord
from facekd.deploy.embedder import Embedder
from facekd.deploy.thresholds import measured_thresholds, read_thresholds
from facekd.errors import UserError
from facekd.rates.persons import paired_differences, person_rates
from facekd.stages.verify import verify
from facekd.stages.verify_groups import group_ratios
from facekd.stages.verify_rates import check, parse_requirement

PEOPLE, PHOTOS = 8, 5
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ALL = list(itertools.combinations(range(PEOPLE * PHOTOS), 2))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store, two models, a list of all pairs with groups, the same as a .bin set, and stored embeddings."""
    home = tmp_path_factory.mktemp("protocols")
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
    return Embedder.load(home / model).embed(crops.batch(np.arange(len(crops))))


def cosines(home: Path, model: str) -> tuple[Array, Array, Array, Array]:
    """Scores, labels and people of ALL."""
    embedded = vectors(home, model)
    left, right = np.array(ALL).T
    values = np.einsum("pd,pd->p", embedded[left], embedded[right]).clip(-1, 1)
    return values, left // PHOTOS == right // PHOTOS, left // PHOTOS, right // PHOTOS


def ran(home: Path, out: Path, *flags: object, code: int = 0) -> dict[str, Any]:
    given = [str(flag) for flag in flags]
    assert (
        run(["verify", *given, "--far", "0.1", "--far", "0.01", "--far", "0.001", "--out", str(out), "--quiet"]) == code
    )
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def test_intervals_are_by_people_where_people_are_known(home: Path, tmp_path: Path) -> None:
    result = ran(home, tmp_path, "--model", home / "a", "--pairs", home / "pairs.csv", "--crops", home / "crops")
    (rates,) = result["models"]
    assert rates["interval"] == "identities"
    expected = person_rates(*cosines(home, "a"), [0.1, 0.01], resamples=1000, seed=0)
    for rate, known in zip(rates["tar"], expected, strict=False):
        assert (rate["tar"], rate["low"], rate["high"]) == pytest.approx((known.tar, known.low, known.high))
        assert rate["threshold"] == pytest.approx(known.threshold, abs=1e-6)
    assert [rate["support"] for rate in rates["tar"]] == ["estimate", "bound", "none"]  # 700 impostor pairs
    assert rates["tar"][2]["tar"] is None
    page = (tmp_path / "report.html").read_text()
    assert "†" in page
    assert "1000 resamples" in page


def test_intervals_are_by_pairs_where_somebody_is_unknown(home: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path / "crops", people=6, photos=5, named=False)
    rows = itertools.combinations(enumerate(read_crops(store).ids), 2)
    text = "\n".join(f"{a},{b},{int(i // 5 == j // 5)}" for (i, a), (j, b) in rows)
    (tmp_path / "p.csv").write_text(f"a,b,same\n{text}\n")
    flags = ["--model", home / "a", "--model", home / "b", "--pairs", tmp_path / "p.csv", "--crops", store]
    result = ran(home, tmp_path / "out", *flags)
    assert {one["interval"] for one in result["models"]} == {"pairs"}
    assert {one["interval"] for one in result["differences"]} == {"pairs"}
    assert "taken as independent" in (tmp_path / "out" / "report.html").read_text()


def test_models_are_compared_on_the_same_pairs(home: Path, tmp_path: Path) -> None:
    flags = ["--model", home / "a", "--model", home / "b", "--pairs", home / "pairs.csv", "--crops", home / "crops"]
    result = ran(home, tmp_path, *flags)
    values, same, left, right = cosines(home, "a")
    expected = paired_differences(values, cosines(home, "b")[0], same, left, right, [0.1, 0.01, 0.001])
    assert [(one["a"], one["b"]) for one in result["differences"]] == [("a", "b")] * 3
    for one, known in zip(result["differences"], expected, strict=True):
        assert one["difference"] == pytest.approx(known.difference)
        assert one["p_value"] == pytest.approx(known.p_value)
    assert result["differences"][2]["difference"] is None
    assert [cost["model"] for cost in result["costs"]] == ["a", "b"]
    for cost in result["costs"]:
        assert cost["latency_ms"] > 0
        assert cost["crops_per_second"] > 0
        assert cost["macs"] > 0
        assert cost["bytes"] == (home / cost["model"] / "model.safetensors").stat().st_size
    page, text = (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()
    for shown in ("Differences in TAR", "Thresholds", "Cost", "The hardest pairs"):
        assert shown in page
        assert shown in text


def test_thresholds_are_written_with_their_intervals(home: Path, tmp_path: Path) -> None:
    flags = ["--model", home / "a", "--pairs", home / "pairs.csv", "--crops", home / "crops"]
    result = ran(home, tmp_path, *flags)
    found = json.loads((tmp_path / "thresholds.json").read_text())
    assert found["pairs"]["sha256"] == result["pairs"]["sha256"]
    (rates,) = result["models"]
    mine = found["models"][rates["model_id"]]["thresholds"]
    assert mine.keys() == {"1e-1", "1e-2"}  # the list shows no threshold for 1e-3
    for rate in rates["tar"][:2]:
        entry = mine["1e-1" if rate["far_asked"] == 0.1 else "1e-2"]
        assert entry["threshold"] == rate["threshold"]
        assert entry["low"] <= entry["threshold"] <= entry["high"]
        assert entry["far"] == rate["far"] <= rate["far_asked"]


def test_an_export_takes_the_measured_thresholds(home: Path, tmp_path: Path) -> None:
    flags = ["--model", home / "a", "--pairs", home / "pairs.csv", "--crops", home / "crops"]
    (rates,) = ran(home, tmp_path, *flags)["models"]
    exported = ["export", str(home / "a"), str(tmp_path / "a.onnx"), "--quiet", "--thresholds"]
    assert run([*exported, str(tmp_path / "thresholds.json")]) == 0
    assert read_thresholds(tmp_path / "a.onnx") == {rate["far_asked"]: rate["threshold"] for rate in rates["tar"][:2]}
    with pytest.raises(UserError, match="holds no threshold of model"):
        measured_thresholds(tmp_path / "thresholds.json", "another")
    with pytest.raises(UserError, match=r"not a thresholds\.json"):
        measured_thresholds(tmp_path / "report.json", rates["model_id"])


def test_a_bin_set_gives_the_rates_of_its_crops_and_pairs(home: Path, tmp_path: Path) -> None:
    by_list = ran(home, tmp_path / "l", "--model", home / "a", "--pairs", home / "pairs.csv", "--crops", home / "crops")
    by_bin = ran(home, tmp_path / "b", "--model", home / "a", "--bin", home / "set.bin")
    (one,), (two,) = by_list["models"], by_bin["models"]
    for key in ("eer", "auc", "pairs"):
        assert one[key] == pytest.approx(two[key])
    assert [rate["tar"] for rate in one["tar"]] == [rate["tar"] for rate in two["tar"]]
    assert two["interval"] == "pairs"
    assert len(two["accuracy"]["folds"]) == 10
    assert by_bin["pairs"]["name"] == "set.bin"


def test_all_pairs_are_those_of_the_long_list(home: Path, tmp_path: Path) -> None:
    flags = ["--model", home / "a", "--all-pairs"]
    (by_crops,) = ran(home, tmp_path / "c", *flags, "--crops", home / "crops")["models"]
    (by_file,) = ran(home, tmp_path / "e", *flags, "--embeddings", home / "a.parquet")["models"]
    values, same, *_ = cosines(home, "a")
    for rate in by_file["tar"][:2]:
        tar, far, threshold = oracles.tar_at_far(values, same, str(rate["far_asked"]))
        assert (rate["tar"], rate["far"]) == pytest.approx((float(tar), float(far)))
        assert rate["threshold"] == pytest.approx(threshold, abs=1e-6)
        assert rate["low"] <= rate["tar"] <= rate["high"]
    assert by_file["pairs"] == {"genuine": sum(same), "impostor": len(same) - sum(same)}
    # The store also knows p01's photo without a face: its pairs count and are lost.
    assert by_crops["pairs"]["genuine"] == sum(same) + PHOTOS
    assert by_crops["failures_to_enrol"] == {"photos": 1, "pairs": PEOPLE * PHOTOS}
    assert by_crops["tar"][0]["tar"] < by_file["tar"][0]["tar"]
    assert by_file["accuracy"] is by_file["eer"] is by_file["auc"] is None  # no score was kept
    assert "Curves" not in (tmp_path / "e" / "report.html").read_text()
    assert json.loads((tmp_path / "c" / "report.json").read_text())["pairs"]["left_out"] == {
        "without crop and identity": 1
    }


def test_stored_embeddings_give_the_same_without_the_model(home: Path, tmp_path: Path) -> None:
    common = ["--pairs", home / "pairs.csv"]
    crops = ran(home, tmp_path / "c", *common, "--model", home / "a", "--crops", home / "crops")
    stored = ran(home, tmp_path / "e", *common, "--embeddings", home / "a.parquet", "--embeddings", home / "b.parquet")
    one, two = crops["models"][0], stored["models"][0]
    assert two["model_id"] == one["model_id"]
    assert two["model"] == "a"
    assert two["tar"][0]["low"] == pytest.approx(one["tar"][0]["low"])
    assert two["eer"] == pytest.approx(one["eer"])
    assert stored["costs"] == []
    assert len(stored["differences"]) == 3


def test_embeddings_of_another_model_are_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"b\.parquet: embeddings of model"):
        verify(model=[home / "a"], embeddings=[home / "b.parquet"], pairs=home / "pairs.csv", out=tmp_path / "o")
    with pytest.raises(UserError, match="1 models for 2 files"):
        verify(model=[home / "a"], embeddings=[home / "a.parquet", home / "b.parquet"], all_pairs=True, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_groups_at_one_threshold(home: Path, tmp_path: Path) -> None:
    flags = ["--model", home / "a", "--pairs", home / "pairs.csv", "--crops", home / "crops", "--group", "sex"]
    (rates,) = ran(home, tmp_path, *flags, "--group", "camera")["models"]
    assert rates["groups"].keys() == {"sex", "camera"}
    women = rates["groups"]["sex"]["f"]
    assert women["pairs"] == {"genuine": 6 * 10, "impostor": 15 * 25}
    assert women["people"] == 6
    assert all(group["few"] for group in rates["groups"]["sex"].values())  # none has thirty people
    for row in rates["group_ratios"]["sex"]:
        assert row["fnmr"]["ratio"] is None
    values, same, left, right = cosines(home, "a")
    threshold = rates["tar"][0]["threshold"] - 1e-6
    inside = (left < 6) & (right < 6)
    assert women["tar"][0]["tar"] == pytest.approx((values[inside & same] >= threshold).mean())
    assert women["tar"][0]["far"] == pytest.approx((values[inside & ~same] >= threshold).mean())
    assert women["tar"][1]["far"] is not None  # 375 pairs can show one in a hundred,
    assert rates["groups"]["sex"]["m"]["tar"][0]["far"] is None  # 25 not even one in ten
    assert "‡" in (tmp_path / "report.html").read_text()


def test_ratios_are_of_groups_that_are_large_enough() -> None:
    def group(tar: float, far: float | None, few: bool = False) -> dict[str, Any]:
        return {"few": few, "tar": [{"tar": tar, "far": far}]}

    groups = {"x": group(0.9, 0.002), "y": group(0.98, 0.001), "z": group(0.1, 0.9, few=True), "w": group(0.95, None)}
    (row,) = group_ratios(groups, [1e-3])
    assert row["fnmr"] == {"ratio": pytest.approx(5.0), "worst": "x", "best": "y"}
    assert row["far"] == {"ratio": pytest.approx(2.0), "worst": "x", "best": "y"}
    (row,) = group_ratios({"x": group(0.9, 0.0), "y": group(1.0, 0.0)}, [1e-3])
    assert row["fnmr"]["ratio"] is None  # nothing is missed by the best: no ratio, not infinity


def test_a_requirement_is_held_against_the_lower_bound(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--model", home / "a", "--pairs", home / "pairs.csv", "--crops", home / "crops"]
    rate = ran(home, tmp_path / "0", *flags)["models"][0]["tar"][0]
    between = (rate["low"] + rate["tar"]) / 2
    assert rate["low"] < between < rate["tar"]  # the rate would hold it, its lower bound does not
    assert ran(home, tmp_path / "1", *flags, "--require", f"tar@0.1>={rate['low'] - 1e-6}")["requirements"][0]["met"]
    missed = ran(home, tmp_path / "2", *flags, "--require", f"tar@1e-1 >= {between}", code=1)["requirements"]
    assert [one["met"] for one in missed] == [False]
    several = ["--require", "tar@0.2>=0.01", "--require", "TAR@1e-3>=0.01"]
    command = ["verify", *map(str, flags), *several, "--out", str(tmp_path / "3")]
    capsys.readouterr()
    assert run(command) == 1  # the second can't be shown by this list
    shown = capsys.readouterr().err
    assert "a: tar@0.2>=0.01 holds: TAR" in shown
    assert "a: TAR@1e-3>=0.01 not shown: 700 impostor pairs are too few for FAR 0.001" in shown
    result = json.loads((tmp_path / "3" / "report.json").read_text())
    assert 0.2 in [rate["far_asked"] for rate in result["models"][0]["tar"]]  # asked for by the requirement


@pytest.mark.parametrize("text", ["tar@1e-3", "tar>=0.9", "far@1e-3>=0.9", "tar@2>=0.9", "tar@1e-3>=95", "tar@e>=1", "",
                                  "tar@1e-3>=0", "tar@1e-3>0.9"])  # fmt: skip
def test_what_is_no_requirement(text: str) -> None:
    with pytest.raises(UserError, match=r"not a requirement; .*tar@1e-3>=0\.95"):
        parse_requirement(text)


def test_a_bound_that_just_misses_is_not_rounded_up() -> None:
    rate = {"far_asked": 1e-3, "tar": 0.99, "low": math.nextafter(0.95, 0)}
    found = check(parse_requirement("tar@1e-3>=0.95"), {"model": "m", "tar": [rate], "pairs": {"impostor": 1}})
    assert not found["met"]
    assert "lower bound 0.949999" in found["line"]


def test_the_report_shows_faces_only_where_they_are_wanted(home: Path, tmp_path: Path) -> None:
    flags = ["--model", home / "a", "--pairs", home / "pairs.csv", "--crops", home / "crops"]
    ran(home, tmp_path / "with", *flags, "--report", tmp_path / "r.html")
    ran(home, tmp_path / "without", *flags, "--no-faces")
    page = (tmp_path / "with" / "report.html").read_text()
    assert page.count("data:image/jpeg") == 2 * 2 * 8
    assert (tmp_path / "r.html").read_text() == page
    values, same, *_ = cosines(home, "a")
    assert f"{values[same].min():.3f} p0" in page
    assert f"{values[~same].max():.3f} p0" in page
    assert "data:image" not in (tmp_path / "without" / "report.html").read_text()
    for name in ("report.html", "report.md", "report.json", "thresholds.json"):
        assert (tmp_path / "with" / name).stat().st_mode & 0o077 == 0


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_the_report_renders_in_a_browser(home: Path, tmp_path: Path) -> None:
    flags = ["--model", home / "a", "--model", home / "b", "--pairs", home / "pairs.csv", "--crops", home / "crops"]
    ran(home, tmp_path, *flags, "--group", "sex")
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--enable-logging=stderr", "--dump-dom", (tmp_path / "report.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert ":CONSOLE" not in done.stderr
    assert done.stdout.count("<svg") == 5  # ROC, DET, two histograms, cost
    assert "The hardest pairs" in done.stdout


def test_run_yaml_repeats_a_bin_run(home: Path, tmp_path: Path) -> None:
    first = ran(home, tmp_path / "1", "--model", home / "a", "--bin", home / "set.bin", "--require", "tar@0.1>=0.01")
    config = yaml.safe_load((tmp_path / "1" / "run.yaml").read_text())
    assert config["bin"] == str(home / "set.bin")
    again = ["--config", str(tmp_path / "1" / "run.yaml"), "--out", str(tmp_path / "2"), "--quiet"]
    assert run(["verify", *again]) == 0
    second = json.loads((tmp_path / "2" / "report.json").read_text())
    assert second["models"] == first["models"]
    assert second["requirements"] == first["requirements"]


def test_cfp_by_its_own_folders(home: Path, tmp_path: Path) -> None:
    """Photos aligned from CFP's folders, whose crops are filed under 'frontal' and 'profile'."""
    store = CropStore.create(tmp_path / "crops", SETTINGS)
    places = [(n, kind, k) for n in range(6) for kind in ("frontal", "profile") for k in range(1, 4)]
    records = [record(kind, f"Images/{n + 1:03d}/{kind}/{k:02d}.jpg", person(n, k)) for n, kind, k in places]
    store.append(records)
    protocol = tmp_path / "Protocol"
    for kind in ("frontal", "profile"):
        (protocol / "Split" / "FP").mkdir(parents=True, exist_ok=True)
        names = [f"{n + 1:03d}/{kind}/{k:02d}.jpg" for n, which, k in places if which == kind]
        lines = [f"{number} ../Data/Images/{name}" for number, name in enumerate(names, 1)]
        (protocol / f"Pair_list_{kind[0].upper()}.txt").write_text("\n".join(lines) + "\n")
    expected = []
    for fold in (1, 2):
        folder = protocol / "Split" / "FP" / f"{fold:02d}"
        folder.mkdir()
        chosen = [(a, b) for a in range(18) for b in range(18) if (a // 3) % 2 == (b // 3) % 2 == fold - 1]
        for label in ("same", "diff"):
            rows = [(a, b) for a, b in chosen if (a // 3 == b // 3) == (label == "same")]
            (folder / f"{label}.txt").write_text("".join(f"{a + 1},{b + 1}\n" for a, b in rows))
            expected += [(a // 3, a % 3 + 1, b // 3, b % 3 + 1, label == "same", fold - 1) for a, b in rows]
    pairs = read_pairs(protocol / "Split" / "FP")
    assert pairs.left == tuple(f"{a + 1:03d}/frontal/{i:02d}" for a, i, *_ in expected)
    assert pairs.right == tuple(f"{b + 1:03d}/profile/{i:02d}" for _, _, b, i, *_ in expected)
    assert pairs.same.tolist() == [row[4] for row in expected]
    assert pairs.fold.tolist() == [row[5] for row in expected]
    flags = ["--model", home / "a", "--crops", tmp_path / "crops", "--pairs", protocol / "Split" / "FP"]
    result = ran(home, tmp_path / "out", *flags)
    (rates,) = result["models"]
    assert rates["interval"] == "identities"
    assert rates["pairs"] == {"genuine": 54, "impostor": 108}
    assert len(rates["accuracy"]["folds"]) == 2
    (protocol / "Split" / "FP" / "02" / "diff.txt").write_text("1,99\n")
    with pytest.raises(UserError, match=r"02/diff\.txt, line 1: '1,99' names no two photos"):
        read_pairs(protocol / "Split" / "FP")
    (protocol / "Split" / "FP" / "02" / "diff.txt").unlink()
    with pytest.raises(UserError, match="copy CFP's Protocol folder as a whole"):
        read_pairs(protocol / "Split" / "FP")
    with pytest.raises(UserError, match="a folder is no pair list"):
        read_pairs(protocol)


def test_pairs_are_rejected_by_the_worse_crops_quality(home: Path, tmp_path: Path) -> None:
    store = CropStore.create(tmp_path / "crops", SETTINGS)
    records = [record(f"p{n}", f"p{n}/{k}.png", person(n, k)) for n in range(8) for k in range(5)]
    for place, one in enumerate(records):
        one.crops[0]["quality"] = float(place % 10)
    store.append(records)
    names = [f"{one.source}" for one in records]
    rows = [f"{names[i]},{names[j]},{int(i // 5 == j // 5)}" for i, j in ALL]
    pairs = tmp_path / "p.csv"
    pairs.write_text("\n".join(["a,b,same", *rows]))
    flags = ["--model", home / "a", "--pairs", pairs, "--crops", tmp_path / "crops"]
    (rates,) = ran(home, tmp_path / "out", *flags)["models"]
    found = rates["rejects"]
    assert (found["far_asked"], found["threshold"]) == (0.1, rates["tar"][0]["threshold"])
    values, same, *_ = cosines(home, "a")
    worse = np.array([min(i % 10, j % 10) for i, j in ALL])
    for row in found["rows"]:
        kept = worse >= np.sort(worse)[int(row["rejected"] * len(ALL) + 0.5)]
        assert row["rejected"] == pytest.approx(1 - kept.mean())
        assert row["fnmr"] == pytest.approx((values[kept & same] < found["threshold"] - 1e-6).mean())
    assert len({row["rejected"] for row in found["rows"]}) > 1
    assert "Error versus reject" in (tmp_path / "out" / "report.html").read_text()


def test_a_duplicate_is_named_after_the_folder_it_lies_in(home: Path) -> None:
    persons = photo_persons(home / "crops")
    crops = read_crops(home / "crops")
    assert persons["p01/p01_0001"] == persons["p01/p01_0001.png"] == "p01"
    assert [persons[crop_id] for crop_id in crops.ids] == list(crops.identities)
    assert by_name([("x/1.png", "ann"), ("y/1.png", "bob")]) == {"x/1.png": "ann", "y/1.png": "bob", "x/1": "ann",
                                                                 "y/1": "bob"}  # fmt: skip


def test_the_page_names_what_it_compared(home: Path, tmp_path: Path) -> None:
    ran(home, tmp_path, "--model", home / "a", "--bin", home / "set.bin")
    text = (tmp_path / "report.md").read_text()
    assert re.search(r"1 model on \d+ genuine and \d+ impostor pairs of set\.bin: a accepts", text)
    assert f"facekd verify --config {tmp_path}/run.yaml" in text
