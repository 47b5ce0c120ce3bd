"""What the plots share: styles of series, ticks, legends, sizes, and the part of an axis that no data support."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from facekd.core.types import Array
from facekd.reports.svg import COLORS, DASHES, SERIES
from facekd.reports.text import printable, shortened

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def floor(n: int) -> float:
    """The smallest rate that `n` independent pairs can show: 3/n, the rule of three.

    Where none of n pairs errs, the true rate is below 3/n with 95 % confidence, and nothing smaller can be said.
    Source: Hanley and Lippman-Hand, JAMA 249, 1983.
    """
    return min(3 / n, 1.0)


def decade_below(counts: Iterable[int]) -> float:
    """The decade at or below the smallest rate above 0 that any list can have, at most 0.1."""
    return min(0.1, *(10.0 ** math.floor(math.log10(1 / n)) for n in counts))


def split(far: Array, rate: Array, limit: float) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The staircase below `limit` and the one from `limit` on; at `limit` holds the last step before it."""
    first = int(np.searchsorted(far, limit, side="right"))
    if first == 0:
        return (far[:0], rate[:0]), (far, rate)
    join = np.array([limit]), rate[first - 1 : first]
    below = np.append(far[:first], join[0]), np.append(rate[:first], join[1])
    return below, (np.append(join[0], far[first:]), np.append(join[1], rate[first:]))


def shade(axes: Axes, left: float, limit: float, text: str) -> None:
    """The part of the horizontal axis from `left` to `limit`, where the list shows nothing, with `text` in it."""
    axes.axvspan(left, limit, color=COLORS["shade"], linewidth=0)
    axes.annotate(
        text,
        (math.sqrt(left * limit), 0.03),
        xycoords=("data", "axes fraction"),
        rotation=90,
        ha="center",
        va="bottom",
        fontsize=10.5,
        color=COLORS["quiet"],
    )


def rate_bottom(least: float) -> float:
    """Where a rate axis begins: as high as its least rate allows, in steps that read well."""
    return max((step for step in (0.0, 0.5, 0.8, 0.9, 0.98) if step <= least - 0.1 * (1 - least)), default=0.0)


def decades(axes: Axes, which: str) -> None:
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
        axis.set_major_formatter(FuncFormatter(plain_number))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def _power_of_ten(value: float, _: int = 0) -> str:
    exponent = round(math.log10(value))
    return "1" if exponent == 0 else "10" + str(exponent).translate(_SUPERSCRIPT)


def plain_number(value: float, _: int = 0) -> str:
    """``0.5``, ``200``, ``50 k``, ``2 G``."""
    for size, sign in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= max(size, 1e4):
            return f"{value / size:.10g}{sign}"
    return f"{value:.10g}"


def styled(series: Mapping[str, Any]) -> Any:
    """((name, value), color, dash) of each series; the same place in the order looks the same in every plot."""
    return zip(series.items(), itertools.cycle(SERIES), itertools.cycle(DASHES), strict=False)


def _columns(names: Sequence[str]) -> int:
    longest = max(len(name) for name in names)
    return 3 if longest <= 12 else 2 if longest <= 24 else 1


def size_of(names: Iterable[str]) -> tuple[float, float]:
    """Width and height of a plot whose legend names `names`: the axes keep their size, the legend's rows are added."""
    names = list(names)
    return 450.0, 305.0 + 17 * math.ceil(len(names) / _columns(names))


def legend(figure: Figure, names: Sequence[str], handles: Sequence[Line2D]) -> None:
    """Names above the axes, where they hide no line."""
    names = [shortened(printable(" ".join(name.split())), 44) for name in names]
    figure.legend(handles, names, loc="outside upper left", ncols=_columns(names))
