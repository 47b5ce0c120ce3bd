"""Results as JSON: what a script reads from --json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from facekd.core.plain_json import plain_json


@dataclass(frozen=True)
class Inner:
    rate: float
    _secret: int = 1


def test_every_kind_of_value_becomes_one_that_json_holds() -> None:
    given = {
        "path": Path("a/b"),
        "numbers": np.array([1.5, np.nan]),
        "number": np.float32(0.5),
        "inner": (Inner(float("inf")), Inner(0.25)),
        "table": pa.table({"a": [1, 2]}),
        3: {"x"},
        "none": None,
        "yes": True,
    }
    assert json.loads(json.dumps(plain_json(given), allow_nan=False)) == {
        "path": "a/b",
        "numbers": [1.5, None],
        "number": 0.5,
        "inner": [{"rate": None}, {"rate": 0.25}],
        "table": [{"a": 1}, {"a": 2}],
        "3": ["x"],
        "none": None,
        "yes": True,
    }
