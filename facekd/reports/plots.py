"""The plots of the reports, each as one SVG element for `document.Figure`.

Series are told apart by colour and by dash, so that no reader needs to see colours. Points that the data can't
support are not drawn as if they were: see `floor`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from facekd.core.types import Array, Scores
from facekd.errors import UserError
from facekd.rates.counts import Curve
from facekd.rates.intervals import wilson
from facekd.rates.rates import RocPoints, roc_points
from facekd.reports.svg import COLOURS, DASHES, SERIES, render
from facekd.reports.text import printable, shortened

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True, slots=True)
class CostPoint:
    """One model in the accuracy-against-cost plot."""

    name: str
    cost: float  # above 0: MACs, milliseconds, bytes
    rate: float  # [0, 1]: accuracy or TAR
    low: float | None = None  # 95 % interval of rate
    high: float | None = None


def floor(n: int) -> float:
    """The smallest rate that `n` independent pairs can show: 3/n, the rule of three.

    Where none of n pairs errs, the true rate is below 3/n with 95 % confidence, and nothing smaller can be said.
    Source: Hanley and Lippman-Hand, JAMA 249, 1983.
    """
    return min(3 / n, 1.0)


def roc(curves: Mapping[str, Curve], *, band: bool = True) -> str:
    """TAR against FAR, FAR on a log axis.

    Below the floor of a curve's impostor pairs its line is dotted and has no band, and the region is shaded.

    Args:
        curves: by the name shown in the legend.
        band: Wilson's 95 % interval of TAR, which holds for pairs that are independent.
    """
    points = _points(curves)
    left = _left(curve.n_impostor for curve in curves.values())

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        limit = max(floor(curve.n_impostor) for curve in curves.values())
        _shade(axes, left, limit)
        lowest = [1.0]
        for (name, curve), colour, dash in _styled(curves):
            far, tar = np.maximum(points[name].far, left), points[name].tar
            below, above = _split(far, tar, floor(curve.n_impostor))
            axes.plot(*below, color=colour, linestyle=(0, (1, 2)), linewidth=1.2, drawstyle="steps-post")
            axes.plot(*above, color=colour, linestyle=dash, drawstyle="steps-post")
            lowest.extend(above[1][:1])
            if band and len(above[0]):
                n = curve.n_genuine
                low, high = np.array([wilson(round(rate * n), n) for rate in above[1]]).T
                axes.fill_between(above[0], low, high, step="post", color=colour, alpha=0.14, linewidth=0)
        axes.set_xscale("log")
        axes.set_xlim(left, 1)
        axes.set_ylim(_rate_bottom(min(lowest)), 1)
        _decades(axes, "x")
        axes.set_xlabel("False accept rate (FAR)")
        axes.set_ylabel("True accept rate (TAR)")
        _legend(figure, list(curves), [Line2D([], [], color=c, linestyle=d) for _, c, d in _styled(curves)])

    label = f"ROC curve of {_names(curves)}: true accept rate against false accept rate on a log axis."
    return render(draw, label, _size(curves))


def det(curves: Mapping[str, Curve]) -> str:
    """FNMR (missed genuine pairs) against FAR, both on log axes; lower and further left is better.

    Regions under the floor of the impostor pairs and of the genuine pairs are shaded.
    """
    points = _points(curves)
    left = _left(curve.n_impostor for curve in curves.values())
    bottom = _left(curve.n_genuine for curve in curves.values())

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        limit = max(floor(curve.n_impostor) for curve in curves.values())
        _shade(axes, left, limit)
        axes.axhspan(bottom, max(floor(curve.n_genuine) for curve in curves.values()), color=COLOURS["shade"], lw=0)
        corner = max(left, bottom)
        axes.plot([corner, 1], [corner, 1], color=COLOURS["quiet"], linewidth=0.8, linestyle=(0, (1, 3)))
        for (name, curve), colour, dash in _styled(curves):
            far, fnmr = np.maximum(points[name].far, left), np.maximum(points[name].fnmr, bottom)
            below, above = _split(far, fnmr, floor(curve.n_impostor))
            axes.plot(*below, color=colour, linestyle=(0, (1, 2)), linewidth=1.2, drawstyle="steps-post")
            axes.plot(*above, color=colour, linestyle=dash, drawstyle="steps-post")
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(left, 1)
        axes.set_ylim(bottom, 1)
        _decades(axes, "x")
        _decades(axes, "y")
        axes.set_xlabel("False accept rate (FAR)")
        axes.set_ylabel("False non-match rate (FNMR)")
        _legend(figure, list(curves), [Line2D([], [], color=c, linestyle=d) for _, c, d in _styled(curves)])

    label = f"DET curve of {_names(curves)}: false non-match rate against false accept rate, log axes."
    return render(draw, label, _size(curves))


def histograms(scores: Scores, thresholds: Mapping[str, float] | None = None) -> str:
    """Densities of the genuine and of the impostor scores, each of area 1.

    Scores of -inf (photos without an embedding) have no place on the axis: they are left out and their number is
    written into the plot.

    Args:
        thresholds: operating points, drawn as marked vertical lines.

    Raises:
        UserError: no finite score at all.
    """
    finite = np.isfinite(scores.values)
    if not finite.any():
        raise UserError("no pair has a finite score to draw: every photo failed to enrol; look at the ledger")
    values, same = scores.values[finite].astype(np.float64), scores.same[finite]
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6:
        low, high = low - 0.05, high + 0.05
    edges = np.linspace(low, high, 61)
    names = ("different people", "the same person")
    missing = int((~finite).sum())
    left_out = f"{missing:,} pair{'s' * (missing != 1)} without a score not drawn" if missing else ""
    marks = thresholds or {}
    assert all(map(math.isfinite, marks.values())), marks
    first, last = min([low, *marks.values()]), max([high, *marks.values()])

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for chosen, colour, dash in zip((~same, same), (SERIES[1], SERIES[0]), (DASHES[1], DASHES[0]), strict=True):
            if chosen.any():
                density, _ = np.histogram(values[chosen], edges, density=True)
                axes.stairs(density, edges, fill=True, color=colour, alpha=0.18)
                axes.stairs(density, edges, color=colour, linestyle=dash, linewidth=1.6)
        for name, threshold in marks.items():
            axes.axvline(threshold, color=COLOURS["ink"], linewidth=1)
            axes.annotate(
                shortened(printable(name), 24),
                (threshold, 1),
                xycoords=("data", "axes fraction"),
                xytext=(4 if threshold < (first + last) / 2 else -4, -2),
                textcoords="offset points",
                ha="left" if threshold < (first + last) / 2 else "right",
                va="top",
                fontsize=11,
            )
        axes.set_ylim(bottom=0)
        axes.set_xlim(first, last)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.set_xlabel("; ".join(filter(None, ("Score (cosine)", left_out))))
        axes.set_ylabel("Density")
        handles = [Line2D([], [], color=SERIES[1 - k], linestyle=DASHES[1 - k]) for k in range(2)]
        figure.legend(handles, names, loc="outside upper left", ncols=2)

    label = f"Score histograms of pairs of different people and of the same person. {left_out}".rstrip()
    return render(draw, label, _size(names))


def training(metrics: Mapping[str, Sequence[Mapping[str, Any]]], *, y: str, x: str = "step", y_label: str = "") -> str:
    """One line for each run: `y` against `x` of its metrics rows (``core.run.read_metrics``).

    Rows without `x` or `y`, or with a `y` that is no finite number, are passed over: a metrics file holds rows of
    several kinds. The axis is logarithmic where all values are above 0 and span more than two decades.

    A run without rows keeps its place in the colours and is not drawn, so that a model can look the same here as in
    the other plots.

    Raises:
        UserError: no run has a row with both.
    """
    lines = {name: _column(rows, x, y) for name, rows in metrics.items()}
    if not any(map(len, lines.values())):
        raise UserError(f"no metrics row has both {x!r} and {y!r}: nothing to plot; check the names")
    everything = np.concatenate([line[:, 1] for line in lines.values()])
    shown = [entry for entry in _styled(lines) if len(entry[0][1])]
    names = [name for (name, _), _, _ in shown]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (_, line), colour, dash in shown:
            axes.plot(line[:, 0], line[:, 1], color=colour, linestyle=dash, marker="o" if len(line) < 3 else None)
        if everything.min() > 0 and everything.max() > 100 * everything.min():
            axes.set_yscale("log")
            _decades(axes, "y")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.margins(x=0.01)
        axes.set_xlabel(printable(x).capitalize())
        axes.set_ylabel(printable(y_label or y))
        handles = [Line2D([], [], color=colour, linestyle=dash) for _, colour, dash in shown]
        _legend(figure, names, handles)

    return render(draw, f"{y_label or y} against {x} of {_names(names)}.", _size(names))


def cost(rows: Sequence[CostPoint], *, x_label: str, y_label: str) -> str:
    """Accuracy against cost, cost on a log axis, one named mark for each model; up and left is better.

    Args:
        x_label: what the cost is, with its unit, such as "Latency of one crop (ms)".
        y_label: what the rate is, such as "TAR at FAR 1e-3".
    """
    assert rows, "a plot of nothing"
    assert all(row.cost > 0 for row in rows), rows
    costs = [row.cost for row in rows]
    lowest = min(row.rate if row.low is None else row.low for row in rows)
    markers = itertools.cycle("osD^v")
    names = [row.name for row in rows]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        handles = []
        for row, colour, marker in zip(rows, itertools.cycle(SERIES), markers, strict=False):
            if row.low is not None and row.high is not None:
                axes.plot([row.cost] * 2, [row.low, row.high], color=colour, linewidth=1.4)
            mark: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 8, "linestyle": "none"}
            axes.plot([row.cost], [row.rate], **mark)
            handles.append(Line2D([], [], **mark))
        axes.set_xscale("log")
        axes.set_xlim(min(costs) / 2, max(costs) * 2)
        axes.set_ylim(_rate_bottom(lowest), 1)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if max(costs) < 200 * min(costs) else (1.0,)))
        axes.xaxis.set_major_formatter(FuncFormatter(_plain_number))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(printable(x_label))
        axes.set_ylabel(printable(y_label))
        _legend(figure, names, handles)

    return render(draw, f"{y_label} against {x_label} of {_names(names)}.", _size(names))


def _points(curves: Mapping[str, Curve]) -> dict[str, RocPoints]:
    assert curves, "a plot of nothing"
    return {name: roc_points(curve) for name, curve in curves.items()}


def _left(counts: Iterable[int]) -> float:
    """The decade at or below the smallest rate above 0 that any list can have, at most 0.1."""
    return min(0.1, *(10.0 ** math.floor(math.log10(1 / n)) for n in counts))


def _split(far: Array, rate: Array, limit: float) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The staircase below `limit` and the one from `limit` on; at `limit` holds the last step before it."""
    first = int(np.searchsorted(far, limit, side="right"))
    if first == 0:
        return (far[:0], rate[:0]), (far, rate)
    join = np.array([limit]), rate[first - 1 : first]
    below = np.append(far[:first], join[0]), np.append(rate[:first], join[1])
    return below, (np.append(join[0], far[first:]), np.append(join[1], rate[first:]))


