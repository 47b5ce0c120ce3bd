"""Both error rates against the threshold, and error rates across groups, each as one SVG element."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from facekd.rates.counts import Curve
from facekd.rates.rates import roc_points
from facekd.reports.axes import decade_below, decades, floor, legend, size_of, styled
from facekd.reports.svg import COLORS, render
from facekd.reports.text import printable, shortened

CELL, SMALL, AROUND = 40.0, 11.0, 90.0  # in the units in which text is 12 high
MOST_WRITTEN = 12  # groups up to which each cell has its number


def error_rates(curves: Mapping[str, Curve]) -> str:
    """FMR and FNMR against the threshold, rates on a log axis: what a threshold costs, and where they cross.

    Args:
        curves: by the name shown in the legend.
    """
    assert curves, "a plot of nothing"
    points = {name: roc_points(curve) for name, curve in curves.items()}
    bottom = decade_below(max(curve.n_impostor, curve.n_genuine) for curve in curves.values())
    scores = np.concatenate([one.thresholds for one in points.values()])

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (name, curve), color, dash in styled(curves):
            one = points[name]
            for rate, least, width in (
                (one.far, floor(curve.n_impostor), 1.9),
                (one.fnmr, floor(curve.n_genuine), 1.1),
            ):
                shown = rate >= least  # what the list is too short to show is not drawn
                axes.plot(one.thresholds[shown], rate[shown], color=color, linestyle=dash, linewidth=width)
        axes.set_yscale("log")
        axes.set_ylim(bottom, 1)
        if len(scores) and scores.min() < scores.max():
            axes.set_xlim(float(scores.min()), float(scores.max()))
        decades(axes, "y")
        axes.set_xlabel("Threshold")
        axes.set_ylabel("FMR (falling, bold), FNMR (rising)")
        legend(figure, list(curves), [Line2D([], [], color=c, linestyle=d) for _, c, d in styled(curves)])

    label = (
        f"False match rate and false non-match rate of {', '.join(curves)} against the threshold, rates on a log axis."
    )
    return render(draw, label, size_of(curves))


def matrix(names: Sequence[str], values: Mapping[tuple[int, int], float], *, label: str) -> str:
    """A heat map of rates within and across groups, on a log scale of color; empty cells show nothing.

    Args:
        values: by the places of both groups in `names`, the lower first; rates.
        label: what the rate is.
    """
    assert names, "a plot of nothing"
    shown = [shortened(printable(name), 16) for name in names]
    positive = [value for value in values.values() if value > 0]
    low, high = (math.log10(min(positive)), math.log10(max(positive))) if positive else (-1.0, 0.0)
    colors = LinearSegmentedColormap.from_list("rates", ["#eaf1f7", "#00558a"])

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (row, column), value in values.items():
            share = 0.0 if value <= 0 else (math.log10(value) - low) / (high - low) if high > low else 0.5
            for at in {(row, column), (column, row)}:
                _draw_cell(axes, at, value, colors(share), share, len(names))
        size = 11.0 if len(names) <= MOST_WRITTEN else 8.0
        axes.set_xticks(range(len(names)), shown, rotation=90 if len(names) > 3 else 0, fontsize=size)
        axes.set_yticks(range(len(names)), shown, fontsize=size)
        axes.set_aspect("equal")
        axes.set_xlim(-0.5, len(names) - 0.5)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(length=0, labelcolor=COLORS["ink"])
        axes.grid(visible=False)
        axes.set_frame_on(False)

    height = AROUND + (CELL if len(names) <= MOST_WRITTEN else SMALL) * len(names)
    return render(draw, f"{label} of {', '.join(names)}, within and across.", (450.0, height))


def _draw_cell(
    axes: Axes, at: tuple[int, int], value: float, color: tuple[float, float, float, float], share: float, n: int
) -> None:
    axes.add_patch(_square(at, color))
    if n <= MOST_WRITTEN:
        ink = "#fdfdfd" if share > 0.55 else "#10151a"  # the same on a light and on a dark page, as the cells are
        mantissa, _, exponent = f"{value:.1e}".partition("e")
        text = "0" if value == 0 else f"{mantissa}e{int(exponent)}" if value < 0.01 else f"{value:.2g}"
        axes.text(at[1], at[0], text, ha="center", va="center", fontsize=10, color=ink)


def _square(at: tuple[int, int], color: tuple[float, float, float, float]) -> Rectangle:
    return Rectangle((at[1] - 0.48, at[0] - 0.48), 0.96, 0.96, facecolor=color, edgecolor="none")
