"""facekd enroll where one person comes under two ids, or two under one: held back, reported, accepted."""

from __future__ import annotations

from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
from people import NEAR, contents, enrolled, ledger, pattern, save, write_model, write_people


def test_one_person_under_two_ids_is_held_back(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "twin" / "0.png", pattern(3, 40))
    first = enrolled(folder, tmp_path / "g", model, report=tmp_path / "r.parquet")
    # Both are new, so nobody can say which id is right.
    assert (first.new, first.held_back, first.exit_code) == (("p00", "p01", "p02"), ("p03", "twin"), 1)
    (suspect,) = first.suspects
    assert (suspect.kind, suspect.person, suspect.other) == ("two_ids", "p03", "twin")
    assert suspect.score > NEAR
    assert pq.read_table(tmp_path / "r.parquet").to_pylist() == [
        {"kind": "two_ids", "person": "p03", "other": "twin", "source": None, "score": suspect.score}
    ]
    assert set(contents(tmp_path / "g")) == {"p00", "p01", "p02"}
    rows = ledger(tmp_path / "g")
    assert rows["twin/0.png"][1] == "held_back"
    assert "p03" not in rows["twin/0.png"][2]  # erasing p03 must leave no name in the row of another
    assert rows["p00/0.png"][1] == "ok"
    # Told again every night, without embedding again.
    again = enrolled(folder, tmp_path / "g", model)
    assert (again.held_back, again.embedded, again.unchanged) == (("p03", "twin"), 0, 3)
    # Once accepted, they stay accepted, also when a photo comes.
    accepted = enrolled(folder, tmp_path / "g", model, accept_suspects=True)
    assert (accepted.new, accepted.held_back, accepted.exit_code) == (("p03", "twin"), (), 0)
    save(folder / "twin" / "1.png", pattern(3, 41))
    later = enrolled(folder, tmp_path / "g", model)
    assert (later.changed, later.held_back, later.suspects) == (("twin",), (), ())


def test_a_new_id_of_an_enrolled_person_is_held_back(tmp_path: Path, folder: Path, model: Path) -> None:
    enrolled(folder, tmp_path / "g", model)
    before = contents(tmp_path / "g")
    later = write_people(tmp_path / "later", 1, 2, first=2)
    (later / "p02").rename(later / "somebody")
    found = enrolled(later, tmp_path / "g", model)
    assert [(one.person, one.other) for one in found.suspects] == [("somebody", "p02")]
    assert found.held_back == ("somebody",)
    assert contents(tmp_path / "g") == before


def test_two_people_under_one_id(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "p01" / "stray.png", pattern(2, 40))  # one odd photo of four: it is held back, the person is not
    save(folder / "p03" / "3.png", pattern(20, 0))
    save(folder / "p03" / "4.png", pattern(20, 1))
    save(folder / "p03" / "5.png", pattern(20, 2))  # three of six: who is p03?
    found = enrolled(folder, tmp_path / "g", model, report=tmp_path / "r.csv")
    assert (found.new, found.held_back, found.exit_code) == (("p00", "p01", "p02"), ("p03",), 1)
    odd = {one.source: one.score for one in found.suspects if one.kind == "two_people"}
    assert "p01/stray.png" in odd
    assert sum(source.startswith("p03/") for source in odd) == 3
    assert all(score < NEAR for score in odd.values())
    assert ledger(tmp_path / "g")["p01/stray.png"][1] == "suspect"
    assert ledger(tmp_path / "g")["p03/0.png"][1] in ("held_back", "suspect")
    assert contents(tmp_path / "g")["p01"][1] == ("p01/0.png", "p01/1.png", "p01/2.png")
    assert len(pyarrow.csv.read_csv(tmp_path / "r.csv")) == 4
    accepted = enrolled(folder, tmp_path / "g", model, accept_suspects=True)
    assert (accepted.new, accepted.changed, accepted.exit_code) == (("p03",), ("p01",), 0)
    assert len(contents(tmp_path / "g")["p03"][1]) == 6
    again = enrolled(folder, tmp_path / "g", model)  # what was accepted stays so
    assert (again.unchanged, again.suspects, again.exit_code) == (4, (), 0)
    save(folder / "p01" / "stray.png", pattern(5, 1))  # until the photo is another
    assert [one.source for one in enrolled(folder, tmp_path / "g", model).suspects] == ["p01/stray.png"]


def test_without_a_threshold_mix_ups_are_not_looked_for_and_it_says_so(tmp_path: Path, folder: Path) -> None:
    plain = write_model(tmp_path / "plain.onnx")
    save(folder / "twin" / "0.png", pattern(3, 40))
    found = enrolled(folder, tmp_path / "g", plain)
    assert (len(found.new), found.suspects) == (5, ())
    assert any("mix-ups were not looked for" in note for note in found.notes)
    assert enrolled(folder, tmp_path / "g2", plain, suspect_threshold=NEAR).held_back == ("p03", "twin")
    assert enrolled(folder, tmp_path / "g3", plain, threshold=NEAR).held_back == ("p03", "twin")


def test_a_threshold_too_low_for_so_many_people_is_told(tmp_path: Path, folder: Path) -> None:
    low = write_model(tmp_path / "low.onnx", {0.1: 0.9})
    (note,) = enrolled(folder, tmp_path / "g", low).notes
    assert "each of 4 people looks like 0.4 others by chance" in note
