"""train-teacher on tiny people: it learns, goes on bit for bit, and refuses before it begins."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from toy import SMALL, keys, write_store

from facekd import console
from facekd.cli import run
from facekd.commands.train_teacher import train_teacher
from facekd.core.run import append_metrics, read_metrics
from facekd.crops import training as crops_training
from facekd.crops.read import read_crops
from facekd.crops.training import read_training_crops
from facekd.errors import UserError
from facekd.nets.heads import HEAD, load_head
from facekd.nets.saved import MODEL, load_model
from facekd.recipes import train as training_walk
from facekd.recipes.plan import make_plan
from facekd.recipes.train import held_out_rates
from facekd.settings.training import PEAK_LR, Optimization
from facekd.training.checkpoint import LAST

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_teacher_learns_its_people_and_tells_others_apart(store: Path, teacher: Path) -> None:
    rows = read_metrics(teacher)
    assert rows[0]["step"] == 0
    assert rows[-1]["step"] == 24  # 8 epochs of 24 crops in batches of 8
    assert rows[-1]["labels"] < 0.7 * np.log(4)  # ln 4 is what knowing nothing costs
    assert 0 <= rows[-1]["held_out_eer"] <= 1
    saved, head = load_model(teacher), load_head(teacher / HEAD)
    assert saved.name == "iresnet18-quarter"
    assert keys(teacher / MODEL) == {"net"}  # who gets the network gets no names of people
    assert len(head.identities) == 4
    assert head.head.weight.shape == (4, 16)
    assert head.model_id == saved.contract.model_id
    held = set(read_crops(store).identities) - set(head.identities)
    assert len(held) == 2
    assert (teacher / "run.yaml").exists()
    assert (teacher / "environment.json").exists()


def test_a_finished_run_is_not_trained_again(store: Path, teacher: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (teacher / MODEL).read_bytes(), (teacher / "metrics.jsonl").read_bytes()
    train_teacher(data=[store], out=teacher, dim=16, epochs=8, **{**SMALL, "quiet": False})
    assert "trained already" in capsys.readouterr().err
    assert before == ((teacher / MODEL).read_bytes(), (teacher / "metrics.jsonl").read_bytes())


KILLED = """
import sys, torch
from facekd.cli import run
from facekd.recipes import train as training_walk
torch.set_num_threads(1)
training_walk.CHECKPOINT_SECONDS = 0.0
sys.exit(run(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on_to_the_same_bits(tmp_path: Path, store: Path) -> None:
    flags = [
        "--data", str(store), "--net", "iresnet18-quarter", "--dim", "8", "--batch", "8", "--held-out", "0.34",
        "--epochs", "40", "--quiet",
    ]  # fmt: skip
    killed = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", KILLED, "train-teacher", *flags, "--out", str(killed)])
    deadline = time.monotonic() + 120
    while not (killed / LAST).exists() or read_metrics(killed)[-1]["step"] < 20:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (killed / MODEL).exists()

    assert run(["train-teacher", "--resume", str(killed), "--quiet"]) == 0
    whole = tmp_path / "whole"
    assert run(["train-teacher", *flags, "--out", str(whole)]) == 0
    assert (killed / MODEL).read_bytes() == (whole / MODEL).read_bytes()
    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    assert (killed / LAST).read_bytes() == (whole / LAST).read_bytes()


def test_a_run_killed_before_its_first_checkpoint_leaves_no_row_twice(tmp_path: Path, store: Path) -> None:
    for step in (0, 10):
        append_metrics(tmp_path, {"step": step, "loss": 1.0})
    train_teacher(data=[store], out=tmp_path, dim=8, epochs=0.7, **SMALL)
    assert [row["step"] for row in read_metrics(tmp_path)] == [0, 2]


@pytest.mark.slow
def test_resume_is_config_and_goes_on_where_the_run_lies_now(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = train_teacher(data=[store], out=tmp_path / "one", dim=8, epochs=0.7, **SMALL).out
    moved = one.rename(tmp_path / "moved")
    for flags in (["--resume", str(moved)], [f"--resume={moved}"]):
        assert run(["train-teacher", *flags]) == 0
        assert f"{moved}: teacher trained" in capsys.readouterr().err
    assert not one.exists()
    config = ["--config", str(moved / "run.yaml"), "--out", str(tmp_path / "two"), "--quiet"]
    assert run(["train-teacher", *config]) == 0
    assert (tmp_path / "two" / MODEL).read_bytes() == (moved / MODEL).read_bytes()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["train-teacher", "--resume", "RUNS"], "no run to go on with, it has no run.yaml"),
        (["train-teacher", "--resume"], "--resume needs the folder of a run"),
        (["train-teacher", "--resume", "TEACHER", "--config", "TEACHER/run.yaml"], "give one of them, once"),
        (["distill", "--resume", "TEACHER"], "was written for 'facekd train-teacher', not for 'distill'"),
        (["train-teacher", "--resume", "TEACHER", "--epochs", "9"], "other settings (epochs was 8 and is 9.0)"),
        (["train-teacher", "--resume", "TEACHER", "--seed", "1"], "other settings (seed was 0 and is 1)"),
        (["--resume", "TEACHER"], "needs a command before"),
    ],
)
def test_a_resume_that_can_not_be_is_refused(
    teacher: Path, tmp_path: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (teacher / MODEL).read_bytes()
    flags = [flag.replace("TEACHER", str(teacher)).replace("RUNS", str(tmp_path)) for flag in flags]
    assert run(flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert (teacher / MODEL).read_bytes() == before


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"net": "iresnet19"}, "did you mean 'iresnet1"),
        ({"epochs": 0.0}, "--epochs 0"),
        ({"epochs": 0.01}, "no step"),
        ({"batch": 1}, "--batch 1"),
        ({"lr": 0.0}, "--lr 0"),
        ({"lr": float("nan")}, "--lr nan"),
        ({"weight_decay": -1.0}, "--weight-decay -1"),
        ({"ema": 1.0}, "--ema 1: use a number from 0 up to, but not, 1"),
        ({"head": "arcface", "margin": -0.1}, "--margin -0.1: is radians for arcface"),
        ({"head": "softmax", "scale": 64.0}, "--scale 64: softmax has no scale"),
        ({"sampler": "balanced", "per_person": 3}, "--per-person 3: use 2 or more that divide --batch 8"),
        ({"held_out": 1.0}, "held out share 1.0"),
        ({"held_out": -0.1}, "held out share -0.1"),
        ({"seed": -1}, "--seed -1"),
        ({"dim": 0}, "dim is 0"),
        ({"data": []}, "DATA"),
    ],
)
def test_a_setting_out_of_range_is_refused_before_the_run_begins(
    tmp_path: Path, store: Path, nameless: Path, flags: dict[str, Any], words: str
) -> None:
    if "data" in flags:
        flags, words = {"data": [tmp_path / "none"]}, "no such crop store"
    with pytest.raises(UserError, match=words):
        train_teacher(**{"data": [store], "out": tmp_path / "run", **SMALL, **flags})
    if "held_out" in flags:  # crops without identities are split elsewhere
        with pytest.raises(UserError, match=words):
            read_training_crops([nameless], flags["held_out"], 0)
    assert not (tmp_path / "run").exists()  # so the corrected command may use the same --out


