"""facekd embed beside damage: bytes that went bad, a part torn by a power cut, a name that holds something else."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from people import write_model, write_people

from facekd.cli import run
from facekd.commands.embed import embed
from facekd.deploy.embeddings import read_embeddings
from facekd.errors import UserError
from facekd.ingest import parts as embed_parts
from facekd.ingest.earlier import Asked, Earlier, EmbedRow, plan_of
from facekd.ingest.embedding import EmbedSummary


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_people(tmp_path / "photos", 8, 5)


def embedded(src: Path, out: Path, model: Path) -> EmbedSummary:
    return embed(src, out, model=model, detector="none", quiet=True)


def test_a_damaged_byte_is_never_taken_for_an_embedding(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.parquet"
    embedded(photos, out, model)
    data = out.read_bytes()
    table = pq.read_table(out)
    chunk = pq.ParquetFile(out).metadata.row_group(0).column(table.column_names.index("embedding"))
    middle = chunk.data_page_offset + chunk.total_compressed_size // 2
    for at in (middle, middle + 1000):
        out.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        with pytest.raises(UserError, match="CRC checksum"):
            read_embeddings(out)
        assert embedded(photos, out, model).new == 40
        assert pq.read_table(out).equals(table)
        assert embedded(photos, out, model).new == 0


def test_a_part_that_was_torn_is_made_anew(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded(photos, tmp_path / "whole.parquet", model)
    monkeypatch.setattr(embed_parts, "PART", 16)
    folder = tmp_path / ".e.parquet.parts"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("facekd.deploy.embeddings.write_embeddings", killed)
        with pytest.raises(KeyboardInterrupt):
            embedded(photos, tmp_path / "e.parquet", model)
    torn, flipped, _ = sorted(folder.glob("*.parquet"))
    torn.write_bytes(torn.read_bytes()[:-100])
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    assert embedded(photos, tmp_path / "e.parquet", model).new == 32
    assert pq.read_table(tmp_path / "e.parquet").equals(pq.read_table(tmp_path / "whole.parquet"))
    assert not folder.exists()


def _images(path: Path) -> None:
    """An image Parquet; given as SRC and as OUT, its images would be lost."""
    image = pa.array([{"bytes": b"", "path": "a.png"}])
    pq.write_table(pa.table({"image": image}), path)


def _arrays(path: Path) -> None:
    np.savez(path, weights=np.zeros(3))


@pytest.mark.parametrize(("name", "write"), [("e.parquet", _images), ("e.npz", _arrays)])
def test_what_is_no_embeddings_is_not_overwritten(
    photos: Path, model: Path, tmp_path: Path, name: str, write: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / name
    write(out)
    before = out.read_bytes()
    assert run(["embed", "--model", str(model), "--detector", "none", str(photos), str(out)]) == 2
    assert "is there already and holds no embeddings of facekd's; choose another name" in capsys.readouterr().err
    assert out.read_bytes() == before
    assert not list(tmp_path.glob(".*")), "nothing is left beside it"


def test_crops_that_changed_under_their_time_are_embedded_again(photos: Path, model: Path, tmp_path: Path) -> None:
    images = [{"bytes": path.read_bytes(), "path": f"{n}.png"} for n, path in enumerate(sorted(photos.rglob("*.png")))]
    crops, out, whole = (tmp_path / name for name in ("crops.parquet", "e.parquet", "whole.parquet"))
    pq.write_table(pa.table({"image": images}), crops)
    before = crops.stat()
    embedded(crops, out, model)
    images[0]["bytes"], images[1]["bytes"] = images[1]["bytes"], images[0]["bytes"]
    pq.write_table(pa.table({"image": images}), crops)
    os.utime(crops, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert crops.stat().st_size == before.st_size
    assert embedded(crops, out, model).new == 40
    embedded(crops, whole, model)
    assert pq.read_table(out).equals(pq.read_table(whole))


def test_a_new_label_is_a_change_and_no_unreadable_photo() -> None:
    rows = {"1": [EmbedRow("a.png", "anna", None, "ok", "", "1", "")]}
    plan = plan_of([Asked("1", "a.png", "boris", "")], Earlier(rows, {}, True))
    assert str(plan) == "0 of 1 are as they were (1 changed)"


def test_a_folder_of_that_name_is_refused_before_any_work(photos: Path, model: Path, tmp_path: Path) -> None:
    (tmp_path / "e.parquet").mkdir()
    with pytest.raises(UserError, match="is a folder; give the name of a file"):
        embedded(photos, tmp_path / "e.parquet", model)
    assert not list(tmp_path.glob(".*"))
