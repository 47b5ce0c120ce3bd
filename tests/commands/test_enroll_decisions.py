"""facekd enroll --review and --decisions: what is asked, what each answer does, and that nothing is asked twice."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from people import contents, enrolled, ledger, pattern, save, write_people
from reviewed import cases, decide, saved

from facekd.cli import run
from facekd.commands.gallery import delete
from facekd.commands.gallery_people import rename
from facekd.enrollment.report import EnrollSummary
from facekd.errors import UserError
from facekd.gallery import audit
from facekd.gallery.decisions import Decisions
from facekd.gallery.gallery import GalleryTable
from facekd.gallery.meta import read_meta, write_meta
from facekd.gallery.place import Place


def asked(people: Path, gallery: Path, model: Path, **more: Any) -> tuple[EnrollSummary, list[dict[str, str]]]:
    """An enrollment with a page, and its cases."""
    page = gallery.with_name("review.html")
    return enrolled(people, gallery, model, review=page, **more), cases(page)


def decided(people: Path, gallery: Path, model: Path, file: Path, **more: Any) -> EnrollSummary:
    return enrolled(people, gallery, model, decisions=file, **more)


def state(gallery: Path) -> tuple[Any, ...]:
    return contents(gallery), ledger(gallery), GalleryTable.open(gallery).decisions()


def test_two_ids_that_are_two_people(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "twin" / "0.png", pattern(3, 40))
    first, rows = asked(folder, tmp_path / "g", model)
    assert (first.held_back, [(row["kind"], row["person"], row["other"]) for row in rows]) == (
        ("p03", "twin"),
        [("two_ids", "p03", "twin")],
    )
    file = decide(tmp_path / "review.html", tmp_path / "d.csv", p03="different")
    found = decided(folder, tmp_path / "g", model, file)
    assert (found.new, found.held_back, found.suspects, found.exit_code) == (("p03", "twin"), (), (), 0)
    assert "1 decision taken, 0 taken before, 0 passed over" in found.notes
    before = state(tmp_path / "g")
    again = decided(folder, tmp_path / "g", model, file)
    assert "0 decisions taken, 1 taken before, 0 passed over" in again.notes
    assert (again.written, state(tmp_path / "g")) == (0, before)
    # Not asked again, though both change and though the limit is another.
    save(folder / "twin" / "1.png", pattern(3, 41))
    save(folder / "p03" / "7.png", pattern(3, 42))
    later, rows = asked(folder, tmp_path / "g", model, suspect_threshold=0.85)
    assert (later.changed, later.held_back, rows) == (("p03", "twin"), (), [])


def test_two_ids_that_are_one_person(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "twin" / "0.png", pattern(3, 40))
    asked(folder, tmp_path / "g", model)
    file = decide(tmp_path / "review.html", tmp_path / "d.csv", p03="same")
    found = decided(folder, tmp_path / "g", model, file)
    assert (found.new, found.suspects, found.exit_code, found.embedded) == (("p03",), (), 0, 0)
    assert any(note.startswith("twin is p03, as was decided") and "erased" not in note for note in found.notes)
    assert contents(tmp_path / "g")["p03"][1] == ("p03/0.png", "p03/1.png", "p03/2.png", "twin/0.png")
    assert ledger(tmp_path / "g")["twin/0.png"][:2] == ("p03", "ok")
    # The same template as if all photos had lain in one folder.
    shutil.copytree(folder, tmp_path / "whole")
    shutil.move(tmp_path / "whole" / "twin" / "0.png", tmp_path / "whole" / "p03" / "9.png")
    enrolled(tmp_path / "whole", tmp_path / "h", model)
    assert contents(tmp_path / "g")["p03"][0] == contents(tmp_path / "h")["p03"][0]
    before = state(tmp_path / "g")
    again = decided(folder, tmp_path / "g", model, file)
    assert (again.written, again.embedded, state(tmp_path / "g")) == (0, 0, before)
    # New photos of the alias count for the one who stayed.
    save(folder / "twin" / "1.png", pattern(3, 41))
    assert enrolled(folder, tmp_path / "g", model).changed == ("p03",)
    assert "twin" not in contents(tmp_path / "g")


@pytest.mark.parametrize(("name", "stays", "goes"), [("zaveria", "p02", "zaveria"), ("Xaveria", "Xaveria", "p02")])
def test_an_alias_that_was_enrolled_is_erased(
    tmp_path: Path, folder: Path, model: Path, name: str, stays: str, goes: str
) -> None:
    enrolled(folder, tmp_path / "g", model)
    only = write_people(tmp_path / "only", 1, 1, first=50)
    (only / "p50").rename(only / name)
    enrolled(only, tmp_path / "g", model)
    (only / name / "0.png").unlink()
    for photo in range(9):  # now she looks like p02
        save(only / name / f"new-{photo}.png", pattern(2, 60 + photo))
    _, rows = asked(only, tmp_path / "g", model)
    assert {row["kind"] for row in rows} == {"two_ids", "changed"}
    file = decide(tmp_path / "review.html", tmp_path / "d.csv", **{name: "same"})
    dry = decided(only, tmp_path / "g", model, file, dry_run=True)
    found = decided(only, tmp_path / "g", model, file)
    assert (dry.changed, dry.suspects, dry.statuses) == (found.changed, found.suspects, found.statuses)
    assert (found.changed, found.suspects) == ((stays,), ())
    (note,) = (note for note in found.notes if " is " in note and "as was decided" in note)
    assert note.startswith(f"{goes} is {stays}, as was decided")
    assert note.endswith("what was enrolled of it is erased")
    assert len(contents(tmp_path / "g")[stays][1]) == 3 + 9
    assert set(contents(tmp_path / "g")) == {"p00", "p01", "p03", stays}
    assert goes not in {row["person"] for row in GalleryTable.open(tmp_path / "g").ledger().to_pylist()}
    again = decided(only, tmp_path / "g", model, file)
    assert (again.written, again.exit_code) == (0, 0)


def test_the_photos_of_an_id_are_wrong(tmp_path: Path, folder: Path, model: Path) -> None:
    enrolled(folder, tmp_path / "g", model)
    before = contents(tmp_path / "g")
    save(folder / "twin" / "0.png", pattern(3, 40))
    found, rows = asked(folder, tmp_path / "g", model)
    assert found.held_back == ("twin",)
    file = decide(tmp_path / "review.html", tmp_path / "d.csv", twin="wrong")
    found = decided(folder, tmp_path / "g", model, file)
    assert (found.left_out, found.not_enrolled, found.suspects, found.exit_code) == (("twin",), (), (), 0)
    assert found.statuses == {"ok": 12, "excluded": 1}
    assert contents(tmp_path / "g") == before
    # By its bytes: under another name it is not asked about either, and other bytes are.
    (folder / "twin" / "0.png").rename(folder / "twin" / "z.png")
    again, rows = asked(folder, tmp_path / "g", model)
    assert (again.left_out, again.exit_code, rows) == (("twin",), 0, [])
    third = enrolled(folder, tmp_path / "g", model, min_face=24, change=True)  # other settings: still not embedded
    assert third.statuses["excluded"] == 1
    save(folder / "twin" / "z.png", pattern(3, 41))
    anew, rows = asked(folder, tmp_path / "g", model)
    assert (anew.held_back, len(rows)) == (("twin",), 1)


def test_wrong_photos_of_who_was_enrolled_leave_the_photos_of_before(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "p01" / "profile.png", pattern(1, 9))
    enrolled(folder, tmp_path / "g", model)
    before = contents(tmp_path / "g")
    for photo in range(9):  # so many that the good ones look odd: p01 looks like p02
        save(folder / "p01" / f"new-{photo}.png", pattern(2, 60 + photo))
    _, rows = asked(folder, tmp_path / "g", model)
    kinds = [row["kind"] for row in rows]
    assert sorted(kinds) == ["changed", "two_ids", *["two_people"] * 4]
    file = saved([{**row, "choice": "wrong"} for row in rows if row["kind"] == "two_ids"], tmp_path / "d.csv")
    found = decided(folder, tmp_path / "g", model, file)
    assert (found.suspects, found.unchanged, found.exit_code) == ((), 4, 0)
    assert found.statuses == {"ok": 13, "excluded": 9}
    assert contents(tmp_path / "g") == before


def test_one_of_two_new_ids_has_the_wrong_photo(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "twin" / "0.png", pattern(3, 40))
    for name, new in {"wrong_person": ("twin",), "wrong_other": ("p03",), "wrong": ()}.items():
        gallery = tmp_path / name / "g"
        asked(folder, gallery, model)
        file = decide(gallery.with_name("review.html"), gallery.with_name("d.csv"), p03=name)
        found = decided(folder, gallery, model, file)
        assert (found.new, found.suspects, found.exit_code) == (new, (), 0)
        assert set(found.left_out) == {"p03", "twin"} - set(new)


def test_a_photo_that_is_another_person_or_is_not(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "p01" / "stray.png", pattern(2, 40))
    save(folder / "p02" / "disguise.png", pattern(30, 1))
    found, rows = asked(folder, tmp_path / "g", model)
    assert [(row["kind"], row["person"], row["photo"]) for row in rows] == [
        ("two_people", "p01", "p01/stray.png"),
        ("two_people", "p02", "p02/disguise.png"),
    ]
    file = decide(tmp_path / "review.html", tmp_path / "d.csv", p01="different", p02="same")
    found = decided(folder, tmp_path / "g", model, file)
    assert (found.suspects, found.failed, found.exit_code) == ((), (), 0)
    assert found.statuses == {"ok": 13, "excluded": 1}
    assert "p02/disguise.png" in contents(tmp_path / "g")["p02"][1]
    assert ledger(tmp_path / "g")["p01/stray.png"][1] == "excluded"
    night = enrolled(folder, tmp_path / "g", model)
    assert (night.written, night.embedded, night.suspects, night.exit_code) == (0, 0, (), 0)
    # Embedded anew, because faces are looked for otherwise, both stay as they were decided.
    anew = enrolled(folder, tmp_path / "g", model, min_face=24, change=True)
    assert (anew.embedded, anew.suspects, anew.statuses) == (13, (), {"ok": 13, "excluded": 1})
    save(folder / "p01" / "stray.png", pattern(5, 1))
    assert [one.source for one in enrolled(folder, tmp_path / "g", model).suspects] == ["p01/stray.png"]


def test_a_person_whose_photos_are_of_two(tmp_path: Path, folder: Path, model: Path) -> None:
    for photo in (3, 4, 5):
        save(folder / "p03" / f"{photo}.png", pattern(20, photo))
    found, rows = asked(folder, tmp_path / "g", model)
    assert (found.held_back, len(rows)) == (("p03",), 3)
    file = decide(tmp_path / "review.html", tmp_path / "d.csv", p03="wrong")
    found = decided(folder, tmp_path / "g", model, file)
    assert (found.new, found.exit_code, found.statuses) == (("p03",), 0, {"ok": 12, "excluded": 3})


@pytest.mark.parametrize("choice", ["same", "different", "wrong"])
def test_another_person_than_before(tmp_path: Path, folder: Path, model: Path, choice: str) -> None:
    enrolled(folder, tmp_path / "g", model)
    before = contents(tmp_path / "g")
    for photo in range(3):
        (folder / "p01" / f"{photo}.png").unlink()
        save(folder / "p01" / f"new-{photo}.png", pattern(20, photo))
    for photo in range(3, 9):
        save(folder / "p01" / f"new-{photo}.png", pattern(20, photo))
    found, rows = asked(folder, tmp_path / "g", model)
    # The three old photos do not match the nine: they went for a reason, so that only the new ones are left.
    assert [(row["kind"], row["person"]) for row in rows] == [("changed", "p01")]
    file = decide(tmp_path / "review.html", tmp_path / "d.csv", p01=choice)
    found = decided(folder, tmp_path / "g", model, file)
    assert (found.suspects, found.exit_code) == ((), 0)
    after = contents(tmp_path / "g")
    if choice == "wrong":
        assert found.left_out == ("p01",)
        assert after == before
    else:
        assert found.changed == ("p01",)
        assert len(after["p01"][1]) == 9
    same = state(tmp_path / "g")
    again = decided(folder, tmp_path / "g", model, file)
    assert (again.written, again.exit_code, state(tmp_path / "g")) == (0, 0, same)


def test_somebody_else_has_the_id_now(tmp_path: Path, folder: Path, model: Path) -> None:
    """Earlier photos that still match half of the new ones would keep counting: they are forgotten."""
    enrolled(folder, tmp_path / "g", model)
    old = contents(tmp_path / "g")["p01"]
    for photo in range(3):
        save(folder / "p01" / f"{photo}.png", pattern(20, photo))
    asked(folder, tmp_path / "g", model, replace=True)
    decided(folder, tmp_path / "g", model, decide(tmp_path / "review.html", tmp_path / "d.csv", p01="different"))
    new = contents(tmp_path / "g")["p01"]
    assert new[0] != old[0]
    write_people(tmp_path / "fresh", 1, 3, first=20)
    (tmp_path / "fresh" / "p20").rename(tmp_path / "fresh" / "p01")
    enrolled(tmp_path / "fresh", tmp_path / "h", model)
    assert contents(tmp_path / "h")["p01"] == new


def test_three_ids_of_one_person(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "anna" / "0.png", pattern(3, 40))
    save(folder / "zoe" / "0.png", pattern(3, 41))
    _, rows = asked(folder, tmp_path / "g", model)
    assert len(rows) == 3
    chain = [{**row, "choice": "same"} for row in rows[:2]]
    found = decided(folder, tmp_path / "g", model, saved(chain, tmp_path / "d.csv"))
    assert found.new == ("anna",)  # the first in order: nobody of them was enrolled
    assert found.exit_code == 0
    assert len(contents(tmp_path / "g")["anna"][1]) == 5
    home = GalleryTable.open(tmp_path / "g")
    assert home.decisions().aliases() == {"p03": "anna", "zoe": "anna"}
    assert home.decisions().merging() == []
    again = decided(folder, tmp_path / "g", model, tmp_path / "d.csv")
    assert (again.written, again.exit_code) == (0, 0)


def test_answers_that_contradict_each_other_are_refused(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "anna" / "0.png", pattern(3, 40))
    save(folder / "zoe" / "0.png", pattern(3, 41))
    _, rows = asked(folder, tmp_path / "g", model)
    before = state(tmp_path / "g")
    twice = [{**row, "choice": choice} for row in rows[:1] for choice in ("same", "different")]
    with pytest.raises(UserError, match="rows 2 and 3 choose 'same' and 'different' of the same case"):
        decided(folder, tmp_path / "g", model, saved(twice, tmp_path / "d.csv"))
    circle = [{**row, "choice": choice} for row, choice in zip(rows, ("same", "same", "different"), strict=True)]
    with pytest.raises(UserError, match="row 4 says of two ids that they are different people, and rows 2 and 3 make"):
        decided(folder, tmp_path / "g", model, saved(circle, tmp_path / "d.csv"))
    assert state(tmp_path / "g") == before
    decided(folder, tmp_path / "g", model, saved(circle[2:], tmp_path / "d.csv"))
    with pytest.raises(UserError, match="rows 2 and 3 make one person of two ids of which it was decided before"):
        decided(folder, tmp_path / "g", model, saved(circle[:2], tmp_path / "d.csv"))


def test_rows_that_no_longer_fit_are_told_of_and_passed_over(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "twin" / "0.png", pattern(3, 40))
    save(folder / "p01" / "stray.png", pattern(30, 1))
    _, rows = asked(folder, tmp_path / "g", model)
    choices = {"two_ids": "wrong_other", "two_people": "wrong"}
    file = saved([{**row, "choice": choices[row["kind"]]} for row in rows], tmp_path / "d.csv")
    save(folder / "twin" / "1.png", pattern(3, 41))  # nobody has looked at it
    (folder / "p01" / "stray.png").unlink()
    found = decided(folder, tmp_path / "g", model, file)
    assert "0 decisions taken, 0 taken before, 2 passed over" in found.notes
    told = sorted(note for note in found.notes if note.startswith("row "))
    assert told == [
        "row 2 of the decisions is passed over: its photos have changed since the page was written",
        "row 3 of the decisions is passed over: nothing of it is suspected any more",
    ]
    assert found.held_back == ("p03", "twin")
    assert GalleryTable.open(tmp_path / "g").decisions() == Decisions()
    # Of the ids it holds whatever the photos are.
    file = saved([{**rows[0], "choice": "different"}], tmp_path / "d.csv")
    assert decided(folder, tmp_path / "g", model, file).held_back == ()
    other = saved([{**rows[0], "choice": "same"}], tmp_path / "d.csv")
    assert (
        "row 2 of the decisions is passed over: it was decided otherwise before"
        in decided(folder, tmp_path / "g", model, other).notes
    )


def test_a_file_of_another_gallery_is_refused_before_anything_is_done(
    tmp_path: Path, folder: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(folder / "twin" / "0.png", pattern(3, 40))
    asked(folder, tmp_path / "g", model)
    file = decide(tmp_path / "review.html", tmp_path / "d.csv", p03="same")
    command = ["enroll", str(folder), str(tmp_path / "other"), "--model", str(model), "--detector", "none"]
    assert run([*command, "--decisions", str(file)]) == 2
    assert "d.csv: row 2 is of another gallery" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    enrolled(folder, tmp_path / "other", model)
    assert run([*command, "--decisions", str(file)]) == 2
    assert GalleryTable.open(tmp_path / "other").decisions() == Decisions()


def test_a_dry_run_says_what_decisions_would_do_and_writes_nothing(tmp_path: Path, folder: Path, model: Path) -> None:
    enrolled(folder, tmp_path / "g", model)
    save(folder / "twin" / "0.png", pattern(3, 40))
    save(folder / "p01" / "stray.png", pattern(30, 1))
    with pytest.raises(UserError, match=r"--review .* a dry run begins no gallery"):
        enrolled(folder, tmp_path / "new", model, review=tmp_path / "r.html", dry_run=True)
    page = tmp_path / "dry" / "review.html"
    enrolled(folder, tmp_path / "g", model, review=page, dry_run=True)
    _, rows = asked(folder, tmp_path / "g", model)
    assert cases(page) == rows
    choices = {"two_ids": "same", "two_people": "wrong"}
    file = saved([{**row, "choice": choices[row["kind"]]} for row in rows], tmp_path / "d.csv")
    before = {path: path.read_bytes() for path in (tmp_path / "g").rglob("*") if path.is_file()}
    dry = decided(folder, tmp_path / "g", model, file, dry_run=True)
    assert {path: path.read_bytes() for path in (tmp_path / "g").rglob("*") if path.is_file()} == before
    wet = decided(folder, tmp_path / "g", model, file)
    for name in ("new", "changed", "unchanged", "held_back", "left_out", "statuses", "suspects", "exit_code"):
        assert getattr(dry, name) == getattr(wet, name), name
    assert [note for note in dry.notes if "would be" not in note] == []
    assert [note for note in wet.notes if "would be" in note] == []
    assert "2 decisions would be taken, 0 taken before, 0 passed over" in dry.notes
    assert "2 decisions taken, 0 taken before, 0 passed over" in wet.notes
    assert wet.changed == ("p03",)


def test_what_was_decided_goes_with_a_person_to_the_last_byte(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "Xaveria" / "0.png", pattern(3, 40))  # p03 again
    save(folder / "Ypsilanti" / "0.png", pattern(2, 40))  # p02 again
    save(folder / "p01" / "stray.png", pattern(30, 1))
    _, rows = asked(folder, tmp_path / "g", model)
    answers = {"Xaveria": "same", "Ypsilanti": "different", "": "wrong"}
    mine = {**{row["person"]: row["person"] for row in rows}, **{row["other"]: row["other"] for row in rows}}
    assert {"Xaveria", "Ypsilanti"} <= set(mine)
    chosen = [
        {**row, "choice": next(answers[name] for name in (row["person"], row["other"], "") if name in answers)}
        for row in rows
    ]
    decided(folder, tmp_path / "g", model, saved(chosen, tmp_path / "d.csv"))
    kept = GalleryTable.open(tmp_path / "g").decisions()
    assert kept.aliases() == {"p03": "Xaveria"}  # the first in order
    assert len(kept.rows) == 3

    def holding(needle: bytes) -> list[str]:
        files = (path for path in (tmp_path / "g").rglob("*") if path.is_file() and path.name != "run.yaml")
        return [path.name for path in files if needle in path.read_bytes()]

    assert holding(b"Xaveria")
    # Of one person under two ids either id erases all there is; what was decided about others stays.
    erased = delete(str(tmp_path / "g"), "p03", quiet=True)
    assert (erased.enrolled, erased.exit_code) == (("p03",), 0)
    assert holding(b"Xaveria") == holding(b"p03") == []
    delete(str(tmp_path / "g"), "Ypsilanti", quiet=True)
    assert holding(b"Ypsilanti") == []
    (row,) = GalleryTable.open(tmp_path / "g").decisions().rows
    assert (row.effect, row.person) == ("excluded", "p01")
    assert not delete(str(tmp_path / "g"), "p03", quiet=True).enrolled


def test_a_renamed_person_keeps_what_was_decided(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "twin" / "0.png", pattern(3, 40))
    save(folder / "p01" / "stray.png", pattern(30, 1))
    _, rows = asked(folder, tmp_path / "g", model)
    choices = {"two_ids": "different", "two_people": "wrong"}
    file = saved([{**row, "choice": choices[row["kind"]]} for row in rows], tmp_path / "d.csv")
    decided(folder, tmp_path / "g", model, file)
    for old, new in (("p01", "anna"), ("p03", "zoe")):
        rename(str(tmp_path / "g"), old, new, quiet=True)
        (folder / old).rename(folder / new)
    assert b"p03" not in (tmp_path / "g" / "decisions.parquet").read_bytes()
    found = enrolled(folder, tmp_path / "g", model)
    assert (found.suspects, found.held_back, found.exit_code) == ((), (), 0)
    assert found.statuses == {"ok": 13, "excluded": 1}


def test_private_puts_no_name_on_the_page(
    tmp_path: Path, folder: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "p03").rename(folder / "Musterfrau")
    save(folder / "Doppelt" / "geheim.png", pattern(3, 40))
    page = tmp_path / "r.html"
    command = ["enroll", str(folder), str(tmp_path / "g"), "--model", str(model), "--detector", "none", "--private"]
    assert run([*command, "--review", str(page)]) == 1
    text = page.read_text(encoding="utf-8")
    for name in ("Musterfrau", "Doppelt", "geheim", "data:image", "p00"):
        assert name not in text
    assert "Are person 1 and person 2 the same person?" in text
    (row,) = cases(page)
    assert (row["person"], row["other"], row["photo"]) == ("", "", "")
    capsys.readouterr()
    file = saved([{**row, "choice": "same"}], tmp_path / "d.csv")
    assert run([*command, "--decisions", str(file)]) == 0
    shown = capsys.readouterr()
    assert "Musterfrau" not in shown.out + shown.err
    assert "Doppelt" not in shown.out + shown.err
    assert "Doppelt" in contents(tmp_path / "g")


def test_metadata_of_an_alias_counts_where_the_person_has_none(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "twin" / "0.png", pattern(3, 40))
    listed = [f"{path.parent.name},{path.relative_to(folder)},Bern," for path in sorted(folder.glob("p*/*.png"))]
    (tmp_path / "people.csv").write_text("\n".join(["person,photo,office,floor", *listed, "twin,twin/0.png,Basel,4"]))
    page = tmp_path / "r.html"
    enrolled(tmp_path / "people.csv", tmp_path / "g", model, root=folder, review=page)
    file = decide(page, tmp_path / "d.csv", p03="same")
    enrolled(tmp_path / "people.csv", tmp_path / "g", model, root=folder, decisions=file)
    assert contents(tmp_path / "g")["p03"][2] == {"office": "Bern", "floor": "4"}


def test_the_audit_log_counts_decisions_and_names_nobody(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "twin" / "0.png", pattern(3, 40))
    asked(folder, tmp_path / "g", model)
    decided(folder, tmp_path / "g", model, decide(tmp_path / "review.html", tmp_path / "d.csv", p03="same"))
    log = audit.read(Place.of(tmp_path / "g"))
    (entry,) = (entry for entry in log.entries if entry["event"] == "decide")
    assert (entry["decisions"], entry["people_merged"], log.broken_at) == (1, 1, None)
    assert not {"twin", "p03"} & set(str(entry).replace("'", " ").split())


def test_a_gallery_of_before_ids_gets_one_with_its_next_enrollment(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "twin" / "0.png", pattern(3, 40))
    asked(folder, tmp_path / "g", model)
    file = decide(tmp_path / "review.html", tmp_path / "d.csv", p03="different")
    write_meta(tmp_path / "g", replace(read_meta(tmp_path / "g"), gallery_id=None))
    with pytest.raises(UserError, match="row 2 is of another gallery"):
        decided(folder, tmp_path / "g", model, file)
    asked(folder, tmp_path / "g", model)
    assert read_meta(tmp_path / "g").gallery_id
    file = decide(tmp_path / "review.html", tmp_path / "d.csv", p03="different")
    assert decided(folder, tmp_path / "g", model, file).exit_code == 0
