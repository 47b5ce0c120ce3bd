"""facekd leak finds people who are in the training set and in the list; on photos it was not made for."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import SIZE, save_run, write_store

from facekd.cli import run
from facekd.commands.align import align
from facekd.commands.leak import leak
from facekd.crops.read import read_crops
from facekd.errors import UserError

SHARED = Path(__file__).parents[3] / "shared" / "data"
PLANTED = 200


def hub(path: Path, images: list[bytes], identities: list[str | None]) -> Path:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = pa.array([{"bytes": data, "path": f"{i}.jpg"} for i, data in enumerate(images)], kind)
    pq.write_table(pa.table({"image": rows, "identity": pa.array(identities, pa.string())}), path)
    return path


def plain(level: int) -> bytes:
    """A crop of one color, of the toy stores' size."""
    return cv2.imencode(".png", np.full((SIZE, SIZE, 3), level, np.uint8))[1].tobytes()


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.exists(), reason="needs the LFW photos, CelebA crops and weights of ../shared/data")
def test_lfw_photos_recropped_and_compressed_are_found_in_a_training_set(tmp_path: Path) -> None:
    photos = tmp_path / "photos.zip"
    with zipfile.ZipFile(SHARED / "lfw.zip") as lfw, zipfile.ZipFile(photos, "w") as archive:
        first = sorted(name for name in lfw.namelist() if name.endswith("_0001.jpg"))
        for name in first[:: len(first) // 249][:250]:
            archive.writestr(name, lfw.read(name))
    yunet = SHARED / "weights" / "face_detection_yunet_2023mar.onnx"
    align(photos, tmp_path / "list", detector="yunet", weights=yunet, quiet=True)
    listed = read_crops(tmp_path / "list")
    rng = np.random.default_rng(0)
    images, identities = [], []
    for i in range(PLANTED):
        turn, scale, shift = rng.uniform(-6, 6), rng.uniform(0.9, 1.1), rng.uniform(-4, 4, 2)
        matrix = cv2.getRotationMatrix2D((56, 56), turn, scale)
        matrix[:, 2] += shift
        recropped = cv2.warpAffine(listed.pixels(i), matrix, (112, 112), borderMode=cv2.BORDER_REFLECT)
        images.append(cv2.imencode(".jpg", recropped[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 40])[1].tobytes())
        identities.append(f"m.{i:04d}")
    celeba = pq.read_table(SHARED / "crops" / "celeba.parquet").slice(0, 150)
    images += [row["bytes"] for row in celeba["image"].to_pylist()]
    identities += celeba["identity"].to_pylist()
    train = hub(tmp_path / "train.parquet", images, identities)
    found = leak(
        train,
        tmp_path / "list",
        embedder=SHARED / "weights" / "w600k_mbf.onnx",
        threshold=0.4,
        out=tmp_path / "leaks.csv",
        quiet=True,
    )
    planted = {one.identity: one.photo for one in found.leaks if one.identity and one.identity.startswith("m.")}
    right = [i for i in range(PLANTED) if planted.get(f"m.{i:04d}") == listed.sources[i]]
    print(f"{len(right)} of {PLANTED} planted leaks found; {len(found.leaks) - len(planted)} others")
    assert len(right) >= 0.95 * PLANTED
    assert len(found.leaks) - len(planted) <= 3
    assert found.exit_code == 1
    with open(tmp_path / "leaks.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(found.leaks)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two stores whose people are drawn alike, and a network."""
    write_store(tmp_path / "crops", people=6, photos=5)
    save_run(tmp_path / "net", "iresnet18-quarter")
    return tmp_path


def test_by_name_and_by_embedding(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = read_crops(home / "crops")
    train = hub(home / "train.parquet", [listed.encoded(7), plain(0), plain(255)], [None, "P03", "somebody"])
    result = leak(train, home / "crops", embedder=home / "net", threshold=0.99999, quiet=True)
    assert [(one.identity, one.by, one.person) for one in result.leaks] == [
        (None, "embedding", listed.identities[7]),
        ("P03", "name", "p03"),
    ]
    assert result.leaks[0].photo == listed.sources[7]
    assert result.leaks[0].score == pytest.approx(1, abs=1e-5)
    code = run(["leak", str(train), str(home / "crops"), "--embedder", str(home / "net"), "--threshold", "0.99999"])
    assert code == 1
    assert "2 crops of 1 identities (1 by embedding, 1 by name)" in capsys.readouterr().out


def test_the_page_shows_each_beside_the_photo_of_the_list(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = read_crops(home / "crops")
    train = hub(home / "train.parquet", [listed.encoded(7), plain(0), plain(255)], [None, "P03", "somebody"])
    page = home / "leaks.html"
    leak(train, home / "crops", embedder=home / "net", threshold=0.99999, show=page)
    assert "leaks.html shows 2 of them with pictures" in capsys.readouterr().err
    text = page.read_text()
    assert text.count("data:image/jpeg;base64,") == 4
    for words in (f"In the list: {listed.identities[7]}", "cosine 1.000", "To learn from: P03", "the same name"):
        assert words in text
    assert "--threshold 0.99999" in text
    assert page.stat().st_mode & 0o077 == 0


@pytest.mark.skipif(not SHARED.exists(), reason="needs the CelebA crops of ../shared/data")
def test_without_a_network_the_one_that_comes_along_compares(tmp_path: Path) -> None:
    celeba = pq.read_table(SHARED / "crops" / "celeba.parquet").slice(0, 40)
    images = [row["bytes"] for row in celeba["image"].to_pylist()]
    listed = hub(tmp_path / "list.parquet", images[:20], celeba["identity"].to_pylist()[:20])
    train = hub(tmp_path / "train.parquet", [images[3], images[30]], ["renamed", None])
    found = leak(train, listed, threshold=0.9, quiet=True)
    assert [(one.identity, one.photo) for one in found.leaks] == [("renamed", "3.jpg")]


def test_nobody_in_both(home: Path) -> None:
    train = hub(home / "train.parquet", [plain(0)], ["somebody"])
    assert leak(train, home / "crops", embedder=home / "net", threshold=1, quiet=True).exit_code == 0


def test_what_is_missing_is_said(home: Path) -> None:
    pairs = home / "pairs.csv"
    pairs.write_text("a,b,same\nx,y,1\n")
    for arguments, sentence in [
        ({"pairs": pairs}, "give their crop store with --crops"),
        ({"threshold": 3.0}, "is no cosine"),
        ({"out": home / "leaks.json"}, r"leaks are written as \.csv"),
        ({}, r"its \d+ pairs of different people can't show a FAR of 1e-06; give --threshold"),
    ]:
        given = {"pairs": home / "crops", "embedder": home / "net", "quiet": True, **arguments}
        with pytest.raises(UserError, match=sentence):
            leak(home / "crops", **given)
