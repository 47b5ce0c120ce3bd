"""The colors of every page, for light and dark screens."""

from __future__ import annotations

from pathlib import Path

STYLE = Path(__file__).parent / "templates" / "style.css"


def themes() -> str:
    """The CSS variables of both, which are all that style.css says before its first rule."""
    return STYLE.read_text(encoding="utf-8").split("* {")[0]
