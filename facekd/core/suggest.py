"""The nearest valid name for a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, names: Iterable[str]) -> str:
    """The end of an error sentence: ``"; did you mean 'batch'?"``, or the whole list when none is near."""
    names = list(names)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; the names are {', '.join(names)}"
