"""facekd verify beyond a pair list: .bin sets, all pairs, CFP's folders, stored embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import oracles
import pytest
import yaml
from toy import SETTINGS, person, record
from verify_home import PEOPLE, PHOTOS, cosines, make_home, ran

from facekd.cli import run
from facekd.commands.verify import verify
from facekd.crops.pairs import read_pairs
from facekd.crops.read import by_name, photo_persons, read_crops
from facekd.crops.store import CropStore
from facekd.errors import UserError
from facekd.rates.rates import d_prime


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("protocols"))


@pytest.mark.slow
def test_a_bin_set_gives_the_rates_of_its_crops_and_pairs(home: Path, tmp_path: Path) -> None:
    by_list = ran(home, tmp_path / "l", "--model", home / "a", "--pairs", home / "pairs.csv", "--crops", home / "crops")
    by_bin = ran(home, tmp_path / "b", "--model", home / "a", "--bin", home / "set.bin")
    (one,), (two,) = by_list["models"], by_bin["models"]
    for key in ("eer", "auc", "pairs"):
        assert one[key] == pytest.approx(two[key])
    for known, unknown in zip(
        one["tar"], two["tar"], strict=True
    ):  # eight people show less than as many strangers would
        assert known["tar"] in (unknown["tar"], None)
    assert one["tar"][0]["tar"] is not None
    assert two["interval"] == "pairs"
    assert len(two["accuracy"]["folds"]) == 10
    assert by_bin["pairs"]["name"] == "set.bin"


@pytest.mark.slow
def test_all_pairs_are_those_of_the_long_list(home: Path, tmp_path: Path) -> None:
    flags = ["--model", home / "a", "--all-pairs"]
    (by_crops,) = ran(home, tmp_path / "c", *flags, "--crops", home / "crops")["models"]
    (by_file,) = ran(home, tmp_path / "e", *flags, "--embeddings", home / "a.parquet")["models"]
    values, same, *_ = cosines(home, "a")
    assert [rate["support"] for rate in by_file["tar"]] == ["bound", "none", "none"]
    for rate in by_file["tar"][:1]:
        tar, far, threshold = oracles.tar_at_far(values, same, str(rate["far_asked"]))
        assert (rate["tar"], rate["far"]) == pytest.approx((float(tar), float(far)))
        assert rate["threshold"] == pytest.approx(threshold, abs=1e-6)
        assert rate["low"] <= rate["tar"] <= rate["high"]
    assert by_file["pairs"] == {"genuine": sum(same), "impostor": len(same) - sum(same)}
    # The store also knows p01's photo without a face: its pairs count and are lost.
    assert by_crops["pairs"]["genuine"] == sum(same) + PHOTOS
    assert by_crops["failures_to_enrol"] == {"photos": 1, "pairs": PEOPLE * PHOTOS}
    assert by_crops["tar"][0]["tar"] < by_file["tar"][0]["tar"]
    assert by_file["accuracy"] is None  # there are no folds
    assert by_file["eer"] == pytest.approx(float(oracles.eer(values, same)), abs=1e-9)
    assert by_file["auc"] == pytest.approx(float(oracles.auc(values, same)), abs=1e-9)
    for rate in ("eer", "auc"):
        low, high = by_file["intervals"][rate]
        assert low < by_file[rate] < high
    assert by_file["d_prime"] == pytest.approx(d_prime(values, same), rel=1e-4)
    for point in by_file["roc"]:
        for key, of_kind in (("tar", values[same]), ("far", values[~same])):
            # Products of another shape differ in the last bits, so a score at the threshold may fall on either side.
            most, least = ((of_kind >= point["threshold"] + move).mean() for move in (-1e-6, 1e-6))
            assert least <= point[key] <= most
    page = (tmp_path / "e" / "report.html").read_text()
    assert page.count("<svg") == 5  # ROC, DET, scores, error rates, cost
    assert "bands that take the person as the unit" in page
    assert json.loads((tmp_path / "c" / "report.json").read_text())["pairs"]["left_out"] == {
        "without crop and identity": 1
    }


@pytest.mark.slow
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


@pytest.mark.slow
def test_run_yaml_repeats_a_bin_run(home: Path, tmp_path: Path) -> None:
    first = ran(home, tmp_path / "1", "--model", home / "a", "--bin", home / "set.bin", "--require", "tar@0.1>=0.01")
    config = yaml.safe_load((tmp_path / "1" / "run.yaml").read_text())
    assert config["bin"] == str(home / "set.bin")
    again = ["--config", str(tmp_path / "1" / "run.yaml"), "--out", str(tmp_path / "2"), "--quiet"]
    assert run(["verify", *again]) == 0
    second = json.loads((tmp_path / "2" / "report.json").read_text())
    assert second["models"] == first["models"]
    assert second["requirements"] == first["requirements"]


@pytest.mark.slow
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
    # The store states 'frontal' and 'profile', which no name overrules and nobody is called.
    given = [*map(str, flags[:4]), "--out", str(tmp_path / "all")]
    with pytest.raises(UserError, match="kinds of photo, which are no people; align"):
        verify(model=[home / "a"], crops=tmp_path / "crops", all_pairs=True, out=tmp_path / "all")
    assert run(["verify", *given, "--all-pairs"]) == 2
    (protocol / "Split" / "FP" / "02" / "diff.txt").write_text("1,99\n")
    with pytest.raises(UserError, match=r"02/diff\.txt, line 1: '1,99' names no two photos"):
        read_pairs(protocol / "Split" / "FP")
    (protocol / "Split" / "FP" / "02" / "diff.txt").unlink()
    with pytest.raises(UserError, match="copy CFP's Protocol folder as a whole"):
        read_pairs(protocol / "Split" / "FP")
    with pytest.raises(UserError, match="a folder is no pair list"):
        read_pairs(protocol)


def test_a_duplicate_is_named_after_the_folder_it_lies_in(home: Path) -> None:
    persons = photo_persons(home / "crops")
    crops = read_crops(home / "crops")
    assert persons["p01/p01_0001"] == persons["p01/p01_0001.png"] == "p01"
    assert [persons[crop_id] for crop_id in crops.ids] == list(crops.identities)
    assert by_name([("x/1.png", "ann"), ("y/1.png", "bob")]) == {"x/1.png": "ann", "y/1.png": "bob", "x/1": "ann",
                                                                 "y/1": "bob"}  # fmt: skip
