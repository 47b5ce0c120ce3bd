"""What is seen of a training while it runs: its progress in words, and warnings that name the cure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy import SETTINGS, SMALL, contract_file, onnx_of, person, record, tiny_net, write_store

from facekd import console
from facekd.commands.distill import distill
from facekd.commands.train_teacher import train_teacher
from facekd.core.run import read_metrics, wrong_metric
from facekd.core.types import Array
from facekd.crops.read import read_crops
from facekd.crops.store import CropStore
from facekd.errors import UserError
from facekd.recipes.watch import (
    SINCE,
    Movement,
    Shown,
    Watched,
    chance_warning,
    copies,
    judged,
    losses,
    teacher_warning,
)

pytestmark = pytest.mark.usefixtures("one_thread")
LOUD: dict[str, Any] = {**SMALL, "quiet": False}


def test_a_line_says_losses_rate_pace_and_rates() -> None:
    now = iter([0.0, 2.0, 4.0])
    shown = Shown(batch=32, clock=lambda: next(now))
    row = {"step": 10, "lr": 0.0123, "loss": 12.25, "labels": 9.0, "embedding": 3.25}
    assert losses(row) == "loss 12.25 (labels 9, embedding 3.25)"
    shown.see({**row, "held_out_tar@0.01": 0.125, "held_out_eer": 0.25})
    shown.see({**row, "step": 11})
    shown.see({**row, "step": 12})
    assert shown.words(row) == (
        "loss 12.25 (labels 9, embedding 3.25), lr 0.0123, 16 crops/s, "
        "held out at step 10: TAR 12.5 % at FAR 0.01, EER 25.0 %"
    )
    assert judged(row) == ""


def rows(values: Array, name: str = "embedding") -> Iterator[dict[str, float]]:
    return ({"step": step, "lr": 0.1, "loss": float(v), name: float(v)} for step, v in enumerate(values, 1))


@pytest.mark.parametrize(("slope", "told"), [(0.0, 1), (-0.5, 0), (0.5, 0)])
def test_a_term_that_stays_within_its_noise_is_told_once(slope: float, told: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.4, 2 * SINCE)
    values = 10 + noise + slope * np.minimum(np.arange(2 * SINCE) / SINCE, 1) * 4
    movement = Movement(0, {"labels": 1.0, "embedding": 10.0})
    found = [sentence for row in rows(values) for sentence in movement.see(row)]
    assert len(found) == told
    if told:
        assert "embedding does not move" in found[0]
        assert "--term embedding=40" in found[0]
        assert "--lr" in found[0]


def test_what_still_rises_is_not_looked_at() -> None:
    values = np.concatenate([np.linspace(0, 10, SINCE), np.full(SINCE // 2, 10.0)])
    movement = Movement(SINCE, {"embedding": 10.0})
    assert not [sentence for row in rows(values) for sentence in movement.see(row)]


@pytest.mark.slow
def test_a_real_run_that_learns_nothing_is_told_and_one_that_learns_is_not(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_teacher(data=[store], out=tmp_path / "still", dim=8, epochs=100, lr=1e-9, **LOUD)
    said = capsys.readouterr().err
    assert "teacher: warning: labels does not move" in said
    assert "a higher --lr" in said
    assert "4 people are few to learn from" in said
    train_teacher(data=[store], out=tmp_path / "moves", dim=8, epochs=100, **LOUD)
    assert "does not move" not in capsys.readouterr().err


def test_a_run_says_where_it_is(
    tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PLAIN_EVERY", 0.0)
    out = train_teacher(data=[store], out=tmp_path / "run", dim=8, epochs=3, **LOUD).out
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("teacher: 8 of 9")]
    assert len(lines) == 1
    for words in (" left; loss ", "lr ", " crops/s"):
        assert words in lines[0]
    last = read_metrics(out)[-1]
    assert last["step"] == 9
    assert isinstance(last["step"], int)


def test_the_time_left_knows_that_later_steps_take_longer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eight steps on 16 pixels and two on 32, which cost four times as much: half of the time each."""
    monkeypatch.setattr(console, "PLAIN_EVERY", -1.0)
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    cost = Watched(side_of=lambda step: 16 if step < 8 else 32).cost
    assert cost is not None
    for step in console.progress(range(10), 10, "teacher", cost=cost, tell=str):
        now[0] += 10.0 if step < 8 else 40.0
    lines = capsys.readouterr().err.splitlines()
    assert lines[3] == "teacher: 4 of 10, 40 s, 0:02:00 left; 3"
    assert lines[7] == "teacher: 8 of 10, 80 s, 0:01:20 left; 7"
    assert lines[9] == "teacher: 10 of 10, 160 s, 0:00:00 left; 9"
    assert Watched().cost is None


