"""What identify and enroll write for scripts: a row for each photo and face, the same in each kind of file."""

from __future__ import annotations

import csv
import json
import math
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from people import NEAR, enrolled, ledger, pattern, save, write_people

from facekd.api import Embedder, Gallery
from facekd.commands.embed import embed
from facekd.commands.identify import identify
from facekd.enrollment.answers import SCHEMA
from facekd.errors import UserError
from facekd.faces.align import sharpness
from facekd.gallery.gallery import GalleryTable

COLUMNS = [
    "source", "status", "reason", "verdict", "crop_id", "x1", "y1", "x2", "y2", "quality", "person", "candidate",
    "rank", "score", "threshold",
]  # fmt: skip


@pytest.fixture
def gallery(tmp_path: Path, folder: Path, model: Path) -> Path:
    enrolled(folder, tmp_path / "g", model)
    return tmp_path / "g"


@pytest.fixture
def probes(tmp_path: Path) -> Path:
    """Two people enrolled, a stranger, a torn photo and one in which no face can be."""
    folder = tmp_path / "probes"
    save(folder / "a-known.png", pattern(1, 7))
    save(folder / "b-stranger.png", pattern(70))
    (folder / "c-torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    save(folder / "d-small.png", pattern(2)[:10, :10])
    save(folder / "=e,'known.png", pattern(3, 7))
    return folder


def strict(text: str) -> Any:
    """JSON by the letter: no NaN, no name twice."""

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    return json.loads(text, parse_constant=refuse, object_pairs_hook=once)


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, all in the types of the table."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".json":
        return strict(path.read_text(encoding="utf-8"))["rows"]
    rows = []
    with open(path, encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            kept: dict[str, Any] = {}
            for name, value in row.items():
                kind = str(SCHEMA.field(name).type)
                number = int if kind == "int32" else float if kind != "string" else str
                kept[name] = None if value == "" and name != "reason" else number(value)
            rows.append(kept)
    return rows


@pytest.mark.parametrize("kind", [".json", ".csv", ".parquet"])
def test_each_photo_and_face_has_its_row(
    tmp_path: Path, gallery: Path, probes: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"who{kind}"
    result = identify(gallery, probes, threshold=NEAR, out=path)
    assert result.exit_code == 1
    rows = read(path)
    assert [list(row) for row in rows] == [COLUMNS] * 5
    quote = "'" if kind == ".csv" else ""  # before what a spreadsheet would take for a formula
    assert {row["source"]: (row["status"], row["verdict"], row["person"]) for row in rows} == {
        f"{quote}=e,'known.png": ("ok", "known", "p03"),
        "a-known.png": ("ok", "known", "p01"),
        "b-stranger.png": ("ok", "unknown", None),
        "c-torn.png": ("unreadable", "unreadable", None),
        "d-small.png": ("too_small", "too_small", None),
    }
    by = {row["source"]: row for row in rows}
    known = by["a-known.png"]
    assert (known["x1"], known["y1"], known["x2"], known["y2"]) == (0, 0, 32, 32)
    assert known["quality"] == pytest.approx(sharpness(pattern(1, 7)), rel=1e-6)
    assert (known["candidate"], known["rank"], known["reason"]) == ("p01", 1, "")
    assert known["score"] > NEAR == known["threshold"]
    stranger = by["b-stranger.png"]
    assert (stranger["candidate"], stranger["rank"]) == (None, 1)  # who is merely the nearest is nobody's business
    assert -1 <= stranger["score"] < NEAR
    torn = by["c-torn.png"]
    assert torn["reason"]
    assert (torn["rank"], torn["threshold"]) == (1, NEAR)
    assert all(torn[name] is None for name in ("crop_id", "x1", "quality", "person", "candidate", "score"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "2 of 3 faces named" in capsys.readouterr().out
    if kind == ".json":
        document = strict(path.read_text(encoding="utf-8"))
        assert document["model_id"] == GalleryTable.open(gallery).meta.model_id
        assert (document["threshold"], document["command"], document["format"]) == (NEAR, "identify", 1)
    if kind != ".csv":  # which has no types
        assert rows == result.rows().to_pylist()


def test_python_has_the_same_rows(tmp_path: Path, gallery: Path, probes: Path, model: Path) -> None:
    result = identify(gallery, probes, threshold=NEAR, out=tmp_path / "who.json", top=3, quiet=True)
    rows = read(tmp_path / "who.json")
    from_python = Gallery.open(gallery, Embedder.load(model)).identify(probes, threshold=NEAR, top=3)
    assert from_python.rows().to_pylist() == rows
    # Three candidates for each of three faces; those of one face come one after the other, the most alike first.
    assert [row["rank"] for row in rows] == [1, 2, 3] * 3 + [1, 1]
    faces = {face.source: face for face in result.faces}
    assert [face.source for face in result.faces] == list(
        dict.fromkeys(row["source"] for row in rows if row["crop_id"])
    )
    for source, face in faces.items():
        own = [row for row in rows if row["source"] == source]
        assert face.candidates == tuple((row["candidate"], row["score"]) for row in own)
        assert [row["score"] for row in own] == sorted((row["score"] for row in own), reverse=True)
        assert {row["verdict"] for row in own} == {"known" if face.person else "unknown"}
        assert (face.score, face.quality, face.box) == (own[0]["score"], own[0]["quality"], (0, 0, 32, 32))
    assert [photo.source for photo in result.without] == ["c-torn.png", "d-small.png"]


def test_the_answers_to_embeddings_have_no_box_and_no_quality(
    tmp_path: Path, gallery: Path, folder: Path, model: Path
) -> None:
    embed(folder, tmp_path / "e.parquet", model=model, detector="none", quiet=True)
    identify(gallery, tmp_path / "e.parquet", threshold=NEAR, out=tmp_path / "who.json", quiet=True)
    rows = read(tmp_path / "who.json")
    assert [(row["verdict"], row["status"], row["x1"], row["quality"]) for row in rows] == [
        ("known", "ok", None, None)
    ] * 12


def test_of_no_face_at_all_too(tmp_path: Path, gallery: Path) -> None:
    save(tmp_path / "wall.png", np.zeros((8, 8, 3), np.uint8))
    for kind in (".json", ".csv", ".parquet"):
        result = identify(gallery, tmp_path / "wall.png", threshold=NEAR, out=tmp_path / f"who{kind}", quiet=True)
        (row,) = read(tmp_path / f"who{kind}")
        assert (row["source"], row["verdict"]) == ("wall.png", "too_small")
        assert (result.faces, result.exit_code) == ((), 0)


def test_a_file_that_can_not_be_written_is_not_there_in_part(tmp_path: Path, gallery: Path, probes: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="can't be written"):
        identify(gallery, probes, threshold=NEAR, out=tmp_path / "file" / "who.json", quiet=True)
    (tmp_path / "who.json").write_text("before")
    identify(gallery, probes, threshold=NEAR, out=tmp_path / "who.json", quiet=True)
    assert len(read(tmp_path / "who.json")) == 5
    assert [path.name for path in tmp_path.glob(".who*")] == []


@pytest.mark.parametrize("dry_run", [False, True])
def test_what_enroll_writes_for_scripts(tmp_path: Path, folder: Path, model: Path, dry_run: bool) -> None:
    (folder / "p00" / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n torn")
    (folder / "nobody").mkdir()
    save(folder / "p01" / "again.png", pattern(1))
    for photo in range(3):
        save(folder / "twin" / f"{photo}.png", pattern(2, photo + 5))
    how: dict[str, Any] = {"json": tmp_path / "done.json", "threshold": NEAR, "suspect_threshold": NEAR}
    summary = enrolled(folder, tmp_path / "g", model, dry_run=dry_run, **how)
    text = (tmp_path / "done.json").read_text(encoding="utf-8")
    document = strict(text)
    assert stat.S_IMODE((tmp_path / "done.json").stat().st_mode) == 0o600
    assert {name: document[name] for name in ("command", "threshold", "exit_code", "dry_run", "enrolled")} == {
        "command": "enroll",
        "threshold": NEAR,
        "exit_code": 1,
        "dry_run": dry_run,
        "enrolled": 0 if dry_run else 3,
    }
    assert document["new"] == list(summary.new) == ["p00", "p01", "p03"]
    assert (document["held_back"], document["not_enrolled"]) == (["p02", "twin"], ["nobody"])
    assert [(one["kind"], one["person"], one["other"]) for one in document["suspects"]] == [("two_ids", "p02", "twin")]
    rows = {row["source"]: row for row in document["rows"]}
    assert len(rows) == len(document["rows"]) == sum(document["statuses"].values())
    assert {row["verdict"] for row in document["rows"] if row["person"] in ("p02", "twin")} == {"held_back"}
    assert (rows["p00/0.png"]["verdict"], rows["p00/torn.png"]["verdict"]) == ("enrolled", "unreadable")
    assert (rows["nobody"]["verdict"], rows["p01/again.png"]["verdict"]) == ("no_photo", "duplicate")
    assert rows["p00/0.png"]["quality"] == pytest.approx(sharpness(pattern(0)), rel=1e-6)
    assert rows["p00/torn.png"]["quality"] is None
    assert all(math.isfinite(row["quality"]) for row in document["rows"] if row["verdict"] == "enrolled")
    if not dry_run:
        kept = ledger(tmp_path / "g")
        assert {row["source"]: (row["person"], row["status"], row["reason"]) for row in document["rows"]} == kept


def test_many_photos_are_written_as_they_are_looked_up(tmp_path: Path, model: Path) -> None:
    """More than are looked up together, of many people and of one."""
    from facekd.enrollment import answers

    folder = write_people(tmp_path / "many", people=9, photos=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answers, "TOGETHER", 7)
        enrolled(folder, tmp_path / "g", model, json=tmp_path / "done.json", accept_suspects=True)
    rows = read(tmp_path / "done.json")
    assert [row["source"] for row in rows] == sorted(f"p{n:02d}/{m}.png" for n in range(9) for m in range(5))
    for row in rows:
        number, photo = int(row["person"][1:]), int(row["source"][4:-4])
        assert row["quality"] == pytest.approx(sharpness(pattern(number, photo)), rel=1e-6)
