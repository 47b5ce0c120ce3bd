"""A setting stands in one place, and is the same from the command line, from run.yaml and from Python."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections import Counter
from pathlib import Path

import pytest

from facekd.cli import COMMANDS, GROUPS, run
from facekd.errors import UserError
from facekd.settings.door import door
from facekd.settings.group import flag_names, flat, flattened, grouped, groups_of, settings
from facekd.settings.training import Objective, Optimization, StudentOptimization, TrainingData, TrainingRuntime

TARGETS = {name: target for name, (target, _) in COMMANDS.items()}
TARGETS |= {f"{one} {two}": target for one, (_, two_) in GROUPS.items() for two, (target, _) in two_.items()}


@settings("Data")
class Basket:
    """What is carried."""

    fruit: list[Path]
    """Where the fruit lies."""
    weight: float = 1.0
    """In kg."""

    def __post_init__(self) -> None:
        if self.weight < 0:
            raise UserError(f"--weight {self.weight}: use a number from zero up")


@settings("Data")
class HeavyBasket(Basket):
    """The same by other default."""

    weight: float = 9.0
    """In kg."""


@door
def carry(basket: Basket, heavy: HeavyBasket | None = None, *, speed: float = 1.0) -> tuple[Basket, float]:
    return basket, speed


def test_a_group_is_taken_whole_or_by_its_fields() -> None:
    whole = Basket(fruit=["a", "b"])  # type: ignore[list-item]
    assert whole.fruit == [Path("a"), Path("b")]
    assert carry(basket=whole) == carry(fruit=["a", "b"]) == (whole, 1.0)
    assert carry(fruit="a", weight=2, speed=3.0) == (Basket(fruit=[Path("a")], weight=2), 3.0)
    with pytest.raises(TypeError, match="basket as a whole or weight, not both"):
        carry(basket=whole, weight=2)
    with pytest.raises(TypeError, match="basket as a whole or weight, not both"):
        carry(whole, weight=2)
    with pytest.raises(TypeError, match="basket as Basket, not int"):
        carry(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="multiple values for argument 'basket'"):
        carry(whole, basket=whole)
    assert carry(whole, speed=2) == (whole, 2)
    assert carry(whole, HeavyBasket(fruit=[])) == (whole, 1.0)
    with pytest.raises(TypeError, match="too many positional arguments"):
        carry(whole, None, 1.0)  # type: ignore[misc]
    with pytest.raises(TypeError, match="nonsense"):
        carry(fruit="a", nonsense=1)
    with pytest.raises(TypeError, match="basket"):
        carry()
    with pytest.raises(TypeError, match="fruit"):
        carry(weight=3)


def test_what_cannot_be_is_refused_in_a_subclass_too() -> None:
    for kind in (Basket, HeavyBasket):
        with pytest.raises(UserError, match="--weight -1"):
            kind(fruit=[], weight=-1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        Basket(fruit=[]).weight = 3.0  # type: ignore[misc]
    with pytest.raises(UserError, match="--batch 1"):
        StudentOptimization(batch=1)


def test_what_python_gives_is_looked_at_as_the_command_lines_is() -> None:
    for values, words in (
        ({"optimizer": "lion"}, "--optimizer lion: there is no such optimizer; choose from muon, sgd, adamw"),
        ({"batch": "8"}, "--batch '8': is text; give a number"),
        ({"batch": 8.5}, "--batch 8.5: give a whole number"),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            Optimization(**values)
    with pytest.raises(UserError, match="--compile 'no': is text; give True or False"):
        TrainingRuntime(compile="no")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="--data: names no crops"):
        TrainingData(data=[])
    assert Objective(term="labels=1").term == ["labels=1"]  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"carry\(\) takes basket as Basket, not HeavyBasket"):
        carry(basket=HeavyBasket(fruit=[]))
    with pytest.raises(TypeError, match=r"carry\(\) takes basket as Basket, not dict"):
        carry(basket={"fruit": []})


def test_a_yaml_of_groups_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Flags lie flat: a group's name is no flag, and no flag takes a mapping."""
    (tmp_path / "c.yaml").write_text("student: {net: mobilefacenet}\ndata: [crops]\n")
    assert run(["distill", "--config", str(tmp_path / "c.yaml")]) == 2
    assert "student holds a mapping, and no flag takes one" in capsys.readouterr().err


def test_groups_lie_flat_in_run_yaml() -> None:
    basket, more = Basket(fruit=[Path("a")]), Optimization(epochs=3)
    found = flat(basket, more, seed=4)
    assert found["fruit"] == [Path("a")]
    assert (found["epochs"], found["seed"]) == (3, 4)
    assert flattened({"basket": basket, "speed": 2.0}) == {"fruit": [Path("a")], "weight": 1.0, "speed": 2.0}
    assert grouped(carry, {"fruit": "a", "speed": 2.0}) == {"basket": Basket(fruit=[Path("a")]), "speed": 2.0}
    assert flag_names(carry)[:2] == ["fruit", "weight"]


@pytest.mark.parametrize("name", TARGETS)
def test_each_flag_of_a_command_stands_once(name: str) -> None:
    """No argument beside a group's field of the same name, no field in two groups: one name, one place, one help."""
    module, function = TARGETS[name].split(":")
    command = getattr(importlib.import_module(module), function)
    twice = [flag for flag, count in Counter(flag_names(command)).items() if count > 1]
    assert not twice
    source = inspect.getsource(inspect.unwrap(command))
    for group in groups_of(command).values():
        for field in dataclasses.fields(group):
            assert f'"{field.name}",' not in source, f"{name}: {field.name} is listed by hand"
        told = "".join(inspect.getsource(kind) for kind in group.__mro__ if dataclasses.is_dataclass(kind))
        assert told.count('"""') >= 2 * len(dataclasses.fields(group)), f"{group.__name__} tells of each field"
    text = inspect.getdoc(command) or ""
    told_here = text.partition("Args:")[2]
    own = [flag for flag in inspect.signature(command).parameters if flag not in groups_of(command)]
    for flag in own:
        assert f"{flag}:" in told_here, f"{name}: --{flag} is not told of"
    for group in groups_of(command).values():
        for field in dataclasses.fields(group):
            assert f"\n    {field.name}:" not in told_here, f"{name}: {field.name} is told of twice"


def test_one_flag_given_leaves_the_others_as_they_are() -> None:
    assert StudentOptimization(batch=32).weight_decay == 4e-5
    assert Optimization(batch=32).weight_decay == 5e-4
    assert TrainingData(data="crops").data == [Path("crops")]  # type: ignore[arg-type]
