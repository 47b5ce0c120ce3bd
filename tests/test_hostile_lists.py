"""Hostile files for every reader of what people bring: a sentence or a reading that counts, never a traceback.

Each reader gets a good file of each of its forms, and some fifty ways to spoil it.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import shutil
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import ijb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recordio import write_set
from toy import person, write_store

from facekd.cli import run
from facekd.core.pixels import encode_crop
from facekd.crops.bins import read_bin
from facekd.crops.cropset import CropSet
from facekd.crops.drop import without
from facekd.crops.gallery_split import read_gallery_split
from facekd.crops.pairs import read_pairs
from facekd.crops.read import read_crops
from facekd.crops.scores import read_scores
from facekd.crops.templates import read_template_list
from facekd.deploy.embeddings import read_embeddings
from facekd.deploy.thresholds import measured_thresholds
from facekd.errors import UserError
from facekd.evaluation.blufr import read_trials
from facekd.evaluation.fixed import fixed_thresholds
from facekd.evaluation.templates import read_templates

IMAGES = [encode_crop(person(i // 2, i)) for i in range(6)]
ROWS = [("x1", "x2", 1), ("x1", "y1", 0), ("y1", "y2", 1), ("x2", "y2", 0)]


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def npz(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def parquet(**columns: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def npy_of_header(header: str, body: bytes = b"") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


def shaped(kind: str, shape: tuple[int, int]) -> bytes:
    """An .npy that announces more than it has."""
    return npy_of_header(f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}", bytes(2048))


CODED, DATES = pa.array(["x", None]).dictionary_encode(), np.array(["2020", "2021"], "M8[s]")
VECTORS = np.eye(4, 8, dtype=np.float32)
IDS = ["x1", "x2", "y1", "y2"]
NAMES = np.array(IDS)
SHORT = pickle.dumps((IMAGES[:2], np.array([True])), 4).replace(b"K\x01\x85", b"K\x09\x85")
PAIRS_CSV = ("a,b,same,light\n" + "".join(f"{a},{b},{s},day\n" for a, b, s in ROWS)).encode()
SCORES_CSV = ("score,label,light\n" + "".join(f"{s + 0.1},{s},day\n" for *_, s in ROWS)).encode()
LFW = b"1\t2\nAnn\t1\t2\nBob\t1\t3\nAnn\t1\tBob\t1\nAnn\t2\tBob\t3\n"
SPLIT = b"photo,set\nx1,gallery\nx2,probe\ny1,probe\n"
SIDES = {"a": ["x1", "x1"], "b": ["x2", "y1"]}
THRESHOLDS = json.dumps({"models": {"m": {"thresholds": {"1e-3": {"threshold": 0.3}}}}}).encode()
GOOD: dict[str, tuple[str, bytes]] = {
    "pairs csv": ("p.csv", PAIRS_CSV),
    "pairs lfw": ("pairs.txt", LFW),
    "pairs parquet": ("p.parquet", parquet(**SIDES, same=[True, False])),
    "pairs calfw": ("c.txt", b"x1 1\nx2 1\nx1 0\ny1 0\n"),
    "scores csv": ("s.csv", SCORES_CSV),
    "scores parquet": ("s.parquet", parquet(score=[0.9, 0.1], label=[1, 0], light=["day", "day"])),
    "split csv": ("split.csv", SPLIT),
    "split parquet": ("split.parquet", parquet(photo=["x1", "x2"], set=["gallery", "probe"])),
    "embeddings npy": ("e.npy", npy(VECTORS)),
    "embeddings npz": ("e.npz", npz(embeddings=VECTORS, ids=np.array(IDS))),
    "embeddings parquet": ("e.parquet", parquet(id=IDS, embedding=list(VECTORS))),
    "bin": ("set.bin", pickle.dumps((IMAGES[:4], [True, False]), 4)),
    "bin of numpy": ("np.bin", pickle.dumps(([np.frombuffer(i, np.uint8) for i in IMAGES[:4]], np.array([1, 0])), 5)),
    "templates csv": ("tid.csv", b"template,photo,person,quality\nx1,1.jpg,x,0.9\nx2,2.jpg,x,0.5\ny1,3.jpg,y,1\n"),
    "templates parquet": ("tid.parquet", parquet(template=["x1", "x2", "y1"], photo=["1", "2", "3"])),
    "fixed thresholds": ("fixed.json", THRESHOLDS),
    "thresholds": ("t.json", THRESHOLDS),
}


def reads(kind: str) -> Callable[[Path], object]:
    """What reads a file of this kind."""
    if kind.startswith("pairs"):
        return lambda path: read_pairs(path, ["light"] if kind == "pairs csv" else None)
    if kind.startswith("scores"):
        return lambda path: read_scores(path, groups=["light"])
    if kind.startswith("embeddings"):
        return lambda path: read_embeddings(path, quiet=True)
    if kind.startswith("bin"):
        return read_bin
    if kind.startswith("templates"):
        return lambda path: read_template_list(path, path.with_name("pairs-of-templates.csv"))
    if kind == "fixed thresholds":
        return lambda path: fixed_thresholds(path, ["m"], "thresholds")
    return read_gallery_split if kind.startswith("split") else lambda path: measured_thresholds(path, "m")


def spoiled(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Ways to damage any file."""
    yield "empty", b""
    yield "one byte", data[:1]
    for share in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97):
        yield f"cut at {share}", data[: int(len(data) * share)]
    yield "without its last byte", data[:-1]
    yield "without its first bytes", data[7:]
    yield "twice", data + data
    yield "zeros in front", bytes(16) + data
    yield "zeros behind", data + bytes(4096)
    yield "nothing but zeros", bytes(len(data))
    yield "nothing but 0xff", b"\xff" * len(data)
    middle = len(data) // 2
    yield "a zero byte in the middle", data[:middle] + b"\0" + data[middle:]
    yield "a bell and an escape in the middle", data[:middle] + b"\x1b[2J\x07" + data[middle:]
    yield "Latin-1 in the middle", data[:middle] + b"M\xfcller" + data[middle:]
    yield "a quote in the middle", data[:middle] + b'"' + data[middle:]
    yield "UTF-16", b"\xff\xfe" + data.decode("latin-1").encode("utf-16-le")
    yield "gzip", gzip.compress(data)
    yield "a web page", b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n"
    yield "a picture", IMAGES[0]
    yield "a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    yield "a huge field", b"a,b,same\n" + b"x" * (1 << 20) + b",y,1\n"
    yield "many columns", b",".join(b"c%d" % i for i in range(20_000)) + b"\n"
    yield "a pickle that runs", b"cos\nsystem\n(S'touch executed'\ntR."
    rng = np.random.default_rng(0)
    for number in range(6):
        noisy = np.frombuffer(data, np.uint8).copy()
        places = rng.integers(0, len(noisy), 1 + number * 3)
        noisy[places] = rng.integers(0, 256, len(places))
        yield f"bytes changed at random {number}", noisy.tobytes()


