"""Every head and term in a real run on tiny people: learned, logged, resumed, and never carried out of the run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import oracles
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from toy import SMALL, Killed, contract_file, keys, killed_after, onnx_of, person, tiny_net, write_store

from facekd.commands.distill import distill
from facekd.commands.nets import nets
from facekd.commands.train_teacher import train_teacher
from facekd.core.choices import HEADS, HeadName
from facekd.core.pixels import encode_crop
from facekd.core.run import read_metrics
from facekd.crops.training import read_training_crops
from facekd.errors import UserError
from facekd.losses.heads import norm_quality
from facekd.nets.heads import HEAD, Head, load_head
from facekd.nets.saved import MODEL, load_model
from facekd.recipes import train as training_walk
from facekd.recipes.label_heads import head_loss
from facekd.recipes.terms import DEFAULTS, term_table
from facekd.teachers import teacher as teachers
from facekd.training.checkpoint import LAST

TERMS = sorted(term_table())


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def nameless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Image Parquet of 16 crops whose people are not known."""
    path = tmp_path_factory.mktemp("nameless") / "faces.parquet"
    images = [{"bytes": encode_crop(person(30 + i, i)), "path": None} for i in range(16)]
    pq.write_table(pa.table({"image": images, "identity": pa.array([None] * 16, pa.string())}), path)
    return path


def assert_sums(row: dict[str, float], names: list[str]) -> None:
    assert all(np.isfinite(row[name]) for name in names)
    assert row["loss"] == pytest.approx(sum(row[name] for name in names), rel=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_a_heads_loss_is_its_papers_on_its_own_cosines(name: str) -> None:
    torch.manual_seed(3)
    numbers = {"scale": 8.0} if HEADS[name].scale is not None else {}
    head = Head(name, 6, 4, **numbers).double().eval()
    embeddings, labels = torch.randn(5, 6, dtype=torch.float64) * 20, torch.tensor([0, 3, -1, 2, 1])
    outputs = head(embeddings)
    found = head_loss(head, outputs, embeddings, labels).item()
    if name == "softmax":
        wanted = torch.nn.functional.cross_entropy(outputs[labels >= 0], labels[labels >= 0]).item()
    else:
        nearest = (outputs.amax(2) if name == "subarcface" else outputs).tolist()
        quality = None
        if name == "adaface":
            quality = norm_quality(embeddings.norm(dim=1), head.norm_mean, head.norm_deviation).tolist()
        kind = "arcface" if name == "subarcface" else name
        wanted = oracles.margin_loss(kind, nearest, labels.tolist(), HEADS[name].margin or 0.0, 8.0, quality)
    assert found == pytest.approx(wanted, rel=1e-6)


def test_adafaces_lengths_follow_in_training_only() -> None:
    head = Head("adaface", 6, 4)
    embeddings, labels = torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), torch.arange(5) % 4
    head_loss(head.eval(), head(embeddings), embeddings, labels)
    assert float(head.norm_mean) == 20
    head_loss(head.train(), head(embeddings), embeddings, labels)
    assert float(head.norm_mean) < 20


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in HEADS if name != "softmax"])
def test_a_teacher_of_each_head_teaches_its_logits(tmp_path: Path, store: Path, name: str) -> None:
    numbers = {} if name == "normsoftmax" else {"margin": 0.2}
    taught = train_teacher(
        data=[store], out=tmp_path / "t", dim=16, epochs=1.4, head=name, scale=16.0, lr=0.02, **numbers, **SMALL
    )
    found = load_head(taught.out / HEAD)
    assert (found.head.name, found.head.scale, found.model_id) == (name, 16.0, taught.model_id)
    assert found.head.margin == numbers.get("margin")
    assert np.isfinite(read_metrics(taught.out)[-1]["labels"])
    terms = ["labels=1", "logits=1", "proxyless=0.1"]
    out = distill(
        data=[store], teacher=taught.out, out=tmp_path / "s", dim=8, epochs=0.7, term=terms, label_head=name, **SMALL
    ).out
    assert_sums(read_metrics(out)[-1], ["labels", "logits", "proxyless"])
    assert keys(out / LAST) >= {"net", "head", "projection"}
    assert keys(out / MODEL) == {"net"}
    assert not (out / HEAD).exists()


