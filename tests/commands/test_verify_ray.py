"""facekd verify --all-pairs --engine ray: the rates of the local engine, bit for bit, from other processes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from verify_home import make_home, ran

from facekd.commands.verify import verify
from facekd.errors import UserError
from facekd.rates.allpairs import measure_all_pairs
from facekd.rates.tiles import tiles

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore"),  # Ray's own: it forgets to close files, and says what it will do later
]


@pytest.fixture(scope="module")
def ray() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("ray", reason="Ray is not installed: pip install 'facekd[ray]'")


def test_the_same_rates_bit_for_bit(ray: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from facekd.evaluation import ray_pairs  # which needs Ray

    rng = np.random.default_rng(0)
    persons = rng.integers(0, 500, 3000)
    vectors = rng.normal(size=(500, 64))[persons] + 0.9 * rng.normal(size=(3000, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    fars = [1e-1, 1e-3, 1e-5]
    monkeypatch.setattr(ray_pairs, "TILES", 2)
    groups = []
    batches = ray_pairs._groups
    monkeypatch.setattr(ray_pairs, "_groups", lambda over: groups.extend(batches(over)) or batches(over))
    with ray_pairs.counting_on_ray(None) as count:
        there = measure_all_pairs(vectors, persons, fars, failed_persons=np.array([3, 3]), count=count)
    assert not ray.is_initialized()  # what was started is ended
    here = measure_all_pairs(vectors, persons, fars, failed_persons=np.array([3, 3]))
    assert (there.rates, there.band, there.eer, there.auc) == (here.rates, here.band, here.eer, here.auc)
    np.testing.assert_array_equal(there.curve.impostor, here.curve.impostor)
    assert len(groups) == 3
    assert sorted(tile for group in groups for tile in group) == sorted(tiles(3000))


def test_the_command(ray: Any, tmp_path: Path) -> None:
    home = make_home(tmp_path)
    flags = ["--all-pairs", "--embeddings", home / "a.parquet", "--embeddings", home / "b.parquet"]
    local = ran(home, tmp_path / "local", *flags)
    assert ran(home, tmp_path / "ray", *flags, "--engine", "ray")["models"] == local["models"]
    with pytest.raises(UserError, match=r"127\.0\.0\.1:1: no Ray cluster answers there"):
        verify(embeddings=[home / "a.parquet"], all_pairs=True, engine="ray", address="127.0.0.1:1",
               out=tmp_path / "o", quiet=True)  # fmt: skip
    assert not (tmp_path / "o").exists()
    assert not ray.is_initialized()