class Hostile(NamedTuple):
    kind: str
    name: str
    data: bytes


EVIL = "__import__('os').system('touch executed')"
SPECIAL = [
    Hostile("pairs csv", "two columns of one name", b"a,a,same\nx,y,1\n"),
    Hostile("pairs csv", "no group", b"a,b,same\nx,y,1\n"),
    Hostile("pairs csv", "a fold of 1e400", b"a,b,same,fold,light\nx,y,1,1e400,day\n"),
    Hostile("pairs csv", "a fold that is none", b"a,b,same,fold,light\nx,y,1,nan,day\n"),
    Hostile("pairs csv", "mixed line ends", b"a,b,same,light\rx,y,1,day\r\nx,z,0,day\nw,z,0,\r"),
    Hostile("pairs csv", "tabs among commas", b"a,b,same,light\nx\ty\t1\tday\n"),
    Hostile("pairs csv", "a formula", b'a,b,same,light\n"=cmd|\' /C calc\'!A0",y,1,day\n'),
    Hostile("pairs csv", "an open quote", b'a,b,same,light\n"x,y,1,day\n'),
    Hostile("pairs csv", "headings alone", b"a,b,same,light"),
    Hostile("pairs csv", "one class of two ways", b"a,b,same,light\nx,y,1,d\nx,z,0,d\nx,w,-1,d\n"),
    Hostile("pairs lfw", "a huge number", b"1 1\nAnn 1 99999999999999999999999\nAnn 1 Bob 1\n"),
    Hostile("pairs lfw", "a negative number", b"1 1\nAnn 1 -2\nAnn 1 Bob 1\n"),
    Hostile("pairs lfw", "a header of many folds", b"99999999 99999999\nAnn 1 2\nAnn 1 Bob 1\n"),
    Hostile("pairs lfw", "no pair", b"0 0\n"),
    Hostile("pairs parquet", "lists", parquet(a=[["x"]], b=["y"], same=[1])),
    Hostile("pairs parquet", "structs", parquet(a=[{"x": 1}], b=["y"], same=[1])),
    Hostile("pairs parquet", "bytes", parquet(a=[b"\xff\xfe"], b=["y"], same=[1])),
    Hostile("pairs parquet", "nothing but nulls", parquet(a=pa.nulls(2), b=["y", "z"], same=[1, 0])),
    Hostile("pairs parquet", "null labels", parquet(**SIDES, same=pa.nulls(2))),
    Hostile("pairs parquet", "labels of lists", parquet(**SIDES, same=[[1], [0]])),
    Hostile("pairs parquet", "no row", parquet(a=pa.array([], pa.string()), b=pa.array([], pa.string()), same=[])),
    Hostile("pairs parquet", "dates", parquet(a=np.array(["2020-01-01"], "M8[D]"), b=["y"], same=[1])),
    Hostile("pairs parquet", "a dictionary", parquet(a=CODED, b=["y", "z"], same=[1, 0])),
    Hostile("scores parquet", "scores of text", parquet(score=["0.1", "x"], label=[1, 0], light=["a", "b"])),
    Hostile("scores parquet", "empty scores", parquet(score=["0.1", ""], label=[1, 0], light=["a", "b"])),
    Hostile("scores parquet", "scores of lists", parquet(score=[[0.1], [0.2]], label=[1, 0], light=["a", "b"])),
    Hostile("scores parquet", "scores of bytes", parquet(score=[b"a", b"b"], label=[1, 0], light=["a", "b"])),
    Hostile("scores parquet", "scores of dates", parquet(score=DATES, label=[1, 0], light=["a", "b"])),
    Hostile("scores parquet", "scores of truth", parquet(score=[True, False], label=[1, 0], light=["a", "b"])),
    Hostile("scores parquet", "scores of nulls", parquet(score=pa.nulls(2), label=[1, 0], light=["a", "b"])),
    Hostile("scores parquet", "complex labels", parquet(score=[0.1, 0.2], label=["1+0j", "0"], light=["a", "b"])),
    Hostile("scores parquet", "a nested group", parquet(score=[0.1, 0.2], label=[1, 0], light=[["a"], ["b"]])),
    Hostile("scores csv", "infinity", b"score,label,light\ninf,1,d\n0,0,d\n"),
    Hostile("scores csv", "a hexadecimal", b"score,label,light\n0x1p3,1,d\n0,0,d\n"),
    Hostile("scores csv", "other digits", "score,label,light\n٣,1,d\n0,0,d\n".encode()),
    Hostile("scores csv", "1e400", b"score,label,light\n1e400,1,d\n0,0,d\n"),
    Hostile("scores csv", "no score at all", b"score,label,light\n,1,d\n,0,d\n"),
    Hostile("scores csv", "two scores", b"score,similarity,label,light\n1,1,1,d\n0,0,0,d\n"),
    Hostile("split csv", "a photo in both", b"photo,set\nx,gallery\nx,probe\n"),
    Hostile("split csv", "another set", b"photo,set\nx,train\n"),
    Hostile("split parquet", "lists", parquet(photo=[["x"]], set=["gallery"])),
    Hostile("embeddings npy", "objects", npy(np.array([[None]], object))),
    Hostile("embeddings npy", "no axis", npy(np.float32(1))),
    Hostile("embeddings npy", "three axes", npy(np.zeros((2, 2, 2), np.float32))),
    Hostile("embeddings npy", "whole numbers", npy(np.eye(4, dtype=np.int64))),
    Hostile("embeddings npy", "complex numbers", npy(np.eye(4, dtype=np.complex64))),
    Hostile("embeddings npy", "big-endian", npy(VECTORS.astype(">f8"))),
    Hostile("embeddings npy", "column by column", npy(np.asfortranarray(VECTORS))),
    Hostile("embeddings npy", "fields", npy(np.zeros(4, [("a", "f4"), ("b", "f4")]))),
    Hostile("embeddings npy", "NaN", npy(np.full((4, 8), np.nan, np.float32))),
    Hostile("embeddings npy", "zeros", npy(np.zeros((4, 8), np.float32))),
    Hostile("embeddings npy", "numbers near the largest", npy(np.full((4, 8), 3e38, np.float32))),
    Hostile("embeddings npy", "a shape of exabytes", shaped("'<f4'", (1 << 40, 512))),
    Hostile("embeddings npy", "a negative shape", shaped("'<f4'", (-1, 512))),
    Hostile("embeddings npy", "a header that runs", shaped(EVIL, (1, 1))),
    Hostile("embeddings npy", "a header that does not end", npy_of_header("{'descr': '<f4', 'shape': (((((")),
    Hostile("embeddings npy", "version 9", b"\x93NUMPY\x09\x00" + bytes(100)),
    Hostile("embeddings npz", "no ids", npz(embeddings=VECTORS)),
    Hostile("embeddings npz", "ids of objects", npz(embeddings=VECTORS, ids=np.array(IDS, object))),
    Hostile("embeddings npz", "too few ids", npz(embeddings=VECTORS, ids=np.array(IDS[:3]))),
    Hostile("embeddings npz", "ids in two axes", npz(embeddings=VECTORS, ids=np.array([IDS, IDS]))),
    Hostile("embeddings npz", "ids of bytes", npz(embeddings=VECTORS, ids=np.array([b"a", b"b\xff", b"c", b"d"]))),
    Hostile("embeddings npz", "an id of nothing", npz(embeddings=VECTORS, ids=np.array(["", "b", "c", "d"]))),
    Hostile("embeddings npz", "a format of the future", npz(embeddings=VECTORS, ids=NAMES, format=np.array(99))),
    Hostile("embeddings npz", "a format of words", npz(embeddings=VECTORS, ids=NAMES, format=np.array("new"))),
    Hostile("embeddings npz", "a format of a list", npz(embeddings=VECTORS, ids=NAMES, format=np.zeros(3))),
    Hostile("embeddings npz", "a model id of numbers", npz(embeddings=VECTORS, ids=NAMES, model_id=np.zeros(3))),
    Hostile("embeddings parquet", "another length each", parquet(id=["a", "b"], embedding=[[1.0], [1.0, 0.0]])),
    Hostile("embeddings parquet", "a null", parquet(id=["a", "b"], embedding=[[1.0], None])),
    Hostile("embeddings parquet", "a null inside", parquet(id=["a", "b"], embedding=[[1.0, 0.0], [None, 1.0]])),
    Hostile("embeddings parquet", "lists of lists", parquet(id=["a"], embedding=[[[1.0]]])),
    Hostile("embeddings parquet", "texts", parquet(id=["a"], embedding=["1 2 3"])),
    Hostile("embeddings parquet", "empty lists", parquet(id=["a"], embedding=pa.array([[]], pa.list_(pa.float32())))),
    Hostile("embeddings parquet", "ids of lists", parquet(id=[["a"]], embedding=[[1.0]])),
    Hostile("embeddings parquet", "null ids", parquet(id=pa.array([None], pa.string()), embedding=[[1.0]])),
    Hostile("embeddings parquet", "whole ids", parquet(id=[7], embedding=[[1.0]])),
    Hostile("bin", "one list", pickle.dumps(IMAGES, 4)),
    Hostile("bin", "a dictionary", pickle.dumps({"images": IMAGES}, 4)),
    Hostile("bin", "labels of words", pickle.dumps((IMAGES[:2], ["same"]), 2)),
    Hostile("bin", "labels of NaN", pickle.dumps((IMAGES[:2], [float("nan")]), 2)),
    Hostile("bin", "a list in itself", b"\x80\x02]q\x00h\x00a."),
    Hostile("bin", "lists in lists", b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    Hostile("bin", "an array of objects", pickle.dumps((np.array([IMAGES], object), [True]), 4)),
    Hostile("bin", "an array of times", pickle.dumps((IMAGES[:2], np.array(["2020"], "M8[s]")), 4)),
    Hostile("bin", "an array larger than its bytes", SHORT),
    Hostile("bin", "a number of many digits", b"I" + b"9" * 10_000 + b"\n."),
    Hostile("thresholds", "a list", b"[]"),
    Hostile("thresholds", "deep brackets", b"[" * 100_000),
    Hostile("thresholds", "a number", b"7"),
    Hostile("thresholds", "NaN", b'{"models": {"m": {"thresholds": {"1e-3": {"threshold": NaN}}}}}'),
    Hostile("thresholds", "a threshold of words", b'{"models": {"m": {"thresholds": {"1e-3": {"threshold": "a"}}}}}'),
    Hostile("thresholds", "a FAR of words", b'{"models": {"m": {"thresholds": {"low": {"threshold": 0.3}}}}}'),
    Hostile("thresholds", "models of another kind", b'{"models": ["m"]}'),
    Hostile("thresholds", "another model", b'{"models": {"x": {"thresholds": {}}}}'),
]  # fmt: skip
SPECIAL += [one._replace(kind="fixed thresholds") for one in SPECIAL if one.kind == "thresholds"]
ALL = [Hostile(kind, name, data) for kind, (_, good) in GOOD.items() for name, data in spoiled(good)] + SPECIAL


def put(folder: Path, kind: str, data: bytes) -> Path:
    path = folder / GOOD[kind][0]
    path.write_bytes(data)
    if kind.startswith("templates"):
        (folder / "pairs-of-templates.csv").write_text("x1,x2,1\nx1,y1,0\n")
    if kind == "embeddings npy":
        path.with_suffix(".txt").write_text("\n".join(IDS))
    return path


def test_there_are_enough() -> None:
    assert len(ALL) >= 200


@pytest.mark.parametrize("kind", GOOD)
def test_the_good_ones_are_read(tmp_path: Path, kind: str) -> None:
    reads(kind)(put(tmp_path, kind, GOOD[kind][1]))


@pytest.mark.parametrize("kind", GOOD)
def test_hostile_files(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for number, one in enumerate(case for case in ALL if case.kind == kind):
        folder = tmp_path / f"case{number}"
        folder.mkdir()
        path = put(folder, kind, one.data)
        said = f"{path.parent}"
        try:
            reads(kind)(path)
        except UserError as error:
            said = str(error)
        except Exception as error:
            raise AssertionError(f"{kind}, {one.name}: {type(error).__name__}: {error}") from error
        assert said.startswith(str(path.parent)), (one.name, said)
        assert "\n" not in said, (one.name, said)
        assert len(said) - said.count(str(path)) * len(str(path)) < 900, (one.name, said)
        assert not (tmp_path / "executed").exists(), one.name
        shutil.rmtree(folder)


@pytest.mark.slow
def test_hostile_records(tmp_path: Path) -> None:
    good = write_set(tmp_path / "set", IMAGES, [(i // 2,) for i in range(6)])
    for name in ("train.rec", "train.idx"):
        whole = (good / name).read_bytes()
        for what, data in spoiled(whole):
            (good / name).write_bytes(data)
            said = ""
            try:
                read_crops(good)
            except UserError as error:
                said = str(error)
            except Exception as error:
                raise AssertionError(f"{name}, {what}: {type(error).__name__}: {error}") from error
            assert "\n" not in said, (name, what, said)
            assert len(said) < 900, (name, what, said)
        (good / name).write_bytes(whole)


@pytest.mark.slow
def test_hostile_benchmarks(tmp_path: Path) -> None:
    """The files of IJB-C, one of them spoiled."""
    good = ijb.write(tmp_path / "ijb", ijb.draw(6))
    for file in sorted(path for path in good.rglob("*") if path.suffix in (".txt", ".csv")):
        whole = file.read_bytes()
        for what, data in spoiled(whole):
            file.write_bytes(data)
            said = ""
            try:
                read_templates(good, None)
            except UserError as error:
                said = str(error)
            except Exception as error:
                raise AssertionError(f"{file.name}, {what}: {type(error).__name__}: {error}") from error
            assert "\n" not in said, (file.name, what, said)
            assert len(said) < 900, (file.name, what, said)
        file.write_bytes(whole)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["pairs csv", "pairs parquet", "scores csv", "scores parquet", "embeddings npz", "bin"]
)
def test_the_command_line_says_it_in_one_line(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good.npz").write_bytes(GOOD["embeddings npz"][1])
    (tmp_path / "good.csv").write_bytes(PAIRS_CSV)
    for number, one in enumerate([case for case in ALL if case.kind == kind][::3]):
        path = put(tmp_path, kind, one.data)
        flags = {
            "pairs": ["--pairs", str(path), "--embeddings", "good.npz"],
            "scores": ["--scores", str(path)],
            "embeddings": ["--pairs", "good.csv", "--embeddings", str(path)],
            "bin": ["--bin", str(path)],
        }[kind.split()[0]]
        code = run(["verify", *flags, "--out", f"out{number}", "--no-faces"])
        shown = capsys.readouterr()
        assert code in (0, 2), (one.name, code)
        assert "Traceback" not in shown.err, (one.name, shown.err)
        if code == 2:
            last = shown.err.splitlines()[-1]
            assert last.startswith("facekd: "), (one.name, shown.err)
            assert last.isprintable(), (one.name, last)
        assert not (tmp_path / "executed").exists(), one.name


@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("what", ["pipe", "device", "loop", "folder"])
def test_what_is_no_file_is_not_waited_for(tmp_path: Path, kind: str, what: str) -> None:
    """A pipe that nobody writes would block, and a device without an end would fill the memory."""
    path = put(tmp_path, kind, GOOD[kind][1])
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if what == "device" else path)
    with pytest.raises(UserError) as told:
        reads(kind)(path)
    assert str(path) in str(told.value)


NONE = CropSet(Path("none"), (), (), (), pa.chunked_array([], pa.binary()), np.zeros(0, np.int64), 112, "arcface")


@pytest.mark.parametrize("read", [read_crops, lambda path: read_trials(path, IDS), lambda path: without(NONE, path)])
def test_no_pipe_is_waited_for(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "p.parquet")
    with pytest.raises(UserError, match="is a pipe or a device"):
        read(tmp_path / "p.parquet")


def test_an_archive_within_an_npz(tmp_path: Path) -> None:
    path = tmp_path / "e.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("embeddings.npy", b"no array")
        file.writestr("ids.npy", npy(np.array(IDS)))
        file.writestr("../../up.npy", npy(VECTORS))
    with pytest.raises(UserError):
        read_embeddings(path)
    assert [p.name for p in tmp_path.iterdir()] == ["e.npz"]


def test_a_name_longer_than_the_system_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["verify", "--scores", "n" * 300 + ".csv"]) == 2
    assert capsys.readouterr().err.startswith("facekd: " + "n" * 80 + "…: longer than a file's name may be")


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_a_name_that_is_no_utf8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """pyarrow, which reads crops, takes no such path: it was a traceback."""
    store = write_store(tmp_path / os.fsdecode(b"crops-\xff"), people=2, photos=2)
    assert run(["train-teacher", "--data", str(store), "--out", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("facekd: ")
    assert "crops-\\udcff" in line
    assert line.endswith("a name here is no UTF-8 text; rename that file or folder")


@pytest.mark.skipif(not hasattr(os, "seteuid"), reason="no rights of files as on Unix")
@pytest.mark.parametrize("words", [["train-teacher", "--data"], ["verify", "--scores"], ["align"], ["embed"]])
def test_what_lies_behind_a_folder_that_keeps_others_out(
    tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Even whether it is there can't be asked."""
    folder = tmp_path / "closed"
    folder.mkdir(mode=0)
    user = os.geteuid()
    out = {"align": [str(tmp_path / "crops")], "embed": [str(tmp_path / "e.parquet")]}.get(words[0], [])
    if user == 0:
        os.seteuid(65534)  # root is kept out of nothing
    try:
        assert run([*words, str(folder / "x.csv"), *out]) == 2
    finally:
        os.seteuid(user)
    (line,) = capsys.readouterr().err.splitlines()
    assert "Permission denied" in line