def test_the_page_of_formats_names_each_metric(tmp_path: Path, store: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "formats.md").read_text()
    table = page.split("### Metrics")[1].split("\n## ")[0]
    named = {key for line in table.splitlines() if line.startswith("| `") for key in re.findall("`([^`]+)`", line)}
    out = train_teacher(data=[store], out=tmp_path / "run", dim=8, epochs=3, **SMALL).out
    rows = read_metrics(out)
    found = {key for row in rows for key in row}
    assert {"step", "lr", "loss", "labels", "held_out_eer"} <= found <= named
    assert {"held_out_tar@0.01", "held_out_cosine", "sites"} <= named
    assert rows[0]["step"] == 0
    assert wrong_metric(rows[-1]) == ""


def test_copies_are_found_among_pictures(tmp_path: Path) -> None:
    assert copies(read_crops(write_store(tmp_path / "own")), [np.arange(8)]) == 0
    store = CropStore.create(tmp_path / "copied", SETTINGS)
    store.append([record(f"p{i % 4}", f"p{i % 4}/{i}.png", person(i // 2, 0)) for i in range(16)])
    crops = read_crops(tmp_path / "copied")
    assert copies(crops, [np.arange(16)]) == 1
    one_of_each = np.unique(crops.batch(np.arange(16)), axis=0, return_index=True)[1]
    assert len(one_of_each) == 8
    assert copies(crops, [one_of_each]) == 0
    assert copies(crops, [np.append(one_of_each[:6], one_of_each[:2])]) == 0.5  # two of them twice


def test_a_run_on_copies_is_warned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = CropStore.create(tmp_path / "copied", SETTINGS)
    store.append([record(f"p{i % 6}", f"p{i % 6}/{i}.png", person(i % 6, 0)) for i in range(36)])
    train_teacher(data=[tmp_path / "copied"], out=tmp_path / "run", dim=8, epochs=0.7, **LOUD)
    said = capsys.readouterr().err
    assert "% of the crops in a batch show a picture that is in it once more" in said
    assert "audit" in said


def test_a_teacher_that_knows_nothing_is_told() -> None:
    assert teacher_warning("t.onnx", {}) == ""
    assert teacher_warning("t.onnx", {"held_out_eer": 0.1}) == ""
    assert "t.onnx tells held-out people apart hardly better than chance (EER 48 %)" in teacher_warning(
        "t.onnx", {"held_out_eer": 0.48}
    )


def test_a_network_that_learned_nothing_is_told_at_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every picture of a person is another person's too."""
    store = CropStore.create(tmp_path / "mixed", SETTINGS)
    store.append([record(f"p{i % 9}", f"p{i % 9}/{i}.png", person(i // 9, i)) for i in range(90)])
    train_teacher(data=[tmp_path / "mixed"], out=tmp_path / "run", dim=8, epochs=1, **LOUD)
    said = capsys.readouterr().err
    assert "teacher: warning: held-out people are told apart hardly better than by chance (EER " in said
    assert "more --epochs" in said
    assert chance_warning({"held_out_eer": 0.39}) == chance_warning({}) == ""


def test_a_run_of_a_teacher_that_knows_nothing_is_warned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every picture of a person is another person's too, so that nobody can tell them apart."""
    store = CropStore.create(tmp_path / "mixed", SETTINGS)
    store.append([record(f"p{i % 9}", f"p{i % 9}/{i}.png", person(i // 9, i)) for i in range(90)])
    onnx = onnx_of(tiny_net(), tmp_path / "teacher.onnx")
    distill(
        data=[tmp_path / "mixed"], teacher=[onnx], contract=[contract_file(tmp_path / "c.yaml", dim=8, size=32)],
        net="mobilefacenet-half", dim=8, epochs=0.2, batch=8, held_out=0.34, out=tmp_path / "run",
    )  # fmt: skip
    said = capsys.readouterr().err
    assert "tells held-out people apart hardly better than chance" in said
    assert "check its --contract" in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"loss": 1.0}', "line 2 is damaged: step is None, no whole number from 0"),
        ('{"step": -1}', "line 2 is damaged: step is -1"),
        ('{"step": 1.5}', "line 2 is damaged: step is 1.5"),
        ('{"step": 1, "loss": "low"}', "line 2 is damaged: loss is 'low', no number"),
        ('{"step": 1, "loss": NaN}', "line 2 is damaged: loss is nan, no number"),
        ('{"step": 1, "loss": true}', "line 2 is damaged: loss is True, no number"),
        ('{"step": 1, "held_out_eer": 12.0}', "line 2 is damaged: held_out_eer is 12.0, not within 0 and 1"),
    ],
)
def test_metrics_of_another_schema_are_named(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(f'{{"step": 0, "held_out_cosine": -0.5}}\n{line}\n')
    with pytest.raises(UserError, match=words):
        read_metrics(tmp_path)
