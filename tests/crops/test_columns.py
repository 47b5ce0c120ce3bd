"""Two readers of text, one for the long lists: what either reads, both read alike."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekd.crops import columns
from facekd.crops.columns import Columns, text_columns
from facekd.errors import UserError


def read(path: Path, sign: str = ",", names: tuple[str, ...] | None = None) -> Columns | str:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return text_columns(path, file, sign, names, {"score"})
    except (UserError, UnicodeDecodeError) as error:
        return str(error)


def both(path: Path, monkeypatch: pytest.MonkeyPatch, sign: str = ",", names: tuple[str, ...] | None = None) -> None:
    monkeypatch.setattr(columns, "QUICK", 0)
    quick = read(path, sign, names)
    monkeypatch.setattr(columns, "QUICK", 1 << 60)
    slow = read(path, sign, names)
    if isinstance(slow, str):
        assert quick == slow
        return
    assert isinstance(quick, Columns)
    assert {k: list(v) for k, v in quick.texts.items()} == {k: list(v) for k, v in slow.texts.items()}
    assert quick.numbers.keys() == slow.numbers.keys()
    for name, values in slow.numbers.items():
        np.testing.assert_array_equal(quick.numbers[name], values)


@pytest.mark.parametrize(
    "text",
    [
        "a,b,score\nx,y,0.1\nx,z,1e-3\n",
        "\ufeffa,b,score\r\nx,y,nan\r\n\r\nx, z ,\r\n",
        "\n\na,b,score\nx,y,inf\n,,-inf\n",
        "a,b,score\nx,y\n",
        "a,b,score\nx,y,1\nx,y,1,2\n",
        "a,b,score\nx,y,one\n",
        "a,b,score\nx,y,1_0\n",
        'a,b,score\n"x,1",y,1\n',
        'a,b,score\nx"1,y,1\n',
        "a,b,score\rx,y,1\rx,z,2\r",
        "a,b,score\nx,y,0x10\n",
        "a,b,score\n \nx,y,1\n",
        "a,b,score\nx,NULL,NA\nnull,,0.5",
        "a,b,score",
        "",
    ],
)
def test_what_either_reads(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode())
    both(path, monkeypatch)


def test_other_signs_and_no_heading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(b"x;y 1;0.25\ny;z;1\n")
    both(path, monkeypatch, ";", ("a", "b", "score"))
    path.write_bytes(b"M\xfcller\ty\t1\n")
    both(path, monkeypatch, "\t", ("a", "b", "score"))


cells = st.text(st.sampled_from("xy 01.e-\"',;\té"), max_size=5)


@given(st.lists(st.lists(cells, min_size=2, max_size=3), max_size=6), st.sampled_from(["\n", "\r\n"]))
@settings(max_examples=200, deadline=None)
def test_any_text(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], ending: str) -> None:
    path = tmp_path_factory.mktemp("c") / "list.csv"
    path.write_bytes(ending.join([*(",".join(row) for row in [["a", "score"], *rows]), ""]).encode())
    with pytest.MonkeyPatch.context() as patch:
        both(path, patch)


def test_where_a_row_is(tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text('a,score\n\nx,1\n"y\nz",2\nw,3\n')
    found = read(path)
    assert isinstance(found, Columns)
    assert [found.where(row) for row in range(3)] == [f"{path}, line {line}" for line in (3, 5, 6)]
    assert text_columns(path, io.StringIO("a,b\n1,2\n"), ",").texts["b"] == ("2",)
