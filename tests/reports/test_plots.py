from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

import facekd.reports
from facekd.core.types import Scores
from facekd.errors import UserError
from facekd.rates.counts import Curve, curve
from facekd.rates.identification import Ranks
from facekd.rates.rates import rate_at
from facekd.reports import plots
from facekd.reports.axes import plain_number
from facekd.reports.forest import Row, forest
from facekd.reports.svg import COLORS

SVG = "{http://www.w3.org/2000/svg}"
NASTY = "_<b>$x^{$&\"'\x00\u202e\udc80 李"


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg).iter(f"{SVG}text")]


def all_plots(curves: dict[str, Curve], name: str = "student") -> dict[str, str]:
    one = {name: next(iter(curves.values()))}
    values = np.array([0.9, 0.4, 0.1, -np.inf])
    names = ("a", "b", "c", "d")
    scores = Scores(values, np.array([True, True, False, False]), names, names, np.zeros(4, np.int16))
    return {
        "roc": plots.roc(one),
        "det": plots.det(one),
        "cmc": plots.cmc({name: Ranks(*(np.array([0.8, 0.9, 0.95]) + move for move in (0, -0.05, 0.04)))}),
        "histograms": plots.histograms(scores, {name: 0.3}),
        "training": plots.training({name: [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}]}, y="loss"),
        "cost": plots.cost([plots.CostPoint(name, 2e8, 0.9, 0.8, 0.95)], x_label="MACs", y_label="TAR"),
        "forest": forest([Row("teacher", 0.95, measure=True), Row(name, 0.9, 0.8, 0.95)], x_label="TAR"),
    }


def test_plots_are_the_same_each_time_and_carry_no_date_font_or_foreign_address(curves: dict[str, Curve]) -> None:
    first, second = all_plots(curves), all_plots(curves)
    assert first == second
    for svg in first.values():
        root = ET.fromstring(svg)
        assert root.get("role") == "img"
        assert len(root.get("aria-label", "")) > 20
        assert "student" in " ".join(texts(svg)) or "different people" in texts(svg)
        assert "DejaVu" not in svg
        assert re.findall(r"https?://[^\"' ]+", svg) == ["http://www.w3.org/2000/svg"]
        assert not {element.tag for element in root.iter()} & {f"{SVG}style", f"{SVG}metadata", f"{SVG}script"}


def test_every_color_can_be_changed_by_the_page(curves: dict[str, Curve]) -> None:
    for name, svg in all_plots(curves).items():
        fixed = set(re.findall(r"(?<!, )#[0-9a-f]{6}\b", svg))
        assert not fixed, (name, fixed)
        assert "var(--series-1, " in svg


def test_ids_of_two_plots_never_meet(curves: dict[str, Curve]) -> None:
    ids = [set(re.findall(r' id="([^"]+)"', svg)) for svg in all_plots(curves).values()]
    assert all(ids)
    assert len(set.union(*ids)) == sum(map(len, ids))
    for svg, own in zip(all_plots(curves).values(), ids, strict=True):
        assert set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
        assert {a or b for a, b in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg)} <= own


def test_a_name_is_text_whatever_it_holds(curves: dict[str, Curve]) -> None:
    shown = "_<b>$x^{$&\"'\ufffd\ufffd\ufffd 李"
    for name, svg in all_plots(curves, NASTY).items():
        svg.encode("utf-8")
        assert shown in texts(svg), name


def test_many_models_with_long_names_each_have_a_style_of_their_own(curves: dict[str, Curve]) -> None:
    each = next(iter(curves.values()))
    svg = plots.roc({f"{'a long name ' * 6}{k}": each for k in range(30)})
    lines = re.findall(r"fill: none; ((?:stroke-dasharray: [^;]+; )?(?:stroke-dashoffset: \d+; )?stroke: [^;]+)", svg)
    assert len({line for line in lines if "series" in line and "1.2,2.4" not in line}) >= 30
    assert all(len(text) <= 44 for text in texts(svg))


def path_points(svg: str, color: str) -> list[np.ndarray]:
    """Points of each line drawn in `color`, in the SVG's units (y grows downwards)."""
    found = []
    for element in ET.fromstring(svg).iter(f"{SVG}path"):
        if "fill: none" in element.get("style", "") and color in element.get("style", ""):
            found.append(np.array(re.findall(r"[ML] (\S+) (\S+)", element.get("d", "")), float))
    return found


