"""What a gallery remembers of decisions: there and back, renamed, forgotten with a person."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from facekd.errors import UserError
from facekd.gallery.decisions import FILE, Decisions, Remembered, read_decisions, write_decisions
from facekd.gallery.place import Place

ROWS = (
    Remembered("c1", "different", "apart", "anna", "boris"),
    Remembered("c2", "same", "alias", "carl", "anna"),
    Remembered("c3", "same", "merging", "dora", "anna"),
    Remembered("c4", "wrong", "excluded", "boris", sha256="a" * 64),
    Remembered("c4", "wrong", "excluded", "boris", sha256="b" * 64),
    Remembered("c5", "same", "accepted", "anna", sha256="c" * 64),
    Remembered("c6", "same", "rewritten", "emil", sha256="d" * 64),
    Remembered("c7", "different", "replaced", "emil", sha256="e" * 64),
)
ALL = Decisions(frozenset(ROWS))


def test_there_and_back(tmp_path: Path) -> None:
    place = Place.of(tmp_path)
    assert read_decisions(place) == Decisions()
    write_decisions(place, ALL)
    first = (tmp_path / FILE).read_bytes()
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert read_decisions(place) == ALL
    write_decisions(place, Decisions(frozenset(reversed(ROWS))))
    assert (tmp_path / FILE).read_bytes() == first
    write_decisions(place, Decisions())
    assert read_decisions(place) == Decisions()


@pytest.mark.parametrize("cut", [0, 10, 500])
def test_a_damaged_file_is_told_of(tmp_path: Path, cut: int) -> None:
    write_decisions(Place.of(tmp_path), ALL)
    (tmp_path / FILE).write_bytes((tmp_path / FILE).read_bytes()[:cut])
    with pytest.raises(UserError, match=r"decisions\.parquet: damaged"):
        read_decisions(Place.of(tmp_path))


def test_what_they_say() -> None:
    assert ALL.aliases() == {"carl": "anna", "dora": "anna"}
    assert ALL.merging() == ["dora"]
    assert ALL.merged().merging() == []
    assert ALL.merged().aliases() == ALL.aliases()
    assert not ALL.may_be_one("boris", "anna")
    assert not ALL.may_be_one("carl", "anna")
    assert not ALL.may_be_one("carl", "boris")  # by the id that stays
    assert ALL.may_be_one("anna", "emil")
    assert ALL.digests("excluded") == {"boris": {"a" * 64, "b" * 64}}
    assert ALL.changes() == {"emil": {"d" * 64, "e" * 64}}


def test_every_id_of_a_person() -> None:
    for one in ("anna", "carl", "dora"):
        assert set(ALL.ids_of([one])) == {"anna", "carl", "dora"}
        assert ALL.ids_of([one])[0] == one
    assert ALL.ids_of(["boris", "nobody"]) == ["boris", "nobody"]


def test_another_id() -> None:
    renamed = ALL.renamed("anna", "zoe")
    assert renamed.aliases() == {"carl": "zoe", "dora": "zoe"}
    assert not renamed.may_be_one("zoe", "boris")
    assert renamed.digests("accepted") == {"zoe": {"c" * 64}}
    assert "anna" not in {name for row in renamed.rows for name in (row.person, row.other)}
    assert renamed.renamed("zoe", "anna") == ALL
    one = ALL.renamed("boris", "anna")  # they are one after all
    assert "c1" not in {row.case for row in one.rows}
    assert one.digests("excluded") == {"anna": {"a" * 64, "b" * 64}}


def test_without_a_person() -> None:
    left = ALL.without(["anna"])
    assert {row.case for row in left.rows} == {"c4", "c6", "c7"}
