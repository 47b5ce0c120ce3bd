"""facekd gallery rename, merge and purge, and enroll --missing and --keep-until: people change, leave and expire."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from people import NEAR, contents, enrolled, ledger, pattern, save, write_model, write_people

import facekd
from facekd.cli import run
from facekd.commands.gallery import export, import_
from facekd.errors import UserError
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.meta import read_meta

rename, merge, purge = facekd.gallery_rename, facekd.gallery_merge, facekd.gallery_purge


def holds(gallery: Path, text: str) -> list[str]:
    """Files of the gallery in which a text stands."""
    return [path.name for path in sorted(gallery.rglob("*")) if path.is_file() and text.encode() in path.read_bytes()]


def test_a_person_gets_another_id(tmp_path: Path, model: Path) -> None:
    people = write_people(tmp_path / "people", 3)
    (people / "p01").rename(people / "oldname")
    gallery = tmp_path / "g"
    enrolled(people, gallery, model)
    before = contents(gallery)
    rename(str(gallery), "oldname", "newname", quiet=True)
    after = contents(gallery)
    assert sorted(after) == ["newname", "p00", "p02"]
    template, sources, metadata = before["oldname"]
    assert after["newname"] == (template, tuple(one.replace("oldname", "newname") for one in sources), metadata)
    assert ledger(gallery)["newname/0.png"][0] == "newname"
    assert holds(gallery, "oldname") == []
    # The folder follows; its photos are known already.
    (people / "oldname").rename(people / "newname")
    again = enrolled(people, gallery, model)
    assert (again.embedded, again.unchanged, again.exit_code) == (0, 3, 0)
    for wrong in (("nobody", "x"), ("p00", "p02"), ("p00", "p00"), ("p00", "")):
        with pytest.raises(UserError, match=r"nobody called nobody|enrolled already|another one"):
            rename(str(gallery), *wrong, quiet=True)
    assert contents(gallery) == after


def test_a_rename_that_was_cut_off_is_ended_by_the_same_call(tmp_path: Path, model: Path, monkeypatch: Any) -> None:
    gallery = tmp_path / "g"
    enrolled(write_people(tmp_path / "people", 3), gallery, model)

    def cut(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(GalleryTable, "delete_all", cut)
        with pytest.raises(KeyboardInterrupt):
            rename(str(gallery), "p01", "anna", quiet=True)
    assert sorted(contents(gallery)) == ["anna", "p00", "p01", "p02"]
    rename(str(gallery), "p01", "anna", quiet=True)
    assert sorted(contents(gallery)) == ["anna", "p00", "p02"]


def test_two_ids_become_one_person(tmp_path: Path, model: Path) -> None:
    people = write_people(tmp_path / "people", 3)
    (people / "twin").mkdir()
    (people / "p01" / "2.png").rename(people / "twin" / "9.png")
    gallery, whole = tmp_path / "g", tmp_path / "whole"
    enrolled(people, gallery, model, accept_suspects=True)
    merge(str(gallery), "p01", "twin", quiet=True)
    assert sorted(contents(gallery)) == ["p00", "p01", "p02"]
    assert contents(gallery)["p01"][1] == ("p01/0.png", "p01/1.png", "twin/9.png")
    # The folders may stay as they are.
    later = enrolled(people, gallery, model)
    assert (later.held_back, later.suspects, later.unchanged, later.exit_code) == ((), (), 3, 0)
    # As if the photos had lain in one folder from the start, to the last bit.
    (people / "twin" / "9.png").rename(people / "p01" / "2.png")
    (people / "twin").rmdir()
    enrolled(people, whole, model)
    assert contents(gallery)["p01"][0] == contents(whole)["p01"][0]
    assert ledger(gallery)["twin/9.png"][0] == "p01"
    with pytest.raises(UserError, match="nobody called twin"):
        merge(str(gallery), "p01", "twin", quiet=True)
    with pytest.raises(UserError, match="twice: give two ids"):
        merge(str(gallery), "p01", "p01", quiet=True)


def test_a_strangers_photo_stays_out_of_merged_people(tmp_path: Path, model: Path) -> None:
    people = write_people(tmp_path / "people", 3)
    (people / "twin").mkdir()
    (people / "p01" / "2.png").rename(people / "twin" / "9.png")
    gallery, clean = tmp_path / "g", tmp_path / "clean"
    enrolled(people, clean, model, suspect_threshold=1.0, accept_suspects=True)
    merge(str(clean), "p01", "twin", quiet=True)
    enrolled(people, gallery, model, accept_suspects=True)
    save(people / "p01" / "stray.png", pattern(2, 40))
    assert [one.source for one in enrolled(people, gallery, model).suspects] == ["p01/stray.png"]
    merge(str(gallery), "p01", "twin", quiet=True)
    assert contents(gallery)["p01"] == contents(clean)["p01"]
    assert "p01/stray.png" not in contents(gallery)["p01"][1]


def test_imported_people_become_one_by_their_numbers_of_photos(tmp_path: Path, model: Path) -> None:
    enrolled(write_people(tmp_path / "people", 2, 3), tmp_path / "g", model)
    export(str(tmp_path / "g"), tmp_path / "t.parquet", quiet=True)
    import_(str(tmp_path / "h"), tmp_path / "t.parquet", quiet=True)
    both = [person for lot in GalleryTable.open(tmp_path / "h").everyone() for person in lot]
    merge(str(tmp_path / "h"), "p00", "p01", quiet=True)
    (template, sources, _) = contents(tmp_path / "h")["p00"]
    mean = sum(person.template.astype(float) for person in both)
    assert np.allclose(np.frombuffer(template, np.float32), mean / np.linalg.norm(mean), atol=1e-6)
    assert len(sources) == 6


def test_people_who_left_the_source(tmp_path: Path, folder: Path, model: Path, capsys: Any) -> None:
    gallery = tmp_path / "g"
    enrolled(folder, gallery, model)
    for photo in (folder / "p01").iterdir():
        photo.unlink()
    (folder / "p01").rmdir()
    kept = enrolled(folder, gallery, model, missing="keep")
    assert (kept.missing, kept.exit_code) == ((), 0)
    listed = enrolled(folder, gallery, model, quiet=False)
    assert (listed.missing, listed.erased, listed.exit_code) == (("p01",), False, 0)
    said = capsys.readouterr().err
    assert "enrolled, and not in PEOPLE (they stay)" in said
    assert "p01" in said
    assert sorted(contents(gallery)) == ["p00", "p01", "p02", "p03"]
    assert enrolled(folder, gallery, model, missing="delete", dry_run=True).missing == ("p01",)
    assert len(contents(gallery)) == 4
    gone = enrolled(folder, gallery, model, missing="delete")
    assert (gone.missing, gone.erased) == (("p01",), True)
    assert any("1 person was erased, not being in PEOPLE; receipt" in note for note in gone.notes)
    assert sorted(contents(gallery)) == ["p00", "p02", "p03"]
    assert holds(gallery, "p01") == []


def test_whom_a_program_gave_was_never_in_people(tmp_path: Path, folder: Path, model: Path) -> None:
    gallery, held = tmp_path / "g", facekd.Gallery.open(str(tmp_path / "g"), facekd.Embedder.load(str(model)))
    enrolled(folder, gallery, model)
    held.enroll({"visitor": [pattern(21, 0), pattern(21, 1)]})
    held.enroll({"p02": [pattern(2, 7)], "by-path": [save(tmp_path / "aside" / "0.png", pattern(22, 0))]})
    for photo in (folder / "p01").iterdir():
        photo.unlink()
    (folder / "p01").rmdir()
    for dry_run in (True, False):
        found = enrolled(folder, gallery, model, missing="delete", dry_run=dry_run)
        assert found.missing == ("by-path", "p01")
    assert sorted(contents(gallery)) == ["p00", "p02", "p03", "visitor"]


def test_most_of_a_gallery_is_not_erased_because_a_folder_is_not_there(tmp_path: Path, model: Path) -> None:
    gallery = tmp_path / "g"
    enrolled(write_people(tmp_path / "all", 9, 1), gallery, model)
    before = contents(gallery)
    with pytest.raises(UserError, match=r"--missing delete: 5 of 9 enrolled people are not in PEOPLE; is all of it"):
        enrolled(write_people(tmp_path / "some", 4, 1), gallery, model, missing="delete")
    assert contents(gallery) == before


def test_a_small_gallery_is_not_erased_whole_because_people_are_others(tmp_path: Path, model: Path) -> None:
    gallery = tmp_path / "g"
    enrolled(write_people(tmp_path / "all", 2, 1), gallery, model)
    before = contents(gallery)
    save(tmp_path / "others" / "new" / "0.png", pattern(30, 0))
    with pytest.raises(UserError, match=r"--missing delete: 2 of 2 enrolled people are not in PEOPLE; is all of it"):
        enrolled(tmp_path / "others", gallery, model, missing="delete")
    assert contents(gallery) == before


def test_a_csv_without_days_takes_nobodys_day_away(tmp_path: Path, folder: Path, model: Path) -> None:
    gallery, listed = tmp_path / "g", tmp_path / "people.csv"

    def days(text: str, keep_until: str | None = None) -> dict[str, str | None]:
        listed.write_text(text)
        enrolled(listed, gallery, model, root=folder, keep_until=keep_until)
        return {person: one[2].get("keep_until") for person, one in contents(gallery).items()}

    rows = "person,photo,office\np00,p00/0.png,Basel\np01,p01/0.png,Bern\n"
    assert days(rows, "2999-01-01") == {"p00": "2999-01-01", "p01": "2999-01-01"}
    assert days(rows) == {"p00": "2999-01-01", "p01": "2999-01-01"}
    assert contents(gallery)["p00"][2]["office"] == "Basel"
    assert days(rows, "2999-02-02") == {"p00": "2999-02-02", "p01": "2999-02-02"}  # another day replaces it
    with_days = "person,photo,keep_until\np00,p00/0.png,2999-03-03\np01,p01/0.png,\n"
    assert days(with_days) == {"p00": "2999-03-03", "p01": None}  # its empty cell says: no day


def test_people_are_kept_until_a_day(tmp_path: Path, folder: Path, model: Path, capsys: Any) -> None:
    gallery = tmp_path / "g"
    today = datetime.datetime.now(datetime.UTC).date()
    yesterday, tomorrow = (str(today + datetime.timedelta(days=days)) for days in (-1, 1))
    enrolled(folder, gallery, model, keep_until=tomorrow)
    assert {one[2]["keep_until"] for one in contents(gallery).values()} == {tomorrow}
    enrolled(folder, gallery, model)  # without the flag it stays
    assert {one[2]["keep_until"] for one in contents(gallery).values()} == {tomorrow}
    listed = tmp_path / "people.csv"
    listed.write_text(f"person,photo,keep_until\np00,p00/0.png,{yesterday}\np01,p01/0.png,{today}\n")
    enrolled(listed, gallery, model, root=folder, keep_until=tomorrow)
    assert contents(gallery)["p00"][2]["keep_until"] == yesterday
    save(folder / "p03" / "0.png", pattern(20, 0))  # held back that night: the day is set all the same
    save(folder / "p03" / "1.png", pattern(20, 1))
    held = enrolled(folder, gallery, model, keep_until="2999-01-01")
    assert held.held_back == ("p03",)
    assert contents(gallery)["p03"][2]["keep_until"] == "2999-01-01"
    enrolled(listed, gallery, model, root=folder, keep_until=tomorrow)
    assert purge(str(gallery), dry_run=True, quiet=True).people == ("p00",)
    assert "p00" in contents(gallery)
    capsys.readouterr()
    facekd.gallery_info(str(gallery))
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"4 people have a last day, the first {yesterday}; 1 day is over: 'facekd gallery purge'" in told
    found = purge(str(gallery), quiet=True)
    assert found.people == ("p00",)
    assert found.receipt is not None
    assert len(found.receipt) == 32
    assert holds(gallery, "p00") == []
    assert sorted(contents(gallery)) == ["p01", "p02", "p03"]
    assert purge(str(gallery), quiet=True).receipt is None
    with pytest.raises(UserError, match="--keep-until 'soon': no date; write it as 2027-01-31"):
        enrolled(folder, gallery, model, keep_until="soon")
    listed.write_text("person,photo,keep_until\np01,p01/0.png,31.1.2027\n")
    with pytest.raises(UserError, match=r"keep_until of p01 '31\.1\.2027': no date"):
        enrolled(listed, gallery, model, root=folder)


def test_from_the_shell(tmp_path: Path, model: Path) -> None:
    gallery = str(tmp_path / "g")
    people = write_people(tmp_path / "people", 2)
    save(people / "p02" / "0.png", pattern(1, 40))
    enrolled(people, tmp_path / "g", model, accept_suspects=True)
    assert run(["gallery", "rename", gallery, "p00", "--", "-anna"]) == 0
    assert run(["gallery", "merge", gallery, "p01", "p02"]) == 0
    assert run(["gallery", "purge", gallery]) == 0
    assert sorted(contents(tmp_path / "g")) == ["-anna", "p01"]
    assert run(["gallery", "rename", gallery, "nobody", "somebody"]) == 2
    assert write_model(tmp_path / "m.onnx", {1e-3: NEAR}).exists()
    assert read_meta(tmp_path / "g").own is None
