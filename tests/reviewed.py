"""A review page's cases, and files of decisions as the page saves them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facekd.core.files import write_csv

COLUMNS = ("gallery", "case", "kind", "person", "other", "photo", "choice")


def cases(page: Path) -> list[dict[str, str]]:
    """The rows that the page would save, in its order, without a choice."""
    found = re.search(
        r'<script type="application/json" id="cases">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL
    )
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    assert tuple(data["columns"]) == COLUMNS
    return list(data["rows"])


def saved(rows: Sequence[Mapping[str, str]], path: Path) -> Path:
    """Rows with their choices as a file."""
    write_csv(path, COLUMNS, [[row[name] for name in COLUMNS] for row in rows])
    return path


def decide(page: Path, path: Path, **choices: str) -> Path:
    """One choice for each case about a person, by the person's name; other cases are left out."""
    rows = [{**row, "choice": choices[row["person"]]} for row in cases(page) if row["person"] in choices]
    assert len(rows) >= len(choices), (choices, cases(page))
    return saved(rows, path)
