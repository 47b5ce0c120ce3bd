"""facekd embed: the same embeddings whichever form the faces come in."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from onnx import TensorProto, helper
from PIL import Image
from recordio import write_set

from facekd.cli import run
from facekd.commands.align import align
from facekd.commands.embed import embed
from facekd.commands.enroll import enroll
from facekd.core.contract import Contract
from facekd.core.pixels import encode_crop
from facekd.core.types import Array
from facekd.crops.read import read_crops
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.embeddings import read_embeddings
from facekd.errors import UserError
from facekd.nets import build
from facekd.nets.saved import MODEL, save_model

NET = "mobilefacenet-half"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network: its embeddings mean nothing, but they are those of its weights."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    save_model(folder / MODEL, NET, build(NET, dim=32), Contract(dim=32))
    return folder


def blocks(seed: int) -> Array:
    """A crop-sized picture of colored blocks."""
    return np.random.default_rng(seed).integers(0, 256, (7, 7, 3), np.uint8).repeat(16, axis=0).repeat(16, axis=1)


def save(path: Path, pixels: Array) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four photos that are crops, of two people; one twice."""
    folder = tmp_path / "photos"
    for seed, name in enumerate(("anna/1.png", "anna/2.png", "boris/1.png")):
        save(folder / name, blocks(seed))
    save(folder / "boris" / "again.png", blocks(2))
    return folder


def test_photos_and_their_crop_store_give_the_same_embeddings(tmp_path: Path, photos: Path, model: Path) -> None:
    direct = embed(photos, tmp_path / "direct.parquet", model=model, detector="none", quiet=True)
    assert (direct.embeddings, direct.duplicates, direct.failed, direct.exit_code) == (3, 1, (), 0)
    align(photos, tmp_path / "crops", detector="none", quiet=True)
    stored = embed(tmp_path / "crops", tmp_path / "stored.parquet", model=model, quiet=True)
    assert (stored.embeddings, stored.exit_code) == (3, 0)

    one, two = read_embeddings(direct.out), read_embeddings(stored.out)
    assert one.embeddings.ids == two.embeddings.ids
    assert one.identities == two.identities == ("anna", "anna", "boris")
    assert one.sources == two.sources == ("anna/1.png", "anna/2.png", "boris/1.png")
    np.testing.assert_allclose(one.embeddings.vectors, two.embeddings.vectors, atol=1e-6)
    # And they are the embedder's own, of the crops as they are stored.
    crops = read_crops(tmp_path / "crops")
    wanted = CropEmbedder.load(model).embed(crops.batch(np.arange(len(crops))))
    np.testing.assert_allclose(two.embeddings.vectors, wanted, atol=1e-6)
    assert one.embeddings.model_id == CropEmbedder.load(model).model_id == direct.model_id


def test_image_parquet_and_npz(tmp_path: Path, model: Path) -> None:
    images = []
    for seed in range(3):
        file = io.BytesIO()
        Image.fromarray(blocks(seed)).save(file, "PNG")
        images.append({"bytes": file.getvalue(), "path": f"{seed}.png" if seed else None})
    pq.write_table(pa.table({"image": images, "identity": ["a", None, "b"]}), tmp_path / "faces.parquet")
    embed(tmp_path / "faces.parquet", tmp_path / "out.npz", model=model, quiet=True)

    read = read_embeddings(tmp_path / "out.npz")
    assert read.embeddings.ids == ("faces-0", "faces-1", "faces-2")
    assert read.identities == ("a", None, "b")
    assert read.sources == ("faces-0", "1.png", "2.png")
    wanted = CropEmbedder.load(model).embed(np.stack([blocks(seed) for seed in range(3)]))
    np.testing.assert_allclose(read.embeddings.vectors, wanted, atol=1e-6)


def test_a_rec_set_and_its_folder(tmp_path: Path, model: Path) -> None:
    home = write_set(tmp_path / "set", [encode_crop(blocks(seed)) for seed in range(3)], [(0,), (0,), (4,)])
    for number, source in enumerate((home, home / "train.rec")):
        embed(source, tmp_path / f"{number}.parquet", model=model, quiet=True)
        read = read_embeddings(tmp_path / f"{number}.parquet")
        assert read.embeddings.ids == ("train-1", "train-2", "train-3")
        wanted = CropEmbedder.load(model).embed(read_crops(home).batch(np.arange(3)))
        np.testing.assert_allclose(read.embeddings.vectors, wanted, atol=1e-6)


