"""facekd compare: the share of the gap on people whom nobody trained on, said only where there is one."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import oracles
import pytest
import yaml
from faint import write_faint_store
from onnx import TensorProto, helper, numpy_helper
from toy import SIZE, save_run

from facekd.cli import run
from facekd.core.contract import Contract
from facekd.core.types import Array
from facekd.crops.cropset import CropSet
from facekd.crops.read import read_crops
from facekd.crops.training import read_training_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.evaluation import cost as verify_cost
from facekd.evaluation.lists import everyone, held_out_people, training_of

PEOPLE, PHOTOS, HELD_OUT = 24, 5, 0.5
FOLDERS = ("run", "bare", "moved", "nobody")  # all others are ONNX files
FARS = ["--far=0.3", "--far=0.1", "--far=0.05", "--far=0.0001"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True, scope="module")
def _shortly() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verify_cost, "TIMED_SECONDS", 0.0)
        yield


def settings(folder: Path, store: Path, **values: object) -> None:
    """The run.yaml of a training on `store`, as a stage writes it."""
    found = {"command": "distill", "data": [str(store)], "held_out": HELD_OUT, "seed": 0, "drop": None, **values}
    (folder / "run.yaml").write_text(yaml.safe_dump(found))


def model(path: Path, weights: Array, name: str) -> Path:
    """An ONNX file: the mean of each of a crop's 4 x 4 squares and channels, times float[48, D]."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["embedding"]),
    ]
    dim = weights.shape[1]
    shapes = {"image": ["n", 3, SIZE, SIZE], "embedding": ["n", dim]}
    image, embedding = (helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in shapes.items())
    held = [numpy_helper.from_array(weights.astype(np.float32), "weights")]
    graph = helper.make_graph(nodes, "squares", [image], [embedding], held)
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    contract = Contract(dim=dim, size=SIZE, weights_sha256=name.encode().hex().ljust(64, "0"))
    helper.set_model_props(found, {"facekd.contract": contract.to_json()})
    onnx.save(found, str(path))
    return path


