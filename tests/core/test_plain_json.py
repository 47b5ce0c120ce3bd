"""Results as JSON: what a script reads from --json."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from facekd.core.plain_json import json_line, plain_json


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


def test_no_name_in_a_line_of_json_steers_a_terminal() -> None:
    """ESC is escaped by JSON itself; CSI in one character, DEL, a turned line and what is no UTF-8 are not."""
    names = ["Zoë 김 😀", "\x1b[31m", "\x9b31m", "\x7f", "\u202eevil", "no\udcffutf8", "\u2028", "\U000e0001"]
    line = json_line({"names": names})
    assert line.isprintable()
    assert "Zoë 김 😀" in line
    assert json.loads(line) == {"names": names}
