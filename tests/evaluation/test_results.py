"""Doors of evaluation: what their types refuse, and that JSON is written from them alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from facekd.core.types import Rate, Scores
from facekd.errors import UserError
from facekd.evaluation.results import Failures, ModelRates, PairCounts, ThresholdRate, plain
from facekd.rates.folds import Accuracy

NAMES = ("a", "b", "c")
SAME = np.array([True, False, False])
FOLD = np.full(3, -1, np.int16)
RATE = Rate(0.1, 0.05, 0.9, 0.5, 10, 400, 0.8, 0.95)


@pytest.mark.parametrize(
    "changed",
    [
        {"values": np.zeros(2, np.float32)},
        {"same": SAME[:2]},
        {"left": NAMES[:2]},
        {"right": (*NAMES, "d")},
        {"fold": FOLD[:1]},
        {"values": np.zeros((3, 1), np.float32)},
    ],
)
def test_scores_of_unequal_length_are_refused(changed: dict[str, Any]) -> None:
    whole = {"values": np.zeros(3, np.float32), "same": SAME, "left": NAMES, "right": NAMES, "fold": FOLD}
    assert len(Scores(**whole).values) == 3
    with pytest.raises(UserError, match="give one of each for every pair"):
        Scores(**{**whole, **changed})


def test_scores_of_other_kinds_are_refused() -> None:
    with pytest.raises(UserError, match="give float32 or float64"):
        Scores(np.zeros(3, np.int64), SAME, NAMES, NAMES, FOLD)
    with pytest.raises(UserError, match="True for each pair"):
        Scores(np.zeros(3), SAME.astype(int), NAMES, NAMES, FOLD)
    with pytest.raises(UserError, match="a score is NaN"):
        Scores(np.full(3, np.nan), SAME, NAMES, NAMES, FOLD)


@pytest.mark.parametrize("name", ["far_asked", "far", "tar", "low", "high"])
@pytest.mark.parametrize("value", [-1e-9, 1.0001, float("nan")])
def test_a_rate_outside_0_and_1_is_refused(name: str, value: float) -> None:
    with pytest.raises(UserError, match=f"a rate whose {name} is {value}: rates lie from 0 to 1"):
        replace(RATE, **{name: value})


def test_json_has_the_fields_by_their_names() -> None:
    ends = {"threshold_low": 0.4, "threshold_high": None}
    rates = ModelRates(
        model="m",
        model_id="id",
        accuracy=Accuracy(0.5, 0.1, (0.4, 0.6), (None, 0.2)),
        eer=0.2,
        auc=0.9,
        d_prime=None,
        interval="pairs",
        tar=(ThresholdRate(0.1, 0.05, 0.9, 0.5, 10, 400, 0.8, 0.95, **ends),),
        tar_without_failures=(),
        pairs=PairCounts(10, 400),
        failures_to_enroll=Failures(3, 1),
        groups={},
        roc=(RATE,),
    )
    found = plain(rates)
    shown = {"far_asked": 0.1, "far": 0.05, "tar": 0.9, "low": 0.8, "high": 0.95, "threshold": 0.5}
    assert found["tar"] == [{**shown, "support": "estimate", **ends}]
    assert found["roc"] == [{**shown, "support": "estimate"}]
    assert found["accuracy"] == {"mean": 0.5, "std": 0.1, "folds": [0.4, 0.6]}
    assert found["failures_to_enrol"] == {"pairs": 3, "photos": 1}  # the key that report.json has always had
    assert found["intervals"] == {}
    assert plain(replace(rates, intervals={"eer": (0.1, 0.3)}))["intervals"] == {"eer": [0.1, 0.3]}
    json.dumps(found, allow_nan=False)