def first(squares: int) -> Array:
    """Weights that look at the first squares and channels alone: the more, the better the network."""
    return np.diag((np.arange(48) < squares).astype(float))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of noisy photos; a teacher that looks at all of a face, students at parts of it; a run folder."""
    home = tmp_path_factory.mktemp("compare")
    write_faint_store(home / "crops", PEOPLE, PHOTOS)
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(48, 48)))[0]
    weights = {"teacher": np.eye(48), "alone": first(5), "student": first(16), "narrow": np.eye(48)[:, :12]}
    for name, one in {**weights, "stranger": turned}.items():
        model(home / f"{name}.onnx", one, name)
    save_run(home / "run", "iresnet18-quarter", dim=4)
    settings(home / "run", home / "crops")
    return home


def compared(home: Path, out: Path, names: list[str], *flags: str) -> dict[str, Any]:
    assert run(["compare", *paths(home, names), *flags, "--out", str(out), "--quiet"]) == 0
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def paths(home: Path, names: list[str]) -> list[str]:
    return [str(home / name if name in FOLDERS else home / f"{name}.onnx") for name in names]


def held(home: Path) -> CropSet:
    return read_training_crops([home / "crops"], HELD_OUT, 0).held


def embedded(home: Path, name: str, crops: CropSet) -> Array:
    return CropEmbedder.load(paths(home, [name])[0]).embed(crops.batch(np.arange(len(crops))))


def all_scores(home: Path, crops: CropSet, left: str, right: str) -> tuple[Array, Array]:
    one, other = (embedded(home, name, crops) for name in (left, right))
    places = list(itertools.combinations(range(len(crops)), 2))
    values = np.array([float(one[i] @ other[j]) for i, j in places])
    return values, np.array([crops.identities[i] == crops.identities[j] for i, j in places])


@pytest.fixture(scope="module")
def result(home: Path) -> dict[str, Any]:
    return compared(home, home / "out", ["teacher", "alone", "student", "narrow", "stranger", "run"], *FARS)


@pytest.mark.slow
def test_rates_and_shares_are_those_of_all_pairs_of_held_out_people(home: Path, result: dict[str, Any]) -> None:
    (one,) = result["lists"]
    crops = held(home)
    assert one["about"] == "12 people whom no run trained on"
    assert one["models"][0]["pairs"] == {"genuine": 12 * 10, "impostor": 60 * 59 // 2 - 120}
    tars: dict[str, dict[float, float]] = {}
    for rates in one["models"]:
        values, same = all_scores(home, crops, rates["model"], rates["model"])
        tars[rates["model"]] = {rate["far_asked"]: rate["tar"] for rate in rates["tar"]}
        assert tars[rates["model"]][1e-4] is None
        for rate in rates["tar"][1:3] if rates["model"] in ("teacher", "alone", "student") else []:
            expected = float(oracles.tar_at_far(values, same, str(rate["far_asked"]))[0])
            # The two products round apart, and a score may stand at the threshold.
            assert rate["tar"] == pytest.approx(expected, abs=1.5 / 120)
    shares = 0
    for row in one["closed"]:
        if row["far_asked"] == 1e-4:
            assert (row["gap"], row["share"], row["why"]) == (None, None, "too few pairs")
            continue
        teacher, alone, student = (tars[name][row["far_asked"]] for name in ("teacher", "alone", row["model"]))
        assert row["gap"] == pytest.approx(teacher - alone)
        assert row["gain"] == pytest.approx(student - alone)
        if row["share"] is not None:
            assert row["share"] == pytest.approx((student - alone) / (teacher - alone))
            assert row["low"] <= row["share"] <= row["high"]
            shares += row["model"] == "student"
    assert shares > 0
    assert one["lead_far"] == 0.1


def test_a_better_student_closes_more(result: dict[str, Any]) -> None:
    rows = {row["model"]: row for row in result["lists"][0]["closed"] if row["far_asked"] == 0.05}
    assert rows["student"]["low"] > 0
    assert rows["student"]["high"] < 1
    assert rows["student"]["p_value"] < 0.01
    assert rows["narrow"]["share"] < rows["student"]["share"]
    # A turned space tells people apart as well as the teacher's, though the two are not comparable.
    assert (rows["stranger"]["share"], rows["stranger"]["low"]) == (pytest.approx(1), pytest.approx(1))
    assert rows["run"]["share"] < 0.2


def test_agreement_is_measured_where_a_space_is_shared(home: Path, result: dict[str, Any]) -> None:
    rows = {row["model"]: row for row in result["lists"][0]["agreement"]}
    crops = held(home)
    both = [embedded(home, name, crops) for name in ("student", "teacher")]
    assert rows["student"]["cosine"] == pytest.approx((both[0] * both[1]).sum(axis=1).mean(), abs=1e-5)
    assert rows["student"]["cosine"] > rows["student"]["cosine_of_others"] + 0.1
    values, same = all_scores(home, crops, "student", "teacher")
    for rate in rows["student"]["cross"]["tar"][1:2]:
        expected = float(oracles.tar_at_far(values, same, str(rate["far_asked"]))[0])
        assert rate["tar"] == pytest.approx(expected, abs=1.5 / 120)
    assert rows["narrow"]["cross"] is rows["narrow"]["cosine"] is None
    assert rows["narrow"]["why"] == "not comparable: 12 numbers against the teacher's 48"
    assert rows["stranger"]["cross"] is None
    assert rows["stranger"]["why"] == "not comparable: the two do not share a space"


def test_the_report_says_it_and_runs_again(home: Path, result: dict[str, Any], tmp_path: Path) -> None:
    page, text = (home / "out" / "report.html").read_text(), (home / "out" / "report.md").read_text()
    row = next(row for row in result["lists"][0]["closed"] if (row["model"], row["far_asked"]) == ("student", 0.05))
    for shown in (page.replace("\N{NO-BREAK SPACE}", " "), text):
        assert f"{100 * row['share']:.0f} % [{100 * row['low']:.0f}, {100 * row['high']:.0f}]" in shown.replace(
            "\\", ""
        )
        assert "100 % of the gap is closed (100 to 100)" in shown  # by the best of the students
        assert "not comparable: 12 numbers" in shown
        assert "(student − alone) / (teacher − alone)" in shown
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)  # it needs no other file
    assert {one["role"] for one in result["networks"]} == {"teacher", "student alone", "student distilled"}
    assert next(cost["parameters"] for cost in result["costs"]) == 48 * 48
    assert run(["compare", "--config", str(home / "out" / "run.yaml"), "--out", str(tmp_path), "--quiet"]) == 0
    again = json.loads((tmp_path / "report.json").read_text())
    assert again["lists"] == result["lists"]


def test_a_teacher_that_is_not_ahead_gives_no_share(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [*FARS, "--json", str(tmp_path / "copy.json")]
    names = paths(home, ["alone", "teacher", "student", "run"])
    assert run(["compare", *names, *flags, "--out", str(tmp_path / "out")]) == 0
    rows = json.loads((tmp_path / "copy.json").read_text())["lists"][0]["closed"]
    assert [row["share"] for row in rows] == [None] * len(rows)
    assert next(row for row in rows if row["far_asked"] == 0.05)["why"] == "the teacher is not ahead"
    shown = " ".join(capsys.readouterr().out.split())
    assert "is not ahead" in re.sub(r"[│\s]+", " ", shown)
    assert "no share of the gap is given: the teacher is not ahead" in (tmp_path / "out" / "report.md").read_text()


def test_held_out_people_lead_and_a_pair_list_follows(home: Path, tmp_path: Path) -> None:
    crops = read_crops(home / "crops")
    rows = [
        f"{crops.sources[i]},{crops.sources[j]},{int(crops.identities[i] == crops.identities[j])}"
        for i, j in itertools.combinations(range(30), 2)
    ]
    listed = tmp_path / "pairs.csv"
    listed.write_text("\n".join(["a,b,same", *rows]) + "\n")
    found = compared(home, tmp_path / "both", ["teacher", "alone", "student", "run"], "--pairs", str(listed), *FARS)
    assert [one["heading"] for one in found["lists"]] == ["People whom no run trained on", "Pairs of pairs.csv"]
    assert found["lists"][1]["models"][0]["pairs"] == {"genuine": 60, "impostor": 375}
    assert found["lists"][1]["models"][0]["interval"] == "identities"
    flags = ["--pairs", str(listed), "--no-held-out", "--crops", str(home / "crops"), *FARS]
    (alone,) = compared(home, tmp_path / "one", ["teacher", "alone", "student", "run"], *flags)["lists"]
    assert alone == found["lists"][1]


def test_who_another_run_trained_on_is_not_judged(home: Path, tmp_path: Path) -> None:
    """A teacher with another split has seen some of the student's held-out people."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    settings(tmp_path / "one", home / "crops")
    settings(tmp_path / "two", home / "crops", command="train-teacher", held_out=0.7, seed=4)
    records = [training_of(tmp_path / name) for name in ("one", "two")]
    assert None not in records
    found = held_out_people([record for record in records if record is not None])
    sets = [read_training_crops([home / "crops"], share, seed) for share, seed in ((HELD_OUT, 0), (0.7, 4))]
    expected = set(sets[0].held.identities) & set(sets[1].held.identities)
    assert 2 <= len(expected) < 12
    assert set(found.crops.identities) == expected
    assert found.left_out == {"crops of people whom another run trained on": PHOTOS * (12 - len(expected))}


