"""facekd cache build, verify and gc: the kept rows are what the teacher says of the very view."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from toy import save_run, write_store

from facekd.cli import run
from facekd.commands.cache import build, gc, verify
from facekd.commands.distill import distill
from facekd.core.choices import Augment
from facekd.core.pixels import to_input, unit
from facekd.crops.read import read_crops
from facekd.crops.training import read_training_crops
from facekd.crops.views import view, view_batch
from facekd.errors import UserError
from facekd.recipes import cache as recipe
from facekd.recipes.cache import fill_cache
from facekd.recipes.plan import batch_loader, make_sampler
from facekd.settings.training import Optimization, TeacherViews
from facekd.teachers.teacher import Teacher, load_teacher

DATA = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_store(tmp_path / "crops", people=8, photos=5)
    save_run(tmp_path / "teacher", "iresnet18-quarter")
    save_run(tmp_path / "other", "iresnet18-quarter", seed=1)
    return tmp_path


def asked(home: Path, **more: Any) -> TeacherViews:
    fields = {"teacher": home / "teacher", "data": [home / "crops"], "cache": home / "cache", **more}
    return TeacherViews(**{"views": 3, "held_out": 0.25, "seed": 4, **fields})


def says(teacher: Teacher, crops: np.ndarray) -> np.ndarray:
    """Unit embeddings, float32[B, D]."""
    return unit(teacher.embed(torch.from_numpy(to_input(crops, teacher.contract))).numpy())


def test_each_row_is_the_teachers_embedding_of_that_view(home: Path) -> None:
    assert build(asked(home), quiet=True).views == 3 * 30
    assert build(asked(home), quiet=True).views == 0  # nothing is computed twice
    master = load_teacher(home / "teacher", None, torch.device("cpu"))
    crops = read_training_crops([home / "crops"], 0.25, 4).train
    kept, computed = fill_cache(master, crops, 4, 3, home / "cache", True)
    assert computed == 0
    for place, number in [(0, 0), (7, 2), (29, 1)]:
        pixels = view(crops.pixels(place), 4, place, number)[None]
        row = unit(kept.rows(np.array([place]), np.array([number])))[0]
        assert float(row @ says(master, pixels)[0]) > 0.9999
        assert float(row @ says(master, pixels)[0]) > float(row @ says(master, pixels[:, :, ::-1].copy())[0])
    assert verify(asked(home), quiet=True).bytes > 3 * 30 * 16 * 2


def test_a_cache_of_another_teacher_or_with_moved_rows_is_not_taken(home: Path) -> None:
    folder = build(asked(home), quiet=True).folder
    with pytest.raises(UserError, match="holds no cache of these settings"):
        verify(asked(home, teacher=home / "other"), quiet=True)
    other = build(asked(home, teacher=home / "other"), quiet=True).folder
    for name in ("embeddings.f16", "blocks.u32"):
        (folder / name).write_bytes((other / name).read_bytes())
    for command in (verify, build):
        with pytest.raises(UserError, match="is kept as another embedding than the teacher gives now"):
            command(asked(home), quiet=True)


def test_it_goes_on_after_a_stop(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    real = recipe.teacher_says
    calls = []
    monkeypatch.setattr(
        recipe, "teacher_says", lambda *a: real(*a) if not calls.append(1) and len(calls) < 2 else stop()
    )
    with pytest.raises(KeyboardInterrupt):
        build(asked(home), quiet=True)
    monkeypatch.setattr(recipe, "teacher_says", real)
    assert build(asked(home), quiet=True).views == 2 * 30


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
    (home / "flags.yaml").write_text(
        f"teacher: {home / 'teacher'}\ndata: [{home / 'crops'}]\nviews: 2\naugment: occluded\ncache: {home / 'cache'}\n"
    )
    assert run(["cache", "build", "--config", str(home / "flags.yaml"), "--held-out", "0.25"]) == 0
    assert "2 occluded views of 30 crops" in capsys.readouterr().err


def test_gc_keeps_what_is_in_use(home: Path) -> None:
    build(asked(home), quiet=True)
    assert gc(home / "cache", days=1, quiet=True).removed == ()
    assert len(gc(home / "cache", days=0, quiet=True).removed) == 1


def test_what_is_dropped_is_learned_by_nobody(home: Path) -> None:
    everybody = read_training_crops([home / "crops"], 0.25, 4)
    person = everybody.names[0]
    (home / "drop.csv").write_text(f"identity,crop\n{person},\n,{everybody.train.ids[7]}\nnobody,\n")
    rest = read_training_crops([home / "crops"], 0.25, 4, drop=[home / "drop.csv"])
    assert person not in rest.names
    assert everybody.train.ids[7] not in rest.train.ids
    assert (rest.dropped, rest.idle) == (6, 1)
    assert "6 crops dropped (1 rows of --drop name none)" in rest.said()
    kept = build(asked(home), quiet=True).folder
    assert build(asked(home, drop=[home / "drop.csv"]), quiet=True).folder != kept


@pytest.mark.parametrize("augment", ["plain", "occluded"])
def test_training_sees_the_very_views_that_the_cache_keeps(home: Path, augment: Augment) -> None:
    data = read_training_crops([home / "crops"], 0.25, 4)
    master = load_teacher(home / "teacher", None, torch.device("cpu"))
    kept = build(asked(home, augment=augment), quiet=True)
    again, computed = fill_cache(master, data.train, 4, 3, home / "cache", True, augment=augment)
    assert (again.folder, computed) == (kept.folder, 0)
    sample = make_sampler(Optimization(sampler="shuffled", batch=12, per_person=1), data, 4, views=3)
    load = batch_loader(data, master.contract, sample, 4, augment=augment, kept=again.rows)
    other = batch_loader(data, master.contract, sample, 4, augment="occluded" if augment == "plain" else "plain")
    for step in (0, 5):
        batch = load(step)
        assert batch.teacher_BD is not None
        cosines = torch.nn.functional.cosine_similarity(batch.teacher_BD, master.embed(batch.images_BCHW))
        assert float(cosines.min()) > 0.9999
        others = torch.nn.functional.cosine_similarity(batch.teacher_BD, master.embed(other(step).images_BCHW))
        assert float(others.min()) < 0.999


def test_each_kind_of_views_has_a_cache_of_its_own(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = build(asked(home), quiet=True).folder
    with pytest.raises(UserError, match="holds no cache of these settings"):
        verify(asked(home, augment="occluded"), quiet=True)
    occluded = build(asked(home, augment="occluded")).folder
    assert occluded != plain
    assert "3 occluded views of 30 crops" in capsys.readouterr().err
    assert verify(asked(home, augment="occluded"), quiet=True).folder == occluded
    tokens = ["--teacher", str(home / "teacher"), "--data", str(home / "crops"), "--augment", "masked"]
    assert run(["cache", "build", *tokens]) == 2
    assert "--augment" in capsys.readouterr().err


@pytest.mark.slow
def test_a_distillation_takes_what_was_built_for_its_kind_of_views(home: Path) -> None:
    built = build(asked(home, views=2, augment="occluded"), quiet=True)
    before = (built.folder / "embeddings.f16").stat().st_mtime_ns
    distill(teacher=home / "teacher", data=[home / "crops"], net="mobilefacenet-half", dim=16, term=["embedding=10"],
            epochs=1, batch=10, views=2, augment="occluded", cache=home / "cache", held_out=0.25, seed=4,
            out=home / "student", quiet=True)  # fmt: skip
    assert [path.name for path in (home / "cache").iterdir()] == [built.folder.name]
    assert (built.folder / "embeddings.f16").stat().st_mtime_ns == before


def test_a_plain_crops_embedding_is_wrong_for_its_views_and_a_kept_views_is_right(tmp_path: Path) -> None:
    """The objection to caching (a cached feature under a flip agrees at 0.867), and the answer to it."""
    weights, faces = DATA / "weights" / "w600k_mbf.onnx", DATA / "crops" / "fairface.parquet"
    if not (weights.exists() and faces.exists()):
        pytest.skip("the shared weights and crops are not here")
    with pq.ParquetFile(faces) as file:
        few = next(file.iter_batches(24))
    pq.write_table(pa.Table.from_batches([few]), tmp_path / "few.parquet")
    crops = read_crops(tmp_path / "few.parquet")
    teacher = load_teacher(weights, None, torch.device("cpu"))
    cache, _ = fill_cache(teacher, crops, 0, 1, tmp_path / "cache", True)
    places, firsts = np.arange(len(crops)), np.zeros(len(crops), int)
    stored = crops.batch(places)
    seen = view_batch(crops, 0, places, firsts, "plain")
    of_stored, of_seen, of_flipped = (says(teacher, images) for images in (stored, seen, stored[:, :, ::-1].copy()))
    kept = (unit(cache.rows(places, firsts)) * of_seen).sum(axis=1)
    plain, flipped = (of_stored * of_seen).sum(axis=1), (of_stored * of_flipped).sum(axis=1)
    print(
        f"kept view {kept.min():.5f}; plain crop for its view {np.median(plain):.3f}, flipped {np.median(flipped):.3f}"
    )
    assert kept.min() >= 0.9999
    assert np.median(plain) < 0.95
    assert np.median(flipped) < 0.98
    assert plain.max() < 1.0001


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A cluster whose workers do not stand in a test's folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pytest.importorskip("ray", reason="Ray is not installed: pip install 'facekd[ray]'")
        found.init("local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    yield found
    found.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("ignore")  # Ray's own: it forgets to close files, and says what it will do later
def test_a_cluster_gives_the_same_rows(home: Path, ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    here = TeacherViews(
        teacher=Path("teacher"), data=[Path("crops")], views=2, augment="occluded", held_out=0.25, cache=Path("ray")
    )
    there = build(here, engine="ray", quiet=True)
    assert there.views == 2 * 30
    local = build(asked(home, views=2, augment="occluded", seed=0), quiet=True)
    assert there.folder.name == local.folder.name
    rows = [
        np.fromfile(folder / "embeddings.f16", np.float16).reshape(60, -1) for folder in (there.folder, local.folder)
    ]
    # One rounding of float16 apart: a worker has another number of cores, and so other pieces.
    np.testing.assert_allclose(rows[0].astype(float), rows[1].astype(float), rtol=2**-10, atol=2e-3)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_would_make_other_views_is_refused(
    home: Path, ray: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("facekd.crops.views.CODE", 10**6)  # here, and not on the workers
    with pytest.raises(UserError, match=r"^\S+: has another teacher, other crops or other versions .* the same$"):
        build(asked(home, views=1), engine="ray", quiet=True)


def test_a_cluster_is_checked_before_any_work(home: Path) -> None:
    with pytest.raises(UserError, match="--address here:1 is of a Ray cluster; add --engine ray"):
        build(asked(home), address="here:1", quiet=True)
    assert not (home / "cache").exists()
