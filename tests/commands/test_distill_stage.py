"""distill on tiny people: what a student learns from, and what is refused before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from toy import SMALL, contract_file, keys, onnx_of, person, tiny_net, write_store

from facekd.cli import run
from facekd.commands.distill import distill
from facekd.core.pixels import encode_crop
from facekd.core.run import read_metrics
from facekd.errors import UserError
from facekd.nets.saved import MODEL, load_model
from facekd.training.checkpoint import LAST

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def onnx_teacher(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("onnx")
    return onnx_of(tiny_net(), folder / "net.onnx", batch=1), contract_file(folder / "c.yaml", dim=8, size=32)


@pytest.mark.slow
def test_a_student_learns_labels_logits_and_embeddings(tmp_path: Path, store: Path, teacher: Path) -> None:
    before = (teacher / MODEL).read_bytes()
    out = distill(data=[store], teacher=teacher, out=tmp_path / "student", dim=8, epochs=8, lr=0.05, **SMALL).out
    rows = read_metrics(out)
    assert {"labels", "logits", "embedding", "held_out_cosine", "held_out_eer"} <= rows[-1].keys()
    assert rows[-1]["loss"] == pytest.approx(
        sum(rows[-1][name] for name in ("labels", "logits", "embedding")), rel=1e-5
    )
    assert rows[-1]["loss"] < rows[1]["loss"]
    # The head and the map from 8 to the teacher's 16 numbers taught and are gone.
    assert keys(out / LAST) >= {"net", "head", "projection", "optimizer"}
    assert keys(out / MODEL) == {"net"}
    assert load_model(out).contract.dim == 8
    assert (teacher / MODEL).read_bytes() == before


def test_without_a_map_where_the_dimensions_agree(tmp_path: Path, store: Path, teacher: Path) -> None:
    out = distill(data=[store], teacher=teacher, out=tmp_path, dim=16, epochs=0.7, term=["embedding=10"], **SMALL).out
    assert keys(out / LAST) == {"net", "optimizer", "rng"}
    assert {"labels", "logits"}.isdisjoint(read_metrics(out)[-1])


def test_the_control_learns_from_labels_alone(tmp_path: Path, store: Path) -> None:
    out = distill(data=[store], out=tmp_path, dim=8, epochs=0.7, **SMALL).out
    last = read_metrics(out)[-1]
    assert last["loss"] == last["labels"]
    assert {"logits", "embedding", "held_out_cosine"}.isdisjoint(last)


@pytest.mark.slow
def test_an_onnx_teacher_on_crops_without_people(
    tmp_path: Path, nameless: Path, onnx_teacher: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path, contract = onnx_teacher
    flags: dict[str, Any] = {**SMALL, "quiet": False, "net": "mobilefacenet-half", "held_out": 0.25}
    out = distill(
        data=[nameless], teacher=path, contract=contract, out=tmp_path / "run", dim=12, epochs=9, lr=0.05, **flags
    ).out
    said = capsys.readouterr().err
    assert f"learns from 10 embedding; teacher {path} (8 dimensions, through a learned map from 12)" in said
    rows = read_metrics(out)
    assert rows[-1].keys() == {"step", "loss", "lr", "embedding", "held_out_cosine"}
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0]
    assert rows[-1]["held_out_cosine"] > rows[0]["held_out_cosine"] + 0.1
    assert keys(out / LAST) == {"net", "projection", "optimizer", "rng"}
    assert keys(out / MODEL) == {"net"}
    # And it is the same run that goes on.
    assert run(["distill", "--resume", str(out), "--quiet"]) == 0
    assert read_metrics(out) == rows


def test_a_teacher_of_other_people_is_refused(tmp_path: Path, store: Path, teacher: Path) -> None:
    others = write_store(tmp_path / "others", people=8, photos=2, first=20)
    with pytest.raises(
        UserError,
        match=r"teacher: its head knows 4 identities, .*others has 5 others.*leave --term logits out"
        r" \(name the others: --term labels=1 --term embedding=10\)",
    ):
        distill(data=[others], teacher=teacher, out=tmp_path / "run", **SMALL)
    assert not (tmp_path / "run").exists()
    # Its embedding can teach them.
    terms = ["labels=1", "embedding=10"]
    distill(data=[others], teacher=teacher, out=tmp_path / "run", dim=8, term=terms, epochs=1.7, **SMALL)
    assert {"labels", "embedding"} <= read_metrics(tmp_path / "run")[-1].keys()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"data": "nameless"}, "nothing to learn from, the weights' sum is zero; give --teacher"),
        ({"term": ["labels=0"]}, "nothing to learn from"),
        ({"term": ["labels=-1"]}, "--term labels=-1: give NAME=NUMBER with zero"),
        ({"term": ["labels"]}, "--term labels: give NAME=NUMBER"),
        ({"term": ["embedding=nan"]}, "--term embedding=nan"),
        ({"term": ["labels=1", "labels=2"]}, "labels is given twice"),
        ({"term": ["lables=1"]}, "no term 'lables'; did you mean 'labels'"),
        ({"term": ["labels=1"], "data": "nameless"}, "--term labels: needs identities, and no crop of .*faces.parquet"),
        ({"term": ["labels=1", "ekd=1"]}, "--term ekd: needs a teacher; give --teacher, or leave --term ekd out"),
        ({"term": ["dkd=1"], "teacher": "onnx"}, "needs a teacher's head, and .*net.onnx is an ONNX file; give a run"),
        ({"term": ["weights=1"], "teacher": "onnx"}, "needs a facekd run as teacher, .*net.onnx is an ONNX file"),
        ({"term": ["labels=1"], "teacher": "onnx"}, "net.onnx: would teach nothing"),
        ({"term": ["labels=1"], "ramp": ["logits=0.1"]}, "--ramp logits=0.1: this run has no such term"),
        ({"term": ["labels=1"], "ramp": ["labels=3"]}, "--ramp labels=3: is a share of the run"),
        ({"ramp": ["label=0.1"]}, "--ramp label=0.1: no term 'label'"),
        ({"label_head": "arcface", "margin": 28.6}, "--margin 28.6: is radians for arcface"),
        ({"label_head": "cosface", "margin": 1.5}, "--margin 1.5: is a difference of cosines"),
        ({"label_head": "cosface", "scale": 0.0}, "--scale 0: use a number above zero"),
        ({"margin": 0.5}, "--margin 0.5: softmax has no margin"),
        ({"scale": 30.0}, "--scale 30: softmax has no scale"),
        ({"label_head": "normsoftmax", "margin": 0.5}, "normsoftmax has no margin"),
        (
            {"label_head": "arcface", "term": ["cosine=1"], "teacher": "onnx"},
            "--label-head arcface: no term of this run",
        ),
        ({"top_k": 1}, "--top-k 1"),
        ({"top_k": 5, "term": ["labels=1"]}, "--top-k 5: no term of this run uses it"),
        ({"weights_decay": 0.1}, "--weights-decay 0.1: no term of this run uses it; add --term weights"),
        ({"weights_decay": -0.1}, "--weights-decay -0.1"),
        ({"temperature": 0.0}, "--temperature 0"),
        ({"activation": "gelu"}, "--activation gelu: there is no such activation; choose from prelu, relu"),
        ({"contract": Path("c.yaml")}, "is for a teacher"),
        ({"teacher": Path("no/teacher")}, "no trained network there"),
        ({"net": "mobilefacent"}, "did you mean 'mobilefacenet'"),
    ],
)
def test_a_student_with_nothing_to_learn_is_refused_before_it_begins(
    tmp_path: Path, store: Path, nameless: Path, onnx_teacher: tuple[Path, Path], flags: dict[str, Any], words: str
) -> None:
    if flags.get("teacher") == "onnx":
        flags = {**flags, "teacher": onnx_teacher[0], "contract": onnx_teacher[1]}
    data = nameless if flags.get("data") == "nameless" else store
    with pytest.raises(UserError, match=words):
        distill(**{**SMALL, **flags, "data": [data], "out": tmp_path / "run"})
    assert not (tmp_path / "run").exists()


def test_crops_of_another_size_than_the_teachers_are_refused(
    tmp_path: Path, store: Path, onnx_teacher: tuple[Path, Path]
) -> None:
    big = [{"bytes": encode_crop(person(i % 6, i, 48)), "path": None} for i in range(24)]
    pq.write_table(pa.table({"image": big, "identity": [f"p{i % 6}" for i in range(24)]}), tmp_path / "big.parquet")
    with pytest.raises(UserError, match="align them at 32 pixels"):
        distill(data=[tmp_path / "big.parquet"], teacher=onnx_teacher[0], contract=onnx_teacher[1],
                out=tmp_path / "run", **SMALL)  # fmt: skip
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="align both alike"):
        distill(data=[store, tmp_path / "big.parquet"], out=tmp_path / "run", **SMALL)