def test_all_terms_in_one_run_and_the_teacher_stays_as_it_is(
    tmp_path: Path, store: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[teachers.Teacher] = []
    load = teachers.load_teacher
    monkeypatch.setattr("facekd.recipes.teachers.load_teacher", lambda *a: loaded.append(load(*a)) or loaded[-1])
    terms = [f"{name}=0.01" for name in reversed(TERMS)]
    out = distill(data=[store], teacher=teacher, out=tmp_path, dim=16, epochs=3, term=terms, top_k=3, **SMALL).out
    last = read_metrics(out)[-1]
    assert_sums(last, TERMS)
    assert all(last[name] > 0 for name in TERMS)
    assert keys(out / LAST) == {"net", "head", "ekd", "adadistill", "optimizer", "rng"}
    assert keys(out / MODEL) == {"net"}
    (used,) = loaded
    assert used.net is not None
    assert used.head is not None
    fresh = load(teacher, None, torch.device("cpu"))
    for one, two in ((used.net, fresh.net), (used.head, fresh.head)):
        assert two is not None
        assert not any(p.requires_grad or p.grad is not None for p in one.parameters())
        assert all(torch.equal(value, two.state_dict()[key]) for key, value in one.state_dict().items())


@pytest.mark.parametrize("name", [n for n in TERMS if "map" in term_table()[n].needs])
def test_terms_on_embeddings_learn_through_a_map_where_dimensions_differ(
    tmp_path: Path, store: Path, teacher: Path, name: str
) -> None:
    out = distill(data=[store], teacher=teacher, out=tmp_path, dim=8, epochs=0.7, term=[f"{name}=1"], **SMALL).out
    assert "projection" in keys(out / LAST)
    assert "held_out_cosine" in read_metrics(out)[-1]


@pytest.mark.parametrize("term", ["rkd_distance=25", "logits=1", "weights=1"])
def test_a_term_falls_when_it_is_learned(
    tmp_path: Path, store: Path, teacher: Path, term: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_walk, "LOG_EVERY", 1)
    out = distill(data=[store], teacher=teacher, out=tmp_path, dim=16, epochs=5, lr=0.05, term=[term], **SMALL).out
    losses = [row["loss"] for row in read_metrics(out) if "loss" in row]
    assert np.mean(losses[-3:]) < 0.8 * np.mean(losses[:3])


@pytest.mark.slow
def test_a_run_with_moving_parts_goes_on_to_the_same_bits(
    tmp_path: Path, store: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = {
        "data": [store], "teacher": teacher, "dim": 8, "epochs": 4.0, "label_head": "adaface", "scale": 8.0,
        "term": ["labels=1", "ekd=0.02", "adadistill=0.1"], "ramp": ["ekd=0.5"], **SMALL,
    }  # fmt: skip
    whole = distill(out=tmp_path / "whole", **flags).out

    monkeypatch.setattr(training_walk, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(training_walk, "LOG_EVERY", 1)
    with monkeypatch.context() as patch:
        patch.setattr(training_walk, "progress", killed_after(5))
        with pytest.raises(Killed):
            distill(out=tmp_path / "cut", **flags)
    assert [row["step"] for row in read_metrics(tmp_path / "cut")][-1] == 5
    distill(out=tmp_path / "cut", **flags)
    assert (whole / MODEL).read_bytes() == (tmp_path / "cut" / MODEL).read_bytes()
    assert (whole / LAST).read_bytes() == (tmp_path / "cut" / LAST).read_bytes()


@pytest.mark.slow
def test_a_ramp_raises_a_weight_over_its_share_of_the_run(
    tmp_path: Path, store: Path, teacher: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_walk, "LOG_EVERY", 1)
    rows = []
    for name, ramp in (("plain", None), ("risen", ["embedding=0.5"])):
        # A learning rate of next to nothing: the two runs differ in the weight alone.
        out = distill(data=[store], teacher=teacher, out=tmp_path / name, dim=16, epochs=2.7, lr=1e-12,
                      term=["labels=1", "embedding=10"], ramp=ramp, **SMALL).out  # fmt: skip
        rows.append([row for row in read_metrics(out) if "loss" in row])
    ratios = [b["embedding"] / a["embedding"] for a, b in zip(*rows, strict=True)]
    assert ratios == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1, 1, 1], rel=1e-3)
    assert [a["labels"] for a in rows[0]] == pytest.approx([b["labels"] for b in rows[1]], rel=1e-4)


def test_crops_without_people_count_for_the_terms_that_need_none(
    tmp_path: Path, store: Path, nameless: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read_training_crops([store, nameless], 0.34, 0)
    assert sorted(np.unique(data.labels, return_counts=True)[1].tolist()) == [6, 6, 6, 6, 16]
    assert (data.labels == -1).sum() == 16
    assert None not in data.held.identities
    out = distill(data=[store, nameless], teacher=teacher, out=tmp_path / "run", dim=8, epochs=1.4,
                  term=["labels=1", "logits=1", "dkd=1", "cosine=1"], **{**SMALL, "quiet": False}).out  # fmt: skip
    assert_sums(read_metrics(out)[-1], ["labels", "logits", "dkd", "cosine"])
    said = capsys.readouterr().err
    assert "40 crops (16 without identity), 4 identities, 12 crops held out" in said
    assert f"learns from 1 labels, 1 logits, 1 dkd, 1 cosine; teacher {teacher}" in said


def test_a_facekd_teachers_logits_teach_on_crops_without_people(tmp_path: Path, nameless: Path, teacher: Path) -> None:
    out = distill(data=[nameless], teacher=teacher, out=tmp_path, dim=8, epochs=1, **SMALL).out
    last = read_metrics(out)[-1]
    assert_sums(last, ["logits", "embedding"])
    assert "labels" not in last
    assert (out / "run.yaml").read_text().count("=") == 2  # what it resolved to: logits=1 and embedding=10


def test_names_in_several_sets_are_one_person_and_said(tmp_path: Path, store: Path) -> None:
    more = write_store(tmp_path / "more", people=3, photos=2, first=5)
    data = read_training_crops([store, more], 0.25, 0)
    assert data.shared == 1
    assert "1 names lie in several sets and are taken as one person each" in data.said()
    assert "several" not in read_training_crops([store], 0.34, 0).said()


def test_a_student_is_a_teacher_without_a_head(tmp_path: Path, store: Path, teacher: Path) -> None:
    first = distill(data=[store], teacher=teacher, out=tmp_path / "one", dim=8, epochs=0.7, **SMALL).out
    with pytest.raises(UserError, match=r"--term hard: needs a teacher's head, and .*one was kept without one"):
        distill(data=[store], teacher=first, out=tmp_path / "two", dim=8, term=["hard=1"], **SMALL)
    out = distill(data=[store], teacher=first, out=tmp_path / "two", dim=8, epochs=0.7, **SMALL).out
    assert {"labels", "embedding"} <= read_metrics(out)[-1].keys()  # of the defaults those that it can carry
    assert "logits" not in read_metrics(out)[-1]


def test_weights_that_nothing_shares_are_refused_with_both_sides_shapes(
    tmp_path: Path, store: Path, teacher: Path
) -> None:
    flags = {**SMALL, "net": "mobilefacenet-half"}
    with pytest.raises(UserError, match=r"--term weights: the student \(net\.layers.*\(32, 3, 3, 3\).*share no"):
        distill(data=[store], teacher=teacher, out=tmp_path / "run", dim=8, term=["weights=1"], **flags)
    assert not (tmp_path / "run").exists()


def test_another_activation_is_kept(tmp_path: Path, store: Path) -> None:
    flags = {**SMALL, "net": "mobilefacenet-half"}
    out = distill(data=[store], out=tmp_path, dim=8, epochs=0.7, activation="relu", **flags).out
    assert not any(isinstance(module, torch.nn.PReLU) for module in load_model(out).net.modules())


def test_an_onnx_teachers_embeddings_carry_adadistill_and_ekd(tmp_path: Path, store: Path) -> None:
    onnx = onnx_of(tiny_net(), tmp_path / "net.onnx")
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=32)
    out = distill(data=[store], teacher=onnx, contract=contract, out=tmp_path / "run", dim=12, epochs=0.7,
                  term=["adadistill=1", "ekd=0.02"], **SMALL).out  # fmt: skip
    assert_sums(read_metrics(out)[-1], ["adadistill", "ekd"])


@pytest.mark.slow
@pytest.mark.parametrize("head", ["softmax", "arcface"])
def test_kept_embeddings_teach_what_the_live_teacher_would(
    tmp_path: Path, store: Path, head: HeadName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_walk, "LOG_EVERY", 1)
    taught = train_teacher(data=[store], out=tmp_path / "t", dim=16, epochs=0.7, head=head, **SMALL).out
    terms = ["labels=1", "logits=1", "embedding=10", "embedding_raw=1"]
    flags = {"data": [store], "teacher": taught, "dim": 16, "epochs": 2, "lr": 0.002, "term": terms, **SMALL}
    live = distill(out=tmp_path / "live", **flags).out
    calls: list[int] = []
    load = teachers.load_teacher

    def counted(*args: Any) -> teachers.Teacher:
        teacher = load(*args)

        def embed(images: torch.Tensor) -> torch.Tensor:
            calls.append(len(images))
            return teacher.embed(images)

        return dataclasses.replace(teacher, embed=embed)

    monkeypatch.setattr("facekd.recipes.teachers.load_teacher", counted)
    kept = [distill(out=tmp_path / name, views=2, cache=tmp_path / "cache", **flags).out for name in ("one", "two")]
    # Two epochs show views 0 and 1 of each crop, kept or not; the second run finds them kept.
    rows = [[row for row in read_metrics(out) if "loss" in row] for out in (live, *kept)]
    assert len(rows[0]) == 6
    for one, two in zip(rows[0], rows[1], strict=True):
        for name in ("loss", "labels", "logits", "embedding", "embedding_raw"):
            assert two[name] == pytest.approx(one[name], rel=1e-3)
    assert rows[1] == rows[2]
    first, second = sum(calls), sum(calls[len(calls) // 2 :])
    assert first > 2 * 24
    assert second < first / 2  # held-out crops and the check of the cache are left


def test_views_without_a_teacher_are_refused(tmp_path: Path, store: Path) -> None:
    with pytest.raises(UserError, match=r"--views 2: keeps what a teacher says.*give --teacher too"):
        distill(data=[store], views=2, out=tmp_path / "run", **SMALL)


def test_the_defaults_are_terms() -> None:
    assert set(DEFAULTS) <= set(TERMS)
    assert {need for term in term_table().values() for need in term.needs} == {
        "labels", "teacher", "logits", "net", "finished", "head", "map",
    }  # fmt: skip


@pytest.mark.slow
def test_nets_lists_what_the_papers_count(capsys: pytest.CaptureFixture[str]) -> None:
    found = {net.name: net for net in nets()}
    shown = capsys.readouterr().out
    # MobileFaceNet, Table 1: 0.99 M parameters, 221 M multiply-adds with a 128-d embedding.
    assert (found["mobilefacenet"].dim, found["mobilefacenet"].parameters) == (128, pytest.approx(0.993e6, rel=1e-3))
    assert found["mobilefacenet"].macs == pytest.approx(221e6, rel=5e-3)
    assert found["iresnet50"].parameters == pytest.approx(43.6e6, rel=5e-3)
    assert all(name in shown for name in found)
    assert "0.993 M" in shown
    assert len(found) >= 8
    wide = {net.name: net for net in nets(dim=512, quiet=True)}
    assert wide["mobilefacenet"].parameters == pytest.approx(1.19e6, rel=1e-3)
    for flags, words in (({"size": 100}, "multiple of 16"), ({"dim": 0}, "--dim 0"), ({"size": 0}, "--size 0")):
        with pytest.raises(UserError, match=words):
            nets(**flags)
