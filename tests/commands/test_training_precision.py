"""--precision auto: tried once, kept, written down, and never another one for a run that has begun."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from toy import SMALL

from facekd.cli import run
from facekd.commands.train_teacher import train_teacher
from facekd.recipes import runtime
from facekd.training import forms
from facekd.training.forms import Form, Tried

pytestmark = pytest.mark.usefixtures("one_thread")


def chosen(out: Path) -> tuple[Any, Any]:
    """Precision and compile in a run's settings."""
    values = yaml.safe_load((out / "run.yaml").read_text())
    return values["precision"], values["compile"]


@pytest.fixture
def measuring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Runs of any length are worth a measurement, but not torch.compile; bf16 is a kind that the machine has."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(runtime, "FEWEST", 1)
    monkeypatch.setattr(runtime, "SHORT", 0.0)
    monkeypatch.setattr(runtime, "COMPILING", float("inf"))
    monkeypatch.setattr(runtime, "has_bf16", lambda device: True)


def quick_bf16(monkeypatch: pytest.MonkeyPatch) -> list[list[Form]]:
    """What is tried from now on; bf16 is found to be ten times as quick as it is."""
    asked, tried = [], runtime.try_forms

    def noted(net: Any, images: Any, wanted: list[Form], tell: Any) -> dict[Form, Tried]:
        asked.append(wanted)
        found = tried(net, images, wanted, tell)
        return {
            form: Tried(form, one.seconds / 10, 0.0, one.loss_apart, one.gradient_apart)
            if form.precision == "bf16"
            else one
            for form, one in found.items()
        }

    monkeypatch.setattr(runtime, "try_forms", noted)
    return asked


def test_a_short_run_is_not_measured_and_says_so(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime, "try_forms", pytest.fail)
    out = train_teacher(data=[store], out=tmp_path / "run", dim=8, epochs=1, **{**SMALL, "quiet": False}).out
    assert chosen(out) == ("fp32", False)
    assert "trains in fp32: 3 steps are too few to try others" in capsys.readouterr().err


@pytest.mark.usefixtures("measuring")
def test_what_was_found_is_written_said_kept_and_gone_on_with(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = quick_bf16(monkeypatch)
    flags: dict[str, Any] = {"data": [store], "dim": 8, "epochs": 1, **SMALL, "quiet": False}
    one = train_teacher(out=tmp_path / "one", **flags).out
    assert chosen(one) == ("bf16", False)
    said = capsys.readouterr().err
    assert "tries in which precision a few steps are quickest here" in said
    assert "trains in bf16: " in said
    assert "s a step here (fp32 " in said
    assert "% from that of fp32" in said
    assert [form.precision for wanted in asked for form in wanted] == ["fp32", "fp32", "bf16"]
    # Another run of the kind, and the same command again, try nothing.
    monkeypatch.setattr(runtime, "try_forms", pytest.fail)
    assert chosen(train_teacher(out=tmp_path / "two", **flags).out) == ("bf16", False)
    train_teacher(out=one, **flags)
    assert "trained already" in capsys.readouterr().err
    assert run(["train-teacher", "--resume", str(one)]) == 0


@pytest.mark.usefixtures("measuring")
def test_a_run_keeps_its_precision_where_another_is_quicker_by_now(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags: dict[str, Any] = {"data": [store], "dim": 8, "epochs": 1, **SMALL}
    out = train_teacher(out=tmp_path / "run", precision="fp32", **flags).out
    quick_bf16(monkeypatch)
    train_teacher(out=out, **flags)  # as auto: it would be bf16, and another precision is refused
    assert chosen(out) == ("fp32", False)


@pytest.mark.usefixtures("measuring")
@pytest.mark.parametrize("precision", ["fp32", "bf16", None])
def test_what_is_asked_for_is_never_measured(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch, precision: Any
) -> None:
    monkeypatch.setattr(runtime, "try_forms", pytest.fail)
    out = train_teacher(data=[store], out=tmp_path / "run", dim=8, epochs=1, precision=precision, **SMALL).out
    assert chosen(out) == (precision, False)


@pytest.mark.usefixtures("measuring")
def test_a_form_that_disagrees_is_not_taken(tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quick_bf16(monkeypatch)
    monkeypatch.setattr(forms, "GRADIENT_APART", 0.0)
    out = train_teacher(data=[store], out=tmp_path / "run", dim=8, epochs=1, **SMALL).out
    assert chosen(out) == ("fp32", False)


def test_a_run_begun_before_there_was_auto_goes_on(tmp_path: Path, store: Path) -> None:
    flags: dict[str, Any] = {"data": [store], "dim": 8, "epochs": 1, **SMALL}
    out = train_teacher(out=tmp_path / "run", precision=None, compile=False, **flags).out
    train_teacher(out=out, **flags)
    assert chosen(out) == (None, False)
