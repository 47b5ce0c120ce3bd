"""Files of decisions as people and spreadsheets hand them in: read right or refused in a sentence, nothing lost."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from people import contents, enrolled, pattern, save
from reviewed import COLUMNS, cases, saved

from facekd.core.files import write_csv
from facekd.enrollment.decision_file import CHOICES, Answered, read_answers
from facekd.errors import UserError

MARK = "g0123456789abcdef"
CASE = "c0123456789abcdef-0123456789ab"
ROW = [MARK, CASE, "two_ids", "p03", "twin", "", "same"]


def answers(path: Path, text: str | bytes) -> list[Answered]:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_answers(path, MARK)


def table(*rows: Sequence[str], columns: Sequence[str] = COLUMNS, delimiter: str = ",", end: str = "\r\n") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows([columns, *rows])
    return text.getvalue()


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_as_a_spreadsheet_saves_it(tmp_path: Path, delimiter: str, mark: str, end: str) -> None:
    rows = [
        [MARK, CASE, "two_ids", "'=1+1", "a;b,c\td", "", " Same "],
        ["", "", "", "", "", "", ""],  # left over below the table
        [MARK, CASE.replace("c0", "c1"), "two_people", "007", "", "'-x.png", ""],  # not decided
        [MARK, CASE.replace("c0", "c2"), "changed", "''quoted", "", "", "wrong"],
    ]
    found = answers(tmp_path / "d.csv", mark + table(*rows, delimiter=delimiter, end=end))
    assert found == [
        Answered(2, "c0123456789abcdef", "0123456789ab", "same", ("two_ids", "=1+1", "a;b,c\td", "")),
        Answered(5, "c2123456789abcdef", "0123456789ab", "wrong", ("changed", "'quoted", "", "")),
    ]


@given(
    st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))] * 3), max_size=5)
)
def test_any_name_comes_back_as_it_was(names: list[tuple[str, str, str]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "d.csv"
        rows = [[MARK, f"c{n:016x}-{0:012x}", "two_ids", *own, "same"] for n, own in enumerate(names)]
        write_csv(path, COLUMNS, rows)
        assert [one.told for one in read_answers(path, MARK)] == [("two_ids", *own) for own in names]


@pytest.mark.parametrize("columns", [("choice", "case", "gallery"), tuple(reversed(COLUMNS))])
def test_columns_in_any_order_and_only_what_is_needed(tmp_path: Path, columns: Sequence[str]) -> None:
    values = dict(zip(COLUMNS, ROW, strict=True))
    (found,) = answers(tmp_path / "d.csv", table([values[name] for name in columns], columns=columns))
    assert (found.key, found.choice) == ("c0123456789abcdef", "same")


REFUSED = {
    "another gallery": (table(["g" + "f" * 16, *ROW[1:]]), "row 2 is of another gallery"),
    "no case": (table([MARK, "1.23457E+15", *ROW[2:]]), r"row 2 has the case '1.23457E\+15', which is none"),
    "no choice of ours": (table([*ROW[:-1], "diferent"]), "row 2 chooses 'diferent'; give one of same, diff"),
    "two choices": (table(ROW, [*ROW[:-1], "wrong"]), "rows 2 and 3 choose 'same' and 'wrong' of the same case"),
    "another column": (table([*ROW, "x"], columns=(*COLUMNS, "note")), "has the column 'note'"),
    "a column twice": (table([*ROW, "x"], columns=(*COLUMNS, "photo")), "has a column twice"),
    "too many values": (table([*ROW, "x"]), "row 2 has 8 values under 7 columns"),
    "too few values": (table(ROW[:-1]), "row 2 has 6 values under 7 columns"),
    "a list of people": ("person,photo\na,b.png\n", r"no file of decisions, for its first row \(person, photo\)"),
    "nothing": ("", r"no file of decisions, for its first row \(empty\)"),
    "an open quote": (table() + '"', "not readable as CSV"),
    "a page": ("<!doctype html>\n<html>", "no file of decisions"),
    "Unicode text": (table(ROW).encode("utf-16"), "not UTF-8"),
    "a Western code page": (table([*ROW[:3], "Zoë", *ROW[4:]]).encode("cp1252"), "not UTF-8"),
    "a workbook": (b"PK\x03\x04\x14\x00\x06\x00\x08\x00\xff", "not UTF-8"),
    "zeros": (table(ROW).encode() + bytes(64), "d.csv: "),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused(tmp_path: Path, what: str) -> None:
    text, said = REFUSED[what]
    with pytest.raises(UserError, match=said) as error:
        answers(tmp_path / "d.csv", text)
    assert str(error.value).startswith(str(tmp_path / "d.csv"))
    assert "\n" not in str(error.value)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file of decisions"):
        read_answers(tmp_path / "none.csv", MARK)
    with pytest.raises(UserError, match="can't be read"):
        read_answers(tmp_path, MARK)


def test_no_row_and_equal_rows(tmp_path: Path) -> None:
    assert answers(tmp_path / "d.csv", table()) == []
    assert len(answers(tmp_path / "d.csv", table(ROW, ROW))) == 1
    assert all(answers(tmp_path / "d.csv", table([*ROW[:-1], choice]))[0].choice == choice for choice in CHOICES)


def test_what_a_spreadsheet_makes_of_names_does_no_harm(tmp_path: Path, folder: Path, model: Path) -> None:
    (folder / "p03").rename(folder / "007")
    save(folder / "=cmd()" / "0.png", pattern(3, 40))
    enrolled(folder, tmp_path / "g", model, review=tmp_path / "r.html")
    (row,) = cases(tmp_path / "r.html")
    assert (row["person"], row["other"]) == ("007", "=cmd()")
    mangled = saved([{**row, "person": "7", "other": "#NAME?", "choice": "different"}], tmp_path / "d.csv")
    found = enrolled(folder, tmp_path / "g", model, decisions=mangled)
    assert (found.new, found.exit_code) == (("007", "=cmd()"), 0)


def test_columns_that_were_sorted_alone_are_noticed(tmp_path: Path, folder: Path, model: Path) -> None:
    save(folder / "p01" / "stray.png", pattern(30, 1))
    save(folder / "p02" / "stray.png", pattern(31, 1))
    enrolled(folder, tmp_path / "g", model, review=tmp_path / "r.html")
    before = contents(tmp_path / "g")
    one, two = cases(tmp_path / "r.html")
    swapped = [
        {**two, "case": one["case"], "choice": "same"},
        {**one, "case": two["case"], "choice": "wrong"},
    ]
    with pytest.raises(UserError, match="row 2 names the people of another case than its own"):
        enrolled(folder, tmp_path / "g", model, decisions=saved(swapped, tmp_path / "d.csv"))
    assert contents(tmp_path / "g") == before
