"""What facekd verify refuses, and what it leaves out and counts: never a silent number."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import contract_file, onnx_of, person, save_run, tiny_net, write_store

from facekd.cli import run
from facekd.commands.verify import verify
from facekd.core.contract import Contract
from facekd.core.pixels import encode_crop
from facekd.core.types import Embeddings
from facekd.deploy.embeddings import Embedded, write_embeddings
from facekd.errors import UserError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 4 people and a model."""
    home = tmp_path_factory.mktemp("lists")
    write_store(home / "crops", people=4, photos=3)
    save_run(home / "a", "iresnet18-quarter", dim=4)
    return home


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--model", "a"],
            "--templates SET, --scores FILE, --bin SET, --all-pairs and --identification, not none of them",
        ),
        (["--model", "a", "--pairs", "p", "--all-pairs", "--crops", "c"], "not --pairs and --all-pairs"),
        (["--model", "a", "--bin", "b", "--crops", "c"], "holds its own crops; leave --crops out"),
        (["--model", "a", "--pairs", "p"], "give --crops STORE or --embeddings FILE, not neither"),
        (["--model", "a", "--pairs", "p", "--crops", "c", "--embeddings", "e"], "not --crops and --embeddings"),
        (["--model", "a", "--all-pairs", "--crops", "c", "--group", "sex"], "--group names a column of a pair list"),
        (["--model", "a", "--bin", "b", "--require", "tar>1"], "not a requirement"),
        (["--model", "a", "--pairs", "p", "--crops", "c", "--split", "s"], "add --identification"),
        (["--model", "a", "--identification", "--crops", "c", "--require", "tar@1e-3>=0.9"], "does not measure"),
        (["--model", "a", "--identification", "--crops", "c", "--engine", "ray"], "--engine ray counts all pairs"),
        (["--model", "a", "--all-pairs", "--crops", "c", "--address", "x:1"], "--address x:1 is of a Ray cluster"),
    ],
)
def test_flags_that_do_not_go_together(
    flags: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["verify", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert list(tmp_path.iterdir()) == []


def pair_list(path: Path, *rows: str, head: str = "a,b,same", start: str = "") -> Path:
    path.write_text(start + "\n".join([head, *rows]) + "\n", encoding="utf-8")
    return path


GOOD = ["p00/p00_0001,p00/p00_0002,1", "p01/p01_0001,p01/p01_0002,1", "p00/p00_0001,p01/p01_0001,0",
        "p00/p00_0002,p01/p01_0001,0"]  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["p00/p00_0002,p00/p00_0001,0"], r"1 pairs are labeled as same and as different .*pairs 1 and 5"),
        (["p02/p02_0001,p02/p02_0001,0"], r"pair 5 says that 'p02/p02_0001' is another person than itself"),
        (["p02/p02_0001,p03/p03_0001,1"], r"1 pairs are labeled against the people .*pair 5.*the same person"),
    ],
)
def test_a_list_that_contradicts_is_refused(home: Path, tmp_path: Path, rows: list[str], words: str) -> None:
    pairs = pair_list(tmp_path / "p.csv", *GOOD, *rows)
    with pytest.raises(UserError, match=words):
        verify(model=[home / "a"], pairs=pairs, crops=home / "crops", out=tmp_path / "o", quiet=True)
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_what_a_list_says_twice_counts_once(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extra = ["p00/p00_0002,p00/p00_0001,1", GOOD[2], "p02/p02_0001,p02/p02_0001,1"]
    common = ["--model", str(home / "a"), "--crops", str(home / "crops")]
    pairs = pair_list(tmp_path / "p.csv", *GOOD, *extra, start="\ufeff")  # and the file begins with a BOM
    assert run(["verify", *common, "--pairs", str(pairs), "--out", str(tmp_path / "o")]) == 0
    assert "left out: 1 itself, 2 repeated" in capsys.readouterr().out
    clean = pair_list(tmp_path / "q.csv", *GOOD)
    assert run(["verify", *common, "--pairs", str(clean), "--out", str(tmp_path / "plain"), "--quiet"]) == 0
    plain = json.loads((tmp_path / "plain" / "report.json").read_text())
    result = json.loads((tmp_path / "o" / "report.json").read_text())
    assert result["pairs"]["left_out"] == {"itself": 1, "repeated": 2}
    assert result["models"][0]["auc"] == plain["models"][0]["auc"]
    assert result["models"][0]["pairs"] == {"genuine": 2, "impostor": 2}


def test_a_list_without_a_group_column(home: Path, tmp_path: Path) -> None:
    for head, has in (("a,b,same,age,sex", "age, sex"), ("a,b,same", "none")):
        rows = [row + ",1,2" if "sex" in head else row for row in GOOD]
        pairs = pair_list(tmp_path / "p.csv", *rows, head=head)
        with pytest.raises(UserError, match=rf"has no group column 'skin'; its group columns: {has}"):
            verify(model=[home / "a"], pairs=pairs, crops=home / "crops", group=["skin"], out=tmp_path / "o")


def test_all_pairs_need_labels(home: Path, tmp_path: Path) -> None:
    store = write_store(tmp_path / "crops", people=2, photos=2, named=False)
    with pytest.raises(UserError, match="none of its photos says who it shows"):
        verify(model=[home / "a"], all_pairs=True, crops=store, out=tmp_path / "o", quiet=True)


def test_a_model_that_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    net = tiny_net()
    net[4].bias.data[:] = float("nan")
    write_store(tmp_path / "crops", people=2, photos=2)
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=32)
    pairs = pair_list(tmp_path / "p.csv", *GOOD)
    with pytest.raises(UserError, match="4 of 4 embeddings are zero, not finite"):
        verify(
            model=[onnx_of(net, tmp_path / "nan.onnx")], contract=contract, pairs=pairs, crops=tmp_path / "crops",
            out=tmp_path / "o", quiet=True,
        )  # fmt: skip


