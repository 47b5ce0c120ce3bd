"""What facekd verify says of a list: intervals, differences, groups, requirements, thresholds, and the report."""

from __future__ import annotations

import itertools
import json
import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from toy import SETTINGS, person, record, write_store
from verify_home import ALL, cosines, make_home, ran

from facekd.cli import run
from facekd.core.types import Embeddings, PairList, Rate, Scores
from facekd.crops.read import read_crops
from facekd.crops.store import CropStore
from facekd.deploy.thresholds import measured_thresholds, read_thresholds
from facekd.errors import UserError
from facekd.evaluation.judged import JudgedModel
from facekd.evaluation.model_rates import judge_scores
from facekd.evaluation.protocols import ListedPairs, Persons
from facekd.evaluation.requirements import check
from facekd.evaluation.results import GroupRate, GroupRates, Judged, PairCounts, WorstToBest, group_ratios
from facekd.rates.persons import paired_differences, person_rates
from facekd.settings.requirements import Requirement

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("shown"))


def test_intervals_are_by_people_where_people_are_known(home: Path, tmp_path: Path) -> None:
    result = ran(home, tmp_path, "--model", home / "a", "--pairs", home / "pairs.csv", "--crops", home / "crops")
    (rates,) = result["models"]
    assert rates["interval"] == "identities"
    expected = person_rates(*cosines(home, "a"), [0.1, 0.01])
    for rate, known in zip(rates["tar"], expected, strict=False):
        if known.tar is not None:
            assert (rate["tar"], rate["low"], rate["high"]) == pytest.approx((known.tar, known.low, known.high))
            assert rate["threshold"] == pytest.approx(known.threshold, abs=1e-6)
    # 700 impostor pairs are 28 couples of people, 25 pairs each, which count as 206
    assert [rate["support"] for rate in rates["tar"]] == ["bound", "none", "none"]
    assert [rate["tar"] for rate in rates["tar"]][1:] == [None, None]
    assert [rate["far_asked"] for rate in rates["roc"]] == sorted(rate["far_asked"] for rate in rates["roc"])
    assert rates["roc"][-1]["far_asked"] == 1.0
    assert all(rate["low"] <= rate["tar"] <= rate["high"] for rate in rates["roc"])
    page = (tmp_path / "report.html").read_text()
    assert "bands that take the person as the unit" in page
    assert "†" in page
    assert "own error is in it" in page


def test_intervals_are_by_pairs_where_somebody_is_unknown(home: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path / "crops", people=6, photos=5, named=False)
    rows = itertools.combinations(enumerate(read_crops(store).ids), 2)
    text = "\n".join(f"{a},{b},{int(i // 5 == j // 5)}" for (i, a), (j, b) in rows)
    (tmp_path / "p.csv").write_text(f"a,b,same\n{text}\n")
    flags = ["--model", home / "a", "--model", home / "b", "--pairs", tmp_path / "p.csv", "--crops", store]
    result = ran(home, tmp_path / "out", *flags)
    assert {one["interval"] for one in result["models"]} == {"pairs"}
    assert {one["interval"] for one in result["differences"]} == {"pairs"}
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Wilson interval over genuine pairs taken as independent" in page
    assert "bands for pairs taken as independent" in page


@pytest.mark.slow
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
    assert mine.keys() == {"1e-1"}  # 28 couples of people show no threshold for 1e-2
    for rate in rates["tar"][:1]:
        entry = mine["1e-1"]
        assert entry["threshold"] == rate["threshold"]
        assert entry["low"] <= entry["threshold"] <= entry["high"]
        assert entry["far"] == rate["far"] <= rate["far_asked"]


