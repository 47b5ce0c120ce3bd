"""The Flower app of real sites: what it is written into, and what its coordinator says where it can't go on."""

from __future__ import annotations

import logging
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'facekd[federated]'")

from facekd.core.files import exclusive
from facekd.errors import UserError
from facekd.recipes.federated_app import coordinator, write_app
from facekd.recipes.site import Assignment
from facekd.settings.federation import Sites

ASSIGNMENT = Assignment(
    net="mobilefacenet-half", activation="prelu", dim=8, size=32, template="arcface", teacher="0123", teacher_dim=8,
    terms={"embedding": 10.0}, rounds=2, steps=2, batch=4, lr=0.01, optimizer="muon", weight_decay=0.0,
    augment="plain", seed=0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def flower_as_it_was() -> Iterator[None]:
    logger = logging.getLogger("flwr")
    before = list(logger.filters)
    yield
    logger.filters = before


@pytest.mark.parametrize("name", ["student", '😀 and a \\ " \x7f'])
def test_where_the_student_goes_is_read_as_it_was_written(tmp_path: Path, name: str) -> None:
    write_app(tmp_path / "app", ASSIGNMENT, Sites(app=tmp_path / "app"), tmp_path / name)
    write_app(tmp_path / "app", ASSIGNMENT, Sites(app=tmp_path / "app"), tmp_path / name)  # its own it writes again
    config = tomllib.loads((tmp_path / "app" / "pyproject.toml").read_text())["tool"]["flwr"]["app"]["config"]
    assert config["out"] == str(tmp_path / name)
    assert Assignment.from_json(config["assignment"]) == ASSIGNMENT


def test_another_projects_file_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'mine'\n")
    with pytest.raises(UserError, match=r"has a pyproject\.toml of another project"):
        write_app(tmp_path, ASSIGNMENT, Sites(app=tmp_path), tmp_path / "out")
    assert (tmp_path / "pyproject.toml").read_text() == "[project]\nname = 'mine'\n"
    assert len(list(tmp_path.iterdir())) == 1


def run(out: Path, **changed: Any) -> None:
    """The coordinator, to whom no site ever comes."""
    config = {"assignment": ASSIGNMENT.to_json(), "out": str(out), "sites": 2, "least": 2, "patience": 1e-3,
              "secure": False}  # fmt: skip
    grid: Any = SimpleNamespace(get_node_ids=lambda: [])
    context: Any = SimpleNamespace(run_config={**config, **changed}, run_id=1)
    coordinator()(grid, context)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({}, "0 of 2 sites connected"),
        ({"least": 0}, "--least 0"),
        ({"patience": -1.0}, "--patience -1"),
        ({"secure": True}, "--secure"),
        ({"assignment": "{}"}, "the coordinator speaks form None"),
    ],
)
def test_what_ends_a_coordinator_is_a_sentence(
    tmp_path: Path, changed: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not an exit: Flower would not see it, and say after a minute that it hears nothing of the run."""
    with pytest.raises(UserError, match=words) as raised:
        run(tmp_path / "run", **changed)
    assert words in capsys.readouterr().err
    record = logging.LogRecord("flwr", 40, "", 1, "raised", None, (UserError, raised.value, None))
    assert logging.getLogger("flwr").filter(record)
    assert record.exc_info is None  # no traceback


def test_one_run_at_a_time_writes_a_students_folder(tmp_path: Path) -> None:
    with exclusive(tmp_path / "run"), pytest.raises(UserError, match="another command is writing it"):
        run(tmp_path / "run")
