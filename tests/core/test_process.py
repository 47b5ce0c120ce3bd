"""A command's door: text for paths, and the caller's process as it was."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import os
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from facekd.cli import COMMANDS, GROUPS
from facekd.core.files import exclusive
from facekd.core.process import left_as_it_was, set_torch_threads, until_the_end
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.group import groups_of

TARGETS = [target for target, _ in COMMANDS.values()]
TARGETS += [target for _, commands in GROUPS.values() for target, _ in commands.values()]


@door
def seen(
    one: Path, several: list[Path] | None = None, either: Path | list[Path] | None = None, *, text: str = ""
) -> object:
    return one, several, either, text


def test_text_becomes_a_path_wherever_a_path_is_asked_for() -> None:
    assert seen("a", ["b", Path("c")], either=["d"], text="e") == (Path("a"), [Path("b"), Path("c")], [Path("d")], "e")  # type: ignore[arg-type, list-item]
    assert seen("a", "b", "c") == (Path("a"), [Path("b")], Path("c"), "")  # type: ignore[arg-type]
    assert seen(Path("a")) == (Path("a"), None, None, "")
    with pytest.raises(TypeError, match="one"):
        seen()  # type: ignore[call-arg]


@pytest.mark.parametrize("target", TARGETS)
def test_every_command_takes_text_for_its_paths(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not there is refused in a sentence, not by an attribute that text has not."""
    module, name = target.split(":")
    command = getattr(importlib.import_module(module), name)
    assert hasattr(command, "__wrapped__"), f"{target} has no door"
    monkeypatch.chdir(tmp_path)
    missing = {
        name: "nowhere"
        for name, parameter in inspect.signature(command).parameters.items()
        if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL
    }
    for group, kind in groups_of(command).items():  # by the names of the fields that it needs
        if missing.pop(group, None) is not None:
            needed = [f for f in dataclasses.fields(kind) if f.default is f.default_factory is dataclasses.MISSING]
            missing |= {field.name: "nowhere" for field in needed}
    if not missing:
        return
    with pytest.raises(UserError):
        command(**missing)
    if "gallery" in missing:
        with pytest.raises(UserError):
            command(**{**missing, "gallery": Path("nowhere")})


def test_threads_random_state_and_environment_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FACEKD_TEST_KEPT", "1")
    before, threads = torch.get_rng_state(), torch.get_num_threads()

    @door
    def disturb() -> None:
        set_torch_threads(threads + 1)
        set_torch_threads(threads + 2)
        torch.manual_seed(123)
        os.environ["FACEKD_TEST_NEW"] = "1"
        del os.environ["FACEKD_TEST_KEPT"]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):  # also where the command fails
        disturb()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), before)
    assert "FACEKD_TEST_NEW" not in os.environ
    assert os.environ["FACEKD_TEST_KEPT"] == "1"


def test_accelerate_begins_anew_in_each_command_and_the_callers_comes_back() -> None:
    before = dict(AcceleratorState._shared_state)
    with left_as_it_was():
        mine = Accelerator(mixed_precision="bf16")
        with left_as_it_was():
            assert Accelerator().mixed_precision == "no"
        with left_as_it_was():
            assert Accelerator(mixed_precision="bf16").mixed_precision == "bf16"
        assert mine.mixed_precision == "bf16"
        assert Accelerator().mixed_precision == "bf16"
    assert AcceleratorState._shared_state == before


def test_a_folder_is_held_until_the_command_ends(tmp_path: Path) -> None:
    with left_as_it_was():
        until_the_end(exclusive(tmp_path))
        with pytest.raises(UserError, match="another command is writing it"), left_as_it_was():
            until_the_end(exclusive(tmp_path))
    with left_as_it_was():
        until_the_end(exclusive(tmp_path))
