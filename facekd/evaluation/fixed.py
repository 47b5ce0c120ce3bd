"""Thresholds that were fixed before: where they come from, what they give here, and whether that is as promised."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from facekd.core.files import read_json
from facekd.core.types import Array
from facekd.errors import UserError
from facekd.evaluation.results import FixedRate, Interval
from facekd.evaluation.text import far_name
from facekd.rates.intervals import wilson, wilson_by_person
from facekd.rates.thresholds import far_interval

Kind = Literal["thresholds", "fpir"]  # keys of thresholds.json: by FAR of one comparison, by FPIR of one search
ASKED: Mapping[Kind, str] = {"thresholds": "FAR", "fpir": "FPIR"}
Persons = tuple[Array, Array]
SCORED = "scores-"  # an id that starts so is of a file of scores, not of a network


@dataclass(frozen=True, slots=True)
class Fixed:
    """A threshold that was chosen on other data."""

    name: str  # as it was given: the number, or the rate that it was calibrated to
    threshold: float
    asked: float | None = None  # the FAR or FPIR that it was calibrated to
    reached: Interval | None = None  # that rate where it was calibrated


def fixed_thresholds(
    given: float | Path | None, model_ids: Sequence[str], kind: Kind, scored: str | None = None
) -> list[Fixed]:
    """The thresholds of --threshold for one model.

    Args:
        given: a number for any model, or a thresholds.json.
        model_ids: of the model, then of the same network without the flip test: its thresholds are said to be so.
        scored: the name of a system that is known by a file of scores alone. Its id is of that file, so on another list
            it is found by the name.

    Raises:
        UserError: a file that is none, or without such a threshold of this model.
    """
    if given is None:
        return []
    if not isinstance(given, Path):
        return [Fixed(f"{given:g}", float(given))]
    values = read_json(given)
    models = values.get("models") if isinstance(values, dict) else None
    if not isinstance(models, dict):
        raise UserError(f"{given}: not a thresholds.json of 'facekd verify'; give one, or a number")
    model_id = next((one for one in model_ids if one in models), None)
    if model_id is None and scored is not None:
        model_id = _scored_before(given, models, scored)
    if model_id is None or model_id not in models:
        others = ", ".join(f"{_name(one)} ({key})" for key, one in models.items()) or "none"
        raise UserError(
            f"{given}: holds no threshold of model {model_ids[0]}, only of {others}: one network's threshold means "
            "nothing for another; calibrate this one with 'facekd verify', or give a number"
        )
    try:
        entries = dict(models[model_id].get(kind) or {})
        found = [_fixed(float(name), entry, kind) for name, entry in entries.items()]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(
            f"{given}: not a thresholds.json of 'facekd verify' ({type(error).__name__}: {error}); give one, or a "
            "number"
        ) from error
    if not found:
        how = "--identification" if kind == "fpir" else "pairs enough for the FAR"
        raise UserError(f"{given}: holds no threshold by {ASKED[kind]}; write one by 'facekd verify' with {how}")
    if model_id in model_ids[1:]:
        found = [replace(one, name=f"{one.name} without --flip") for one in found]
    return sorted(found, key=lambda one: -(one.asked or 0))


def _scored_before(given: Path, models: Mapping[str, Any], name: str) -> str:
    """The id of the one file of scores of that name.

    Raises:
        UserError: none, or several.
    """
    of_scores = {key: _name(entry) for key, entry in models.items() if key.startswith(SCORED)}
    found = [key for key, other in of_scores.items() if other == name]
    if len(found) == 1:
        return found[0]
    has = ", ".join(sorted(of_scores.values())) or "no system by its scores"
    how = f"has several of {name}; keep one" if found else f"has {has}; name the file of the same system's scores so"
    raise UserError(
        f"{given}: a system is known by the name of its file of scores, here {name}; it {how}, or give a number"
    )


def _name(entry: Any) -> str:
    return str(entry.get("name", "?")) if isinstance(entry, dict) else "?"


def _fixed(asked: float, entry: Mapping[str, Any], kind: Kind) -> Fixed:
    threshold = float(entry["threshold"])
    if not (0 < asked <= 1 and math.isfinite(threshold)):
        raise ValueError(f"{ASKED[kind]} {asked:g}, threshold {threshold:g}")
    rate = "far" if kind == "thresholds" else "fpir"
    ends = [entry.get(key) for key in (rate, f"{rate}_low", f"{rate}_high")]
    reached = None if ends[0] is None else float(ends[0])
    low, high = (reached if one is None else float(one) for one in ends[1:])
    known = None if reached is None or low is None or high is None else (reached, low, high)
    return Fixed(far_name(asked), threshold, asked, known)


def judge_fixed(fixed: Sequence[Fixed], values: Array, same: Array, persons: Persons | None) -> tuple[FixedRate, ...]:
    """FMR and FNMR of a list of pairs at each threshold, and their drift.

    Args:
        values: float[P], scores; -inf of a pair without one.
        same: bool[P].
        persons: int[P] twice, or None where they are not known.
    """
    rows = []
    for one in fixed:
        accepted = values >= one.threshold
        rows.append(fixed_rate(one, _false(accepted, same, persons), _missed(accepted, same, persons)))
    return tuple(rows)


def _false(accepted: Array, same: Array, persons: Persons | None) -> Interval | None:
    if same.all():
        return None
    sides = None if persons is None else (persons[0][~same], persons[1][~same])
    return (float(accepted[~same].mean()), *far_interval(accepted[~same], sides))


def _missed(accepted: Array, same: Array, persons: Persons | None) -> Interval | None:
    if not same.any():
        return None
    hits, n = int(accepted[same].sum()), int(same.sum())
    if persons is None:
        low, high = wilson(hits, n)
    else:
        _, who = np.unique(persons[0][same], return_inverse=True)
        low, high = wilson_by_person(np.bincount(who, accepted[same]), np.bincount(who))
    return 1 - hits / n, 1 - high, 1 - low


def fixed_rate(one: Fixed, false: Interval | None, missed: Interval | None) -> FixedRate:
    """The rates at one threshold with what they have become since it was calibrated."""
    known = one.reached or (None if one.asked is None else (one.asked, one.asked, one.asked))
    return FixedRate(
        one.name,
        one.threshold,
        one.asked,
        known,
        false,
        missed,
        None if known is None or false is None else drift(known, false),
    )


def drift(there: Interval, here: Interval) -> Literal["agrees", "higher", "lower"]:
    """Whether two rates with their intervals are told apart: the interval of their difference by its arms.

    Source: R. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in
    Medicine 17, 1998, method 10.
    """
    difference = here[0] - there[0]
    down = math.hypot(here[0] - here[1], there[2] - there[0])
    up = math.hypot(here[2] - here[0], there[0] - there[1])
    return "higher" if difference - down > 0 else "lower" if difference + up < 0 else "agrees"
