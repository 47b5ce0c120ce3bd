"""facekd embed given again: only what is new or has changed is embedded, and the files are as if made at once."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from people import pattern, save, write_model, write_people
from PIL import Image

from facekd.cli import run
from facekd.commands.align import align
from facekd.commands.embed import embed
from facekd.deploy.embeddings import read_embeddings
from facekd.errors import UserError
from facekd.ingest.embedding import EmbedSummary


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """12 photos: one bad, one the same as another."""
    folder = write_people(tmp_path / "photos", 4, 3)
    (folder / "p01" / "1.png").write_bytes(b"no photo")
    save(folder / "p03" / "2.png", pattern(0, 0))
    return folder


def embedded(src: Path, out: Path, model: Path, **more: Any) -> EmbedSummary:
    return embed(src, out, model=model, **{"detector": "none", "quiet": True, **more})


def contents(out: Path) -> tuple[Any, ...]:
    """The rows of both files."""
    if out.suffix == ".npz":
        with np.load(out) as file:
            rows: Any = {name: file[name].tolist() for name in file.files if file[name].ndim}
    else:
        rows = pq.read_table(out).to_pylist()
    return rows, failures(out)


def failures(out: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(f"{out}.failures.parquet").to_pylist())


Edit = Callable[[Path], object]
EDITS: dict[str, tuple[Edit, int, str]] = {  # what happens to the photos, how many are embedded then, what is said
    "nothing": (lambda _: None, 0, "12 of 12 are as they were"),
    "a new photo": (lambda home: save(home / "p01" / "9.png", pattern(1, 9)), 1, "12 of 13 are as they were (1 new)"),
    "a changed photo": (lambda home: save(home / "p02" / "0.png", pattern(2, 9)), 1, "11 of 12 are as they were (1 ch"),
    "a deleted photo": (lambda home: (home / "p02" / "0.png").unlink(), 0, "11 of 11 are as they were (1 gone)"),
    "the first of two equal ones is gone": (lambda home: (home / "p00" / "0.png").unlink(), 0, "11 of 11 are as they"),
    "a bad photo is replaced": (lambda home: save(home / "p01" / "1.png", pattern(1, 1)), 1, "(1 changed)"),
    "a photo goes bad": (lambda home: (home / "p00" / "0.png").write_bytes(b"torn"), 1, "(1 changed)"),
    "a copy of another": (lambda home: shutil.copy(home / "p00" / "1.png", home / "p00" / "0a.png"), 1, "(1 new)"),
    "a moved photo": (lambda home: (home / "p02" / "0.png").rename(home / "p03" / "7.png"), 1, "(1 new, 1 gone)"),
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("name", ["e.parquet", "e.npz"])
def test_only_what_is_new_or_changed_is_embedded(
    edit: str, name: str, photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / name
    assert embedded(photos, out, model).new == 12
    change, new, said = EDITS[edit]
    change(photos)
    before = out.stat().st_ino
    again = embedded(photos, out, model, quiet=False)
    assert again.new == new
    assert said in capsys.readouterr().err
    whole = embedded(photos, tmp_path / f"whole-{name}", model)
    assert contents(out) == contents(tmp_path / f"whole-{name}")
    assert (again.embeddings, again.duplicates, again.failed) == (whole.embeddings, whole.duplicates, whole.failed)
    assert (out.stat().st_ino == before) == (edit == "nothing"), "a file with nothing new stays as it is"


def test_failures_are_named_with_their_reasons(photos: Path, model: Path, tmp_path: Path) -> None:
    for name in ("e.parquet", "e.npz", "f.parquet"):  # three outputs in one folder
        found = embedded(photos, tmp_path / name, model)
        assert found.failures == tmp_path / f"{name}.failures.parquet"
        assert stat.S_IMODE(found.failures.stat().st_mode) == 0o600
        rows = failures(tmp_path / name)
        assert [(row["source"], row["identity"], row["status"]) for row in rows] == [
            ("p01/1.png", "p01", "unreadable"),
            ("p03/2.png", "p03", "duplicate"),
        ]
        assert rows[0]["reason"] == found.failed[0].reason
        assert rows[1]["reason"] == "the same bytes as p00/0.png"


def test_the_exit_code_speaks_of_all_photos_each_time(photos: Path, model: Path, tmp_path: Path) -> None:
    command = ["embed", "--model", str(model), "--detector", "none", str(photos), str(tmp_path / "e.parquet")]
    assert [run(command), run(command)] == [1, 1]
    (photos / "p01" / "1.png").unlink()
    assert [run(command), run(command)] == [0, 0]
    assert [row["status"] for row in failures(tmp_path / "e.parquet")] == ["duplicate"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_photo_that_could_not_be_read_is_tried_again(photos: Path, model: Path, tmp_path: Path) -> None:
    (photos / "p00" / "1.png").chmod(0)
    assert len(embedded(photos, tmp_path / "e.parquet", model).failed) == 2
    assert embedded(photos, tmp_path / "e.parquet", model).new == 1


def test_a_link_that_leads_nowhere_is_tried_again(photos: Path, model: Path, tmp_path: Path) -> None:
    (photos / "p00" / "1.png").rename(tmp_path / "away.png")
    (photos / "p00" / "1.png").symlink_to(tmp_path / "later.png")
    first = embedded(photos, tmp_path / "e.parquet", model)
    (tmp_path / "away.png").rename(tmp_path / "later.png")
    assert embedded(photos, tmp_path / "e.parquet", model).embeddings == first.embeddings + 1


def test_other_settings_embed_everything(
    photos: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "e.parquet"
    embedded(photos, out, model)
    assert embedded(photos, out, write_model(tmp_path / "other.onnx", weights="others"), quiet=False).new == 12
    assert (
        "of another model, of other settings or of an older facekd; everything is embedded" in capsys.readouterr().err
    )
    assert embedded(photos, out, tmp_path / "other.onnx", choose="all").new == 12
    assert embedded(photos, out, tmp_path / "other.onnx", choose="all").new == 0


def test_a_file_of_an_older_facekd_is_read_and_replaced(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.parquet"
    embedded(photos, out, model)
    table = pq.read_table(out)
    old = table.select(["id", "identity", "source", "embedding"])
    metadata = {key: value for key, value in table.schema.metadata.items() if key not in (b"facekd.settings",)}
    pq.write_table(old.replace_schema_metadata(metadata), out)
    assert len(read_embeddings(out).sources) == 10
    assert embedded(photos, out, model).new == 12
    assert pq.read_table(out).equals(table)


@pytest.mark.parametrize("name", ["e.parquet", "e.npz"])
@pytest.mark.parametrize("data", [b"", b"PAR1 and nothing more PAR1", b"PK\x03\x04 torn"])
def test_a_damaged_file_is_made_anew(photos: Path, model: Path, tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert embedded(photos, tmp_path / name, model).new == 12
    assert embedded(photos, tmp_path / name, model).new == 0


def test_a_list_of_failures_that_is_not_its_own_is_not_taken(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.parquet"
    listed = embedded(photos, out, model).failures
    for spoil in (listed.unlink, lambda: listed.write_bytes(b"torn"), lambda: pq.write_table(pa.table({}), listed)):
        wanted = contents(out)
        spoil()
        assert embedded(photos, out, model).new == 2  # the two that it named
        assert contents(out) == wanted


def test_a_run_that_ends_between_its_two_files(
    photos: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "e.parquet"
    embedded(photos, out, model)
    (photos / "p01" / "1.png").unlink()
    (photos / "p02" / "1.png").write_bytes(b"torn")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("facekd.deploy.embeddings.write_embeddings", killed)
        with pytest.raises(KeyboardInterrupt):
            embedded(photos, out, model)
    assert len(read_embeddings(out).sources) == 10, "the old file is there"
    assert [row["source"] for row in failures(out)] == ["p02/1.png", "p03/2.png"], "the list is the new one"
    embedded(photos, out, model)
    embedded(photos, tmp_path / "whole.parquet", model)
    assert contents(out) == contents(tmp_path / "whole.parquet")


def test_a_zip_and_a_store_of_crops(photos: Path, model: Path, tmp_path: Path) -> None:
    archive = tmp_path / "photos.zip"
    for new in (12, 1):
        with zipfile.ZipFile(archive, "w") as file:
            for path in sorted(photos.rglob("*.png")):
                file.write(path, path.relative_to(photos))
        assert embedded(archive, tmp_path / "e.parquet", model).new == new
        save(photos / "p00" / "8.png", pattern(0, 8))
    for number, new in enumerate((11, 1, 0)):  # 12 and the one of above, less a bad one and an equal one
        if number == 1:
            save(photos / "p00" / "9.png", pattern(0, 9))
        align(photos, tmp_path / "crops", detector="none", size=32, quiet=True)
        assert embedded(tmp_path / "crops", tmp_path / "c.parquet", model).new == new
    embedded(tmp_path / "crops", tmp_path / "whole.parquet", model)
    assert contents(tmp_path / "c.parquet") == contents(tmp_path / "whole.parquet")
    assert failures(tmp_path / "c.parquet") == []


def test_parts_without_a_row(tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup: in the second half of the photos there is nothing that was not in the first."""
    monkeypatch.setattr("facekd.ingest.parts.PART", 16)
    write_people(tmp_path / "photos" / "a", 8, 4)
    shutil.copytree(tmp_path / "photos" / "a", tmp_path / "photos" / "b")
    for number in range(20):
        (tmp_path / "photos" / "a" / f"0{number}.png").write_bytes(b"no photo")
    found = embedded(tmp_path / "photos", tmp_path / "e.parquet", model)
    assert (found.embeddings, found.duplicates, len(found.failed)) == (32, 32, 20)
    assert len(read_embeddings(tmp_path / "e.parquet").sources) == 32
    for name in ("none.parquet", "none.npz"):  # and where there is no row at all
        shutil.rmtree(tmp_path / "photos" / "b", ignore_errors=True)
        for folder in (tmp_path / "photos" / "a").glob("p*"):
            shutil.rmtree(folder)
        for new in (20, 0):
            found = embedded(tmp_path / "photos", tmp_path / name, model)
            assert (found.embeddings, found.new, len(found.failed), found.exit_code) == (0, new, 20, 1)
        assert read_embeddings(tmp_path / name).embeddings.vectors.shape == (0, 48)