def test_crops_without_people_make_no_teacher(tmp_path: Path, nameless: Path) -> None:
    with pytest.raises(UserError, match="no identities to learn"):
        train_teacher(data=[nameless], out=tmp_path / "run", **SMALL)
    singles = write_store(tmp_path / "singles", people=5, photos=1)
    with pytest.raises(UserError, match="fewer than two identities have 2 crops"):
        train_teacher(data=[singles], out=tmp_path / "run", **SMALL)


def test_a_loss_out_of_hand_names_its_crops(tmp_path: Path, store: Path) -> None:
    ids = set(read_crops(store).ids)
    with pytest.raises(UserError, match=r"not finite at step \d+ .*lower --lr") as caught:
        train_teacher(data=[store], out=tmp_path, dim=8, epochs=3, lr=1e30, **SMALL)
    named = str(caught.value).split("crops ")[1].split(" …")[0].split(", ")
    assert len(named) == 4
    assert set(named) <= ids
    batch = json.loads((tmp_path / "not_finite_0.json").read_text())
    assert batch["crop_ids"][:4] == named
    assert len(batch["crop_ids"]) == 8
    assert "no checkpoint was written yet" in str(caught.value)


@pytest.mark.parametrize("sampler", ["balanced", "sqrt"])
def test_another_sampler_and_optimizer_train_and_go_on(tmp_path: Path, store: Path, sampler: str) -> None:
    flags = {**SMALL, "dim": 8, "epochs": 1.7, "lr": 1e-3, "optimizer": "adamw", "sampler": sampler, "per_person": 2}
    out = train_teacher(data=[store], out=tmp_path, **flags).out
    assert read_metrics(out)[-1]["step"] == 5
    assert run(["train-teacher", "--resume", str(out), "--quiet"]) == 0
    for other in ({"optimizer": "sgd"}, {"sampler": "shuffled"}):
        with pytest.raises(UserError, match=f"other settings .{next(iter(other))} was"):
            train_teacher(data=[store], out=tmp_path, **{**flags, **other})


