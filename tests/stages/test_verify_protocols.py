"""facekd verify beyond a pair list: .bin sets, all pairs, stored embeddings, groups, requirements, several models."""

from __future__ import annotations

import itertools
import json
import math
import pickle
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import yaml
from toy import contract_file, onnx_of, save_run, tiny_net, write_store

from facekd.cli import run
from facekd.core.types import Array, PairList
from facekd.crops.pairs import lfw_person, without_repeats
from facekd.crops.read import CropSet, by_name, photo_persons, read_crops
from facekd.crops.store import CropStore, PhotoRecord
from facekd.deploy.embedder import Embedder
from facekd.errors import UserError
from facekd.rates.persons import paired_differences, person_rates
from facekd.stages.verify import verify
from facekd.stages.verify_rates import check, parse_requirement

PEOPLE, PHOTOS = 8, 5
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
    from facekd.stages.verify_rates import group_ratios

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


def test_run_yaml_repeats_a_bin_run(home: Path, tmp_path: Path) -> None:
    first = ran(home, tmp_path / "1", "--model", home / "a", "--bin", home / "set.bin", "--require", "tar@0.1>=0.01")
    config = yaml.safe_load((tmp_path / "1" / "run.yaml").read_text())
    assert config["bin"] == str(home / "set.bin")
    again = ["--config", str(tmp_path / "1" / "run.yaml"), "--out", str(tmp_path / "2"), "--quiet"]
    assert run(["verify", *again]) == 0
    second = json.loads((tmp_path / "2" / "report.json").read_text())
    assert second["models"] == first["models"]
    assert second["requirements"] == first["requirements"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "a"], "give one of --pairs LIST, --bin SET and --all-pairs, not none"),
        (["--model", "a", "--pairs", "p", "--all-pairs", "--crops", "c"], "not --pairs and --all-pairs"),
        (["--model", "a", "--bin", "b", "--crops", "c"], "holds its own crops; leave --crops out"),
        (["--model", "a", "--pairs", "p"], "give --crops STORE or --embeddings FILE, not neither"),
        (["--model", "a", "--pairs", "p", "--crops", "c", "--embeddings", "e"], "not --crops and --embeddings"),
        (["--pairs", "p", "--crops", "c"], "give --model FILE"),
        (["--model", "a", "--all-pairs", "--crops", "c", "--group", "sex"], "--group names a column of a pair list"),
        (["--model", "a", "--bin", "b", "--require", "tar>1"], "not a requirement"),
    ],
)
def test_flags_that_do_not_go_together(
    flags: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["verify", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert list(tmp_path.iterdir()) == []


def pair_list(path: Path, *rows: str, head: str = "a,b,same", start: str = "") -> Path:
    path.write_text(start + "\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


GOOD = ["p00/p00_0001,p00/p00_0002,1", "p01/p01_0001,p01/p01_0002,1", "p00/p00_0001,p01/p01_0001,0",
        "p00/p00_0002,p01/p01_0001,0"]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["p00/p00_0002,p00/p00_0001,0"], r"1 pairs are labelled as same and as different .*pairs 1 and 5"),
        (["p02/p02_0001,p02/p02_0001,0"], r"pair 5 says that 'p02/p02_0001' is another person than itself"),
        (["p02/p02_0001,p03/p03_0001,1"], r"1 pairs are labelled against the people .*pair 5.*the same person"),
    ],
)
def test_a_list_that_contradicts_is_refused(home: Path, tmp_path: Path, rows: list[str], words: str) -> None:
    pairs = pair_list(tmp_path / "p.csv", *GOOD, *rows)
    with pytest.raises(UserError, match=words):
        verify(model=[home / "a"], pairs=pairs, crops=home / "crops", out=tmp_path / "o", quiet=True)
    assert not (tmp_path / "o").exists()