@pytest.mark.parametrize("given", ["two", "two/model.safetensors", "two/checkpoints/best.safetensors"])
def test_who_the_run_trained_on_at_whose_weights_one_began_is_not_judged(
    home: Path, tmp_path: Path, given: str
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    settings(tmp_path / "two", home / "crops", command="train-teacher", held_out=0.7, seed=4, minimum=3)
    settings(tmp_path / "one", home / "crops", init_from=str(tmp_path / given))
    record = training_of(tmp_path / "one")
    assert record is not None
    sets = [read_training_crops([home / "crops"], share, seed, least) for share, seed, least in
            ((HELD_OUT, 0, 2), (0.7, 4, 3))]  # fmt: skip
    expected = set(sets[0].held.identities) & set(sets[1].held.identities)
    assert expected < set(sets[0].held.identities)
    assert set(held_out_people([record]).crops.identities) == expected


def test_people_of_a_set_of_ones_own_need_no_run_folder(home: Path, tmp_path: Path) -> None:
    write_faint_store(tmp_path / "others", 8, PHOTOS)
    flags = ["--held", str(tmp_path / "others"), *FARS]
    (found,) = compared(home, tmp_path / "out", ["teacher", "alone", "student"], *flags)["lists"]
    assert found["about"] == "8 people whom no run trained on"
    assert found["models"][0]["pairs"] == {"genuine": 8 * 10, "impostor": 40 * 39 // 2 - 8 * 10}
    assert found["crops"] == str(tmp_path / "others")


def test_of_a_set_of_ones_own_whom_a_run_trained_on_is_left_out(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The whole store as --held: what is left are the people whom the run held out itself."""
    names = ["teacher", "alone", "run"]
    flags = ["--held", str(home / "crops"), *FARS]
    (found,) = compared(home, tmp_path / "out", names, *flags)["lists"]
    (by_itself,) = compared(home, tmp_path / "itself", names, *FARS)["lists"]
    assert found["models"] == by_itself["models"]
    assert found["left_out"] == {"crops of people whom a run trained on": PHOTOS * 12}
    write_faint_store(tmp_path / "seen", 1, PHOTOS)
    assert run(["compare", *paths(home, names), "--held", str(tmp_path / "seen"), "--out", str(tmp_path / "no")]) == 2
    assert "fewer than two are known to be new to all networks" in " ".join(capsys.readouterr().err.split())


def test_of_too_many_pairs_some_people_are_drawn_whole(home: Path) -> None:
    crops = held(home)
    found = everyone(crops, most_pairs=700)  # 38 crops make 703 pairs, so seven people of five
    assert len(found.same) == 35 * 34 // 2
    assert [list(found.crops.identities).count(name) for name in set(found.crops.identities)] == [PHOTOS] * 7
    assert found.about == "7 of 12 people whom no run trained on"
    assert found.left_out == {"crops, for more than 700 pairs": 25}
    assert everyone(crops, most_pairs=10**6).left_out == {}


@pytest.mark.parametrize(
    ("names", "flags", "words"),
    [
        (["teacher", "alone"], [], "2 networks to compare: give the teacher"),
        (["teacher", "alone", "student"], ["--no-held-out"], "--no-held-out leaves the pair list alone"),
        (
            ["teacher", "alone", "student"],
            ["--no-held-out", "--pairs", "p.csv", "--held", "x"],
            "--held x: is not judged with --no-held-out",
        ),
        (["teacher", "alone", "student"], ["--crops", "x"], "--crops is the store of a pair list's photos"),
        (["teacher", "alone", "student"], ["--far", "2"], "FAR 2"),
        (["teacher", "alone", "nobody"], [], "nobody: no such model"),
        (["bare", "bare", "bare"], [], "none is the folder of a training"),
        (["moved", "moved", "moved"], [], "is not there, so who was held out is not known"),
        (["bare", "bare", "bare"], ["--no-held-out", "--pairs", "p.csv"], "give --crops"),
    ],
)
def test_what_can_not_be_compared_is_refused_before_any_work(
    home: Path, tmp_path: Path, names: list[str], flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("bare", "moved"):
        if not (home / name).exists():
            save_run(home / name, "iresnet18-quarter", dim=4)
    settings(home / "moved", home / "gone")
    assert run(["compare", *paths(home, names), *flags, "--out", str(tmp_path / "o"), "--quiet"]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