def _shade(axes: Axes, left: float, limit: float) -> None:
    axes.axvspan(left, limit, color=COLOURS["shade"], linewidth=0)
    axes.annotate(
        "too few impostor pairs",
        (math.sqrt(left * limit), 0.03),
        xycoords=("data", "axes fraction"),
        rotation=90,
        ha="center",
        va="bottom",
        fontsize=10.5,
        color=COLOURS["quiet"],
    )


def _rate_bottom(least: float) -> float:
    """Where a rate axis begins: as high as its least rate allows, in steps that read well."""
    return max((step for step in (0.0, 0.5, 0.8, 0.9, 0.98) if step <= least - 0.1 * (1 - least)), default=0.0)


def _decades(axes: Axes, which: str) -> None:
    """Ticks at powers of ten, written as such without math text."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    exponents = range(math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9) + 1)
    step = max(1, math.ceil(len(exponents) / 8))
    if len(exponents) >= 3:
        axis.set_major_locator(FixedLocator([10.0**k for k in exponents if k % step == 0]))
        axis.set_major_formatter(FuncFormatter(_power_of_ten))
    else:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(_plain_number))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _power_of_ten(value: float, _: int = 0) -> str:
    exponent = round(math.log10(value))
    return "1" if exponent == 0 else "10" + str(exponent).translate(_SUPERSCRIPT)


def _plain_number(value: float, _: int = 0) -> str:
    """``0.5``, ``200``, ``50 k``, ``2 G``."""
    for size, sign in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= max(size, 1e4):
            return f"{value / size:.10g}{sign}"
    return f"{value:.10g}"


def _column(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> Array:
    """float64[n, 2] of the rows that have both, in order."""
    pairs = [
        (float(row[x]), float(row[y]))
        for row in rows
        if all(isinstance(row.get(key), int | float) and math.isfinite(row[key]) for key in (x, y))
    ]
    return np.array(pairs, np.float64).reshape(-1, 2)


def _styled(series: Mapping[str, Any]) -> Any:
    """((name, value), colour, dash) of each series; the same place in the order looks the same in every plot."""
    return zip(series.items(), itertools.cycle(SERIES), itertools.cycle(DASHES), strict=False)


def _columns(names: Sequence[str]) -> int:
    longest = max(len(name) for name in names)
    return 3 if longest <= 12 else 2 if longest <= 24 else 1


def _size(names: Iterable[str]) -> tuple[float, float]:
    """Width and height of a plot whose legend names `names`: the axes keep their size, the legend's rows are added."""
    names = list(names)
    return 450.0, 305.0 + 17 * math.ceil(len(names) / _columns(names))


def _legend(figure: Figure, names: Sequence[str], handles: Sequence[Line2D]) -> None:
    """Names above the axes, where they hide no line."""
    names = [shortened(printable(" ".join(name.split())), 44) for name in names]
    figure.legend(handles, names, loc="outside upper left", ncols=_columns(names))


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
