"""facekd enroll where one person comes under two ids, or two under one: held back, reported, accepted."""

from __future__ import annotations

from pathlib import Path

import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from people import NEAR, contents, enrolled, ledger, pattern, save, write_model, write_people

from facekd.errors import UserError
from facekd.gallery.meta import read_meta


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


def test_the_more_ids_are_compared_the_more_alike_two_have_to_be(tmp_path: Path) -> None:
    """One false alarm in a run, however many people: a pair that is odd among three is not among thirty."""
    model = write_model(tmp_path / "tail.onnx", {1e-3: 0.9, 1e-6: 0.99999})
    few = write_people(tmp_path / "few", 2)
    for number, photo in enumerate((40, 41)):
        save(few / f"twin{number}" / "0.png", pattern(3, photo))
    found = enrolled(few, tmp_path / "g", model)
    (suspect,) = found.suspects
    assert 0.9 < suspect.score < 0.99999
    assert enrolled(few, tmp_path / "h", model, false_alarms=1e-6).suspects == ()
    assert enrolled(few, tmp_path / "i", model, suspect_threshold=0.9).held_back == ("twin0", "twin1")


def test_a_night_without_change_warns_of_nothing(tmp_path: Path, folder: Path, model: Path) -> None:
    enrolled(folder, tmp_path / "g", model)
    again = enrolled(folder, tmp_path / "g", model)
    assert (again.unchanged, again.notes) == (4, ())


def test_another_person_than_before_is_held_back(tmp_path: Path, folder: Path, model: Path) -> None:
    enrolled(folder, tmp_path / "g", model)
    before = contents(tmp_path / "g")
    for photo in range(3):
        save(folder / "p01" / f"{photo}.png", pattern(20, photo))
    for how in ({"replace": True}, {}):  # the photos of before are gone with their names either way
        found = enrolled(folder, tmp_path / "g", model, **how)
        (suspect,) = found.suspects
        assert (suspect.kind, suspect.person, suspect.other, suspect.source) == ("changed", "p01", None, None)
        assert suspect.score < NEAR
        assert (found.held_back, found.exit_code) == (("p01",), 1)
        assert "p01: no longer looks like the same person" in str(found)
        assert contents(tmp_path / "g") == before
        assert ledger(tmp_path / "g")["p01/0.png"][1] == "held_back"
    accepted = enrolled(folder, tmp_path / "g", model, replace=True, accept_suspects=True)
    assert (accepted.changed, accepted.exit_code) == (("p01",), 0)
    assert enrolled(folder, tmp_path / "g", model, replace=True).exit_code == 0


def test_a_photo_that_is_gone_is_not_reported(tmp_path: Path, folder: Path, model: Path) -> None:
    """What was taken out of the folder because it was reported is not reported the next night."""
    save(folder / "p01" / "stray.png", pattern(2, 40))
    (folder / "p02" / "torn.png").write_bytes(b"no photo")
    first = enrolled(folder, tmp_path / "g", model)
    assert ([one.source for one in first.suspects], first.exit_code) == (["p01/stray.png"], 1)
    assert [one.source for one in first.failed] == ["p01/stray.png", "p02/torn.png"]
    before = contents(tmp_path / "g")
    (folder / "p01" / "stray.png").unlink()
    (folder / "p02" / "torn.png").unlink()
    (folder / "p00" / "1.png").unlink()  # a good photo keeps counting, as ever
    dry = enrolled(folder, tmp_path / "g", model, dry_run=True)
    again = enrolled(folder, tmp_path / "g", model)
    for found in (dry, again):
        assert (found.suspects, found.failed, found.exit_code) == ((), (), 0)
        assert found.kept == 1
    assert contents(tmp_path / "g") == before
    assert {"p01/stray.png", "p02/torn.png"}.isdisjoint(ledger(tmp_path / "g"))


def test_a_flag_that_differs_from_what_the_gallery_keeps(tmp_path: Path, folder: Path, model: Path) -> None:
    enrolled(folder, tmp_path / "g", model, fpir=0.02, min_sharpness=0.5, min_face=24)
    enrolled(folder, tmp_path / "g", model)
    assert read_meta(tmp_path / "g").fpir == 0.02
    assert read_meta(tmp_path / "g").gate == {"min_sharpness": 0.5}
    assert read_meta(tmp_path / "g").min_face == 24
    for flag, value in {"fpir": 0.1, "min_sharpness": 0.25, "min_face": 20}.items():
        with pytest.raises(UserError, match=f"--{flag.replace('_', '-')} {value}: .* was enrolled with .* --change"):
            enrolled(folder, tmp_path / "g", model, **{flag: value})
    enrolled(folder, tmp_path / "g", model, fpir=0.1, min_sharpness=0.25, change=True)
    assert (read_meta(tmp_path / "g").fpir, read_meta(tmp_path / "g").gate) == (0.1, {"min_sharpness": 0.25})
    enrolled(folder, tmp_path / "g", model, threshold=NEAR)
    assert read_meta(tmp_path / "g").threshold == NEAR
    enrolled(folder, tmp_path / "g", model)  # once given it stays
    assert read_meta(tmp_path / "g").threshold == NEAR
    with pytest.raises(UserError, match=r"--fpir 0.01: .* was enrolled with --threshold 0.8; leave --fpir out"):
        enrolled(folder, tmp_path / "g", model, fpir=0.01)
    enrolled(folder, tmp_path / "g", model, fpir=0.01, change=True)
    assert (read_meta(tmp_path / "g").fpir, read_meta(tmp_path / "g").threshold) == (0.01, None)
