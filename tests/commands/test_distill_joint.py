"""A teacher that learns in the same run as its student."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from toy import SIZE, SMALL, Killed, keys, killed_after, person

from facekd.commands.distill import distill
from facekd.core.contract import Contract
from facekd.core.pixels import encode_crop
from facekd.core.run import read_metrics
from facekd.crops.training import read_training_crops
from facekd.errors import UserError
from facekd.nets import build
from facekd.nets.heads import HEAD, Head, load_head
from facekd.nets.saved import MODEL, load_model
from facekd.recipes import train as training_walk
from facekd.recipes.step import OWN, step_loss
from facekd.recipes.teachers import JOINT, joint_teacher, learners
from facekd.recipes.terms import Tools, make_state
from facekd.training.checkpoint import LAST
from facekd.training.loop import Batch

JOINT_NET = "iresnet18-quarter"


pytestmark = pytest.mark.usefixtures("one_thread")


def losses(out: Path) -> list[dict[str, float]]:
    return [row for row in read_metrics(out) if "loss" in row]


@pytest.mark.slow
def test_teacher_and_student_learn_together(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_walk, "LOG_EVERY", 1)
    flags = {**SMALL, "net": "mobilefacenet-half", "dim": 8}
    out = distill(data=[store], joint=JOINT_NET, out=tmp_path / "run", epochs=8, lr=0.05, **flags).out
    rows = losses(out)
    names = [OWN, "labels", "logits", "embedding"]
    for row in rows:
        assert row["loss"] == pytest.approx(sum(row[name] for name in names), rel=1e-5)
    assert np.mean([row[OWN] for row in rows[-4:]]) < 0.7 * np.mean([row[OWN] for row in rows[:4]])
    assert keys(out / LAST) == {"net", "head", "projection", "teacher", "teacher_head", "optimizer", "rng"}
    assert keys(out / MODEL) == {"net"}
    assert load_model(out).name == "mobilefacenet-half"
    # The teacher lies beside it, with its head: a teacher of others, and of their logits.
    saved = load_model(out / JOINT)
    assert (saved.name, saved.contract.dim) == (JOINT_NET, 512)
    assert load_head(out / JOINT / HEAD).identities == read_training_crops([store], 0.34, 0).names
    with safe_open(out / LAST, "pt") as opened:
        for name, value in saved.net.named_parameters():
            assert torch.equal(opened.get_tensor(f"teacher.{name}"), value)
    next_ = distill(data=[store], teacher=out / JOINT, out=tmp_path / "next", epochs=0.7, **flags).out
    assert {"labels", "logits", "embedding"} <= read_metrics(next_)[-1].keys()


@pytest.mark.parametrize("terms", [["labels"], ["logits", "embedding", "rkd_distance", "adadistill"]])
def test_the_students_loss_gives_the_teacher_no_gradient_and_the_other_way_round(store: Path, terms: list[str]) -> None:
    crops = read_training_crops([store], 0.34, 0)
    spec = Contract(dim=8, size=SIZE)
    master = joint_teacher(JOINT_NET, spec, "arcface", None, 16.0, crops, 0)
    student, head = build("mobilefacenet-half", dim=8, size=SIZE), Head("softmax", 8, len(crops.names))
    projection = torch.nn.Linear(8, 512, bias=False)
    state = make_state(dict.fromkeys(terms, 1.0), len(crops.names), master)
    tools = Tools(student, head, master, 4.0, 0, 0.0, state)
    loss = step_loss(dict.fromkeys(terms, 1.0), dict.fromkeys(terms, 0), tools, projection, student, lambda step: SIZE)
    images = torch.randn(8, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, torch.from_numpy(crops.labels[:8]), crops.train.ids[:8])
    # The last norm of an IResNet has a scale that is never trained.
    taught = [p for p in torch.nn.ModuleDict(learners(master)).parameters() if p.requires_grad]
    learning = [*student.parameters(), *head.parameters(), *projection.parameters()]
    found = loss(batch)
    assert found.keys() == {*terms, OWN}
    torch.stack([value for name, value in found.items() if name != OWN]).sum().backward()
    assert all(parameter.grad is None for parameter in taught)
    assert any(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in student.parameters())
    for parameter in learning:
        parameter.grad = None
    loss(batch)[OWN].backward()
    assert all(parameter.grad is not None for parameter in taught)
    assert all(parameter.grad is None for parameter in learning)


@pytest.mark.slow
def test_a_joint_run_goes_on_to_the_same_bits(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = {**SMALL, "data": [store], "joint": JOINT_NET, "dim": 8, "epochs": 2.4}
    whole = distill(out=tmp_path / "whole", **flags).out

    monkeypatch.setattr(training_walk, "CHECKPOINT_SECONDS", 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(training_walk, "progress", killed_after(4))
        with pytest.raises(Killed):
            distill(out=tmp_path / "cut", **flags)
    assert not (tmp_path / "cut" / JOINT).exists()
    distill(out=tmp_path / "cut", **flags)
    for file in (Path(MODEL), LAST, Path(JOINT) / MODEL, Path(JOINT) / HEAD):
        assert (whole / file).read_bytes() == (tmp_path / "cut" / file).read_bytes()
    # Given again, it is done, and leaves the same.
    again = (whole / JOINT / MODEL).read_bytes()
    distill(out=whole, **flags)
    assert (whole / JOINT / MODEL).read_bytes() == again


def test_what_a_joint_run_can_not_do_is_said(tmp_path: Path, store: Path, teacher: Path) -> None:
    images = [{"bytes": encode_crop(person(30 + i, i)), "path": None} for i in range(16)]
    nameless = tmp_path / "faces.parquet"
    pq.write_table(pa.table({"image": images, "identity": pa.array([None] * 16, pa.string())}), nameless)
    for flags, words in [
        ({"teacher": teacher}, "--joint iresnet18-quarter: trains its own teacher, and --teacher .*teacher is a fin"),
        ({"views": 2}, "--views 2: keeps what a finished teacher says, and that of --joint .* still learns; leave"),
        ({"contract": Path("c.yaml")}, "--contract c.yaml: is for a teacher"),
        ({"data": [nameless]}, "--joint .*: its teacher learns by identities, and no crop of .*faces.parquet has one"),
        ({"term": ["labels=1", "proxyless=1"]}, "--term proxyless: needs a finished teacher, --joint .* learns in the"),
        ({"joint": "iresnet19"}, "no network 'iresnet19'; did you mean"),
        ({"term": ["labels=1"]}, "--joint iresnet18-quarter: would teach nothing"),
    ]:  # fmt: skip
        with pytest.raises(UserError, match=words):
            distill(**{**SMALL, "data": [store], "joint": JOINT_NET, "out": tmp_path / "run", "dim": 8, **flags})
        assert not (tmp_path / "run").exists()
