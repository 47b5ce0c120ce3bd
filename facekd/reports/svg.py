"""From a matplotlib figure to an SVG element that lives in a page: themed, accessible, the same each time."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Callable
from typing import Any
from xml.dom import minidom

import matplotlib.style
from matplotlib.figure import Figure

from facekd.reports.text import printable

# A color is written into the SVG as var(--name, hex): the page's style sheet gives each name a light and a dark
# value, and a viewer without style sheet shows the light one given here. Series colors are dark relatives of Okabe and
# Ito's color-blind-safe set, each at least 4.5:1 on white; style.css holds their twins for the dark page.
COLORS = {
    "ink": "#1d2329",
    "quiet": "#5a6570",
    "rule": "#dde1e5",
    "shade": "#eef0f2",
    "series-1": "#0068a8",
    "series-2": "#b84300",
    "series-3": "#007a59",
    "series-4": "#9c3a78",
    "series-5": "#7a6000",
    "series-6": "#4f4fae",
}
SERIES = tuple(value for name, value in COLORS.items() if name.startswith("series"))
DASHES: tuple[Any, ...] = (
    "solid",
    (0, (6, 2)),
    (0, (2, 1.5)),
    (0, (8, 2, 2, 2)),
    (0, (4, 1, 1, 1, 1, 1)),
)  # one fewer than the colors

_STYLE = {
    "svg.fonttype": "none",  # text stays text: searchable, selectable, in the page's own font
    "svg.hashsalt": "facekd",
    "text.parse_math": False,  # a model named "$x" is not a formula
    "font.size": 12.0,
    "text.color": COLORS["ink"],
    "axes.edgecolor": COLORS["quiet"],
    "axes.labelcolor": COLORS["ink"],
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "grid.color": COLORS["rule"],
    "grid.linewidth": 0.8,
    "xtick.color": COLORS["quiet"],
    "ytick.color": COLORS["quiet"],
    "xtick.labelsize": 11.0,
    "ytick.labelsize": 11.0,
    "legend.fontsize": 11.5,
    "legend.frameon": False,
    "legend.handlelength": 2.4,
    "lines.linewidth": 1.9,
    "lines.solid_capstyle": "butt",
    "savefig.transparent": True,
}
_NAMES = {value: name for name, value in COLORS.items()}
_HEX = re.compile("|".join(_NAMES))


def render(draw: Callable[[Figure], None], label: str, size: tuple[float, float] = (450.0, 345.0)) -> str:
    """The ``<svg>`` element that `draw` leaves on an empty figure.

    Args:
        draw: fills the figure; called inside the house's style, whatever the user's matplotlibrc says.
        label: what a reader who can't see the plot is told.
        size: width and height, in the units in which text is 12 high; the page scales it to fit.

    Deterministic: the same data give the same bytes.
    """
    stream = io.StringIO()
    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        # The browser sets the text in its own font, so what matplotlib's font lacks does not matter.
        warnings.filterwarnings("ignore", message="(?s)Glyph .* missing from")
        warnings.filterwarnings("ignore", message="(?s)Matplotlib currently does not support .* natively")
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), layout="constrained")
        draw(figure)
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return _for_page(stream.getvalue(), printable(label))


def _for_page(text: str, label: str) -> str:
    """Strip what only a file of its own needs and make ids unique among all plots of a page."""
    root = minidom.parseString(text).documentElement
    assert root is not None
    prefix = "p" + hashlib.sha256(text.encode()).hexdigest()[:8] + "-"
    used = set(re.findall(r'(?:href="#|url\(#)([\w.-]+)', text))
    for tag in ("metadata", "style"):  # the latter would style the whole page
        for element in root.getElementsByTagName(tag):
            assert element.parentNode is not None
            element.parentNode.removeChild(element)
    for element in root.getElementsByTagName("*"):
        for key, value in list(element.attributes.items()):
            if key == "id" and value not in used:
                element.removeAttribute(key)
            elif key == "id":
                element.setAttribute(key, prefix + value)
            elif key == "xlink:href":
                element.removeAttribute(key)
                element.setAttribute("href", "#" + prefix + value.removeprefix("#"))
            elif key == "clip-path":
                element.setAttribute(key, value.replace("url(#", f"url(#{prefix}"))
            elif key == "style":
                themed = _HEX.sub(lambda found: f"var(--{_NAMES[found[0]]}, {found[0]})", value)
                element.setAttribute(key, re.sub(r"font-family: [^;]+;? ?", "", themed))
            elif key == "d":
                element.setAttribute(key, " ".join(value.split()))
    for key in ("width", "height", "xmlns:xlink"):  # the page decides on the size, the viewBox says the shape
        root.removeAttribute(key)
    root.setAttribute("class", "plot")
    root.setAttribute("role", "img")
    root.setAttribute("aria-label", label)
    root.setAttribute("style", "stroke-linejoin: round; font-family: system-ui, sans-serif")
    return re.sub(r">\s+<", "><", root.toxml())
