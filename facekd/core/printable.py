"""Text from outside (names of people, files and flags) made fit for a terminal, and numbers as people read them."""

from __future__ import annotations

import re

# As pathlib leaves https://host/photo.jpg, with one slash.
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)
KEYS = re.compile(rf"(\b{ADDRESS.pattern}/*)[^\s'\"]*@", re.IGNORECASE)
QUERY = re.compile(rf"(\b{ADDRESS.pattern}[^\s'\"?]*\?)[^\s'\"]*", re.IGNORECASE)


def printable_line(text: str) -> str:
    """`text` that can't break the line or steer a terminal: what is not printable is written as an escape."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def without_keys(text: str) -> str:
    """`text` without what addresses in it hold before an @, such as a password, and behind a ?, such as a token."""
    return QUERY.sub(r"\1…", KEYS.sub(r"\1…@", text))


def counted(number: int, one: str, many: str = "") -> str:
    """``1 photo``, ``2 photos``.

    Args:
        one: what there is one of.
        many: the plural, where it is not `one` with an s.
    """
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"


def percent(value: float | None, digits: int = 2) -> str:
    """A rate for people: ``98.12 %``, or a dash where there is none.

    Args:
        digits: behind the point.
    """
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def percent_small(value: float, digits: int = 3) -> str:
    """A rate that may be small: ``0.0123 %``.

    Args:
        digits: that count.
    """
    text = f"{100 * value:.{digits}g}"
    return f"{100 * value:.0f} %" if "e+" in text else f"{text} %"  # 100 with two digits would be 1e+02
