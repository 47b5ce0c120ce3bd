"""A folder with everything that the manual's commands speak of, of people who do not exist, made once."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import facekd
from facekd.core.files import write_csv
from facekd.crops.store import CropStore

PEOPLE, PHOTOS = 12, 5
SHORT = {"epochs": 0.3, "batch": 8, "held_out": 0.3, "quiet": True}  # of a training: a step or two


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos, people, crops, pairs.csv, runs, model.onnx, staff.gallery and so on, as the pages call them."""
    folder = tmp_path_factory.mktemp("world")
    facekd.synth(folder / "synth", people=PEOPLE, photos=PHOTOS, quiet=True)
    people = folder / "synth" / "photos"
    shutil.copytree(people, folder / "people")
    shutil.copytree(people, folder / "photos")
    shutil.make_archive(str(folder / "people"), "zip", people)
    (anna, another), *_ = [sorted(one.iterdir())[:2] for one in sorted(people.iterdir())]
    for name in ("a.jpg", "who.jpg", "anna.jpg", "visitor.jpg"):
        shutil.copy(anna, folder / name)
    shutil.copy(another, folder / "b.jpg")
    shutil.rmtree(folder / "synth")

    crops = folder / "crops"
    facekd.align(folder / "people", crops, quiet=True)
    kept = CropStore.open(crops).crops()
    images = [{"bytes": image, "path": None} for image in kept["image"].to_pylist()]
    pq.write_table(pa.table({"image": images, "identity": kept["identity"]}), folder / "faces.parquet")
    names = sorted(path.relative_to(folder / "people").as_posix() for path in (folder / "people").rglob("*.jpg"))
    _write_lists(folder, names)
    _write_models(folder)
    facekd.train_teacher(data=crops, net="iresnet18-quarter", out=folder / "runs" / "teacher", **SHORT)
    shutil.copytree(folder / "runs" / "teacher", folder / "RUN")
    for out, teacher in (("alone", None), ("student", folder / "runs" / "teacher")):
        facekd.distill(data=crops, teacher=teacher, out=folder / "runs" / out, **SHORT | {"epochs": 1})
    facekd.export(folder / "runs" / "student", folder / "student.onnx", quiet=True)
    # The network that comes along takes drawn people for one another.
    facekd.enroll(folder / "people", folder / "staff.gallery", accept_suspects=True, quiet=True)
    return folder


def _write_lists(folder: Path, names: list[str]) -> None:
    """All pairs of the photos as a list, as scores of somebody's system and as groups; templates of two photos."""
    rows, scores = [], []
    for i, one in enumerate(names):
        for other in names[:i]:
            left, right = one.split("/")[0], other.split("/")[0]
            same = int(left == right)
            rows.append([one, other, str(same)])
            sex = "female" if int(left[-1]) % 2 else "male"
            score = (same + number_of(one + other)) / 2
            scores.append([f"{score:.4f}", str(same), one, other, left, right, sex])
    write_csv(folder / "pairs.csv", ["a", "b", "same"], rows)
    heading = ["score", "label", "a", "b", "left_person", "right_person", "sex"]
    write_csv(folder / "vendor.csv", heading, scores)
    (folder / "calibration").mkdir()
    early = [row for row in scores if max(row[4:6]) <= f"person-{PEOPLE // 2:04d}"]
    write_csv(folder / "calibration" / "vendor.csv", heading, early)
    people = sorted({name.split("/")[0] for name in names})
    write_csv(folder / "attributes.csv", ["person", "sex"], [[one, "fm"[k % 2]] for k, one in enumerate(people)])
    templates = sorted({f"{name.split('/')[0]}-{i % PHOTOS // 2}" for i, name in enumerate(names)})
    couples = [[a, b, str(int(a[:-2] == b[:-2]))] for i, a in enumerate(templates) for b in templates[:i]]
    write_csv(folder / "template-pairs.csv", ["a", "b", "same"], couples)
    made = [[f"{name.split('/')[0]}-{i % PHOTOS // 2}", name, name.split("/")[0], name] for i, name in enumerate(names)]
    write_csv(folder / "templates.csv", ["template", "photo", "person", "media"], made)


def number_of(text: str) -> float:
    """A number in [0, 1) that is the same each time."""
    return zlib.crc32(text.encode()) / 2**32


def _write_models(folder: Path) -> None:
    """The model that comes along, and the same as a file that says nothing of itself, with its contract."""
    own = Path(facekd.__file__).parent / "weights" / "mobilefacenet-se.onnx"
    shutil.copy(own, folder / "model.onnx")
    bare = onnx.load(str(own))
    del bare.metadata_props[:]
    onnx.save(bare, str(folder / "anybodys.onnx"))
    (folder / "c.yaml").write_text("dim: 256\nmean: [127.5, 127.5, 127.5]\nstd: [127.5, 127.5, 127.5]\n")
    (folder / "align.yaml").write_text("photos: photos/\nout: crops-largest/\nchoose: largest\n")
    (folder / "grid.yaml").write_text(
        "base: {data: [crops/], teacher: runs/teacher, epochs: 0.3, batch: 8, held-out: 0.3, term: {labels: 1}}\n"
        "cells: {logits: {term: {labels: 1, logits: 1}}}\n"
    )


@pytest.fixture
def workplace(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], Path]:
    """Go into a copy of the world, in which a page's commands may do as they like."""

    def enter(empty: bool = False) -> Path:
        place = tmp_path / "here"
        shutil.copytree(world, place) if not empty else place.mkdir()
        (place / "gallery.key").write_text("ab" * 32)
        os.chmod(place / "gallery.key", 0o600)
        monkeypatch.chdir(place)
        return place

    return enter