@pytest.mark.slow
def test_an_export_takes_the_measured_thresholds(home: Path, tmp_path: Path) -> None:
    flags = ["--model", home / "a", "--pairs", home / "pairs.csv", "--crops", home / "crops"]
    (rates,) = ran(home, tmp_path, *flags)["models"]
    exported = ["export", str(home / "a"), str(tmp_path / "a.onnx"), "--quiet", "--thresholds"]
    assert run([*exported, str(tmp_path / "thresholds.json")]) == 0
    assert read_thresholds(tmp_path / "a.onnx") == {rate["far_asked"]: rate["threshold"] for rate in rates["tar"][:1]}
    with pytest.raises(UserError, match="holds no threshold of model"):
        measured_thresholds(tmp_path / "thresholds.json", "another")
    with pytest.raises(UserError, match=r"not a thresholds\.json"):
        measured_thresholds(tmp_path / "report.json", rates["model_id"])


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
    assert women["tar"][1]["far"] is None  # 12 people do not show one in a hundred,
    assert rates["groups"]["sex"]["m"]["tar"][0]["far"] is None  # 25 not even one in ten
    assert "‡" in (tmp_path / "report.html").read_text()


def judged(scores: Scores, far: float, groups: dict[str, tuple[str, ...]], persons: Persons | None = None) -> Judged:
    """A model by its scores alone."""

    def embed(ids: Sequence[str]) -> Embeddings:
        raise AssertionError("nothing is embedded")

    pairs = PairList(scores.left, scores.right, scores.same, scores.fold, groups)
    listed = ListedPairs("pairs.csv", pairs, frozenset(), persons, {})
    return judge_scores(JudgedModel("m", Path("m.onnx"), "m", embed, None), scores, listed, [far])


def test_ratios_are_of_groups_that_are_large_enough() -> None:
    def group(tar: float, far: float | None, few: bool = False) -> GroupRates:
        return GroupRates(PairCounts(1, 1), None, few, (GroupRate(1e-3, 0.5, tar=tar, far=far),))

    groups = {"x": group(0.9, 0.002), "y": group(0.98, 0.001), "z": group(0.1, 0.9, few=True), "w": group(0.95, None)}
    (row,) = group_ratios(groups)
    assert row.far_asked == 1e-3
    assert row.fnmr == WorstToBest(pytest.approx(5.0), "x", "y")
    assert row.far == WorstToBest(pytest.approx(2.0), "x", "y")
    (row,) = group_ratios({"x": group(0.9, 0.0), "y": group(1.0, 0.0)})
    assert row.fnmr.ratio is None  # nothing is missed by the best: no ratio, not infinity


def test_a_group_of_ten_people_is_marked_and_left_out_of_the_ratio() -> None:
    rng = np.random.default_rng(0)
    people = 75  # ten of them are old, 30 of middle age, 35 young
    age = np.repeat(["old", "middle", "young"], [10, 30, 35])
    left, right = np.triu_indices(2 * people, 1)
    left, right = left // 2, right // 2
    same = left == right
    kept = same | (age[left] == age[right])
    left, right, same = left[kept], right[kept], same[kept]
    values = rng.normal(np.where(same, 0.5 - 0.2 * (age[left] == "old"), 0.0), 0.1)
    names = tuple(map(str, range(len(left))))
    scores = Scores(values, same, names, names, np.full(len(left), -1, np.int16))
    rates = judged(scores, 0.01, {"age": tuple(age[left])}, (left, right)).rates
    groups = rates.groups["age"]
    assert {name: (group.people, group.few) for name, group in groups.items()} == {
        "old": (10, True), "middle": (30, False), "young": (35, False),
    }  # fmt: skip
    assert groups["old"].tar[0].tar < min(groups[name].tar[0].tar for name in ("middle", "young"))
    (row,) = group_ratios(groups)
    assert "old" not in (row.fnmr.worst, row.fnmr.best)


@pytest.mark.slow
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
    told = (tmp_path / "3" / "report.md").read_text()
    assert "| a | TAR@1e-3&gt;=0.01 | – | not shown |" in told
    assert "What can't be shown is not met." in told
    result = json.loads((tmp_path / "3" / "report.json").read_text())
    assert 0.2 in [rate["far_asked"] for rate in result["models"][0]["tar"]]  # asked for by the requirement


