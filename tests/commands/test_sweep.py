"""facekd sweep: every mistake of a grid before any work, controls always, each cell once, one table of them all."""

from __future__ import annotations

import functools
import inspect
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pytest
import torch
import yaml
from faint import write_faint_store
from toy import contract_file, onnx_of, save_run, tiny_net

from facekd.cli import run
from facekd.commands.sweep import sweep
from facekd.commands.sweep_grid import read_grid
from facekd.commands.train_teacher import train_teacher
from facekd.core.run import read_metrics
from facekd.core.types import Array
from facekd.crops.training import read_training_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.errors import UserError
from facekd.evaluation.results import plain
from facekd.nets import build
from facekd.nets.heads import HEAD, load_head
from facekd.nets.saved import MODEL, load_model

NET, HELD_OUT = "iresnet18-quarter", 0.5


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("sweep")
    store = write_faint_store(home / "crops", people=12, photos=4, contrast=0.5)
    train_teacher(data=[store], out=home / "teacher", net=NET, dim=16, epochs=6, batch=8, held_out=HELD_OUT, quiet=True)
    return home


def base(home: Path, **flags: Any) -> dict[str, Any]:
    return {
        "data": [str(home / "crops")], "teacher": str(home / "teacher"), "net": NET, "dim": 8, "epochs": 2,
        "batch": 8, "held_out": HELD_OUT, "views": 2, "cache": str(home / "cache"), **flags,
    }  # fmt: skip


