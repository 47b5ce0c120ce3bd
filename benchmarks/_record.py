"""What every benchmark shares: where its result is written, how slim, and with what beside it."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from facekd.core.files import write_text
from facekd.core.run import environment

RESULTS = Path(__file__).parent / "results"
DIGITS = 5  # significant ones that a figure keeps, so that a table of three is rounded once
# What a training says of itself beside its rates: its own folder has it.
LEFT_OUT = {"losses", "inputs", "line", "grid", "interval"}
WATCHED = ("step", "loss", "held_out_tar")  # of a training's curve, where held-out people were judged


def record(name: str, result: Any) -> Path:
    """Write `result` to ``results/<name>.json`` with the machine, its load, versions, date and command."""
    path = RESULTS / f"{name}.json"
    load = [round(value, 2) for value in os.getloadavg()]
    write_slim(path, {"environment": environment(), "load_average": load, "result": result})
    print(f"written: {path}")
    return path


def write_slim(path: Path, whole: dict[str, Any]) -> None:
    """JSON of `slim` values, a line for each key of the second level: small, and still to be compared line by line."""
    lines = []
    for key, value in slim(whole).items():
        if isinstance(value, dict):
            inner = ",\n".join(f"  {_text(name)}: {_text(one)}" for name, one in value.items())
            lines.append(f" {_text(key)}: {{\n{inner}\n }}")
        else:
            lines.append(f" {_text(key)}: {_text(value)}")
    write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def slim(value: Any) -> Any:
    """A result without what nobody reads of it, its figures with DIGITS significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else value
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if key not in LEFT_OUT}
        return {key: slim(_watched(one) if key == "curve" else one) for key, one in kept.items()}
    if isinstance(value, list | tuple):  # a rate that its list can't show is no figure
        return [slim(one) for one in value if not (isinstance(one, dict) and one.get("support") == "none")]
    return value


def _watched(curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = [row for row in curve if any(key.startswith("held_out") for key in row)]
    return [{key: one for key, one in row.items() if key.startswith(WATCHED)} for row in rows]


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
