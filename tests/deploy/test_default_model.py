"""The model that comes along: package data, small, taken where no model is named, and its absence is said."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import person

from facekd.cli import run
from facekd.core.contract import Contract
from facekd.core.pixels import encode_crop
from facekd.deploy import default
from facekd.deploy.default import default_model
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.embeddings import read_embeddings
from facekd.deploy.thresholds import model_thresholds
from facekd.errors import UserError
from facekd.nets.files import json_beside

WEIGHTS = Path(default.__file__).parents[1] / "weights"
PLAIN = {"Slice", "Resize", "Mul", "Add", "Conv", "LeakyRelu", "GlobalAveragePool", "Sigmoid", "Flatten", "Reshape"}
NORM = {"Mul", "ReduceSum", "Sqrt", "Max", "Div"}  # of the unit norm at its end


def test_it_is_small_carries_its_contract_and_thresholds_and_says_what_it_is_made_of() -> None:
    file = default_model()
    assert file.parent == WEIGHTS
    assert file.stat().st_size <= 5e6
    embedder = CropEmbedder.load(file)
    assert (embedder.contract.dim, embedder.contract.size, embedder.contract.template) == (256, 112, "arcface")
    assert embedder.network.parameters <= 1.2e6
    assert {1e-3, 1e-4, 1e-5, 1e-6} <= set(model_thresholds(file, embedder.contract))
    card = (WEIGHTS / "README.md").read_text(encoding="utf-8")
    for word in (embedder.model_id, "Intel", "Apache-2.0", "VGGFace2", "TAR", "children"):
        assert word in card
    assert "face-reidentification-retail-0095" in (WEIGHTS / "NOTICE.md").read_text(encoding="utf-8")


def test_a_damaged_copy_of_it_is_refused(tmp_path: Path) -> None:
    said = json_beside(default_model())
    about = json.loads(said.read_text(encoding="utf-8"))
    embedder = CropEmbedder.load(default_model())
    assert about["model_id"] == embedder.model_id
    assert Contract.from_mapping(about["contract"], "") == embedder.contract
    known = model_thresholds(default_model(), embedder.contract)
    assert {one["far"]: one["threshold"] for one in about["thresholds"]["far"]} == known
    data = bytearray(default_model().read_bytes())
    data[len(data) // 2] ^= 0x40  # in the weights: what it would give is another network's, under this one's thresholds
    (tmp_path / "m.onnx").write_bytes(data)
    json_beside(tmp_path / "m.onnx").write_bytes(said.read_bytes())
    with pytest.raises(UserError, match=r"m\.onnx: is not the file that m\.onnx\.json beside it describes"):
        CropEmbedder.load(tmp_path / "m.onnx")


def test_it_is_package_data() -> None:
    project = tomllib.loads((WEIGHTS.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    assert "weights/*" in project["tool"]["setuptools"]["package-data"]["facekd"]


def test_it_is_of_plain_operators_and_any_batch() -> None:
    model = onnx.load(str(default_model()))
    assert {node.op_type for node in model.graph.node} <= PLAIN | NORM
    (given,), (gives,) = model.graph.input, model.graph.output
    assert (given.name, gives.name) == ("input", "embedding")
    assert given.type.tensor_type.shape.dim[0].dim_param
    crops = np.stack([person(i, 0, 112) for i in range(3)])
    embedder = CropEmbedder.load(default_model())
    together, alone = embedder.embed(crops), np.concatenate([embedder.embed(crops[i : i + 1]) for i in range(3)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_embed_takes_it_where_no_model_is_named_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [{"bytes": encode_crop(person(i, 0, 112)), "path": None} for i in range(3)]
    pq.write_table(pa.table({"image": images, "identity": ["a", "b", "c"]}), tmp_path / "crops.parquet")
    assert run(["embed", str(tmp_path / "crops.parquet"), str(tmp_path / "e.parquet")]) == 0
    assert "comes with facekd" in capsys.readouterr().err
    found = read_embeddings(tmp_path / "e.parquet").embeddings
    assert found.model_id == CropEmbedder.load(default_model()).model_id
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)


def test_where_it_is_not_installed_a_model_has_to_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(default, "NAME", "absent.onnx")
    assert run(["embed", str(tmp_path), str(tmp_path / "e.parquet")]) == 2
    assert "name one with --model" in capsys.readouterr().err
