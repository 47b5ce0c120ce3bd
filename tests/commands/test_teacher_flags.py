"""What train-teacher can be asked beyond its defaults, at the command line: balance, schedule, weights to begin at; and
data that can teach nothing, each refused in one sentence."""

from __future__ import annotations

import pickle
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from toy import SETTINGS, onnx_of, person, record, save_run, tiny_net

from facekd.cli import run
from facekd.commands.train_teacher import train_teacher
from facekd.core.choices import HEADS, HeadName
from facekd.core.run import read_metrics
from facekd.crops.store import CropStore
from facekd.crops.training import read_training_crops
from facekd.nets.heads import HEAD, Head, load_head
from facekd.nets.saved import MODEL, load_model
from facekd.recipes.label_heads import balance_classes, head_loss
from facekd.recipes.plan import make_plan
from facekd.settings.training import PEAK_LR, Optimization
from facekd.training.checkpoint import LAST
from facekd.training.schedule import learning_rate

SMALL: dict[str, Any] = {"net": "iresnet18-quarter", "dim": 8, "batch": 8, "held_out": 0.34, "quiet": True}
FLAGS = ["--net", "iresnet18-quarter", "--dim", "8", "--batch", "8", "--epochs", "0.4", "--held-out", "0", "--quiet"]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def teacher(store: Path) -> Path:
    return train_teacher(data=[store], out=store.parent / "teacher", epochs=1.4, **SMALL).out


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one sentence of a command that the user got wrong."""

    def sentence(*tokens: str | Path) -> str:
        assert run([str(token) for token in tokens]) == 2
        shown = capsys.readouterr()
        (line,) = shown.err.splitlines()
        assert line.startswith("facekd: ")
        assert "Traceback" not in shown.err
        return line

    return sentence


def store_of(folder: Path, crops: dict[str, int]) -> Path:
    """A crop store of people with so many crops each."""
    made = CropStore.create(folder, SETTINGS)
    records = []
    for number, (name, count) in enumerate(crops.items()):
        records += [record(name, f"{number}/{photo}.png", person(number, photo)) for photo in range(count)]
    made.append(records)
    return folder


# Data that can teach nothing


def test_one_person_only(tmp_path: Path, said: Callable[..., str]) -> None:
    one = store_of(tmp_path / "one", {"anna": 9})
    line = said("train-teacher", "--data", one, "--out", tmp_path / "t", *FLAGS)
    assert f"{one}: all its identities are one, 'anna'; telling people apart takes photos of two or more" in line
    # Of two people, one of whom has one photo, the other is left alone: what is missing are photos.
    two = store_of(tmp_path / "two", {"anna": 9, "bert": 1})
    assert "fewer than two identities have 2 crops" in said("train-teacher", "--data", two, *FLAGS)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("one", "two", "shown"),
    [
        ("Anna", "anna", ("'Anna'", "'anna'", "only by case")),
        (
            unicodedata.normalize("NFC", "José"),
            unicodedata.normalize("NFD", "José"),
            (r"'Jos\xe9'", r"'Jose\u0301'", "only by Unicode form"),
        ),
    ],
)
def test_one_person_under_two_spellings(
    tmp_path: Path, one: str, two: str, shown: tuple[str, ...], said: Callable[..., str]
) -> None:
    home = store_of(tmp_path / "home", {one: 4, "bert": 4, "cleo": 4})
    away = store_of(tmp_path / "away", {two: 4, "dora": 4})
    data = ["--data", home, "--data", away]
    out = tmp_path / "t"
    line = said("train-teacher", *data, "--out", out, *FLAGS)
    assert all(word in line for word in (*shown, str(home), str(away), "--drop"))
    assert not out.exists()
    assert "differ only by" in said("distill", *data, "--out", out, *FLAGS)
    (tmp_path / "drop.csv").write_text(f"identity\n{two}\n", encoding="utf-8")
    assert run([str(t) for t in ("train-teacher", *data, "--out", out, "--drop", tmp_path / "drop.csv",
                                 *FLAGS)]) == 0  # fmt: skip
    assert set(load_head(out / HEAD).identities) == {one, "bert", "cleo", "dora"}


@pytest.mark.slow
def test_people_with_few_crops_are_left_out_as_asked(tmp_path: Path, said: Callable[..., str]) -> None:
    data = store_of(tmp_path / "data", {"a": 9, "b": 5, "c": 4, "d": 2, "e": 1})
    flags = ["--data", data]
    for number, names in ((None, "abcd"), (1, "abcde"), (4, "abc"), (5, "ab")):
        out = tmp_path / f"t{number}"
        asked = [] if number is None else ["--minimum", str(number)]
        assert run([str(t) for t in ("train-teacher", *flags, *asked, "--out", out, *FLAGS)]) == 0
        assert load_head(out / HEAD).identities == tuple(names)
        assert yaml.safe_load((out / "run.yaml").read_text())["minimum"] == (number or 2)
    assert "--minimum 0: use 1 or more" in said("train-teacher", *flags, "--minimum", "0", *FLAGS)
    line = said("train-teacher", *flags, "--minimum", "6", "--out", tmp_path / "no", *FLAGS)
    assert "fewer than two identities have 6 crops" in line
    line = said("train-teacher", *flags, "--minimum", "4", "--out", tmp_path / "t5", *FLAGS)
    assert "other settings (minimum was 5 and is 4)" in line


# Balance


def test_class_balance_weighs_rare_people_more(tmp_path: Path, said: Callable[..., str]) -> None:
    labels = np.array([0] * 50 + [1] * 5 + [-1] * 7 + [2])
    weights = balance_classes(0.99, labels)
    assert weights is not None
    assert weights.dtype == torch.float32
    effective = [(1 - 0.99**n) / 0.01 for n in (50, 5, 1)]
    assert (weights[0] / weights[2]).item() == pytest.approx(1 / effective[0], rel=1e-5)
    assert (weights[1] / weights[2]).item() == pytest.approx(1 / effective[1], rel=1e-5)
    assert weights[torch.from_numpy(labels[labels >= 0])].mean().item() == pytest.approx(1, rel=1e-6)
    assert balance_classes(0.0, labels) is None
    data = store_of(tmp_path / "data", {"a": 12, "b": 4})
    flags = ["train-teacher", "--data", data, "--out", tmp_path / "no", *FLAGS]
    for number in ("1", "-0.1", "nan"):
        assert f"--class-balance {number}: use a number from 0 up" in said(*flags, f"--class-balance={number}")
    for sampler in ("balanced", "sqrt"):
        line = said(*flags, "--class-balance", "0.9", "--sampler", sampler)
        assert f"--class-balance 0.9: --sampler {sampler} shows rare people oftener already" in line
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
@pytest.mark.parametrize("head", ["softmax", "arcface"])
def test_class_balance_changes_the_training_of_uneven_people_alone(tmp_path: Path, head: HeadName) -> None:
    people = {"even": {"a": 6, "b": 6, "c": 6}, "uneven": {"a": 14, "b": 2, "c": 2}}
    losses = {}
    for name, crops in people.items():
        data = store_of(tmp_path / name, crops)
        for beta in (0.0, 0.99):
            flags = {**SMALL, "held_out": 0.0, "epochs": 0.9, "head": head, "class_balance": beta}
            out = train_teacher(data=[data], out=tmp_path / f"{name}{beta}", **flags).out
            losses[name, beta] = read_metrics(out)[-1]["labels"]
    assert losses["even", 0.99] == pytest.approx(losses["even", 0.0], rel=1e-5)
    assert losses["uneven", 0.99] != pytest.approx(losses["uneven", 0.0], rel=1e-2)


@pytest.mark.parametrize("name", HEADS)
def test_a_heads_gradient_in_bfloat16_is_near_that_in_float32(name: str) -> None:
    torch.manual_seed(0)
    head = Head(name, 16, 6)
    x, labels = torch.randn(5, 16), torch.tensor([0, 3, -1, 5, 5])
    weights = torch.tensor([1.0, 1.0, 1.0, 0.5, 1.0, 2.0])

    def gradients(half: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        embeddings = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            loss = head_loss(head.eval(), head(embeddings), embeddings, labels, weights)
        assert loss.dtype == torch.float32
        return loss.detach(), *torch.autograd.grad(loss, (embeddings, head.weight))

    wanted, found = gradients(False), gradients(True)
    # The product W x itself is bfloat16's in plain softmax, with 8 bits; cosines are never taken in it.
    tolerance = 2e-2 if name == "softmax" else 1e-6
    for one, two in zip(wanted, found, strict=True):
        assert torch.isfinite(two).all()
        assert float((one - two).norm() / one.norm()) < tolerance


# Schedule


@pytest.mark.slow
def test_a_poly_schedule_is_walked_and_kept(tmp_path: Path, store: Path, said: Callable[..., str]) -> None:
    out = tmp_path / "t"
    command = ["train-teacher", "--data", store, "--out", out, "--held-out", "0.34", "--net", "iresnet18-quarter",
               "--dim", "8", "--batch", "8", "--quiet", "--epochs", "7", "--schedule"]  # fmt: skip
    assert run([str(t) for t in (*command, "poly")]) == 0
    rows = [row for row in read_metrics(out) if "lr" in row]
    plan = make_plan(24, Optimization(epochs=7, batch=8, weight_decay=5e-4, schedule="poly"))
    assert plan.peak_lr == PEAK_LR["muon"]
    assert len(rows) >= 3
    for row in rows:
        wanted = learning_rate(int(row["step"]) - 1, plan.steps, plan.warmup, plan.peak_lr, "poly")
        assert row["lr"] == pytest.approx(wanted)
        assert row["lr"] != pytest.approx(learning_rate(int(row["step"]) - 1, plan.steps, plan.warmup, plan.peak_lr))
    assert "other settings (schedule was 'poly' and is 'cosine')" in said(*command, "cosine")
    assert "steps" in said(*command, "steps")


# Weights to begin at


def test_a_run_begins_at_anothers_weights_and_head(
    tmp_path: Path, store: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = {**SMALL, "quiet": False, "lr": 1e-9, "weight_decay": 0.0, "epochs": 0.7}
    out = train_teacher(data=[store], out=tmp_path / "on", init_from=teacher, **flags).out
    assert f"begins at the weights of {teacher} and of its head" in capsys.readouterr().err
    began, now = load_model(teacher).net, load_model(out).net
    for (key, one), two in zip(began.named_parameters(), now.parameters(), strict=True):
        torch.testing.assert_close(two, one, atol=1e-6, rtol=0, msg=key)
    heads = [load_head(path / HEAD) for path in (teacher, out)]
    assert heads[0].identities == heads[1].identities
    torch.testing.assert_close(heads[1].head.weight, heads[0].head.weight, atol=1e-6, rtol=0)
    assert yaml.safe_load((out / "run.yaml").read_text())["init_from"] == str(teacher)
    assert str(teacher / MODEL) in (out / "environment.json").read_text()  # with its digest
    # Afresh it is another network.
    fresh = load_model(train_teacher(data=[store], out=tmp_path / "fresh", **flags).out).net
    key = "blocks.0.layers.1.weight"
    assert not torch.allclose(fresh.get_parameter(key), began.get_parameter(key), atol=1e-3)


@pytest.mark.parametrize(
    ("flags", "words"),
    [({"seed": 1}, "the one there knows other people"), ({"head": "arcface"}, "the one there is softmax")],
)
def test_a_head_of_other_people_or_kind_is_new_and_said(
    tmp_path: Path, store: Path, teacher: Path, flags: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = {**SMALL, "quiet": False, "lr": 1e-9, "weight_decay": 0.0, "epochs": 0.7, **flags}
    out = train_teacher(data=[store], out=tmp_path / "t", init_from=teacher / MODEL, **asked).out
    shown = capsys.readouterr().err
    assert f"begins at the weights of {teacher / MODEL}; the head is new, for {words}" in shown
    # With another seed others are held out: that the network knows them already is said.
    held = set(read_training_crops([store], 0.34, flags.get("seed", 0)).held.identities)
    known = len(held & set(load_head(teacher / HEAD).identities))
    assert (known > 0) == ("seed" in flags)
    assert (f"{known} people held out here were trained on there" in shown) == (known > 0)
    key = "blocks.0.layers.1.weight"
    nets = [load_model(path).net.get_parameter(key) for path in (teacher, out)]
    torch.testing.assert_close(nets[1], nets[0], atol=1e-6, rtol=0)
    old, new = (load_head(path / HEAD).head.weight for path in (teacher, out))
    assert not torch.allclose(old, new, atol=1e-3)


def test_a_run_that_began_at_weights_goes_on_with_those_alone(
    tmp_path: Path, store: Path, teacher: Path, said: Callable[..., str]
) -> None:
    source = save_run(tmp_path / "source", net="iresnet18-quarter", dim=8)
    out = train_teacher(data=[store], out=tmp_path / "t", init_from=source, epochs=1.4, **SMALL).out
    before = (out / MODEL).read_bytes()
    assert run(["train-teacher", "--resume", str(out), "--quiet"]) == 0
    assert (out / MODEL).read_bytes() == before
    save_run(tmp_path / "source", net="iresnet18-quarter", dim=8, seed=1)  # other weights at the same place
    assert "is of another run (init was" in said("train-teacher", "--resume", out, "--quiet")
    assert (out / MODEL).read_bytes() == before


def test_weights_that_do_not_fit_are_refused_with_both_sides(
    tmp_path: Path, store: Path, teacher: Path, said: Callable[..., str]
) -> None:
    out = tmp_path / "t"

    def refused(source: Path) -> str:
        line = said("train-teacher", "--data", store, "--out", out, *FLAGS, "--init-from", source)
        assert str(source) in line
        assert not out.exists()
        return line

    wide = save_run(tmp_path / "wide", net="iresnet18-quarter", dim=16)
    assert "is of dim 16, this run of dim 8" in refused(wide)
    other = save_run(tmp_path / "other", net="mobilefacenet-half", dim=16)
    assert "is of net mobilefacenet-half, dim 16, this run of net iresnet18-quarter, dim 8" in refused(other)
    large = save_run(tmp_path / "large", net="iresnet18-quarter", dim=8, size=48)
    assert "is of size 48 pixels, this run of size 32 pixels" in refused(large)
    assert "is not there" in refused(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert f"holds no {MODEL}" in refused(tmp_path / "empty")
    assert "is a checkpoint; --resume" in refused(teacher / LAST)
    assert "carries no contract" in refused(onnx_of(tiny_net(), tmp_path / "net.onnx"))
    (tmp_path / "net.txt").write_text("weights")
    assert "can't be trained on" in refused(tmp_path / "net.txt")
    assert "not a facekd network" in refused(teacher / HEAD)
    copied = tmp_path / "mixed"
    copied.mkdir()
    for folder, name in ((save_run(tmp_path / "untrained", net="iresnet18-quarter", dim=8), MODEL), (teacher, HEAD)):
        (copied / name).write_bytes((folder / name).read_bytes())
    assert "is the head of another network" in refused(copied)
    line = said("train-teacher", "--data", store, "--out", teacher, *FLAGS, "--init-from", teacher)
    assert f"lies in --out itself; --resume {teacher} goes on with it" in line
    settings = (teacher / "run.yaml").read_bytes()
    line = said(
        "train-teacher", "--resume", teacher, "--init-from", save_run(tmp_path / "s", net="iresnet18-quarter", dim=8)
    )
    assert "other settings (init_from was None and is" in line
    assert (teacher / "run.yaml").read_bytes() == settings  # so it can still be gone on with


class Malicious:
    """Unpickled, it runs a program: it leaves a file at `place`."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.place, "it ran")


@pytest.mark.parametrize(
    "name", ["net.pt", "net.PTH", "net.pkl", "net.ckpt", "net.safetensors", "run/model.safetensors"]
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_malicious_pickle_is_refused_and_nothing_runs(
    tmp_path: Path, store: Path, name: str, zipped: bool, said: Callable[..., str]
) -> None:
    ran, bad = tmp_path / "ran", tmp_path / name
    bad.parent.mkdir(exist_ok=True)
    if zipped:  # as torch.save writes it
        torch.save({"net": Malicious(ran)}, bad)
    else:
        bad.write_bytes(pickle.dumps(Malicious(ran)))
        pickle.loads(bad.read_bytes())
        assert ran.exists()  # it would
        ran.unlink()
    given = bad.parent if name.startswith("run/") else bad
    common = ["--data", store, "--out", tmp_path / "t", *FLAGS]
    line = said("train-teacher", *common, "--init-from", given)
    words = "not a facekd network" if bad.suffix == ".safetensors" else "is a pickle by its name"
    assert words in line
    assert str(given) in line
    line = said("distill", *common, "--teacher", given)
    assert str(given) in line
    assert not ran.exists()
    assert not (tmp_path / "t").exists()