def test_what_a_list_says_twice_counts_once(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extra = ["p00/p00_0002,p00/p00_0001,1", GOOD[2], "p02/p02_0001,p02/p02_0001,1"]
    common = ["--model", str(home / "a"), "--crops", str(home / "crops")]
    pairs = pair_list(tmp_path / "p.csv", *GOOD, *extra, start="\ufeff")  # and the file begins with a BOM
    assert run(["verify", *common, "--pairs", str(pairs), "--out", str(tmp_path / "o")]) == 0
    assert "left out: 1 itself, 2 repeated" in capsys.readouterr().out
    plain = ran(home, tmp_path / "plain", *common, "--pairs", pair_list(tmp_path / "q.csv", *GOOD))
    result = json.loads((tmp_path / "o" / "report.json").read_text())
    assert result["pairs"]["left_out"] == {"itself": 1, "repeated": 2}
    assert result["models"][0]["auc"] == plain["models"][0]["auc"]
    assert result["models"][0]["pairs"] == {"genuine": 2, "impostor": 2}


def test_a_list_without_a_group_column(home: Path, tmp_path: Path) -> None:
    for head, has in (("a,b,same,age,sex", "age, sex"), ("a,b,same", "none")):
        rows = [row + ",1,2" if "sex" in head else row for row in GOOD]
        pairs = pair_list(tmp_path / "p.csv", *rows, head=head)
        with pytest.raises(UserError, match=rf"has no group column 'skin'; its group columns: {has}"):
            verify(model=[home / "a"], pairs=pairs, crops=home / "crops", group=["skin"], out=tmp_path / "o")


def test_all_pairs_need_labels(home: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path / "crops", people=2, photos=2, named=False)
    with pytest.raises(UserError, match="none of its photos says who it shows"):
        verify(model=[home / "a"], all_pairs=True, crops=store, out=tmp_path / "o", quiet=True)


def test_a_model_that_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    net = tiny_net()
    net[4].bias.data[:] = float("nan")
    write_store(tmp_path / "crops", people=2, photos=2)
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=32)
    pairs = pair_list(tmp_path / "p.csv", *GOOD)
    with pytest.raises(UserError, match="4 of 4 embeddings are zero, not finite"):
        verify(
            model=[onnx_of(net, tmp_path / "nan.onnx")], contract=contract, pairs=pairs, crops=tmp_path / "crops",
            out=tmp_path / "o", quiet=True,
        )  # fmt: skip


def test_who_is_in_a_photo() -> None:
    assert lfw_person("Abel_Pacheco/Abel_Pacheco_0001") == "Abel_Pacheco"
    assert lfw_person("lfw/Abel_Pacheco/Abel_Pacheco_0001.jpg") == "Abel_Pacheco"
    assert lfw_person("Abel_Pacheco/Bob_0001") is None
    assert lfw_person("photo_0001") is None


def test_a_duplicate_is_named_after_the_folder_it_lies_in(home: Path) -> None:
    persons = photo_persons(home / "crops")
    crops = read_crops(home / "crops")
    assert persons["p01/p01_0001"] == persons["p01/p01_0001.png"] == "p01"
    assert [persons[crop_id] for crop_id in crops.ids] == list(crops.identities)
    assert by_name([("x/1.png", "ann"), ("y/1.png", "bob")]) == {"x/1.png": "ann", "y/1.png": "bob", "x/1": "ann",
                                                                 "y/1": "bob"}  # fmt: skip


def test_repeats_by_a_slow_twin() -> None:
    rng = np.random.default_rng(0)
    names = [f"n{i}" for i in range(12)]
    label = rng.random((12, 12)) < 0.5
    left, right = rng.integers(0, 12, (2, 200))
    same = np.array([a == b or label[min(a, b), max(a, b)] for a, b in zip(left, right, strict=True)])
    pairs = PairList(
        tuple(names[i] for i in left), tuple(names[i] for i in right), same, np.arange(200).astype(np.int16),
        {"g": tuple(map(str, range(200)))},
    )  # fmt: skip
    kept, counts = without_repeats(pairs, "list")
    seen: set[frozenset[str]] = set()
    expected, found = [], Counter()
    for place, pair in enumerate(map(frozenset, zip(pairs.left, pairs.right, strict=True))):
        kind = "itself" if len(pair) == 1 else "repeated" if pair in seen else ""
        seen.add(pair)
        found[kind] += 1
        if not kind:
            expected.append(place)
    assert kept.fold.tolist() == expected
    assert kept.groups["g"] == tuple(map(str, expected))
    assert counts == {"itself": found["itself"], "repeated": found["repeated"]}
    assert min(counts.values()) > 0


def test_the_page_names_what_it_compared(home: Path, tmp_path: Path) -> None:
    ran(home, tmp_path, "--model", home / "a", "--bin", home / "set.bin")
    text = (tmp_path / "report.md").read_text()
    assert re.search(r"1 model on \d+ genuine and \d+ impostor pairs of set\.bin: a accepts", text)
    assert f"facekd verify --config {tmp_path}/run.yaml" in text