@pytest.mark.slow
def test_an_average_of_the_weights_is_judged_kept_and_gone_on_with(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {**SMALL, "dim": 8, "epochs": 3, "ema": 0.8}
    whole = train_teacher(data=[store], out=tmp_path / "whole", **flags).out
    plain = train_teacher(data=[store], out=tmp_path / "plain", **{**flags, "ema": 0.0}).out
    assert keys(whole / LAST) == {"net", "head", "ema", "optimizer", "rng"}
    with safe_open(whole / LAST, "pt") as last, safe_open(plain / LAST, "pt") as other:
        for key, value in load_model(whole).net.named_parameters():
            assert torch.equal(value, last.get_tensor(f"ema.{key}"))
            assert torch.equal(last.get_tensor(f"net.{key}"), other.get_tensor(f"net.{key}"))  # it changes no step
    assert read_metrics(whole)[-1]["labels"] == read_metrics(plain)[-1]["labels"]
    assert (whole / MODEL).read_bytes() != (plain / MODEL).read_bytes()
    before = (whole / MODEL).read_bytes()
    train_teacher(data=[store], out=whole, **flags)  # finished already: the same network is kept
    assert (whole / MODEL).read_bytes() == before


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """Where the tests began in a shell's background, Ctrl-C is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.parametrize(
    ("sent", "ends", "said"),
    [(signal.SIGTERM, SystemExit, "SIGTERM"), (signal.SIGINT, KeyboardInterrupt, "Ctrl-C")],
)
def test_a_run_that_is_asked_to_stop_leaves_a_checkpoint_to_go_on_from(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    sent: signal.Signals, ends: type[BaseException], said: str,
) -> None:  # fmt: skip
    flags = {**SMALL, "dim": 8, "epochs": 3, "ema": 0.8, "quiet": False}
    monkeypatch.setattr(console, "PLAIN_EVERY", 0.0)
    real = training_walk.progress

    def terminated(rows: Iterator[dict[str, float]], *rest: Any, **more: Any) -> Iterator[dict[str, float]]:
        for row in real(rows, *rest, **more):
            if row["step"] == 4:
                os.kill(os.getpid(), sent)
            yield row

    before = signal.getsignal(sent)
    with monkeypatch.context() as patch:
        patch.setattr(training_walk, "progress", terminated)
        with pytest.raises(ends) as ended:
            train_teacher(data=[store], out=tmp_path / "cut", **flags)
    assert getattr(ended.value, "code", 143) == 143
    assert signal.getsignal(sent) == before
    assert f"stopped by {said} after step 4" in capsys.readouterr().err
    assert not (tmp_path / "cut" / MODEL).exists()
    train_teacher(data=[store], out=tmp_path / "cut", **flags)
    said_then = capsys.readouterr().err
    assert "goes on after step 4 of 9" in said_then
    assert "trains in fp32, as " in said_then
    assert "teacher: 6 of 9, " in said_then
    train_teacher(data=[store], out=tmp_path / "whole", **flags)
    assert (tmp_path / "cut" / LAST).read_bytes() == (tmp_path / "whole" / LAST).read_bytes()


def test_held_out_people_are_nobody_who_trains(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crops_training, "MOST_JUDGED", 8)
    data = read_training_crops([store], 0.34, 0)
    assert set(data.names) == set(data.train.identities)
    assert not set(data.held.identities) & set(data.names)
    assert sorted((*data.train.ids, *data.held.ids)) == sorted(read_crops(store).ids)
    # While training, whole people are judged as far as it goes: 6 photos of one and 2 of the other.
    assert len(data.judged) == 8
    assert set(data.judged.ids) <= set(data.held.ids)
    assert sorted(list(data.judged.identities).count(name) for name in set(data.judged.identities)) == [2, 6]
    assert [data.names[label] for label in data.labels] == list(data.train.identities)


def test_a_plan_by_hand() -> None:
    for name, rate in PEAK_LR.items():
        assert make_plan(1000, Optimization(epochs=1, batch=50, weight_decay=0.0, optimizer=name)).peak_lr == rate
        assert f"{rate:g} with {name}" in inspect.getsource(Optimization)  # --help
    plan = make_plan(1000, Optimization(epochs=2.5, batch=50, lr=0.1, weight_decay=0.0))
    assert (plan.steps, plan.warmup, plan.peak_lr) == (50, 5, 0.1)
    assert make_plan(3, Optimization(epochs=1, batch=2, lr=0.1, weight_decay=0.0)).warmup == 1


def test_held_out_rates_of_known_vectors() -> None:
    axes = np.eye(4, dtype=np.float32)[[0, 0, 1, 1, 2, 2]]
    assert held_out_rates(axes, ("a", "a", "b", "b", "c", "c")) == {"held_out_eer": 0.0}  # 12 impostors: no TAR at 1e-2
    assert held_out_rates(axes, ("a", "b", "b", "c", "c", "a"))["held_out_eer"] > 0.5
    assert held_out_rates(axes, (None, "a", "b", "b", "c", "c")) == {}
    assert held_out_rates(axes[:0], ()) == {}


def test_several_stores_are_one_label_space(tmp_path: Path, store: Path) -> None:
    more = write_store(tmp_path / "more", people=3, photos=2, first=5)
    data = read_training_crops([store, more], 0.25, 0)
    assert len(data.names) + len(set(data.held.identities)) == 8  # the sixth person is in both
