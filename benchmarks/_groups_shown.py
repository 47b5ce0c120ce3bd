"""The table and the picture of groups.py: ``groups.md`` for a model card, ``groups.svg``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from _groups import BANDS, GROUPS
from _picture import write_picture
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from facekd.core.files import write_text
from facekd.reports.axes import legend, styled
from facekd.reports.svg import COLORS, SERIES, render

MEN, BOTH = "men", "both"
# Of a table or picture: a row's text, the part of the result and the row's name there.
BY_AGE = [(f"men, {band}", MEN, f"age {band}") for band in BANDS]
BY_GROUP = [(f"adult men, {one.replace('_', '/')}", MEN, f"adult, {one}") for one in GROUPS]
MIXED = [
    ("adult men, all pairs", MEN, "adult"),
    ("adult men of one group", MEN, "adult, same group"),
    ("adult men of two groups", MEN, "adult, across groups"),
]
YOUNG = [("under 20, men", MEN, "under 20"), ("under 20 with an adult, men", MEN, "under 20 with adult")]
BY_SEX = [
    ("adult women, other crops", BOTH, "women"),
    ("adult men, other crops", BOTH, "men"),
    ("adult woman with adult man, other crops", BOTH, "women with men"),
    ("girls under 20, other crops", BOTH, "girls under 20"),
    ("boys under 20, other crops", BOTH, "boys under 20"),
]
AT = {
    "men_1": "at the threshold where 1 % of all pairs of adult men match",
    "men_01": "at the threshold where 0.1 % of all pairs of adult men match",
    "own": "at each network's own threshold, FAR 1e-3 on held-out people of CelebA",
}
LFW = [("female", "women"), ("male", "men"), ("both", "woman with man")]
TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def write_shown(result: Mapping[str, Any], folder: Path) -> None:
    """Write both into `folder`."""
    write_text(folder / "groups.md", tables(result["models"]))
    write_picture(folder / "groups.svg", picture(result["models"]), "False matches by age, group and sex")


def shown_cells(result: Mapping[str, Any]) -> dict[str, Any]:
    """`result` with the cells that the tables and the picture have; the others are too many to keep."""
    wanted = {(part, name) for _, part, name in [*BY_AGE, *YOUNG, *MIXED, *BY_GROUP, *BY_SEX]}

    def cells(at: Mapping[str, Any]) -> dict[str, Any]:
        parts = (MEN, BOTH)
        return {
            key: {name: cell for name, cell in one.items() if (key, name) in wanted} if key in parts else one
            for key, one in at.items()
        }

    models = {
        name: {**model, "at": {key: cells(at) for key, at in model["at"].items()}}
        for name, model in result["models"].items()
    }
    return {**result, "models": models}


def tables(models: Mapping[str, Any]) -> str:
    """A Markdown table at each threshold, a column for each network."""
    parts = []
    for key, where in AT.items():
        rows = [*BY_AGE, *YOUNG, *MIXED, *BY_GROUP, *BY_SEX]
        lines = [f"**False matches, % of pairs of strangers, {where}** (95 % interval)", "", *_head(models, "pairs of")]
        for text, part, name in rows:
            lines.append(_row(text, [_cell(one["at"][key][part][name], "fmr") for one in models.values()]))
        lines.append(_row("the threshold", [f"{one['at'][key]['threshold']:.4f}" for one in models.values()]))
        parts.append("\n".join(lines))
        with_lfw = {name: one for name, one in models.items() if "lfw" in one["at"][key]}
        if with_lfw:
            parts.append(_lfw(with_lfw, key, where))
    return "\n\n".join(parts) + "\n"


def _lfw(models: Mapping[str, Any], key: str, where: str) -> str:
    lines = [f"**LFW by sex, all pairs of its photos, {where}**, % (95 % interval)", "", *_head(models, "")]
    for name, text in LFW:
        cells = [_cell(one["at"][key]["lfw"][name]["fmr"], "fmr") for one in models.values()]
        lines.append(_row(f"false matches, {text}", cells))
    for name, text in LFW[:2]:
        cells = [_cell(one["at"][key]["lfw"][name]["tar"], "tar") for one in models.values()]
        lines.append(_row(f"true matches, {text}", cells))
    return "\n".join(lines)


def _head(models: Mapping[str, Any], first: str) -> list[str]:
    return [_row(first, list(models)), _row("---", ["---:"] * len(models))]


def _row(first: str, cells: list[str]) -> str:
    return f"| {first} | {' | '.join(cells)} |"


def _cell(rate: Mapping[str, Any], name: str) -> str:
    return f"{_percent(rate[name])} ({_percent(rate['low'])}–{_percent(rate['high'])})"


def _percent(rate: float) -> str:
    value = 100 * rate
    return f"{value:.1f}" if value >= 0.95 else f"{value:.2f}" if value >= 0.095 else f"{value:.3f}"


def picture(models: Mapping[str, Any]) -> str:
    """False match rates by age, and by group and sex, at the threshold where adult men have 1 %."""
    colors = {name: color for (name, _), color, _ in styled(models)}

    def draw(figure: Figure) -> None:
        above, below = figure.subplots(2, 1)
        ages = [text.removeprefix("men, ") for text, _, _ in BY_AGE]
        _draw(above, BY_AGE, ages, models, colors, joined=True)
        above.set_title(
            "False matches of two men of one age band, where 1 % of pairs of adult men match", loc="left", fontsize=12
        )
        above.set_xlabel("age, years")
        groups = [*MIXED[1:], *BY_GROUP, *BY_SEX[:3]]
        named = ["one group", "two groups", *(one.replace("_", "/") for one in GROUPS), "women*", "men*", "woman, man*"]
        _draw(below, groups, named, models, colors, joined=False)
        below.set_title("… of two adults: men; * women and men of another set", loc="left", fontsize=12)
        below.set_xticks(range(len(named)), named, rotation=35, ha="right")
        handles = [above.plot([], [], color=color, marker="o")[0] for color in colors.values()]
        legend(figure, list(models), handles)

    text = (
        "False match rates by age band, by group and by sex, at the threshold where 1 % of all pairs of adult men "
        f"match, of {', '.join(models)}."
    )
    return render(draw, text, (640.0, 640.0 + 17 * len(models) / 2))


def _draw(
    axes: Axes,
    rows: list[tuple[str, str, str]],
    names: list[str],
    models: Mapping[str, Any],
    colors: Mapping[str, str],
    joined: bool,
) -> None:
    """A column for each row; the networks side by side in it."""
    for place, (name, one) in enumerate(models.items()):
        aside = (place - (len(models) - 1) / 2) * (0.06 if joined else 0.13)
        rates = [one["at"]["men_1"][part][row] for _, part, row in rows]
        x = [column + aside for column in range(len(rows))]
        for at, rate in zip(x, rates, strict=True):
            axes.plot([at, at], [rate["low"], rate["high"]], color=colors[name], linewidth=1.2)
        line = "-" if joined else "none"
        axes.plot(x, [rate["fmr"] for rate in rates], color=colors[name], marker="o", markersize=4, linestyle=line)
    axes.axhline(0.01, color=COLORS["quiet"], linewidth=0.9, linestyle=(0, (3, 3)))
    axes.set_yscale("log")
    shown = [one["at"]["men_1"][part][row] for one in models.values() for _, part, row in rows]
    axes.set_ylim(min(0.004, 0.8 * min(rate["low"] for rate in shown)), 1.05 * max(rate["high"] for rate in shown))
    axes.yaxis.set_major_locator(FixedLocator(TICKS))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g} %"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xticks(range(len(names)), names)
    axes.grid(visible=False, axis="x")
    axes.set_ylabel("false match rate")


assert len(SERIES) >= 6, "each network has its own color"