def test_roc_is_the_staircase_and_is_dotted_under_the_floor() -> None:
    impostor = np.linspace(0, 0.5, 2000)
    genuine = np.repeat([0.9, 0.4999, 0.1], [10, 30, 60])  # above all impostors, above all but one, below many
    svg = plots.roc({"a": curve(np.r_[genuine, impostor], np.arange(2100) < 100)})
    below, above, *_ = path_points(svg, "--series-1")
    frame = ET.fromstring(svg).find(f".//{SVG}clipPath/{SVG}rect")
    assert frame is not None
    left, top, width, height = (float(frame.get(key, "nan")) for key in ("x", "y", "width", "height"))
    far = 10 ** ((np.concatenate([below, above])[:, 0] - left) / width * 4 - 4)  # 1e-4 … 1
    assert far.min() == pytest.approx(1e-4, rel=1e-3)
    assert (10 ** ((below[:, 0] - left) / width * 4 - 4)).max() == pytest.approx(3 / 2000, rel=1e-3)
    assert (10 ** ((above[:, 0] - left) / width * 4 - 4)).min() == pytest.approx(3 / 2000, rel=1e-3)
    tar = 1 - (above[:, 1] - top) / height
    assert tar[0] == pytest.approx(0.4, abs=1e-4)
    assert set(tar.round(3)) == {0.4, 1.0}
    jump = below[(below[1:, 1] < below[:-1, 1] - height / 10).nonzero()[0][0], 0]
    assert 10 ** ((jump - left) / width * 4 - 4) == pytest.approx(1 / 2000, rel=1e-3)
    assert "too few impostor pairs" in texts(svg)


def filled(svg: str, color: str) -> list[np.ndarray]:
    """Outlines of the areas in a thin `color`; matplotlib writes each once and lays it down with <use>."""
    root, found = ET.fromstring(svg), []
    shapes = {element.get("id"): element.get("d", "") for element in root.iter(f"{SVG}path")}
    for use in root.iter(f"{SVG}use"):
        if color in use.get("style", "") and "fill-opacity: 0.14" in use.get("style", ""):
            points = np.array(re.findall(r"[ML] (\S+) (\S+)", shapes[use.get("href", "")[1:]]), float)
            found.append(points + np.array([float(use.get("x", 0)), float(use.get("y", 0))]))
    return found


def test_the_band_lies_around_the_line_and_ends_where_nothing_is_known_or_at_one(curves: dict[str, Curve]) -> None:
    made = next(iter(curves.values()))
    fars = [0.002, 0.01, 0.1]
    bands = {"a": [rate_at(made, far) for far in fars]}
    for draw in (plots.roc, plots.det):
        plain, banded = draw({"a": made}), draw({"a": made}, bands)
        assert not filled(plain, "--series-1")
        (area,) = filled(banded, "--series-1")
        frame = ET.fromstring(banded).find(f".//{SVG}clipPath/{SVG}rect")
        assert frame is not None
        left, width = float(frame.get("x", "nan")), float(frame.get("width", "nan"))
        far = 10 ** ((area[:, 0] - left) / width * 4 - 4)  # 3,000 impostor pairs: 1e-4 to 1
        assert far.min() == pytest.approx(1e-3, rel=0.01)  # the floor
        if draw is plots.det:
            assert 0.08 < far.max() <= 0.1 * 1.01
        else:  # a ROC's ends at (1, 1), whatever is known of what lies before
            assert far.max() == pytest.approx(1, rel=0.01)
            at_one = area[np.isclose(far, far.max(), rtol=1e-3), 1]
            assert at_one.min() == pytest.approx(area[:, 1].min(), abs=1)
        (line,) = [points for points in path_points(banded, "--series-1") if len(points) > 20]
        inside = line[(line[:, 0] > area[:, 0].min()) & (line[:, 0] < area[:, 0].max())]
        assert len(inside) > 20
        for x, y in inside:
            beside = area[np.abs(area[:, 0] - x) < 1, 1]
            assert beside.min() - 0.01 <= y <= beside.max() + 0.01


def test_the_cmc_says_its_ranks(curves: dict[str, Curve]) -> None:
    svg = plots.cmc({"a": Ranks(*(np.linspace(0.9, 0.99, 20) + move for move in (0, -0.01, 0.01)))})
    assert {"Rank", "Probes found up to that rank", "20"} <= set(texts(svg))
    assert filled(svg, "--series-1")
    one = plots.cmc({"a": Ranks(np.array([0.5]), np.array([0.4]), np.array([0.6]))})
    assert "1" in texts(one)  # a gallery of one person


