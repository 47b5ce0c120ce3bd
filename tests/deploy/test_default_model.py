"""The student that comes along: it is there, small, taken where no model is named, and its absence is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import person

from facekd.cli import run
from facekd.core.pixels import encode_crop
from facekd.deploy import default
from facekd.deploy.default import default_model
from facekd.deploy.embedder import Embedder
from facekd.deploy.embeddings import read_embeddings
from facekd.deploy.thresholds import read_thresholds

MODELS = Path(__file__).parents[2] / "data" / "models"


def test_it_is_small_carries_its_contract_and_thresholds_and_says_what_it_is_made_of() -> None:
    file = default_model()
    assert file.stat().st_size <= 5e6
    embedder = Embedder.load(file)
    assert (embedder.contract.dim, embedder.contract.size, embedder.contract.template) == (128, 112, "arcface")
    assert read_thresholds(file)
    card = (MODELS / "README.md").read_text(encoding="utf-8")
    for word in (embedder.model_id, "SFace", "Apache-2.0", "FairFace", "CC BY 4.0", "TAR"):
        assert word in card


def test_embed_takes_it_where_no_model_is_named_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [{"bytes": encode_crop(person(i, 0, 112)), "path": None} for i in range(3)]
    pq.write_table(pa.table({"image": images, "identity": ["a", "b", "c"]}), tmp_path / "crops.parquet")
    assert run(["embed", str(tmp_path / "crops.parquet"), str(tmp_path / "e.parquet")]) == 0
    assert "facekd's own student" in capsys.readouterr().err
    found = read_embeddings(tmp_path / "e.parquet").embeddings
    assert found.model_id == Embedder.load(default_model()).model_id
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)


def test_where_it_is_not_installed_a_model_has_to_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(default, "NAME", "absent.onnx")
    assert run(["embed", str(tmp_path), str(tmp_path / "e.parquet")]) == 2
    assert "name one with --model" in capsys.readouterr().err