def test_a_newer_file_is_not_overwritten(photos: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "e.parquet"
    embedded(photos, out, model)
    table = pq.read_table(out)
    pq.write_table(table.replace_schema_metadata({**table.schema.metadata, b"facekd.format": b"9"}), out)
    before = out.read_bytes()
    with pytest.raises(UserError, match="written by a newer facekd"):
        embedded(photos, out, model)
    assert out.read_bytes() == before


STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([None, 0, 1, 2, -1])), max_size=5)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(days=st.lists(STEPS, min_size=2, max_size=4))
def test_however_the_photos_change_the_files_are_as_if_made_at_once(
    days: list[list[tuple[str, int | None]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Each day some photos become another picture, a bad one (-1) or go (None); pictures repeat."""
    home = tmp_path_factory.mktemp("days")
    model = write_model(home / "model.onnx")
    save(home / "photos" / "always.png", pattern(7))
    for day, steps in enumerate(days):
        for name, picture in steps:
            path = home / "photos" / f"{name}.png"
            path.unlink(missing_ok=True)
            if picture is not None:
                path.write_bytes(b"torn") if picture < 0 else save(path, pattern(picture))
        embedded(home / "photos", home / "e.parquet", model)
        embedded(home / "photos", home / f"{day}.parquet", model)
        assert contents(home / "e.parquet") == contents(home / f"{day}.parquet")


def test_a_photo_without_a_face_is_not_looked_at_again(tmp_path: Path) -> None:
    """With the model and the detector that come along."""
    Image.fromarray(np.full((160, 200, 3), 128, np.uint8)).save(tmp_path / "wall.png")
    for new in (1, 0):
        found = embed(tmp_path / "wall.png", tmp_path / "e.parquet", quiet=True)
        assert (found.new, [one.source for one in found.failed]) == (new, ["wall.png"])