@pytest.mark.parametrize("text", ["tar@1e-3", "tar>=0.9", "far@1e-3>=0.9", "tar@2>=0.9", "tar@1e-3>=95", "tar@e>=1", "",
                                  "tar@1e-3>=0", "tar@1e-3>0.9"])  # fmt: skip
def test_what_is_no_requirement(text: str) -> None:
    with pytest.raises(UserError, match=r"not a requirement; .*tar@1e-3>=0\.95"):
        Requirement.parse(text)


def test_a_bound_that_just_misses_is_not_rounded_up() -> None:
    values = np.array([0.9, 0.8, 0.1, 0.0])
    scores = Scores(values, values > 0.5, tuple("abcd"), tuple("efgh"), np.full(4, -1, np.int16))
    rate = Rate(1e-3, 1e-3, 0.99, 0.5, 10_000, 10_000, math.nextafter(0.95, 0), 1.0)
    found = check(Requirement.parse("tar@1e-3>=0.95"), replace(judged(scores, 0.5, {}).rates, tar=(rate,)))
    assert not found.met
    assert "lower bound 0.949999" in found.line
    assert "(marked †: the list bounds this FAR and does not estimate it)" in found.line  # 30 / FAR pairs are 30,000
    rate = replace(rate, n_impostor=30_000)
    found = check(Requirement.parse("tar@1e-3>=0.95"), replace(judged(scores, 0.5, {}).rates, tar=(rate,)))
    assert "marked" not in found.line


@pytest.mark.slow
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
    assert done.stdout.count("<svg") == 10  # ROC, DET, two histograms, thresholds, four of groups, cost
    assert "The hardest pairs" in done.stdout


def test_pairs_are_rejected_by_the_worse_crops_quality(home: Path, tmp_path: Path) -> None:
    store = CropStore.create(tmp_path / "crops", SETTINGS)
    records = [record(f"p{n}", f"p{n}/{k}.png", person(n, k)) for n in range(8) for k in range(5)]
    for place, one in enumerate(records):
        one.crops = [replace(one.crops[0], quality=float(place % 10))]
    store.append(records)
    names = [f"{one.source}" for one in records]
    rows = [f"{names[i]},{names[j]},{int(i // 5 == j // 5)}" for i, j in ALL]
    pairs = tmp_path / "p.csv"
    pairs.write_text("\n".join(["a,b,same", *rows]))
    flags = ["--model", home / "a", "--pairs", pairs, "--crops", tmp_path / "crops", "--far", "0.3"]
    (rates,) = ran(home, tmp_path / "out", *flags)["models"]
    found = rates["rejects"]
    assert (found["far_asked"], found["threshold"]) == (0.3, rates["tar"][0]["threshold"])
    values, same, *_ = cosines(home, "a")
    worse = np.array([min(i % 10, j % 10) for i, j in ALL])
    for row in found["rows"]:
        kept = worse >= np.sort(worse)[int(row["rejected"] * len(ALL) + 0.5)]
        assert row["rejected"] == pytest.approx(1 - kept.mean())
        assert row["fnmr"] == pytest.approx((values[kept & same] < found["threshold"] - 1e-6).mean())
    assert len({row["rejected"] for row in found["rows"]}) > 1
    assert "Error versus reject" in (tmp_path / "out" / "report.html").read_text()


def test_the_page_names_what_it_compared(home: Path, tmp_path: Path) -> None:
    ran(home, tmp_path, "--model", home / "a", "--bin", home / "set.bin")
    text = (tmp_path / "report.md").read_text()
    assert re.search(r"1 model on \d+ genuine and \d+ impostor pairs of set\.bin: a accepts", text)
    assert f"facekd verify --config {tmp_path}/run.yaml" in text
