"""The nearest valid name for a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST = 40  # names that are listed, and letters of each: they may come from a damaged file


def nearest(word: str, names: Iterable[str]) -> str:
    """The end of an error sentence: ``"; did you mean 'batch'?"``, or the whole list when none is near."""
    names = list(names)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    more = f", … ({len(names)} in all)" if len(names) > MOST else ""
    return f"; the names are {', '.join(name[:MOST] for name in names[:MOST])}{more}"
