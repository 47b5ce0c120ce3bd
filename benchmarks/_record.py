"""What every benchmark shares: where its result is written, and with what beside it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from facekd.core.files import write_json
from facekd.core.run import environment

RESULTS = Path(__file__).parent / "results"


def record(name: str, result: Any) -> Path:
    """Write `result` to ``results/<name>.json`` with the machine, its load, versions, date and command."""
    path = RESULTS / f"{name}.json"
    load = [round(value, 2) for value in os.getloadavg()]
    write_json(path, {"environment": environment(), "load_average": load, "result": result})
    print(f"written: {path}")
    return path
