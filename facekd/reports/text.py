"""Text from outside (names, paths, messages) made fit to be written into a report."""

from __future__ import annotations

import re

# Control characters are refused by XML, lone surrogates (a file name that is no UTF-8) by UTF-8, and the
# direction overrides let one name turn the words around it.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069\ufffe\uffff]")


def printable(text: str) -> str:
    """`text` with each character that a page or a plot can't hold replaced by U+FFFD."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def shortened(text: str, most: int) -> str:
    """`text` if it has at most `most` characters, else its beginning and end around an ellipsis."""
    if len(text) <= most:
        return text
    head = (most - 1) // 2
    return f"{text[:head]}…{text[len(text) - (most - 1 - head) :]}"
