"""Pair lists in the forms people have them, and what is wrong with the others."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facekd.core.types import PairList
from facekd.crops.pairs import all_pairs, read_pairs, resolve, write_pairs
from facekd.errors import UserError

LFW = Path(__file__).parents[3] / "shared" / "data" / "lfw_pairs.txt"


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def lfw_text(folds: int, each: int) -> str:
    lines = []
    for fold in range(folds):
        lines += [f"Ann_A\t{i + 1}\t{fold + 7}" for i in range(each)]
        lines += [f"Ann_A\t{i + 1}\tBob\t{fold + 1}" for i in range(each)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("header", "folds", "ending"),
    [("2\t3", 2, "\n"), ("2\t3", 2, "\r\n"), ("6", 1, "\n"), ("2\t3 ", 2, "\n\n"), ("\ufeff2\t3", 2, "\n")],
)
def test_lfw_headers(tmp_path: Path, header: str, folds: int, ending: str) -> None:
    text = (header + "\n" + lfw_text(2, 3)).replace("\n", ending)
    pairs = read_pairs(written(tmp_path / "pairs.txt", text))
    assert pairs.left[:4] == ("Ann_A/Ann_A_0001", "Ann_A/Ann_A_0002", "Ann_A/Ann_A_0003", "Ann_A/Ann_A_0001")
    assert pairs.right[:4] == ("Ann_A/Ann_A_0007",) * 3 + ("Bob/Bob_0001",)
    assert pairs.same.tolist() == ([True] * 3 + [False] * 3) * 2
    assert pairs.fold.tolist() == ([0] * 6 + [1] * 6 if folds == 2 else [-1] * 12)
    by_spaces = read_pairs(written(tmp_path / "spaces.txt", "\n" * (header[0] != "\ufeff") + text.replace("\t", "  ")))
    assert (by_spaces.left, by_spaces.right) == (pairs.left, pairs.right)
    assert by_spaces.fold.tolist() == pairs.fold.tolist()


@pytest.mark.parametrize("sign", ["\t", " "])
def test_lfw_without_its_first_line(tmp_path: Path, sign: str) -> None:
    whole = read_pairs(written(tmp_path / "whole.txt", "2\t3\n" + lfw_text(2, 3)))
    bare = read_pairs(written(tmp_path / "bare.txt", lfw_text(2, 3).replace("\t", sign)))
    assert (bare.left, bare.right, bare.persons) == (whole.left, whole.right, whole.persons)
    assert bare.same.tolist() == whole.same.tolist()
    assert bare.fold.tolist() == whole.fold.tolist()  # turns of equal length say it
    uneven = read_pairs(written(tmp_path / "uneven.txt", (lfw_text(2, 3) + "Ann\t1\t2\n").replace("\t", sign)))
    assert uneven.fold.tolist() == [-1] * 13


def test_the_list_of_lfw() -> None:
    if not LFW.exists():
        pytest.skip("needs ../shared/data/lfw_pairs.txt")
    pairs = read_pairs(LFW)
    assert len(pairs.left) == 6000
    assert pairs.same.sum() == 3000
    assert np.bincount(pairs.fold).tolist() == [600] * 10
    assert all(pairs.same[pairs.fold == fold].sum() == 300 for fold in range(10))
    genuine = pairs.same
    person = [name.split("/")[0] for name in pairs.left], [name.split("/")[0] for name in pairs.right]
    assert all((a == b) == s for a, b, s in zip(*person, genuine, strict=True))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("2\t3\n" + lfw_text(2, 3)[:-20], r"line 12: no LFW pair \(2 columns\)"),
        ("2\t3\n" + lfw_text(2, 2), "announces 12 pairs and holds 8"),
        ("1\t1\nAnn\t1\t2\nAnn\tone\tBob\t1\n", "line 3: no LFW pair"),
        ("1\t1\nAnn\t1\t2\nAnn 1 Bob 1\n", r"line 3: no LFW pair \(1 columns\)"),
        ("1 1\nAnn 1 2\nAnn 1 Bob Ray 1\n", r"line 3: no LFW pair \(5 columns\)"),
        ("1\t1\t7\nAnn\t1\t2\nAnn\t1\tBob\t1\n", "its first line has 3 numbers; LFW's has folds and pairs"),
        ("", "holds no pair"),
        (" \n\n", "holds no pair"),
    ],
)
def test_damaged_lfw_lists(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        read_pairs(written(tmp_path / "pairs.txt", text))


def test_csv_with_bom_folds_and_groups(tmp_path: Path) -> None:
    text = '\ufeffa,b,same,fold,age,"light, of day"\n"x,1.jpg",y.jpg,1,0,young,day\ny.jpg,Zoë.jpg,no,1,old,\n'
    pairs = read_pairs(written(tmp_path / "p.csv", text.replace("\n", "\r\n")))
    assert (pairs.left, pairs.right) == (("x,1.jpg", "y.jpg"), ("y.jpg", "Zoë.jpg"))
    assert pairs.same.tolist() == [True, False]
    assert pairs.fold.tolist() == [0, 1]
    assert pairs.groups == {"age": ("young", "old"), "light, of day": ("day", "")}


@pytest.mark.parametrize(
    "text",
    [
        "a,b,same\nx.jpg,y.jpg,1\nx.jpg,z 1.jpg,0\n",
        "a;b;same\nx.jpg;y.jpg;1\nx.jpg;z 1.jpg;0\n",
        "a\tb\tsame\nx.jpg\ty.jpg\ttrue\nx.jpg\tz 1.jpg\tfalse\n",
        "a, b, same\nx.jpg, y.jpg, 1.0\nx.jpg, z 1.jpg, -1\n",
        'a b same\n"x.jpg" "y.jpg" match\nx.jpg   "z 1.jpg" non-match\n',
        "x.jpg,y.jpg,1\nx.jpg,z 1.jpg,0\n",
        "x.jpg\ty.jpg\tgenuine\n\nx.jpg\tz 1.jpg\timpostor\n",
        "1\tx.jpg\ty.jpg\n0\tx.jpg\tz 1.jpg\n",
        '1 x.jpg y.jpg\n0 x.jpg "z 1.jpg"\n',
        "x.jpg;y.jpg;same\r\nx.jpg;z 1.jpg;different\r\n",
        "Left,Right,Label\nx.jpg,y.jpg,Same\nx.jpg,z 1.jpg,Diff\n",
        ",a,b,same\n0,x.jpg,y.jpg,True\n1,x.jpg,z 1.jpg,False\n",
        "x.jpg\t1\ny.jpg\t1\nx.jpg\t0\nz 1.jpg\t0\n",
    ],
)
def test_lists_as_people_have_them(tmp_path: Path, text: str) -> None:
    pairs = read_pairs(written(tmp_path / "list.txt", text))
    assert (pairs.left, pairs.right) == (("x.jpg", "x.jpg"), ("y.jpg", "z 1.jpg"))
    assert pairs.same.tolist() == [True, False]
    assert pairs.fold.tolist() == [-1, -1]


def test_the_issues_own_line(tmp_path: Path) -> None:
    pairs = read_pairs(written(tmp_path / "list.txt", "a b 1\nc d 0\n"))
    assert (pairs.left, pairs.right, pairs.same.tolist()) == (("a", "c"), ("b", "d"), [True, False])


def test_people_that_the_list_states(tmp_path: Path) -> None:
    text = "a,b,same,left_person,right_person,light\nx,y,1,Ann,Ann,day\nx,z,0,Ann,Bob,night\n"
    pairs = read_pairs(written(tmp_path / "p.csv", text))
    assert pairs.persons == (("Ann", "Ann"), ("Ann", "Bob"))
    assert pairs.groups == {"light": ("day", "night")}
    assert read_pairs(tmp_path / "p.csv", ()).groups == {}


def test_tenths_of_two_lines_a_pair(tmp_path: Path) -> None:
    rows = [f"{kind}{i}_{side}.jpg {int(kind == 'g')}" for i in range(20) for kind in "gi" for side in "ab"]
    pairs = read_pairs(written(tmp_path / "pairs_CALFW.txt", "\n".join(rows) + "\n"))
    assert pairs.same.tolist() == [True, False] * 20
    assert np.bincount(pairs.fold).tolist() == [4] * 10


def test_csv_without_folds_and_with_blank_lines(tmp_path: Path) -> None:
    pairs = read_pairs(written(tmp_path / "p.csv", "same,b,a\nTrue,y,x\n\nFALSE,x,y\n\n"))
    assert (pairs.left, pairs.right) == (("x", "y"), ("y", "x"))
    assert pairs.same.tolist() == [True, False]
    assert pairs.fold.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a b c\nx y z\n", "no column 'same'.*parted by commas, semicolons, tabs or spaces"),
        ("my photo.jpg other.jpg 1\n", r"its first line, 'my photo\.jpg other\.jpg 1', is no pair and names no col"),
        ("1 0 1\n0 1 0\n", "can be read as 'a b 1' and as '1 a b'"),
        ("x y 1\nx z w 0\n", "line 2: 4 values, not 3 as in its other lines"),
        ("x y 1\nx z -1\nw z 0\n", "'same' holds 0 and -1 beside each other"),
        ("a,b,same\n,y,1\n", "column 'a' lacks a value in line 2"),
        ("a,b,same,left_person\nx,y,1,Ann\n", "a column 'left_person' and no 'right_person'"),
        ("a.jpg 1\nb.jpg 0\n", "lines 1 and 2: the photos of one pair have the labels 1 and 0"),
        ("a.jpg 1\nb.jpg 1\nc.jpg 0\n", "line 3: a pair of one photo"),
        (b"\x00\x01\x02\n", "holds zero bytes"),
        ("left,b,same\nx,y,1\n", "no column 'a'"),
        ("a,b,smae\nx,y,1\n", "no column 'same'; did you mean 'smae'"),
        ("a,b,same\nx,y,1\nx,y,maybe\n", "line 3: same is 'maybe'; use 1 or 0"),
        ("a,b,same\nx,y,\n", "line 2: same is ''"),
        ("a,b,same\nx,y\n", "line 2: 2 values, not 3"),
        ("a,b,same\n\nx,y,1\n\nx,y,1,0\n", "line 5: 4 values, not 3"),
        ("a,b,same\n", "holds no pair"),
        ("a,b,same,fold\nx,y,1,one\n", "fold is no whole number"),
        ("a,b,same,fold\nx,y,1,40000\n", "fold is no whole number"),
        ("a,b,same,a\nx,y,1,z\n", "two columns have the same name"),
        ('a,b,same\n"x,y,1\n', "not readable as CSV"),
        ("²\nx\n", "no column 'a'"),
        (b"a,b,same\nM\xfcller,y,1\n", "not readable as UTF-8"),
        ("a,b,same\nx,y,1\n".encode("utf-16"), "not readable as UTF-8"),
    ],
)
def test_a_csv_that_is_no_pair_list(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    path = written(tmp_path / "p.csv", text)
    with pytest.raises(UserError, match=sentence) as error:
        read_pairs(path)
    assert str(error.value).startswith(str(path))


def test_places_without_a_pair_list(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such pair list"):
        read_pairs(tmp_path / "none.txt")
    with pytest.raises(UserError, match="a folder is no pair list"):
        read_pairs(tmp_path)
    with pytest.raises(UserError, match="not a readable Parquet"):
        read_pairs(written(tmp_path / "p.parquet", "a,b,same\nx,y,1\n"))


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    for same in ([True, False], [1, 0], ["same", "different"]):
        pq.write_table(pa.table({"a": ["x", "y"], "b": ["y", "z"], "same": same, "fold": [0, 1], "age": [3, 4]}), path)
        pairs = read_pairs(path)
        assert (pairs.left, pairs.right, pairs.same.tolist()) == (("x", "y"), ("y", "z"), [True, False])
        assert (pairs.fold.tolist(), pairs.groups) == ([0, 1], {"age": ("3", "4")})
    for column in ("a", "same"):
        table = pa.table({"a": ["x", "y"], "b": ["y", "z"], "same": [1, 0]})
        place = table.column_names.index(column)
        holed = table.set_column(place, column, pa.array([table[column][0].as_py(), None]))
        pq.write_table(holed, path)
        with pytest.raises(UserError, match=f"column '{column}' lacks a value in row 2"):
            read_pairs(path)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    pairs = PairList(("x,1", 'q"q'), ("y\u00e4", "z"), np.array([True, False]), np.array([3, -1], np.int16))
    write_pairs(tmp_path / "p.csv", pairs)
    again = read_pairs(tmp_path / "p.csv")
    assert (again.left, again.right) == (pairs.left, pairs.right)
    assert (again.same == pairs.same).all()
    assert (again.fold == pairs.fold).all()


def test_resolve() -> None:
    pairs = PairList(("a.jpg", "b.jpg"), ("b.jpg", "c"), np.array([True, False]), np.array([0, 1], np.int16))
    found, failed = resolve(pairs, {"a.jpg": "crop-a", "b.jpg": "crop-b", "c": None}, "crops")
    assert (found.left, found.right) == (("crop-a", "crop-b"), ("crop-b", "c"))
    assert failed == {"c"}
    assert (found.fold == pairs.fold).all()
    with pytest.raises(UserError, match=r"crops: 2 photos of the pair list are not in it \(first: 'b.jpg'\)"):
        resolve(pairs, {"a.jpg": "crop-a"}, "crops")


identities = st.lists(st.sampled_from("abcdefg"), min_size=2, max_size=14)


@given(identities, st.integers(0, 5), st.integers(2, 10))
def test_every_pair_of_a_set(names: list[str], seed: int, folds: int) -> None:
    ids = [f"{name}{i}" for i, name in enumerate(names)]
    pairs = all_pairs(ids, names, seed, folds)
    assert list(zip(pairs.left, pairs.right, strict=True)) == list(combinations(ids, 2))
    assert pairs.same.tolist() == [a == b for a, b in combinations(names, 2)]
    seen: dict[str, int] = {}
    for left, right, fold in zip(pairs.left, pairs.right, pairs.fold.tolist(), strict=True):
        if fold >= 0:
            for person in (left[0], right[0]):
                assert seen.setdefault(person, fold) == fold  # nobody is in two folds
    for fold in set(pairs.fold.tolist()) - {-1}:
        inside = pairs.same[pairs.fold == fold]
        assert (~inside).sum() <= inside.sum() or inside.sum() == 0
    again = all_pairs(ids, names, seed, folds)
    assert (again.fold == pairs.fold).all()
