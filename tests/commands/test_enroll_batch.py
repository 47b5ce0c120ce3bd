"""facekd enroll as a nightly job: what changes, what is skipped, what is held back, and what it says."""

from __future__ import annotations

import os
import shutil
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from people import DIM, contents, enrolled, ledger, pattern, save

from facekd.cli import run
from facekd.commands.enroll import enroll
from facekd.commands.identify import identify
from facekd.errors import UserError
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.photos import PhotoTable


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_second_run_embeds_nothing_and_changes_nothing(tmp_path: Path, folder: Path, model: Path) -> None:
    first = enrolled(folder, tmp_path / "g", model)
    assert (first.new, first.embedded, first.exit_code) == (("p00", "p01", "p02", "p03"), 12, 0)
    before = contents(tmp_path / "g")
    again = enrolled(folder, tmp_path / "g", model)
    assert (again.written, again.unchanged, again.embedded, again.exit_code) == (0, 4, 0, 0)
    assert contents(tmp_path / "g") == before
    # Copied elsewhere and back, the files have other times and the same bytes.
    shutil.move(folder, tmp_path / "aside")
    shutil.copytree(tmp_path / "aside", folder, copy_function=shutil.copyfile)
    assert enrolled(folder, tmp_path / "g", model).embedded == 0
    assert contents(tmp_path / "g") == before


def test_without_a_model_a_gallery_goes_on_with_its_own(tmp_path: Path, folder: Path, model: Path) -> None:
    enrolled(folder, tmp_path / "g", model)
    before = contents(tmp_path / "g")
    again = enroll(folder, tmp_path / "g", detector="none", quiet=True)
    assert (again.unchanged, again.embedded) == (4, 0)
    assert contents(tmp_path / "g") == before


def test_one_more_photo_is_one_more_embedding_and_the_template_of_all(
    tmp_path: Path, folder: Path, model: Path
) -> None:
    enrolled(folder, tmp_path / "g", model)
    before = contents(tmp_path / "g")
    save(folder / "p01" / "new.png", pattern(1, 50))
    again = enrolled(folder, tmp_path / "g", model)
    assert (again.changed, again.new, again.unchanged, again.embedded) == (("p01",), (), 3, 1)
    # The same, to the last bit, as if all photos had been there from the beginning.
    enrolled(folder, tmp_path / "whole", model)
    assert contents(tmp_path / "g") == contents(tmp_path / "whole")
    assert {name for name, one in contents(tmp_path / "g").items() if one != before[name]} == {"p01"}


def test_a_changed_photo_is_embedded_anew(tmp_path: Path, folder: Path, model: Path) -> None:
    enrolled(folder, tmp_path / "g", model)
    path = folder / "p01" / "0.png"
    old = path.stat()
    save(path, pattern(1, 77))
    os.utime(path, ns=(old.st_atime_ns, old.st_mtime_ns))  # a tool that keeps the times
    again = enrolled(folder, tmp_path / "g", model)
    assert (again.changed, again.embedded) == (("p01",), 1)
    enrolled(folder, tmp_path / "whole", model)
    assert contents(tmp_path / "g") == contents(tmp_path / "whole")


def test_photos_that_are_gone_count_until_replaced(tmp_path: Path, folder: Path, model: Path) -> None:
    enrolled(folder, tmp_path / "g", model)
    before = contents(tmp_path / "g")
    (folder / "p02" / "1.png").unlink()
    shutil.rmtree(folder / "p03")
    kept = enrolled(folder, tmp_path / "g", model)
    assert (kept.written, kept.unchanged, kept.kept) == (0, 3, 1)
    assert contents(tmp_path / "g") == before
    assert any("--replace drops them" in note for note in kept.notes)
    replaced = enrolled(folder, tmp_path / "g", model, replace=True)
    assert (replaced.changed, replaced.embedded, replaced.kept) == (("p02",), 0, 0)
    enrolled(folder, tmp_path / "whole", model)
    after = contents(tmp_path / "g")
    assert after["p03"] == before["p03"]  # who is not in PEOPLE stays
    del after["p03"]
    assert after == contents(tmp_path / "whole")


