"""What the stages' tests share: a store of people who are patterns, their teacher, and sums in one order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from people import NEAR, write_model, write_people
from toy import SMALL, person, write_store

from facekd.commands.train_teacher import train_teacher
from facekd.core.pixels import encode_crop


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Sums in one order, here and in the processes that are started with one thread and killed."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 people of 6 crops; with 0.34 held out 4 train, which is 3 steps of 8 crops an epoch."""
    return write_store(tmp_path_factory.mktemp("data") / "crops")


@pytest.fixture(scope="module")
def teacher(store: Path) -> Path:
    """An IResNet of 16 numbers that has learned the four."""
    return train_teacher(data=[store], out=store.parent / "teacher", dim=16, epochs=8, **SMALL).out


@pytest.fixture
def nameless(tmp_path: Path) -> Path:
    """Image Parquet as Hugging Face writes it, of crops whose people are not known."""
    images = [{"bytes": encode_crop(person(i % 12, i)), "path": None} for i in range(48)]
    table = pa.table({"image": images, "identity": pa.array([None] * 48, pa.string())})
    pq.write_table(table, tmp_path / "faces.parquet")
    return tmp_path / "faces.parquet"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model.onnx", {1e-3: NEAR})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four people, three photos each; every photo is a crop."""
    return write_people(tmp_path / "people")
