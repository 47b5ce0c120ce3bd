"""uint8 crops in, unit embeddings out, as the contract says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy import SIZE, contract_file, onnx_of, save_run, tiny_net

from facekd.core.types import Array, Embeddings
from facekd.deploy.embedder import CropEmbedder
from facekd.errors import UserError


def crops(count: int, size: int = SIZE) -> Array:
    return np.random.default_rng(count).integers(0, 256, (count, size, size, 3), np.uint8)


def by_hand(net: torch.nn.Module, inputs: Array) -> Array:
    with torch.no_grad():
        return np.asarray(net(torch.from_numpy(np.ascontiguousarray(inputs, np.float32))).numpy())


def normed(vectors: Array) -> Array:
    return vectors / np.sqrt((vectors**2).sum(1, keepdims=True))


@pytest.mark.parametrize("batch", [None, 1])
def test_it_feeds_the_network_as_the_contract_says(tmp_path: Path, batch: int | None) -> None:
    net = tiny_net().eval()
    contract = contract_file(
        tmp_path / "c.yaml", dim=8, size=SIZE, channels="BGR", mean=[1, 2, 3], std=[50, 60, 70]
    )  # fmt: skip
    embedder = CropEmbedder.load(str(onnx_of(net, tmp_path / "net.onnx", batch=batch)), str(contract), threads=1)
    inputs = (crops(5)[..., ::-1].astype(np.float32) - [1, 2, 3]) / [50, 60, 70]
    got = embedder.embed(crops(5))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, normed(by_hand(net, inputs.transpose(0, 3, 1, 2))), atol=1e-5)


def test_flip_adds_the_mirrored_crop_before_normalizing(tmp_path: Path) -> None:
    net = tiny_net().eval()
    path = onnx_of(net, tmp_path / "net.onnx")
    plain = contract_file(tmp_path / "plain.yaml", dim=8, size=SIZE)
    flip = contract_file(tmp_path / "flip.yaml", dim=8, size=SIZE, flip="true")
    inputs = ((crops(5).astype(np.float32) - 127.5) / 127.5).transpose(0, 3, 1, 2)
    wanted = normed(by_hand(net, inputs) + by_hand(net, inputs[..., ::-1]))
    embedder = CropEmbedder.load(path, flip)
    np.testing.assert_allclose(embedder.embed(crops(5)), wanted, atol=1e-5)
    np.testing.assert_allclose(embedder.embed(crops(5)[:, :, ::-1]), wanted, atol=1e-5)  # a mirrored face is the same
    assert embedder.model_id != CropEmbedder.load(path, plain).model_id


@pytest.mark.parametrize("count", [0, 1, 64, 65])
def test_a_crops_embedding_does_not_depend_on_its_company(tmp_path: Path, count: int) -> None:
    embedder = CropEmbedder.load(save_run(tmp_path / "run"))
    vectors = embedder.embed(crops(count))
    assert vectors.shape == (count, 16)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for i in {0, count - 1} & set(range(count)):
        np.testing.assert_allclose(embedder.embed(crops(count)[i : i + 1])[0], vectors[i], atol=1e-5)


def test_crops_of_another_size_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"takes \(32, 32, 3\): align them at 32 pixels"):
        CropEmbedder.load(save_run(tmp_path / "run")).embed(crops(2, 48))


@pytest.mark.parametrize("number", [np.nan, 0.0])
def test_a_row_without_direction_is_refused_as_an_embedding(tmp_path: Path, number: float) -> None:
    net = tiny_net()
    with torch.no_grad():
        net[4].weight.fill_(number)
        net[4].bias.fill_(number)
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE)
    embedder = CropEmbedder.load(onnx_of(net, tmp_path / "net.onnx"), contract)
    vectors = embedder.embed(crops(2))
    with pytest.raises(UserError, match="2 of 2 embeddings are zero, not finite"):
        Embeddings(vectors, ("a", "b"), embedder.model_id)


def test_crops_as_people_have_them(tmp_path: Path) -> None:
    """Lists of crops, views and read-only arrays are taken; what is no uint8 RGB crop is told what is needed."""
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE)
    embedder = CropEmbedder.load(onnx_of(tiny_net().eval(), tmp_path / "net.onnx"), contract)
    several = crops(3)
    wanted = embedder.embed(several)
    frozen = several.copy()
    frozen.flags.writeable = False
    for same in (list(several), tuple(several), frozen, np.asfortranarray(several), several[::-1][::-1]):
        np.testing.assert_array_equal(embedder.embed(same), wanted)
    assert embedder.embed([]).shape == (0, 8)
    for wrong, sentence in (
        (several.astype(np.float32), "crops of type float32: uint8 RGB crops of shape .*, pixels 0 to 255"),
        (list(several / 255), "crops of type float64: uint8 RGB crops"),
        (several.tolist(), "crops of type list: uint8 RGB crops .* are needed, a NumPy array"),
        (torch.from_numpy(several), "crops of type Tensor: uint8 RGB crops .* are needed, a NumPy array"),
        (None, "crops of type NoneType"),
        (several[0], r"give crop\[None\]"),
        (several.transpose(0, 3, 1, 2), "channels come last"),
        (crops(5)[..., 0], "gray crops have to have three equal channels"),
        ([several[0], several[1, :30]], "crops of several shapes"),
    ):
        with pytest.raises(UserError, match=sentence) as caught:
            embedder.embed(wrong)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
