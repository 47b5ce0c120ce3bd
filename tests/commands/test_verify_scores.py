"""facekd verify --scores: somebody else's system, judged without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facekd.cli import run
from facekd.core.types import Array
from facekd.crops.scores import read_scores
from facekd.errors import UserError

N = 400


def drawn(seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    same = np.arange(N) % 4 == 0
    return (rng.standard_normal(N) * 0.3 + same).round(4), same


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def judged(out: Path, *flags: object) -> dict[str, Any]:
    assert run(["verify", *map(str, flags), "--far", "0.1", "--out", str(out), "--quiet"]) == 0
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


@pytest.mark.parametrize(
    "text",
    [
        "score,label\n0.8,1\n,0\n0.25,0\n",
        "label;score\n1;0.8\n0;nan\n0;0.25\n",
        "Similarity\tSame\n0.8\tgenuine\nNULL\timpostor\n0.25\timpostor\n",
        "0.8 1\n-inf 0\n0.25 0\n",
        "1, 0.80\n0, NaN\n0, 0.25\n",
    ],
)
def test_forms_of_score_files(tmp_path: Path, text: str) -> None:
    found = read_scores(written(tmp_path / "s.txt", text))
    assert found.values.tolist() == [0.8, -np.inf, 0.25]
    assert found.pairs.same.tolist() == [True, False, False]
    assert found.pairs.persons is None


def test_people_stand_in_for_labels(tmp_path: Path) -> None:
    rows = "x,y,.9,Ann,Ann,0,day\nx,z,.1,Ann,Bob,1,night\ny,x,.9,Ann,Ann,0,day\n"
    text = "a,b,score,left_person,right_person,fold,light\n" + rows
    found = read_scores(written(tmp_path / "s.csv", text), groups=["light"])
    assert found.pairs.same.tolist() == [True, False]
    assert found.pairs.fold.tolist() == [0, 1]
    assert found.pairs.groups == {"light": ("day", "night")}
    assert found.left_out == {"repeated": 1}


def test_the_report_is_that_of_the_twin(tmp_path: Path) -> None:
    values, same = drawn()
    rows = [f"{v},{int(s)},{i % 5},{'f' if i % 3 else 'm'}" for i, (v, s) in enumerate(zip(values, same, strict=True))]
    rows[0] = f",{int(same[0])},0,m"
    values[0] = -np.inf
    path = written(tmp_path / "vendor.csv", "score,label,fold,sex\n" + "\n".join(rows) + "\n")
    result = judged(tmp_path / "o", "--scores", path, "--group", "sex")
    (model,) = result["models"]
    tar, far, threshold = oracles.tar_at_far(values, same, "0.1")
    assert model["tar"][0]["tar"] == pytest.approx(float(tar))
    assert model["tar"][0]["far"] == pytest.approx(float(far))
    assert model["tar"][0]["threshold"] == pytest.approx(threshold)
    assert model["eer"] == pytest.approx(float(oracles.eer(values, same)))
    assert len(model["accuracy"]["folds"]) == 5
    assert model["groups"]["sex"].keys() == {"f", "m"}
    assert (model["model"], model["interval"], result["costs"]) == ("vendor", "pairs", [])
    assert model["failures_to_enrol"] == {"photos": 0, "pairs": 1}
    assert result["pairs"]["people"] is None
    page = (tmp_path / "o" / "report.md").read_text()
    assert "1 pairs have no score and count as non-matches" in page
    assert "taken as independent" in page


def test_the_report_tells_of_completed_comparisons_apart(tmp_path: Path) -> None:
    values, same = drawn()
    rows = [f"{v},{int(s)}" for v, s in zip(values, same, strict=True)]
    judged(tmp_path / "whole", "--scores", written(tmp_path / "s.csv", "score,label\n" + "\n".join(rows) + "\n"))
    assert "Completed comparisons alone" not in (tmp_path / "whole" / "report.md").read_text()
    blank = np.flatnonzero(same)[:10]  # genuine pairs
    for row in blank:
        rows[row] = ",1"
    file = written(tmp_path / "s.csv", "score,label\n" + "\n".join(rows) + "\n")
    judged(tmp_path / "blank", "--scores", file)
    completed = np.delete(values, blank)[np.delete(same, blank)]
    threshold = np.sort(values[~same])[::-1][30 - 1]  # at most 0.1 of 300 impostor pairs pass
    threshold = values[values >= threshold].min()
    generalized = 1 - (completed >= threshold).sum() / same.sum()
    told = (tmp_path / "blank" / "report.md").read_text().split("Completed comparisons alone")
    assert f"{100 * generalized:.2f} %" in told[0]
    assert f"| {threshold:.4f} | 10 % | {100 * (completed < threshold).mean():.2f} %" in told[1].split("**")[1]


def test_distances_are_turned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values, same = drawn()
    likes, far_apart = (
        written(tmp_path / f"{name}.csv", f"{name},label\n" + "\n".join(f"{sign * v},{int(s)}" for v, s in rows) + "\n")
        for name, sign in (("score", 1), ("distance", -1))
        for rows in [list(zip(values, same, strict=True))]
    )
    one = judged(tmp_path / "1", "--scores", likes)
    two = judged(tmp_path / "2", "--scores", far_apart, "--lower-is-better")
    assert one["models"][0]["tar"] == two["models"][0]["tar"]
    assert two["pairs"]["name"] == "distance.csv, distances times -1"
    assert run(["verify", "--scores", str(far_apart), "--out", str(tmp_path / "3")]) == 2
    assert "says that lower is more alike; add --lower-is-better" in capsys.readouterr().err


def test_people_make_the_intervals(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    who = rng.integers(0, 30, (N, 2))
    who[::3, 1] = who[::3, 0]
    score = rng.standard_normal(N) + 2 * (who[:, 0] == who[:, 1])
    table = pa.table({"score": score, "left_person": who[:, 0], "right_person": who[:, 1]})
    pq.write_table(table, tmp_path / "s.parquet")
    result = judged(tmp_path / "o", "--scores", tmp_path / "s.parquet")
    assert result["models"][0]["interval"] == "identities"
    assert result["pairs"]["people"] == "stated"


def test_systems_are_compared_on_the_same_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values, same = drawn()
    other, _ = drawn(1)
    order = np.random.default_rng(2).permutation(N)
    heading = "a,b,score,label\n"
    rows = [f"x{i},y{i},{v},{int(s)}" for i, (v, s) in enumerate(zip(values, same, strict=True))]
    turned = [f"y{i},x{i},{other[i]},{int(same[i])}" for i in order]
    one = written(tmp_path / "one.csv", heading + "\n".join(rows) + "\n")
    two = written(tmp_path / "two.csv", heading + "\n".join(turned) + "\n")
    result = judged(tmp_path / "o", "--scores", one, "--scores", two)
    plain = written(
        tmp_path / "plain.csv", "score,label\n" + "\n".join(f"{v},{int(s)}" for v, s in zip(other, same, strict=True))
    )
    by_row = judged(tmp_path / "r", "--scores", one, "--scores", plain)
    assert [model["model"] for model in result["models"]] == ["one", "two"]
    assert result["models"][1]["tar"] == by_row["models"][1]["tar"]
    assert result["differences"] == [{**by_row["differences"][0], "b": "two"}]
    short = written(tmp_path / "short.csv", heading + "\n".join(turned[1:]) + "\n")
    lied = written(
        tmp_path / "lied.csv",
        "score,label\n" + "\n".join(f"{v},{int(not s)}" for v, s in zip(other, same, strict=True)),
    )
    for bad, words in ((short, "1 are not in it, 0 only in it"), (lied, "400 pairs are labeled otherwise")):
        assert run(["verify", "--scores", str(one), "--scores", str(bad), "--out", str(tmp_path / "b")]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("score,label\n0.8,1\ninf,0\n", "line 3: score is infinite; leave it empty"),
        ("score,label\n0.8,1\n\n0.x,0\n", r"line 4: score is '0\.x', no number; correct it"),
        ("score;label\n0,8;1\n", "write decimals with a point"),
        ("score,label\n0.8,maybe\n", "line 2: label is 'maybe'; use 1 or 0"),
        ("score\n0.8\n", "does not name the columns"),
        ("0 1\n1 0\n", "does not name the columns"),
        ("0.5 0.4 1\n", "does not name the columns"),
        ("scores,label\n0.8,1\n", "no column 'score'; did you mean 'scores'"),
        ("score,lable\n0.8,1\n", "no column 'label'; did you mean 'lable'"),
        ("score,distance,label\n0.8,0.2,1\n", "has the columns score and distance"),
        (
            "score,label,left_person,right_person\n0.8,1,Ann,Bob\n",
            "line 2: its label is against its people, 'Ann' and 'Bob'",
        ),
        ("score,label,left_person\n0.8,1,Ann\n", "no 'right_person'"),
        ("score,label\n", "holds no pair"),
        ("", "holds no pair"),
        ("a,b,score,label\nx,x,0.8,0\n", "another person than itself"),
        ("a,b,score,label\nx,y,0.8,0\ny,x,0.8,1\n", "labeled as same and as different"),
    ],
)
def test_score_files_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        read_scores(written(tmp_path / "s.csv", text))


def test_scores_of_one_class_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path / "s.csv", "score,label\n0.8,1\n0.7,1\n")
    assert run(["verify", "--scores", str(path), "--out", str(tmp_path / "o"), "--quiet"]) == 2
    assert "impostor" in capsys.readouterr().err
    assert not (tmp_path / "o" / "report.json").exists()


def test_an_accuracy_that_is_required_is_written(tmp_path: Path) -> None:
    values, same = drawn()
    rows = "".join(f"{v},{int(s)},{i % 5}\n" for i, (v, s) in enumerate(zip(values, same, strict=True)))
    path = written(tmp_path / "s.csv", "score,label,fold\n" + rows)
    for least, met in (("0.8", True), ("0.999", False)):
        flags = ["--require", f"accuracy>={least}", "--out", str(tmp_path / least), "--quiet"]
        assert run(["verify", "--scores", str(path), *flags]) == int(not met)
        (held,) = json.loads((tmp_path / least / "report.json").read_text())["requirements"]
        assert held["met"] is met


def test_thresholds_of_a_system_judge_its_other_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lists = []
    for place, seed in (("first", 0), ("second", 1)):
        (tmp_path / place).mkdir()
        values, same = drawn(seed)
        rows = "".join(f"{v},{int(s)}\n" for v, s in zip(values, same, strict=True))
        lists.append(written(tmp_path / place / "vendor.csv", "score,label\n" + rows))
    before = judged(tmp_path / "1", "--scores", lists[0])["models"][0]["tar"][0]
    fixed = tmp_path / "1" / "thresholds.json"
    (found,) = judged(tmp_path / "2", "--scores", lists[1], "--threshold", fixed)["models"][0]["fixed"]
    values, same = drawn(1)
    assert found["threshold"] == before["threshold"]
    assert found["false"][0] == pytest.approx((values[~same] >= found["threshold"]).mean())
    assert found["missed"][0] == pytest.approx((values[same] < found["threshold"]).mean())
    other = lists[1].rename(tmp_path / "rival.csv")  # of no other system: it may give quite other scores
    assert run(["verify", "--scores", str(other), "--threshold", str(fixed), "--out", str(tmp_path / "3")]) == 2
    assert "here rival; it has vendor; name the file of the same system's scores so" in capsys.readouterr().err


def test_a_pair_without_a_group_is_in_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values, same = drawn()
    rows = "".join(
        f"{v},{int(s)},{('f', 'm', '')[i % 3]},\n" for i, (v, s) in enumerate(zip(values, same, strict=True))
    )
    path = written(tmp_path / "s.csv", "score,label,sex,light\n" + rows)
    flags = ["--group", "sex", "--threshold", "0.5", "--require", "fmr@T:sex=*<=0.3", "--group", "light"]
    result = judged(tmp_path / "o", "--scores", path, *flags)
    (model,) = result["models"]
    assert (model["groups"]["sex"].keys(), model["groups"]["light"]) == ({"f", "m"}, {})
    assert [one["group"] for one in result["requirements"]] == ["sex f", "sex m"]
    page = (tmp_path / "o" / "report.md").read_text()
    assert f"{sum(i % 3 == 2 for i in range(N))} pairs have no sex and are of no group" in page
    women = values[(np.arange(N) % 3 == 0) & ~same]
    row = next(line for line in page.split("s by sex at the fixed threshold 0.5000")[1].splitlines() if "| f" in line)
    assert f"{100 * (women >= 0.5).mean():.3g} %" in row
    flags = ["--require", "fmr@1e-1:light=*<=0.1", "--out", str(tmp_path / "p")]
    assert run(["verify", "--scores", str(path), *flags]) == 2
    assert "no pair has a value of light" in capsys.readouterr().err


def test_scores_that_look_like_distances_are_told(tmp_path: Path) -> None:
    values, same = drawn()
    for sign, told in ((1, False), (-1, True)):
        rows = "".join(f"{sign * v},{int(s)}\n" for v, s in zip(values, same, strict=True))
        result = judged(tmp_path / "o", "--scores", written(tmp_path / "s.csv", "score,label\n" + rows))
        page = (tmp_path / "o" / "report.md").read_text()
        assert ("genuine pairs score lower than impostor pairs" in page) is told
        assert result["models"][0]["acquisition"] is None  # nobody saw a photo: none can be said to have failed
        assert "FTA): " not in page