def test_the_file_says_how_it_was_made(tmp_path: Path, photos: Path, model: Path) -> None:
    embed(photos, tmp_path / "e.parquet", model=model, detector="none", quiet=True)
    made = json.loads(pq.read_schema(tmp_path / "e.parquet").metadata[b"facekd.run"])
    assert made["command"] == "embed"
    assert made["config"]["src"] == str(photos)
    assert made["config"]["detector"] == "none"
    assert made["environment"]["versions"]["torch"]


def test_a_bad_photo_is_counted_and_the_good_ones_go_through(
    tmp_path: Path, photos: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "anna" / "torn.jpg").write_bytes(b"\xff\xd8\xff no photo")
    archive = tmp_path / "photos.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(photos.rglob("*.*")):
            file.write(path, path.relative_to(photos))
    code = run(["embed", "--model", str(model), "--detector", "none", str(archive), str(tmp_path / "e.parquet")])
    assert code == 1
    shown = capsys.readouterr().err
    assert "3 embeddings of model" in shown
    assert "1 photos gave no embedding (1 unreadable)" in shown
    assert "anna/torn.jpg: unreadable" in shown
    assert len(read_embeddings(tmp_path / "e.parquet").sources) == 3


def test_crops_of_another_size_are_the_users_mistake(
    tmp_path: Path, photos: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    align(photos, tmp_path / "crops", detector="none", size=96, quiet=True)
    with pytest.raises(UserError, match=r"crops of 96 pixels.*crops of 112.*--size 112"):
        embed(tmp_path / "crops", tmp_path / "e.parquet", model=model, quiet=True)
    assert run(["embed", "--model", str(model), str(tmp_path / "nowhere"), str(tmp_path / "e.parquet")]) == 2
    assert "no such file or folder" in capsys.readouterr().err
    assert not (tmp_path / "e.parquet").exists()


def test_a_face_without_a_direction_is_a_failed_photo(tmp_path: Path) -> None:
    """A network that gives the mean color gives zero for a black photo, and zero has no direction."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 112, 112])
    color = helper.make_tensor_value_info("color", TensorProto.FLOAT, ["batch", 3])
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["color"]),
    ]
    graph = helper.make_graph(nodes, "mean-color", [image], [color])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "color.onnx"))
    (tmp_path / "contract.yaml").write_text("dim: 3\nmean: [0, 0, 0]\nstd: [255, 255, 255]\n")
    how = {"model": tmp_path / "color.onnx", "contract": tmp_path / "contract.yaml", "quiet": True}
    photos = tmp_path / "photos"
    for name, rgb in {"anna/black": (0, 0, 0), "anna/red": (255, 0, 0), "boris/black": (0, 0, 0)}.items():
        save(photos / f"{name}.png", np.full((112, 112, 3), rgb, np.uint8))

    summary = embed(photos, tmp_path / "e.parquet", detector="none", **how)
    assert [(source, status) for source, status, _ in summary.failed] == [
        ("anna/black.png", "no_embedding"),
        ("boris/black.png", "no_embedding"),
    ]
    read = read_embeddings(tmp_path / "e.parquet")
    assert read.sources == ("anna/red.png",)
    np.testing.assert_allclose(read.embeddings.vectors, [[1, 0, 0]], atol=0.01)

    people = enroll(photos, tmp_path / "gallery", detector="none", **how)
    assert (people.written, people.not_enrolled, people.statuses) == (1, ("boris",), {"no_embedding": 2, "ok": 1})
    # A store vouches for its crops: there a crop that can't be embedded means the wrong model.
    align(photos, tmp_path / "crops", detector="none", quiet=True)
    with pytest.raises(UserError, match="the model or its contract is wrong"):
        embed(tmp_path / "crops", tmp_path / "e2.parquet", **how)
    assert not (tmp_path / "e2.parquet").exists()


def test_photos_without_any_face_give_an_empty_file_and_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((160, 200, 3), 128, np.uint8)).save(tmp_path / "photos" / name)
    out = tmp_path / "e.parquet"
    assert run(["embed", str(tmp_path / "photos"), str(out)]) == 1
    assert "a.png: no_face" in capsys.readouterr().err
    assert len(read_embeddings(out).embeddings.ids) == 0
