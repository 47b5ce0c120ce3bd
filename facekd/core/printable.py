"""Text from outside (names of people, files and flags) made fit for a terminal."""

from __future__ import annotations


def printable_line(text: str) -> str:
    """`text` that can't break the line or steer a terminal: what is not printable is written as an escape."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def counted(number: int, one: str, many: str = "") -> str:
    """``1 photo``, ``2 photos``.

    Args:
        one: what there is one of.
        many: the plural, where it is not `one` with an s.
    """
    return f"{number} {one}" if number == 1 else f"{number} {many or one + 's'}"
