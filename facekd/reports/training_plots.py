"""The plots of one training, from its metrics rows (``core.run.read_metrics``), each a file of its own."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.dom import minidom

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from facekd.core.types import Array
from facekd.reports.axes import decades, legend, rate_bottom, size_of, styled
from facekd.reports.colors import themes
from facekd.reports.plots import column
from facekd.reports.svg import COLORS, render

MOST_POINTS = 240  # of a line; more rows are averaged over equal numbers of them
EDGE = 8  # of paper around a plot that is no part of a page
TAR = "held_out_tar@"  # begins the name of a metric; the FAR follows
_VARIABLE = re.compile(r"([\w-]+): var\(--[\w-]+, (#[0-9a-f]{6})\)")


def training_plots(rows: Sequence[Mapping[str, Any]], best: int | None = None) -> dict[str, str]:
    """SVG files by name: ``loss``, ``learning_rate`` and ``held_out``, those that the rows can fill.

    Args:
        rows: ``step``, ``lr``, ``loss`` and its weighted terms by name; ``held_out_…`` at the steps that were judged.
        best: the step whose network is kept as the best.
    """
    terms = dict.fromkeys(key for row in rows for key in row if is_term(key))
    losses = {name: column(rows, "step", name) for name in ("loss", *terms)}
    if len(terms) == 1:  # it is the sum
        losses = {f"loss ({next(iter(terms))})": losses["loss"]}
    names = {
        **{key: f"TAR at FAR {key.removeprefix(TAR)}" for key in _keys(rows, TAR)},
        **dict.fromkeys(_keys(rows, "held_out_cosine"), "cosine to the teacher"),
    }
    likeness = {name: column(rows, "step", key) for key, name in names.items()}
    errors = {"EER": column(rows, "step", "held_out_eer")} if _keys(rows, "held_out_eer") else {}
    svgs = {}
    if any(map(len, losses.values())):
        about = "Training loss: " + ("the sum and its weighted terms" if len(losses) > 1 else next(iter(losses)))
        svgs["loss"] = _lines(losses, "Loss", f"{about}, over the steps.")
    rates = {"Learning rate": column(rows, "step", "lr")}
    if len(rates["Learning rate"]):
        svgs["learning_rate"] = _lines(rates, "Learning rate", "Learning rate over the steps.", named=False)
    if likeness or errors:
        svgs["held_out"] = _held_out(likeness, errors, best)
    return {name: as_file(svg) for name, svg in svgs.items()}


def as_file(svg: str) -> str:
    """An ``<svg>`` element of a page made to stand alone: its size, the house's colors for light and dark screens.

    Each color is also given as an attribute, for the viewers that know no CSS variables.
    """
    document = minidom.parseString(svg)
    root = document.documentElement
    assert root is not None
    for element in root.getElementsByTagName("*"):
        for key, value in _VARIABLE.findall(element.getAttribute("style")):
            element.setAttribute(key, value)
    width, height = (float(side) + 2 * EDGE for side in root.getAttribute("viewBox").split()[2:])
    root.setAttribute("viewBox", f"{-EDGE} {-EDGE} {width:g} {height:g}")
    root.setAttribute("width", f"{width:g}pt")
    root.setAttribute("height", f"{height:g}pt")
    style = document.createElement("style")
    style.appendChild(document.createTextNode(f"{themes()}:root {{ background: var(--paper); }}\n"))
    root.insertBefore(style, root.firstChild)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{root.toxml()}\n'


def _lines(lines: Mapping[str, Array], y_label: str, about: str, *, named: bool = True) -> str:
    """One line for each name over the steps; the vertical axis is logarithmic where they span over two decades."""

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (_, line), color, dash in styled(lines):
            _line(axes, line, color, dash)
        values = np.concatenate([line[:, 1] for line in lines.values()])
        if values.min() > 0 and values.max() > 100 * values.min():
            axes.set_yscale("log")
            decades(axes, "y")
        else:
            axes.set_ylim(bottom=min(0.0, float(values.min())))
        _steps(axes)
        axes.set_ylabel(y_label)
        if named:
            legend(figure, list(lines), [Line2D([], [], color=c, linestyle=d) for _, c, d in styled(lines)])

    return render(draw, about, size_of(lines if named else [""]))


def _held_out(likeness: Mapping[str, Array], errors: Mapping[str, Array], best: int | None) -> str:
    """What is to rise above what is to fall, over the same steps: near their ends both would hug one axis."""
    panels = [panel for panel in (likeness, errors) if panel]
    names = [*likeness, *errors]
    looks = {name: (color, dash) for (name, _), color, dash in styled(dict.fromkeys(names))}

    def draw(figure: Figure) -> None:
        drawn = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for axes, panel in zip(drawn, panels, strict=True):
            for name, line in panel.items():
                _line(axes, line, *looks[name], marked=True)
            values = np.concatenate([line[:, 1] for line in panel.values()])
            if panel is errors:
                axes.set_ylim(0, max(0.01, 1.08 * float(values.max())))
                axes.set_ylabel("EER")
            else:
                axes.set_ylim(min(rate_bottom(float(values.min())), 1.1 * float(values.min())), 1)
                axes.set_ylabel(" and ".join(("TAR" if name.startswith("TAR") else "cosine") for name in panel))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            if best is not None:
                axes.axvline(best, color=COLORS["quiet"], linewidth=1, linestyle=(0, (1, 2)))
        _steps(drawn[-1])
        handles = [Line2D([], [], color=color, linestyle=dash, marker="o", ms=3.5) for color, dash in looks.values()]
        if best is not None:
            handles.append(Line2D([], [], color=COLORS["quiet"], linewidth=1, linestyle=(0, (1, 2))))
        legend(figure, shown, handles)

    shown = [*names, *([] if best is None else [f"best: step {best}"])]
    width, height = size_of(shown)
    about = f"On held-out crops, over the steps: {', '.join(names)}."
    return render(draw, about, (width, height + 90 * (len(panels) - 1)))


def _line(axes: Axes, line: Array, color: str, dash: Any, *, marked: bool = False) -> None:
    """A line over the steps; what is a mean over several rows has what it is the mean of behind it, as a band."""
    if len(line) > MOST_POINTS:
        parts = np.array_split(line, MOST_POINTS)
        low, high = (np.array([ends(part[:, 1]) for part in parts]) for ends in (np.min, np.max))
        line = np.array([part.mean(axis=0) for part in parts])
        axes.fill_between(line[:, 0], low, high, color=color, alpha=0.14, linewidth=0)
    points: dict[str, Any] = {"marker": "o", "markersize": 3.5} if marked or len(line) < 3 else {}
    axes.plot(line[:, 0], line[:, 1], color=color, linestyle=dash, **points)


def _steps(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.margins(x=0.01)
    axes.set_xlabel("Step")


def is_term(key: str) -> bool:
    """Whether a metric is a weighted term of the loss."""
    return key not in ("step", "lr", "loss", "sites") and not key.startswith("held_out")


def _keys(rows: Sequence[Mapping[str, Any]], start: str) -> list[str]:
    """The metrics whose name begins so and that have a number somewhere, in order."""
    found = dict.fromkeys(key for row in rows for key in row if key.startswith(start))
    return [key for key in found if any(math.isfinite(row[key]) for row in rows if key in row)]