def test_a_photo_that_moved_is_not_lost(tmp_path: Path, folder: Path, model: Path) -> None:
    enrolled(folder, tmp_path / "g", model)
    before = contents(tmp_path / "g")["p00"]
    (folder / "p00" / "0.png").rename(folder / "p00" / "z.png")
    assert enrolled(folder, tmp_path / "g", model).statuses == {"ok": 12, "duplicate": 1}
    assert contents(tmp_path / "g")["p00"][0] == before[0]
    replaced = enrolled(folder, tmp_path / "g", model, replace=True)
    assert replaced.statuses == {"ok": 12}
    after = contents(tmp_path / "g")["p00"]
    assert after[0] == before[0]
    assert after[1] == ("p00/1.png", "p00/2.png", "p00/z.png")


def test_a_dry_run_says_what_the_run_will_do_and_writes_nothing(
    tmp_path: Path, folder: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gallery = tmp_path / "g"
    dry = enrolled(folder, gallery, model, dry_run=True)
    assert not gallery.exists()
    wet = enrolled(folder, gallery, model)
    assert (dry.new, dry.statuses, dry.embedded) == (wet.new, wet.statuses, wet.embedded)
    save(folder / "p01" / "new.png", pattern(1, 50))
    save(folder / "p77" / "0.png", pattern(2, 60))  # p02 again
    before = snapshot(gallery)
    dry = enroll(folder, gallery, model=model, detector="none", dry_run=True)
    assert snapshot(gallery) == before
    shown = capsys.readouterr()
    assert "nothing was written (dry run)" in shown.out
    assert "would change:\n  p01\n" in shown.err
    assert "would be held back; --review FILE.html shows them, --accept-suspects writes them:\n  p77\n" in shown.err
    wet = enrolled(folder, gallery, model)
    for name in ("new", "changed", "unchanged", "held_back", "statuses", "embedded", "suspects", "exit_code"):
        assert getattr(dry, name) == getattr(wet, name), name


def test_the_gate_refuses_photos_and_says_why(tmp_path: Path, folder: Path, model: Path) -> None:
    for number in range(3):
        save(folder / "flat" / f"{number}.png", np.full((32, 32, 3), 90 + number, np.uint8))
    found = enrolled(folder, tmp_path / "g", model, min_sharpness=1.0)
    assert (found.not_enrolled, found.statuses, found.exit_code) == (("flat",), {"ok": 12, "low_quality": 3}, 1)
    person, status, reason = ledger(tmp_path / "g")["flat/0.png"]
    assert (person, status, reason) == ("flat", "low_quality", "sharpness 0.0, under 1")
    # Another limit judges the photos again; those that pass now are embedded now.
    less = enrolled(folder, tmp_path / "g", model, min_sharpness=0.0, change=True, accept_suspects=True)
    assert (less.new, less.embedded) == (("flat",), 3)
    all_out = enrolled(folder, tmp_path / "g", model, min_eyes=500.0)
    assert all_out.not_enrolled == ("flat", "p00", "p01", "p02", "p03")
    assert len(contents(tmp_path / "g")) == 5  # earlier templates stay
    for flags in ({"min_score": 1.5}, {"min_eyes": -1.0}, {"max_yaw": float("nan")}):
        with pytest.raises(UserError, match="--m"):
            enrolled(folder, tmp_path / "new", model, **flags)
    assert not (tmp_path / "new").exists()


def test_a_csv_enrolls_with_metadata(tmp_path: Path, folder: Path, model: Path) -> None:
    rows = ["p00,p00/0.png,Basel", "p00,p00/1.png,Basel", "=cmd(),p01/0.png,Bern", "x,../model.onnx,", "y,none.png,"]
    path = tmp_path / "people.csv"
    path.write_text("person,photo,office\n" + "\n".join(rows) + "\n", encoding="utf-8-sig")
    found = enrolled(path, tmp_path / "g", model, root=folder)
    assert (found.new, found.exit_code) == (("=cmd()", "p00"), 1)
    assert found.statuses == {"ok": 3, "outside": 1, "unreadable": 1}
    assert {name: one[2] for name, one in contents(tmp_path / "g").items()} == {
        "=cmd()": {"office": "Bern"},
        "p00": {"office": "Basel"},
    }
    assert ledger(tmp_path / "g")["../model.onnx"][:2] == ("x", "outside")
    # The same photos from the folder leave the metadata; another value in the CSV changes the person.
    assert enrolled(folder, tmp_path / "g2", model).written == 4
    path.write_text("person,photo,office\np00,p00/0.png,Zug\np00,p00/1.png,\n")
    again = enrolled(path, tmp_path / "g", model, root=folder)
    assert (again.changed, again.embedded) == (("p00",), 0)
    assert contents(tmp_path / "g")["p00"][2] == {"office": "Zug"}
    shutil.copytree(folder / "p00", tmp_path / "only" / "p00")
    enrolled(tmp_path / "only", tmp_path / "g", model)
    assert contents(tmp_path / "g")["p00"][2] == {"office": "Zug"}
    (face,) = identify(tmp_path / "g", folder / "p00" / "0.png", where=["office=Zug"], quiet=True).faces
    assert face.person == "p00"
    (face,) = identify(tmp_path / "g", folder / "p00" / "0.png", where=["office=Bern"], quiet=True).faces
    assert face.person is None
    with pytest.raises(UserError, match=r"--root .* is for a CSV"):
        enrolled(folder, tmp_path / "g", model, root=folder)


def test_a_name_that_is_a_formula_is_none_in_a_csv(tmp_path: Path, folder: Path, model: Path) -> None:
    (folder / "p00").rename(folder / "=HYPERLINK(evil)")
    (folder / "p01").rename(folder / "@p01")
    save(folder / "p02" / "-1+1.png", pattern(9))
    enrolled(folder, tmp_path / "g", model, report=tmp_path / "r.csv")
    identify(tmp_path / "g", folder, out=tmp_path / "a.csv", quiet=True)
    for name in ("r.csv", "a.csv"):
        table = pyarrow.csv.read_csv(tmp_path / name)
        texts = [value for column in table.columns for value in column.to_pylist() if isinstance(value, str)]
        assert texts
        assert not [text for text in texts if text[:1] in "=+-@\t\r" and text]
    assert "'=HYPERLINK(evil)" in pyarrow.csv.read_csv(tmp_path / "a.csv")["person"].to_pylist()
    assert "=HYPERLINK(evil)" in contents(tmp_path / "g")  # in the gallery it is what it is


def test_ids_of_any_unicode(tmp_path: Path, model: Path) -> None:
    names = [
        "O'Brien",
        "名前",
        "-rf",
        "a b ",
        "[red]x",
        "x[b]",
        "Anna",
        "anna",
        "ε=μc²",
        "\u202egnp",
        "é\x1b[2J",
    ]
    for number, name in enumerate(names):
        save(tmp_path / "people" / name / "1.png", pattern(number))
    composed = unicodedata.normalize("NFC", "Zoë")
    save(tmp_path / "people" / composed / "1.png", pattern(50, 1))
    save(tmp_path / "people" / unicodedata.normalize("NFD", "Zoë") / "2.png", pattern(50, 2))
    found = enrolled(tmp_path / "people", tmp_path / "g", model)
    assert set(found.new) == {unicodedata.normalize("NFC", name) for name in [*names, composed]}
    assert len(contents(tmp_path / "g")[composed][1]) == 2  # typed on two systems: one person
    assert enrolled(tmp_path / "people", tmp_path / "g", model).unchanged == len(names) + 1


def test_an_erased_person_leaves_no_byte(tmp_path: Path, folder: Path, model: Path) -> None:
    (folder / "p01").rename(folder / "Xaveria")
    save(folder / "Xaveria" / "strange-photo.png", pattern(8))
    save(folder / "Ypsilanti" / "held-back.png", pattern(3, 40))  # p03 again: in no template
    (folder / "Xaveria" / "torn-photo.png").write_bytes(b"no photo")
    gallery = tmp_path / "g"
    enrolled(folder, gallery, model)
    save(folder / "Xaveria" / "later-photo.png", pattern(1, 30))
    enrolled(folder, gallery, model)
    home = GalleryTable.open(gallery)
    rows = [row for row in PhotoTable(home.place, DIM).table.to_arrow().to_pylist() if row["embedding"]]
    vectors = [row["embedding"] for row in rows if row["person_id"] in ("Xaveria", "Ypsilanti")]
    vectors += [home.people(["Xaveria"])["Xaveria"].template.tolist()]
    assert len(vectors) == 7
    needles = [np.array(vector, np.float32).tobytes()[:24] for vector in vectors]
    needles += [b"Xaveria", b"Ypsilanti", b"strange-photo", b"held-back.png", b"torn-photo", b"later-photo"]

    def found() -> list[bytes]:
        data = [path.read_bytes() for path in gallery.rglob("*") if path.is_file()]
        return [needle for needle in needles if any(needle in one for one in data)]

    assert len(found()) >= 10  # the search can find something
    with home.writing():
        assert home.delete_all(["Xaveria", "Ypsilanti"]) == ["Xaveria"]
    assert found() == []
    assert set(contents(gallery)) == {"p00", "p02"}


def test_names_can_not_steer_the_terminal(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        save(tmp_path / f"{number}.png", pattern(1, number))
    (tmp_path / "2\n3.png").write_bytes(b"no photo")
    rows = ["x\x1b[2J,0.png", "y[/z],1.png", "[red]w,2.png", '"x\x1b[2J","2\n3.png"']
    (tmp_path / "people.csv").write_text("person,photo\n" + "\n".join(rows) + "\n")
    enroll(tmp_path / "people.csv", tmp_path / "g", model=model, detector="none")
    shown = capsys.readouterr()
    assert "\x1b[2J" not in shown.out + shown.err
    assert r"2\n3.png: unreadable" in shown.err
    assert r"x\x1b[2J" in shown.err
    assert "y[/z]" in shown.out
    assert "[red]w" in shown.out


def test_private_prints_no_name(tmp_path: Path, folder: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4):
        (folder / f"p{number:02d}").rename(folder / f"Musterfrau{number}")
    save(folder / "Doppelt" / "geheim.png", pattern(3, 40))
    save(folder / "Musterfrau1" / "fremd.png", pattern(30))
    (folder / "Musterfrau0" / "kaputt.png").write_bytes(b"no photo")
    (folder / "Leer").mkdir()
    (folder / "Leer" / "leer.png").write_bytes(b"")
    command = ["enroll", str(folder), str(tmp_path / "g"), "--model", str(model), "--detector", "none", "--private"]
    words = ("Muster", "Doppelt", "geheim", "fremd", "kaputt", "Leer", "leer", ".png")
    for more in (["--dry-run"], [], ["--accept-suspects"]):
        assert run([*command, *more]) == 1
        shown = capsys.readouterr()
        text = shown.out + shown.err
        assert not [word for word in words if word in text], text
        assert "people" in text
    assert "person 2" in text  # Leer, the second in order
    identify(tmp_path / "g", folder, private=True, top=3, out=tmp_path / "a.parquet")
    shown = capsys.readouterr()
    assert not [word for word in words if word in shown.out + shown.err]
    assert "person 1" in shown.out
    assert (
        "Musterfrau0" in pq.read_table(tmp_path / "a.parquet")["person"].to_pylist()
    )  # names where they are asked for
    log = (tmp_path / "g" / "audit.jsonl").read_text()
    assert log.count('"enroll"') == 2
    assert not [word for word in words if word in log]


def test_candidates(tmp_path: Path, folder: Path, model: Path) -> None:
    enrolled(folder, tmp_path / "g", model)
    stranger = save(tmp_path / "who.png", pattern(99))
    (face,) = identify(tmp_path / "g", stranger, quiet=True).faces
    assert (face.person, face.candidates) == (None, ())
    result = identify(tmp_path / "g", stranger, top=3, out=tmp_path / "a.parquet", quiet=True)
    (face,) = result.faces
    assert face.person is None
    scores = [score for _, score in face.candidates]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert face.score == scores[0]
    rows = pq.read_table(tmp_path / "a.parquet").to_pylist()
    assert [(row["rank"], row["candidate"], row["person"]) for row in rows] == [
        (rank, name, None) for rank, (name, _) in enumerate(face.candidates, 1)
    ]
    assert str(result).startswith("who.png: unknown, the nearest score is ")
    with pytest.raises(UserError, match="--top 0"):
        identify(tmp_path / "g", stranger, top=0, quiet=True)
    for wrong in (["office"], ["=x"], ["a=1", "a=2"]):
        with pytest.raises(UserError, match=r"--where .*key=value"):
            identify(tmp_path / "g", stranger, where=wrong, quiet=True)
    with pytest.raises(UserError, match="nobody enrolled has the metadata office=Bern"):
        identify(tmp_path / "g", stranger, where=["office=Bern"], quiet=True)


def test_an_archive_is_read_like_a_folder(tmp_path: Path, folder: Path, model: Path) -> None:
    with zipfile.ZipFile(tmp_path / "people.zip", "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, Path("badges") / path.relative_to(folder))
    assert enrolled(tmp_path / "people.zip", tmp_path / "z", model).embedded == 12
    assert enrolled(tmp_path / "people.zip", tmp_path / "z", model).embedded == 0
    enrolled(folder, tmp_path / "g", model)
    of_zip, of_folder = contents(tmp_path / "z"), contents(tmp_path / "g")
    assert {name: one[0] for name, one in of_zip.items()} == {name: one[0] for name, one in of_folder.items()}