def test_lists_too_short_for_anything_and_lists_without_scores_are_drawn_without_complaint() -> None:
    for values in ([0.9, 0.1], [-np.inf, 0.1], [-np.inf, -np.inf], [np.inf, 0.5]):
        short = {"a": curve(np.array(values), np.array([True, False]))}
        assert "too few impostor pairs" in texts(plots.roc(short))
        assert "False non-match rate (FNMR)" in texts(plots.det(short))


def test_a_million_pairs_make_a_small_plot() -> None:
    rng = np.random.default_rng(0)
    big = {"a": curve(rng.normal(size=1_000_000) + (np.arange(1_000_000) % 2), np.arange(1_000_000) % 2 == 1)}
    assert len(plots.roc(big)) < 200_000
    assert len(plots.det(big)) < 200_000


def test_histograms_say_what_they_leave_out_and_refuse_when_nothing_is_left() -> None:
    names = ("a", "b", "c")
    some = Scores(np.array([0.5, 0.5, -np.inf]), np.array([True, False, True]), names, names, np.zeros(3, np.int16))
    assert "Score; 1 pair without a score not drawn" in texts(plots.histograms(some, {"far away": 0.99}))
    none = Scores(np.full(3, -np.inf), np.array([True, False, True]), names, names, np.zeros(3, np.int16))
    with pytest.raises(UserError, match="no pair has a finite score"):
        plots.histograms(none)


def test_training_passes_over_rows_of_another_kind_and_keeps_the_colors() -> None:
    rows = [{"step": 0, "loss": 4.0}, {"step": 1, "cosine": 0.5}, {"step": 2, "loss": float("nan")}]
    svg = plots.training({"teacher": [], "student": [*rows, {"step": 3, "loss": 1.0}]}, y="loss")
    assert len(path_points(svg, "--series-1")) == 0
    line = path_points(svg, "--series-2")[0]
    assert line.shape == (2, 2)
    assert line[1, 1] > line[0, 1]  # y grows downwards: the loss fell
    assert "teacher" not in texts(svg)
    with pytest.raises(UserError, match="'accuracy'"):
        plots.training({"student": rows}, y="accuracy")


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.5, "0.5"), (200.0, "200"), (5e3, "5000"), (5e4, "50 k"), (2e6, "2 M"), (1e9, "1 G"), (2e-5, "2e-05")],
)
def test_ticks_of_the_cost_axis(value: float, shown: str) -> None:
    assert plain_number(value) == shown


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2.2."""
    parts = (int(color[k : k + 2], 16) / 255 for k in (1, 3, 5))
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colors_of_page_and_plots_agree_and_contrast_enough_in_both_themes() -> None:
    css = (Path(facekd.reports.__file__).parent / "templates" / "style.css").read_text()
    light, dark = (dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in css.split("prefers-color-scheme: dark"))
    assert {name: light[name] for name in COLORS} == COLORS
    assert light.keys() == dark.keys()
    for theme in (light, dark):
        for name in ("ink", "quiet", "link", *(name for name in theme if name.startswith("series"))):
            for ground in ("paper", "shade"):
                pair = sorted((luminance(theme[name]), luminance(theme[ground])))
                ratio = (pair[1] + 0.05) / (pair[0] + 0.05)
                assert ratio >= 4.5, (name, ground, round(ratio, 2))


def test_forest_draws_each_interval_to_scale_in_the_order_given() -> None:
    svg = forest([Row("teacher", 0.8, measure=True), Row("a", 0.4, 0.2, 0.6), Row("b", 0.3, 0.1, 0.5)], x_label="TAR")
    assert [text for text in texts(svg) if text in ("teacher", "a", "b")] == ["teacher", "a", "b"]
    lines = [line for line in path_points(svg, "--series-1") if len(line) == 2]
    (a_low, a_high), (b_low, b_high) = (line[:, 0] for line in lines)
    assert a_high - a_low == pytest.approx(b_high - b_low)  # both intervals are 0.4 wide
    assert a_low - b_low == pytest.approx((a_high - a_low) / 4)
    assert lines[0][0, 1] < lines[1][0, 1]  # an SVG's y grows downwards
    (measured,) = (line for line in path_points(svg, "--series-2") if len(line) == 2)
    assert measured[0, 0] == measured[1, 0] == pytest.approx(a_high + (a_high - a_low) / 2)
