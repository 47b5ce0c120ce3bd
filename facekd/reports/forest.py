"""Many networks by one rate: a row for each, its interval as a line, as one SVG element for `document.Figure`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from facekd.reports.axes import decades
from facekd.reports.svg import COLORS, SERIES, render
from facekd.reports.text import printable, shortened

ROW_HEIGHT, AROUND = 17.0, 62.0  # in the units in which text is 12 high


@dataclass(frozen=True, slots=True)
class Row:
    """One network's rate in the plot."""

    name: str
    rate: float  # [0, 1]: accuracy or TAR
    low: float | None = None  # 95 % interval of rate
    high: float | None = None
    measure: bool = False  # what the others are measured by, such as a teacher or a control


def forest(rows: Sequence[Row], *, x_label: str) -> str:
    """A forest plot: the rows from top to bottom as given, a thin line down from each row that is a measure.

    Args:
        x_label: what the rate is, such as "TAR at FAR 1e-3".
    """
    assert rows, "a plot of nothing"
    names = [shortened(printable(" ".join(row.name.split())), 44) for row in rows]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for place, row in enumerate(rows):
            _draw_row(axes, place, row)
        axes.set_yticks(range(len(rows)), names)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        ends = [max(row.rate, row.high or 0.0) for row in rows]
        if far_apart(rows):
            axes.set_xscale("log")
            axes.set_xlim(right=min(1.0, 1.3 * max(ends)))
            decades(axes, "x")
        else:
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.tick_params(axis="y", length=0, labelcolor=COLORS["ink"])
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(printable(x_label))

    return render(draw, f"{x_label} of {', '.join(names)}.", (450.0, AROUND + ROW_HEIGHT * len(rows)))


def far_apart(rows: Sequence[Row]) -> bool:
    """Whether the rates want a logarithmic axis: none is 0, and the highest is more than 20 times the lowest."""
    lowest = min(row.rate for row in rows)
    return lowest > 0 and max(row.rate for row in rows) > 20 * lowest


def _draw_row(axes: Axes, place: int, row: Row) -> None:
    color, marker = (SERIES[1], "D") if row.measure else (SERIES[0], "o")
    if row.measure:
        axes.axvline(row.rate, color=color, linewidth=0.8, linestyle=(0, (3, 3)))
    if row.low is not None and row.high is not None:
        axes.plot([row.low, row.high], [place] * 2, color=color, linewidth=1.4)
    axes.plot([row.rate], [place], color=color, marker=marker, markersize=6, linestyle="none")
