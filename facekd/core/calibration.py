"""The thresholds that facekd carries for networks it knows: where they were measured, and how sure they are.

A threshold is of one comparison of two photos: at most a share FAR of the pairs of different people reach it. A search
through N people makes N comparisons; nothing here promises how often a stranger is named by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from facekd.core.contract import Contract
from facekd.errors import UserError

KNOWN_THRESHOLDS = Path(__file__).parent / "known_thresholds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What thresholds were taken from: all pairs of the photos of some people."""

    what: str  # the people and photos, in words
    crops: str  # how the photos were aligned
    people: int
    photos: int
    impostor_pairs: int
    couples: int  # of different people; the pairs of one couple are nearly one draw


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """The cosine from which a pair is accepted at a FAR, and its 95 % interval over people."""

    far: float  # in (0, 1), of one comparison
    threshold: float  # cosine
    low: float
    high: float
    list: str  # the key of what it was measured on


@dataclass(frozen=True, slots=True)
class Calibration:
    """The thresholds of one network, by falling FAR."""

    model_id: str
    date: str  # of the measurement, ISO 8601
    lists: Mapping[str, Measured]
    thresholds: tuple[Threshold, ...]

    def by_far(self) -> dict[float, float]:
        """FAR -> cosine."""
        return {one.far: one.threshold for one in self.thresholds}


def known_calibration(contract: Contract, folder: Path = KNOWN_THRESHOLDS) -> Calibration | None:
    """What facekd carries for the network of this contract; None for any other.

    It goes by the model_id, so the same weights fed in another way, or with flips, have none.

    Raises:
        UserError: a damaged file.
    """
    return calibration_of(contract.model_id, folder)


def calibration_of(model_id: str, folder: Path = KNOWN_THRESHOLDS) -> Calibration | None:
    """What facekd carries for the network of this model_id; None for any other.

    Raises:
        UserError: a damaged file.
    """
    for path in sorted(folder.glob("*.yaml")):
        text = _text(path)
        if model_id in text:  # else it need not be parsed
            found = _calibration(path, text)
            if found.model_id == model_id:
                return found
    return None


def read_calibration(path: Path) -> Calibration:
    """The thresholds in a file that ``benchmarks/thresholds.py`` wrote.

    Raises:
        UserError: no such file, or one of another form.
    """
    return _calibration(path, _text(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable ({error}); install facekd again") from error


def _calibration(path: Path, text: str) -> Calibration:
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        why = " ".join(str(error).split())
        raise UserError(f"{path}: not readable as YAML ({why}); install facekd again") from error
    try:
        lists = {str(name): _made(Measured, one) for name, one in values["lists"].items()}
        thresholds = tuple(_made(Threshold, one) for one in values["thresholds"])
        found = Calibration(values["model_id"], values["date"], lists, thresholds)
        extra = set(values) - {field.name for field in fields(Calibration)}
    except (TypeError, KeyError, AttributeError) as error:
        raise _damaged(path, repr(error)) from error
    if extra:
        raise _damaged(path, f"unknown key {min(map(str, extra))!r}")
    if not isinstance(found.model_id, str) or not isinstance(found.date, str) or not thresholds:
        raise _damaged(path, "it lacks a model_id, a date or thresholds")
    for one in thresholds:
        if not (0 < one.far < 1 and -1 <= one.low <= one.threshold <= one.high <= 1 and one.list in lists):
            raise _damaged(path, f"no cosine, interval and list at FAR {one.far:g}")
    for mild, strict in pairwise(thresholds):
        if not (strict.far < mild.far and strict.threshold >= mild.threshold):
            raise _damaged(path, f"the threshold at FAR {strict.far:g} is not stricter than at {mild.far:g}")
    return found


def _made(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """A dataclass of these values, each of the type that its field has."""
    made = kind(**values)
    for field in fields(kind):
        value = getattr(made, field.name)
        wanted = {"str": str, "int": int, "float": float}[str(field.type)]
        if type(value) is not wanted:
            raise TypeError(f"{field.name} is {value!r}")
    return made


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path}: its thresholds are damaged ({why}); install facekd again")
