"""The plots of the reports, each as one SVG element for `document.Figure`.

Series are told apart by color and by dash, so that no reader needs to see colors. Points that the data can't
support are not drawn as if they were: see `axes.floor`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from facekd.core.types import Array, Rate, Scores
from facekd.errors import UserError
from facekd.rates.counts import Curve
from facekd.rates.identification import Ranks
from facekd.rates.rates import RocPoints, roc_points
from facekd.rates.spread import SHOWN, Histogram
from facekd.reports.axes import (
    decade_below,
    decades,
    floor,
    legend,
    plain_number,
    rate_bottom,
    shade,
    size_of,
    split,
    styled,
)
from facekd.reports.svg import COLORS, DASHES, SERIES, render
from facekd.reports.text import printable, shortened


@dataclass(frozen=True, slots=True)
class CostPoint:
    """One model in the accuracy-against-cost plot."""

    name: str
    cost: float  # above 0: MACs, milliseconds, bytes
    rate: float  # [0, 1]: accuracy or TAR
    low: float | None = None  # 95 % interval of rate
    high: float | None = None


def roc(
    curves: Mapping[str, Curve],
    bands: Mapping[str, Sequence[Rate]] | None = None,
    *,
    axes_of: tuple[str, str] = ("False accept rate (FAR)", "True accept rate (TAR)"),
    few: str = "too few impostor pairs",
    to_one: bool = True,
) -> str:
    """TAR against FAR, FAR on a log axis.

    Below the floor of a curve's impostor pairs its line is dotted and has no band, and the region is shaded.

    Args:
        curves: by the name shown in the legend.
        bands: by the same name, 95 % intervals at some FARs; see `_band`.
        axes_of: what the axes are called, where the curves are those of another pair of rates.
        few: what the shaded region is called.
        to_one: whether both rates end at 1, as where accepting everything misses nobody.
    """
    points = _points(curves)
    left = decade_below(curve.n_impostor for curve in curves.values())

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        shade(axes, left, max(floor(curve.n_impostor) for curve in curves.values()), few)
        lowest = [1.0]
        for (name, curve), color, dash in styled(curves):
            far, tar = np.maximum(points[name].far, left), points[name].tar
            if to_one:  # with the pairs without a score, which no threshold accepts
                far, tar = np.append(far, 1.0), np.append(tar, 1.0)
            above = _staircase(axes, far, tar, floor(curve.n_impostor), color, dash)
            lowest.extend(above[1][:1])
            far, low, high = _band(*above, (bands or {}).get(name, ()), closes=to_one)
            axes.fill_between(far, low, high, step="post", color=color, alpha=0.14, linewidth=0)
        axes.set_xscale("log")
        axes.set_xlim(left, 1)
        axes.set_ylim(rate_bottom(min(lowest)), 1)
        decades(axes, "x")
        axes.set_xlabel(axes_of[0])
        axes.set_ylabel(axes_of[1])
        legend(figure, list(curves), [Line2D([], [], color=c, linestyle=d) for _, c, d in styled(curves)])

    label = f"ROC curve of {', '.join(curves)}: {axes_of[1].lower()} against {axes_of[0].lower()} on a log axis."
    return render(draw, label, size_of(curves))


def det(curves: Mapping[str, Curve], bands: Mapping[str, Sequence[Rate]] | None = None) -> str:
    """FNMR (missed genuine pairs) against FAR, both on log axes; lower and further left is better.

    Regions under the floor of the impostor pairs and of the genuine pairs are shaded. Arguments as `roc`.
    """
    points = _points(curves)
    left = decade_below(curve.n_impostor for curve in curves.values())
    bottom = decade_below(curve.n_genuine for curve in curves.values())

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        shade(axes, left, max(floor(curve.n_impostor) for curve in curves.values()), "too few impostor pairs")
        axes.axhspan(bottom, max(floor(curve.n_genuine) for curve in curves.values()), color=COLORS["shade"], lw=0)
        corner = max(left, bottom)
        axes.plot([corner, 1], [corner, 1], color=COLORS["quiet"], linewidth=0.8, linestyle=(0, (1, 3)))
        for (name, curve), color, dash in styled(curves):
            far, fnmr = np.maximum(points[name].far, left), points[name].fnmr
            above = _staircase(axes, far, np.maximum(fnmr, bottom), floor(curve.n_impostor), color, dash)
            shown = above[1] > floor(curve.n_genuine)  # below, the genuine pairs are too few for any interval
            known = (bands or {}).get(name, ())
            far, low, high = _band(above[0][shown], 1 - above[1][shown], known, closes=False)
            upper, lower = np.maximum(1 - low, bottom), np.maximum(1 - high, bottom)
            axes.fill_between(far, lower, upper, step="post", color=color, alpha=0.14, linewidth=0)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(left, 1)
        axes.set_ylim(bottom, 1)
        decades(axes, "x")
        decades(axes, "y")
        axes.set_xlabel("False accept rate (FAR)")
        axes.set_ylabel("False non-match rate (FNMR)")
        legend(figure, list(curves), [Line2D([], [], color=c, linestyle=d) for _, c, d in styled(curves)])

    label = f"DET curve of {', '.join(curves)}: false non-match rate against false accept rate, log axes."
    return render(draw, label, size_of(curves))


def cmc(found: Mapping[str, Ranks]) -> str:
    """The share of mated probes whose person is among the first 1, 2, … of the gallery, with its 95 % band.

    Args:
        found: by the name shown in the legend.
    """
    assert found, "a plot of nothing"

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (_, each), color, dash in styled(found):
            rank = np.arange(1, len(each.found) + 1)
            axes.plot(rank, each.found, color=color, linestyle=dash, marker="o", markersize=3.5)
            axes.fill_between(rank, each.low, each.high, color=color, alpha=0.14, linewidth=0)
        most = max(len(each.found) for each in found.values())
        axes.set_xlim(0.6, most + 0.4)
        axes.set_ylim(rate_bottom(min(each.found[0] for each in found.values())), 1)
        axes.xaxis.set_major_locator(MaxNLocator(10, integer=True, min_n_ticks=1))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("Rank")
        axes.set_ylabel("Probes found up to that rank")
        legend(figure, list(found), [Line2D([], [], color=c, linestyle=d) for _, c, d in styled(found)])

    label = f"Cumulative match characteristic of {', '.join(found)}: share of probes found by rank."
    return render(draw, label, size_of(found))


def histograms(scores: Scores | Histogram, thresholds: Mapping[str, float] | None = None) -> str:
    """Densities of the genuine and of the impostor scores, each of area 1.

    Pairs without a score (-inf: photos without an embedding) have no place on the axis: they are left out and their
    number is written into the plot.

    Args:
        scores: of a list, or the counts of scores that were not kept.
        thresholds: operating points, drawn as marked vertical lines.

    Raises:
        UserError: no finite score at all.
    """
    shown = scores if isinstance(scores, Histogram) else _binned(scores)
    edges, missing = shown.edges, shown.missing
    low, high = float(edges[0]), float(edges[-1])
    names = ("different people", "the same person")
    left_out = f"{missing:,} pair{'s' * (missing != 1)} without a score not drawn" if missing else ""
    marks = thresholds or {}
    assert all(map(math.isfinite, marks.values())), marks
    first, last = min([low, *marks.values()]), max([high, *marks.values()])

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        kinds = shown.impostor, shown.genuine
        for counts, color, dash in zip(kinds, (SERIES[1], SERIES[0]), (DASHES[1], DASHES[0]), strict=True):
            if counts.any():
                density = counts / counts.sum() / np.diff(edges)
                axes.stairs(density, edges, fill=True, color=color, alpha=0.18)
                axes.stairs(density, edges, color=color, linestyle=dash, linewidth=1.6)
        for name, threshold in marks.items():
            axes.axvline(threshold, color=COLORS["ink"], linewidth=1)
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
        axes.set_xlabel("; ".join(filter(None, ("Score", left_out))))
        axes.set_ylabel("Density")
        handles = [Line2D([], [], color=SERIES[1 - k], linestyle=DASHES[1 - k]) for k in range(2)]
        figure.legend(handles, names, loc="outside upper left", ncols=2)

    label = f"Score histograms of pairs of different people and of the same person. {left_out}".rstrip()
    return render(draw, label, size_of(names))


def training(metrics: Mapping[str, Sequence[Mapping[str, Any]]], *, y: str, x: str = "step", y_label: str = "") -> str:
    """One line for each run: `y` against `x` of its metrics rows (``core.run.read_metrics``).

    Rows without `x` or `y`, or with a `y` that is no finite number, are passed over: a metrics file holds rows of
    several kinds. The axis is logarithmic where all values are above 0 and span more than two decades.

    A run without rows keeps its place in the colors and is not drawn, so that a model can look the same here as in
    the other plots.

    Raises:
        UserError: no run has a row with both.
    """
    lines = {name: column(rows, x, y) for name, rows in metrics.items()}
    if not any(map(len, lines.values())):
        raise UserError(f"no metrics row has both {x!r} and {y!r}: nothing to plot; check the names")
    everything = np.concatenate([line[:, 1] for line in lines.values()])
    shown = [entry for entry in styled(lines) if len(entry[0][1])]
    names = [name for (name, _), _, _ in shown]

    def draw(figure: Figure) -> None:
        axes = figure.add_subplot()
        for (_, line), color, dash in shown:
            axes.plot(line[:, 0], line[:, 1], color=color, linestyle=dash, marker="o" if len(line) < 3 else None)
        if everything.min() > 0 and everything.max() > 100 * everything.min():
            axes.set_yscale("log")
            decades(axes, "y")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.margins(x=0.01)
        axes.set_xlabel(printable(x).capitalize())
        axes.set_ylabel(printable(y_label or y))
        handles = [Line2D([], [], color=color, linestyle=dash) for _, color, dash in shown]
        legend(figure, names, handles)

    return render(draw, f"{y_label or y} against {x} of {', '.join(names)}.", size_of(names))


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
        for row, color, marker in zip(rows, itertools.cycle(SERIES), markers, strict=False):
            if row.low is not None and row.high is not None:
                axes.plot([row.cost] * 2, [row.low, row.high], color=color, linewidth=1.4)
            mark: dict[str, Any] = {"color": color, "marker": marker, "markersize": 8, "linestyle": "none"}
            axes.plot([row.cost], [row.rate], **mark)
            handles.append(Line2D([], [], **mark))
        axes.set_xscale("log")
        axes.set_xlim(min(costs) / 2, max(costs) * 2)
        axes.set_ylim(rate_bottom(lowest), 1)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if max(costs) < 200 * min(costs) else (1.0,)))
        axes.xaxis.set_major_formatter(FuncFormatter(plain_number))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(printable(x_label))
        axes.set_ylabel(printable(y_label))
        legend(figure, names, handles)

    return render(draw, f"{y_label} against {x_label} of {', '.join(names)}.", size_of(names))


def _binned(scores: Scores) -> Histogram:
    finite = np.isfinite(scores.values)
    if not finite.any():
        raise UserError("no pair has a finite score to draw: every photo failed to enroll; look at the ledger")
    values, same = scores.values[finite].astype(np.float64), scores.same[finite]
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6:
        low, high = low - 0.05, high + 0.05
    edges = np.linspace(low, high, SHOWN + 1)
    genuine, impostor = (np.histogram(values[of], edges)[0] for of in (same, ~same))
    return Histogram(edges, genuine, impostor, int((~finite).sum()))


def _points(curves: Mapping[str, Curve]) -> dict[str, RocPoints]:
    assert curves, "a plot of nothing"
    return {name: roc_points(curve) for name, curve in curves.items()}


def _staircase(axes: Axes, far: Array, rate: Array, limit: float, color: str, dash: Any) -> tuple[Array, Array]:
    """Draw a curve, dotted below `limit`; what comes back is the part from there on."""
    below, above = split(far, rate, limit)
    axes.plot(*below, color=color, linestyle=(0, (1, 2)), linewidth=1.2, drawstyle="steps-post")
    axes.plot(*above, color=color, linestyle=dash, drawstyle="steps-post")
    return above


def _band(far: Array, tar: Array, rates: Sequence[Rate], *, closes: bool) -> tuple[Array, Array, Array]:
    """FAR and both ends of the band around a curve, as far as intervals are known; a ROC's closes at (1, 1).

    The interval's two arms are known at the FARs of `rates`; between them they are interpolated in the logarithm of
    FAR and laid on the curve itself, so the line always lies in its band.
    """
    known = [
        (math.log10(rate.far_asked), rate.tar - rate.low, rate.high - rate.tar)
        for rate in rates
        if rate.tar is not None and rate.low is not None and rate.high is not None
    ]
    if not known:
        return far[:0], tar[:0], tar[:0]
    if closes:  # at FAR 1 everything is accepted, whoever is judged
        known = [*(one for one in known if one[0] < 0), (0.0, 0.0, 0.0)]
    x, down, up = np.array(sorted(known)).T
    at = np.log10(far)
    inside = at <= x[-1] + 1e-9
    at, far, tar = at[inside], far[inside], tar[inside]
    return far, np.maximum(0, tar - np.interp(at, x, down)), np.minimum(1, tar + np.interp(at, x, up))


def column(rows: Sequence[Mapping[str, Any]], x: str, y: str) -> Array:
    """float64[n, 2] of the rows that have both, in order."""
    pairs = [
        (float(row[x]), float(row[y]))
        for row in rows
        if all(isinstance(row.get(key), int | float) and math.isfinite(row[key]) for key in (x, y))
    ]
    return np.array(pairs, np.float64).reshape(-1, 2)
