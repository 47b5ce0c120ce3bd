"""The recipe's flags that distill shares with train-teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from toy import SETTINGS, person, record, save_run

from facekd.cli import run
from facekd.commands.distill import distill
from facekd.commands.export import export
from facekd.core.run import read_metrics
from facekd.crops.store import CropStore
from facekd.deploy.embedder import CropEmbedder
from facekd.errors import UserError
from facekd.nets.saved import MODEL, load_model
from facekd.recipes.plan import make_plan
from facekd.settings.training import Optimization
from facekd.training.schedule import learning_rate

SMALL: dict[str, Any] = {"net": "mobilefacenet-half", "dim": 16, "batch": 8, "held_out": 0.0, "quiet": True}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "crops"
    made = CropStore.create(folder, SETTINGS)
    for number, (name, count) in enumerate({"a": 10, "b": 4, "c": 2}.items()):
        made.append([record(name, f"{number}/{photo}.png", person(number, photo)) for photo in range(count)])
    return folder


def test_a_student_begins_at_anothers_weights(tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = save_run(tmp_path / "source")
    flags = {**SMALL, "quiet": False, "lr": 1e-9, "weight_decay": 0.0, "epochs": 1}
    out = distill(data=[store], out=tmp_path / "s", init_from=source, **flags).out
    assert f"begins at the weights of {source}; the head is new" in capsys.readouterr().err
    for one, two in zip(load_model(source).net.parameters(), load_model(out).net.parameters(), strict=True):
        torch.testing.assert_close(two, one, atol=1e-6, rtol=0)
    before = (out / MODEL).read_bytes()
    assert run(["distill", "--resume", str(out), "--quiet"]) == 0
    assert (out / MODEL).read_bytes() == before
    with pytest.raises(UserError, match="is of net mobilefacenet-half, this run of net mobilefacenet-half with relu"):
        distill(data=[store], out=tmp_path / "no", init_from=source, activation="relu", **flags)


@pytest.mark.slow
def test_a_student_begins_at_an_onnx_files_layers_with_its_norms_folded(tmp_path: Path, store: Path) -> None:
    source = save_run(tmp_path / "source")
    export(source, tmp_path / "net.onnx", quiet=True)
    given = tmp_path / "net.onnx"
    flags = {**SMALL, "dim": None, "lr": 1e-13, "weight_decay": 0.0, "epochs": 1}
    out = distill(data=[store], out=tmp_path / "s", init_from=given, **flags).out
    student = load_model(out)
    assert student.contract.dim == 16
    assert student.net.folded is True
    crops = np.stack([person(i, 0) for i in range(4)])
    np.testing.assert_allclose(CropEmbedder.load(out).embed(crops), CropEmbedder.load(given).embed(crops), atol=1e-5)
    assert yaml.safe_load((out / "run.yaml").read_text())["dim"] == 16
    assert run(["distill", "--resume", str(out), "--quiet"]) == 0
    # From there the next run begins, without norms too; and a run with norms may fold them.
    again = distill(data=[store], out=tmp_path / "t", init_from=out, **flags).out
    assert load_model(again).net.folded is True
    folded = distill(data=[store], out=tmp_path / "f", init_from=source, fold_norms=True, **flags).out
    np.testing.assert_allclose(
        CropEmbedder.load(folded).embed(crops), CropEmbedder.load(source).embed(crops), atol=1e-5
    )
    with pytest.raises(UserError, match=r"net\.onnx: is not built like this network: .* not in the file"):
        distill(data=[store], out=tmp_path / "no", init_from=given, **{**flags, "net": "mobilefacenet"})
    with pytest.raises(UserError, match="has dim 16, this run 8; ask for the same"):
        distill(data=[store], out=tmp_path / "no", init_from=given, **{**flags, "dim": 8})
    with pytest.raises(UserError, match="--fold-norms: wants a network that is trained already"):
        distill(data=[store], out=tmp_path / "no", fold_norms=True, **flags)
    assert not (tmp_path / "no").exists()


def test_the_map_to_the_teacher_is_solved_for_where_a_run_begins_trained(tmp_path: Path, store: Path) -> None:
    """A student that begins at its own teacher, of another length, is near it from the first step."""
    teacher = save_run(tmp_path / "teacher", dim=12)
    source = save_run(tmp_path / "source", dim=12)  # the same network
    flags: dict[str, Any] = {**SMALL, "dim": None, "lr": 1e-9, "epochs": 1, "term": ["cosine=1"], "augment": "flip"}
    flags["teacher"] = [teacher, teacher]
    begun = distill(data=[store], out=tmp_path / "b", init_from=source, fold_norms=True, **flags).out
    fresh = distill(data=[store], out=tmp_path / "f", **flags).out
    first, other = (next(row["cosine"] for row in read_metrics(out) if row["step"]) for out in (begun, fresh))
    assert first < 0.05 < other
    assert read_metrics(begun)[-1]["lr"] <= 1e-9
    default = make_plan(16, Optimization(epochs=1, batch=8, weight_decay=0.0), begun=True)
    assert default.peak_lr == pytest.approx(0.001)  # a twentieth of Muon's own


@pytest.mark.slow
def test_a_students_labels_are_balanced_its_people_counted_and_its_schedule_walked(tmp_path: Path, store: Path) -> None:
    flags = {**SMALL, "epochs": 2.5}
    rows = []
    for beta in (0.0, 0.99):
        out = distill(data=[store], out=tmp_path / f"{beta}", class_balance=beta, schedule="poly", **flags).out
        rows.append(read_metrics(out)[-1])
    assert rows[0]["labels"] != pytest.approx(rows[1]["labels"], rel=1e-3)
    plan = make_plan(16, Optimization(epochs=2.5, batch=8, weight_decay=0.0))
    assert rows[0]["lr"] == pytest.approx(learning_rate(plan.steps - 1, plan.steps, plan.warmup, plan.peak_lr, "poly"))
    with pytest.raises(UserError, match=r"--class-balance 0\.9: --sampler sqrt"):
        distill(data=[store], out=tmp_path / "no", class_balance=0.9, sampler="sqrt", **flags)
    with pytest.raises(UserError, match="fewer than two identities have 5 crops"):
        distill(data=[store], out=tmp_path / "no", minimum=5, **flags)
    teacher = save_run(tmp_path / "teacher", dim=16)
    with pytest.raises(UserError, match=r"--class-balance 0\.9: is of the labels' loss; add --term labels=1"):
        distill(data=[store], out=tmp_path / "no", teacher=teacher, term=["embedding=1"], class_balance=0.9, **flags)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"term": ["embeding=1"]}, "--term embeding=1: no term 'embeding'; did you mean 'embedding'"),
        ({"term": ["labels"]}, "--term labels: give NAME=NUMBER"),
        ({"term": ["labels=1"], "ramp": ["labels=2"]}, "--ramp labels=2: is a share of the run"),
        ({"ramp": ["ekd=0.5"]}, "--ramp ekd=0.5: this run has no such term"),
    ],
)
def test_what_can_not_be_minimized_is_said_before_any_crop_is_looked_for(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        distill(data="no/such/crops", teacher="no/such/teacher", **asked)
