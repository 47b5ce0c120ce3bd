"""A page on which somebody decides about suspected mix-ups: one HTML file that works from disk and saves a CSV."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facekd.core.files import write_text
from facekd.reports.document import Picture, page_environment


@dataclass(frozen=True, slots=True)
class ReviewSide:
    """One of the two things that are compared."""

    name: str
    note: str  # what is shown, or why nothing is
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class ReviewChoice:
    """One answer."""

    value: str  # as it is saved
    label: str
    effect: str  # what it does


@dataclass(frozen=True, slots=True)
class ReviewCase:
    """One question."""

    question: str
    score: str
    sides: tuple[ReviewSide, ReviewSide]
    choices: tuple[ReviewChoice, ...]
    saved: Mapping[str, str]  # column -> value of its row; the choice is added


@dataclass(frozen=True, slots=True)
class ReviewGroup:
    """Cases of one kind."""

    heading: str
    told: str
    cases: tuple[ReviewCase, ...]


def write_review_page(path: Path, *, lead: str, groups: Sequence[ReviewGroup], columns: Sequence[str]) -> None:
    """Write the page, readable by its owner only.

    Its Content-Security-Policy lets nothing be loaded or sent, and runs the page's own script alone, by its digest.

    Args:
        lead: the sentence that says what there is to decide.
        columns: of the CSV that the page saves, in order.

    Raises:
        UserError: the file can't be written.
    """
    environment = page_environment()
    assert environment.loader is not None
    script, _, _ = environment.loader.get_source(environment, "review.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rows = [dict(case.saved) for group in groups for case in group.cases]
    page = environment.get_template("review.html.j2").render(
        lead=lead,
        groups=groups,
        total=len(rows),
        script=script,
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'",
        # Exact, where what is shown is made fit to be seen; no "<" ends the block.
        data=json.dumps({"columns": list(columns), "rows": rows}).replace("<", "\\u003c"),
    )
    write_text(path, page)
