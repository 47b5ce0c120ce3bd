"""What the stages' tests share: a store of people who are patterns, and sums in one order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from toy import write_store


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
