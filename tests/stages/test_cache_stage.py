"""facekd cache build, verify and gc: the kept rows are what the teacher says of the very view."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from toy import save_run, write_store

from facekd.cli import run
from facekd.core.pixels import to_input, unit
from facekd.crops.views import view
from facekd.errors import UserError
from facekd.stages import cache as stage
from facekd.stages.cache import build, fill_cache, gc, verify
from facekd.stages.training_run import read_training_data
from facekd.teachers.teacher import load_teacher


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_store(tmp_path / "crops", people=8, photos=5)
    save_run(tmp_path / "teacher", "iresnet18-quarter")
    save_run(tmp_path / "other", "iresnet18-quarter", seed=1)
    return tmp_path


def flags(home: Path, **more: object) -> dict:
    return {"teacher": home / "teacher", "data": [home / "crops"], "views": 3, "held_out": 0.25, "seed": 4,
            "cache": home / "cache", "quiet": True, **more}  # fmt: skip


def test_each_row_is_the_teachers_embedding_of_that_view(home: Path) -> None:
    assert build(**flags(home)).views == 3 * 30
    assert build(**flags(home)).views == 0  # nothing is computed twice
    master = load_teacher(home / "teacher", None, torch.device("cpu"))
    crops = read_training_data([home / "crops"], 0.25, 4).train
    kept, computed = fill_cache(master, crops, 4, 3, home / "cache", True)
    assert computed == 0
    for place, number in [(0, 0), (7, 2), (29, 1)]:
        pixels = view(crops.pixels(place), 4, place, number)[None]
        said = unit(master.embed(torch.from_numpy(to_input(pixels, master.contract))).numpy())[0]
        row = unit(kept.rows(np.array([place]), np.array([number])))[0]
        assert float(row @ said) > 0.9999
        flipped = unit(master.embed(torch.from_numpy(to_input(pixels[:, :, ::-1].copy(), master.contract))).numpy())[0]
        assert float(row @ said) > float(row @ flipped)
    assert verify(**flags(home)).bytes > 3 * 30 * 16 * 2


def test_a_cache_of_another_teacher_or_with_moved_rows_is_not_taken(home: Path) -> None:
    folder = build(**flags(home)).folder
    with pytest.raises(UserError, match="holds no cache of these settings"):
        verify(**flags(home, teacher=home / "other"))
    other = build(**flags(home, teacher=home / "other")).folder
    for name in ("embeddings.f16", "blocks.u32"):
        (folder / name).write_bytes((other / name).read_bytes())
    for command in (verify, build):
        with pytest.raises(UserError, match="is kept as another embedding than the teacher gives now"):
            command(**flags(home))


def test_it_goes_on_after_a_stop(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    real = stage._say
    calls = []
    monkeypatch.setattr(stage, "_say", lambda *a: real(*a) if not calls.append(1) and len(calls) < 2 else stop())
    with pytest.raises(KeyboardInterrupt):
        build(**flags(home))
    monkeypatch.setattr(stage, "_say", real)
    assert build(**flags(home)).views == 2 * 30


def test_from_the_command_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = ["--teacher", str(home / "teacher"), "--data", str(home / "crops"), "--held-out", "0.25", "--views", "2"]
    assert run(["cache", "build", *tokens, "--cache", str(home / "cache")]) == 0
    assert run(["cache", "verify", *tokens, "--cache", str(home / "cache")]) == 0
    assert "whole; 64 rows are what the teacher gives now" in capsys.readouterr().err
    assert run(["cache", "gc", str(home / "cache")]) == 0
    assert len(list((home / "cache").iterdir())) == 1
    (kept,) = (home / "cache").glob("*/key.json")
    os.utime(kept, (0, 0))
    assert run(["cache", "gc", str(home / "cache")]) == 0
    assert list((home / "cache").iterdir()) == []
    assert run(["cache", "gc", str(home / "none")]) == 2
    assert run(["cache", "build", *tokens[:-1], "0", "--cache", str(home / "cache")]) == 2
    assert "--views 0: give one or more" in capsys.readouterr().err


def test_gc_keeps_what_is_in_use(home: Path) -> None:
    build(**flags(home))
    assert gc(home / "cache", days=1, quiet=True).removed == ()
    assert len(gc(home / "cache", days=0, quiet=True).removed) == 1


def test_what_is_dropped_is_learnt_by_nobody(home: Path) -> None:
    everybody = read_training_data([home / "crops"], 0.25, 4)
    person = everybody.names[0]
    (home / "drop.csv").write_text(f"identity,crop\n{person},\n,{everybody.train.ids[7]}\nnobody,\n")
    rest = read_training_data([home / "crops"], 0.25, 4, drop=[home / "drop.csv"])
    assert person not in rest.names
    assert everybody.train.ids[7] not in rest.train.ids
    assert (rest.dropped, rest.idle) == (6, 1)
    assert "6 crops dropped (1 rows of --drop name none)" in rest.said()
    kept = build(**flags(home)).folder
    assert build(**flags(home, drop=[home / "drop.csv"])).folder != kept