def grid_file(path: Path, **parts: Any) -> Path:
    path.write_text(yaml.safe_dump(parts, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def swept(home: Path) -> tuple[Path, dict[str, Any]]:
    """A sweep of two cells and both controls, run once."""
    parts = {
        "base": base(home, term={"labels": 1}),
        "cells": {"logits": {"term": "logits=1"}},
        "grid": {"term.embedding": [10]},
    }
    found = sweep(grid_file(home / "grid.yaml", **parts), out=home / "out", quiet=True)
    assert found.exit_code == 0
    return home / "out", json.loads((home / "out" / "sweep.json").read_text())


def test_the_cells_of_a_grid_and_their_flags(home: Path, tmp_path: Path) -> None:
    path = grid_file(
        tmp_path / "g.yaml",
        base=base(home, term=["labels=1"], label_head="arcface"),
        cells={
            "plain": {},
            "bare": {"teacher": None, "term": {"labels": 2}, "optimizer": "sgd"},
            "whole": {"term": {"cosine": 3}},
        },
        grid={"term.embedding": [7, 128], "label-head": ["softmax", "cosface"]},
    )
    cells = {cell.name: cell.arguments for cell in read_grid(path, tmp_path / "random")}
    assert list(cells) == [
        "alone", "random-teacher", "plain", "bare", "whole", "embedding=7,label-head=softmax",
        "embedding=7,label-head=cosface", "embedding=128,label-head=softmax", "embedding=128,label-head=cosface",
    ]  # fmt: skip
    assert cells["embedding=128,label-head=cosface"]["term"] == ["labels=1", "embedding=128"]
    assert cells["embedding=128,label-head=cosface"]["label_head"] == "cosface"
    assert (cells["whole"]["term"], cells["bare"]["term"], cells["plain"]["term"]) == (
        ["cosine=3"], ["labels=2"], ["labels=1"],
    )  # fmt: skip
    assert (cells["plain"]["lr"], cells["bare"]["lr"]) == (0.02, 0.05)  # muon's and sgd's own
    for name in ("alone", "bare"):
        assert (cells[name]["teacher"], cells[name]["views"]) == (None, 0)
    assert (cells["alone"]["term"], cells["alone"]["label_head"]) == (None, "arcface")
    assert cells["random-teacher"] == {**cells["plain"], "teacher": tmp_path / "random"}
    same = ("data", "epochs", "batch", "held_out", "seed", "net")
    assert len({tuple(map(str, (flags[key] for key in same))) for flags in cells.values()}) == 1


def test_the_grid_in_the_help_is_one(tmp_path: Path) -> None:
    lines = re.findall(r"^(?:base|cells|grid): \{.*$", inspect.getdoc(sweep) or "", re.MULTILINE)
    assert len(lines) == 3
    (tmp_path / "g.yaml").write_text("\n".join(lines))
    cells = [cell.name for cell in read_grid(tmp_path / "g.yaml", tmp_path / "random")]
    assert cells[:4] == ["alone", "random-teacher", "logits", "adaface"]
    assert len(cells) == 4 + 3 * 2


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"bases": {}}, "a grid has no part 'bases'; did you mean 'base'"),
        ({"base": {"epoch": 2}}, "base: distill has no flag 'epoch'; did you mean 'epochs'"),
        ({"base": {"net.dim": 2}}, "distill has no flag 'net.dim'"),
        ({"base": {"out": "x"}}, "out is given to 'facekd sweep' itself"),
        ({"base": {}}, "base names no data"),
        ({"base": {"data": ["crops"]}}, "asks for no cell"),
        ({"cells": ["a"]}, "cells: holds no 'name: value' lines"),
        ({"cells": {"a": {"epochs": 5}}}, "cell a: epochs may differ in no cell"),
        ({"grid": {"seed": [1, 2]}}, "seed may differ in no cell"),
        ({"grid": {"lr": 0.1}}, "grid: lr needs a list of values"),
        ({"grid": {"lr": [0.1, 0.1]}}, "two of its cells would be called 'lr=0.1'"),
        ({"cells": {"alone": {}}}, "'alone' can't be a cell's name"),
        ({"cells": {"../a": {}}}, "'../a' can't be a cell's name"),
        (
            {"cells": {"a": {"batch": "many"}}},
            'cell a: Invalid value for [batch] from g.yaml: unable to convert "many"',
        ),
        ({"cells": {"a": {"optimizer": "adam"}}}, 'Did you mean "adamw"?'),
        ({"cells": {"a": {"term.embeding": 1}}}, "no term 'embeding'; did you mean 'embedding'"),
        ({"cells": {"a": {"term.embedding": -1}}}, "give NAME=NUMBER with zero or a number above it"),
        ({"cells": {"a": {"margin": 0.5}}}, "softmax has no margin"),
        ({"cells": {"a": {"teacher": None}}}, "no cell has a teacher"),
        ({"cells": {"a": {"term.proxyless": 1, "contract": "c.yaml"}}}, "a facekd network brings its own contract"),
    ],
)
def test_a_grids_mistakes_are_refused_before_any_work(
    home: Path, tmp_path: Path, parts: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "cells" in parts or "grid" in parts:
        parts = {"base": base(home), **parts}
    path = grid_file(tmp_path / "g.yaml", **parts)
    assert run(["sweep", str(path), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_term_that_a_teacher_can_not_carry_is_refused_before_any_cell(home: Path, tmp_path: Path) -> None:
    student = save_run(tmp_path / "headless", NET, dim=8)
    path = grid_file(
        tmp_path / "g.yaml", base=base(home), cells={"a": {}, "b": {"teacher": str(student), "term.gkd": 1}}
    )
    with pytest.raises(UserError, match=r"cell b: --term gkd: needs a teacher's head"):
        sweep(path, out=tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


def test_cells_and_controls_are_judged_on_all_pairs_of_held_out_people(
    home: Path, swept: tuple[Path, dict[str, Any]]
) -> None:
    out, result = swept
    held = read_training_crops([home / "crops"], HELD_OUT, 0).held
    places = list(itertools.combinations(range(len(held)), 2))
    same = np.array([held.identities[i] == held.identities[j] for i, j in places])
    assert [one["cell"] for one in result["cells"]] == ["alone", "random-teacher", "logits", "embedding=10"]
    assert [one["control"] for one in result["cells"]] == [True, True, False, False]
    assert result["lead_far"] == 0.1

    def tar(path: Path) -> float:
        vectors: Array = CropEmbedder.load(path).embed(held.batch(np.arange(len(held))))
        values = np.array([float(vectors[i] @ vectors[j]) for i, j in places])
        return float(oracles.tar_at_far(values, same, "0.1")[0])

    tars = {one["cell"]: tar(out / "cells" / one["cell"]) for one in result["cells"]}
    taught = tar(home / "teacher")
    for one in result["cells"]:
        rate = next(rate for rate in one["rates"]["tar"] if rate["far_asked"] == 0.1)
        assert rate["tar"] == pytest.approx(tars[one["cell"]], abs=1.5 / same.sum())
        assert rate["low"] <= rate["tar"] <= rate["high"]
        assert one["seconds_per_step"] > 0
        if one["cell"] == "alone":
            assert one["closed"] is None
            continue
        assert one["closed"]["gain"] == pytest.approx(tars[one["cell"]] - tars["alone"], abs=2.5 / same.sum())
        assert one["closed"]["gap"] == pytest.approx(taught - tars["alone"], abs=2.5 / same.sum())


def test_all_have_the_same_budget_and_the_controls_no_teacher(home: Path, swept: tuple[Path, dict[str, Any]]) -> None:
    out, result = swept
    steps = {read_metrics(out / "cells" / one["cell"])[-1]["step"] for one in result["cells"]}
    assert steps == {6}  # 24 crops twice, eight at a time
    last = {one["cell"]: read_metrics(out / "cells" / one["cell"])[-1] for one in result["cells"]}
    assert "labels" in last["alone"]
    assert "logits" not in last["alone"]
    assert {"logits"} == {"logits", "labels", "embedding"} & last["logits"].keys()
    assert {"labels", "embedding"} == {"logits", "labels", "embedding"} & last["embedding=10"].keys()
    # The random teacher has the real one's architecture and head, and never was trained.
    real, blind = load_model(home / "teacher"), load_model(out / "random-teacher")
    assert (blind.name, blind.contract.dim) == (real.name, real.contract.dim)
    assert load_head(out / "random-teacher" / HEAD).identities == load_head(home / "teacher" / HEAD).identities
    assert blind.contract.model_id != real.contract.model_id
    assert last["random-teacher"]["logits"] != last["logits"]["logits"]
    run_of = yaml.safe_load((out / "cells" / "random-teacher" / "run.yaml").read_text())
    assert run_of["teacher"] == str(out / "random-teacher")


def test_a_random_teacher_tells_crops_apart_a_little(home: Path, swept: tuple[Path, dict[str, Any]]) -> None:
    """It is noise, not a constant: a constant would teach collapse."""
    held = read_training_crops([home / "crops"], HELD_OUT, 0).held
    vectors = CropEmbedder.load(swept[0] / "random-teacher").embed(held.batch(np.arange(len(held))))
    assert (vectors @ vectors.T).mean() < 0.9


def test_finished_cells_are_skipped_and_a_killed_one_goes_on(
    home: Path, swept: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, result = swept
    models = {path.parent.name: path.read_bytes() for path in out.glob(f"cells/*/{MODEL}")}
    assert len(models) == 4
    (out / "cells" / "logits" / MODEL).unlink()  # as a kill before the last file leaves it
    trained: list[str] = []
    from facekd.commands import distill as module

    whole = module.distill

    @functools.wraps(whole)
    def seen(**flags: Any) -> Any:
        trained.append(flags["out"].name)
        return whole(**flags)

    monkeypatch.setattr(module, "distill", seen)
    again = plain(sweep(home / "grid.yaml", out=out, json=tmp_path / "again.json", quiet=True).report)
    assert trained == ["logits"]
    assert {path.parent.name: path.read_bytes() for path in out.glob(f"cells/*/{MODEL}")} == models
    for one, other in zip(again["cells"], result["cells"], strict=True):
        assert (one["rates"], one["closed"]) == (other["rates"], other["closed"])


def test_a_cell_of_other_flags_is_refused(home: Path, swept: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path = grid_file(tmp_path / "g.yaml", base=base(home, term={"labels": 1}), cells={"logits": {"term": "logits=2"}})
    with pytest.raises(UserError, match=r"holds a cell with other flags \(term was \['logits=1'\]"):
        sweep(path, out=swept[0], quiet=True)


def test_the_report_has_the_table_the_plot_and_the_grid(swept: tuple[Path, dict[str, Any]]) -> None:
    out, result = swept
    page, text = (out / "report.html").read_text(), (out / "report.md").read_text()
    for one in result["cells"]:
        assert one["cell"] in text
        assert f"{1e3 * one['seconds_per_step']:.0f}" in text
    assert page.count("<svg") == 1
    assert not re.findall(r'(?:src|href)="(?!#|data:)', page)
    grid = text.split("<<'GRID'\n")[1].split("\nGRID")[0]
    assert yaml.safe_load(grid) == yaml.safe_load(result["grid"])
    assert f"facekd sweep grid.yaml --out {out}" in text


@pytest.mark.slow
def test_a_cell_that_fails_stops_no_other_and_tells_by_the_exit_code(home: Path, tmp_path: Path) -> None:
    """A learning rate beyond all bounds ends one cell; an ONNX teacher's stand-in is a network of ours."""
    onnx = onnx_of(tiny_net(), tmp_path / "net.onnx")
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=32)
    path = grid_file(
        tmp_path / "g.yaml",
        base=base(home, teacher=str(onnx), contract=str(contract), epochs=1, views=0),
        cells={"good": {"term": "cosine=1"}, "bad": {"term": "embedding_raw=1", "lr": 1e30}},
    )
    assert run(["sweep", str(path), "--out", str(tmp_path / "out"), "--quiet"]) == 1
    result = json.loads((tmp_path / "out" / "sweep.json").read_text())
    rows = {one["cell"]: one for one in result["cells"]}
    assert "is not finite" in rows["bad"]["failed"]
    assert rows["bad"]["rates"] is None
    assert rows["good"]["failed"] is None
    assert rows["good"]["rates"]["tar"][0]["tar"] is not None
    blind = load_model(tmp_path / "out" / "random-teacher")
    assert blind.name == "mobilefacenet"
    torch.manual_seed(0)  # of the cells: a student that began as its random teacher would have nothing to learn
    begun = build("mobilefacenet", dim=8, size=32)
    assert not any(
        torch.equal(*pair) for pair in zip(blind.net.parameters(), begun.parameters(), strict=True) if pair[0].ndim > 1
    )
    assert "failed: " in (tmp_path / "out" / "report.md").read_text()


@pytest.mark.slow
def test_cells_of_several_teachers_of_a_learning_one_and_of_occluded_views(
    home: Path, swept: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    """Several teachers are judged by the first one, and the random control stands in for all of them together."""
    both = [str(home / "teacher"), str(swept[0] / "cells" / "logits")]
    cells = {
        "two": {"teacher": both, "term": "cosine=1"},
        "joint": {"teacher": None, "joint": NET, "term": ["labels=1", "cosine=1"]},
        "occluded": {"term": "cosine=1", "augment": "occluded"},
    }
    path = grid_file(tmp_path / "g.yaml", base=base(home, epochs=1, cache=str(tmp_path / "cache")), cells=cells)
    found = sweep(path, out=tmp_path / "out", quiet=True)
    assert found.exit_code == 0
    rows = {one.cell: one for one in found.report.cells}
    assert [one.teacher for one in found.report.teachers] == [both[0]]
    assert rows["two"].teacher == " + ".join(both)
    assert rows["joint"].teacher is None
    assert {rows[name].closed.gap for name in cells} == {rows["two"].closed.gap}
    assert load_model(tmp_path / "out" / "random-teacher").contract.dim == 16 + 8
    assert (tmp_path / "out" / "cells" / "joint" / "teacher" / MODEL).exists()
    assert len(list((tmp_path / "cache").glob("*/key.json"))) == 4  # both of `two`, the random one, the occluded views