def test_an_embedding_file_that_names_a_photo_twice(tmp_path: Path) -> None:
    embeddings = Embeddings(np.eye(4, dtype=np.float32), ("x", "x", "y", "z"), Contract(dim=4).model_id)
    embedded = Embedded(embeddings, ("ann", "ann", "bob", "bob"), ("x.jpg", "x.jpg", "y.jpg", "z.jpg"))
    write_embeddings(tmp_path / "e.parquet", [embedded], Contract(dim=4))
    with pytest.raises(UserError, match=r"e\.parquet: 1 ids are embedded more than once"):
        verify(embeddings=[tmp_path / "e.parquet"], all_pairs=True, out=tmp_path / "o", quiet=True)


def written_embeddings(path: Path, persons: tuple[str, ...]) -> Path:
    ids = tuple(f"{person}-{i}" for i, person in enumerate(persons))
    embeddings = Embeddings(np.eye(len(ids), dtype=np.float32), ids, Contract(dim=len(ids)).model_id)
    write_embeddings(path, [Embedded(embeddings, persons, ids)], Contract(dim=len(ids)))
    return path


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_an_embedding_file_with_numbers_that_are_none(tmp_path: Path, value: float) -> None:
    path = written_embeddings(tmp_path / "e.parquet", ("ann", "ann", "bob", "bob"))
    table = pq.read_table(path)
    vectors = np.eye(4, dtype=np.float32)
    vectors[2] = value
    kind = table.schema.field("embedding")
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 4)
    pq.write_table(table.set_column(table.column_names.index("embedding"), kind, column), path)
    for protocol in ({"all_pairs": True}, {"identification": True}):
        with pytest.raises(UserError, match="1 of 4 embeddings are zero, not finite or not of unit norm"):
            verify(embeddings=[path], out=tmp_path / "o", quiet=True, **protocol)  # type: ignore[arg-type]
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("persons", "words"),
    [(("ann", "bob", "cas", "dan"), "0 genuine and 6 impostor"), (("ann",) * 4, "6 genuine and 0 impostor")],
)
def test_all_pairs_of_one_kind_are_refused(tmp_path: Path, persons: tuple[str, ...], words: str) -> None:
    path = written_embeddings(tmp_path / "e.parquet", persons)
    with pytest.raises(UserError, match=f"{words} pairs: rates need both kinds"):
        verify(embeddings=[path], all_pairs=True, out=tmp_path / "o", quiet=True)


class Evil:
    """Unpickled, it would make a folder."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


def test_a_bin_set_that_would_run_something_or_is_cut_short(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [encode_crop(person(i // 2, i)) for i in range(8)]
    whole = pickle.dumps((images, [True, False] * 2), 4)
    (tmp_path / "evil.bin").write_bytes(pickle.dumps((images, [Evil(tmp_path / "executed")]), 4))
    (tmp_path / "cut.bin").write_bytes(whole[: len(whole) * 2 // 3])
    for name, words in (("evil", "its pickle asks for"), ("cut", "not a whole .bin set")):
        flags = ["--model", home / "a", "--bin", tmp_path / f"{name}.bin", "--out", tmp_path / "o"]
        assert run(["verify", *map(str, flags)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"{name}.bin" in line
        assert words in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.bin", "evil.bin"]
