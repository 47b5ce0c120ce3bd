"""A benchmark's picture as a file of its own: a title, and colors for light and dark screens."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from facekd.core.files import write_text
from facekd.reports.colors import themes

HEAD = 34  # units that the title takes, of which text has 12 to 16
TAG = re.compile(r"<[^>]+>")  # text between them stays as it is
NUMBER = re.compile(r"-?\d+\.\d{2,}")


def write_picture(path: Path, svg: str, title: str) -> None:
    """`svg`, an element of facekd's reports, framed and slim."""
    write_text(path, framed(svg, title) + "\n")


def framed(svg: str, title: str) -> str:
    """`svg` below its title, with the colors that its marks name; a viewer's preference chooses which."""
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert box is not None
    width, height = float(box[1]), float(box[2])
    inner = slim(svg).replace("<svg ", f'<svg x="0" y="{HEAD}" width="{width:g}" height="{height:g}" ', 1)
    # On paper of its own: a page may be dark where the system is light.
    style = re.sub(r"\s+", " ", themes()) + ":root { background: var(--paper); }"
    text = f'<text x="6" y="20" style="font: 600 15px system-ui, sans-serif; fill: var(--ink)">{escape(title)}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height + HEAD:g}" role="img" '
        f'aria-label="{escape(title, quote=True)}"><style>{style}</style>{text}{inner}</svg>'
    )


def slim(svg: str) -> str:
    """The same picture with coordinates of a tenth of a unit, and without points that do not move a line."""
    svg = TAG.sub(lambda tag: NUMBER.sub(lambda found: f"{float(found[0]):.1f}", tag[0]), svg)
    return re.sub(r' d="([^"]+)"', lambda found: f' d="{_path(found[1])}"', svg)


def _path(text: str) -> str:
    """A path of lines without repeated points; one with curves as it is."""
    if "C" in text or "Q" in text:
        return text
    points = re.findall(r"[MLz][^MLz]*", text)
    kept = [point for place, point in enumerate(points) if place == 0 or point.strip() != points[place - 1].strip()]
    out: list[str] = []
    for place, point in enumerate(kept):
        if 0 < place < len(kept) - 1 and all(one.startswith("L") for one in (kept[place - 1], point, kept[place + 1])):
            before, here, after = (one.split()[1:3] for one in (out[-1], point, kept[place + 1]))
            if before[0] == here[0] == after[0] or before[1] == here[1] == after[1]:
                continue  # in the middle of a step
        out.append(point.strip())
    return " ".join(out)
