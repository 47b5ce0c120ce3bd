from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from facekd.reports.svg import COLORS
from facekd.reports.training_plots import MOST_POINTS, training_plots

SVG = "{http://www.w3.org/2000/svg}"
Rows = list[dict[str, Any]]


def run(steps: int = 60, far: bool = True) -> Rows:
    """What a distillation writes: a judgment before the first step, then lines of two terms, some of them judged."""
    rows: Rows = [{"step": 0, "held_out_eer": 0.5, "held_out_cosine": -0.02}]
    for step in range(10, steps + 1, 10):
        terms = {"labels": 8 * 0.99**step, "embedding": 2 * 0.97**step}
        rows.append({"step": step, "lr": 0.1 * step / steps, "loss": sum(terms.values()), **terms})
        if step % 30 == 0:
            rows[-1] |= {"held_out_eer": 0.5 / step, "held_out_cosine": 0.5}
            if far:
                rows[-1]["held_out_tar@0.01"] = 0.9
    return rows


def texts(svg: str) -> list[str]:
    return ["".join(element.itertext()) for element in ET.fromstring(svg.encode()).iter(f"{SVG}text")]


def lines(svg: str, color: str) -> list[list[tuple[float, float]]]:
    """The points of each path of many points that is drawn in a color, in the picture's own units."""
    found = []
    for path in ET.fromstring(svg.encode()).iter(f"{SVG}path"):
        drawn = path.get("stroke") == COLORS[color] and "fill: none" in path.get("style", "")
        if drawn and path.get("clip-path"):  # ticks and legends are not clipped
            found.append([(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", path.get("d", ""))])
    return found


def test_each_plot_shows_what_the_rows_hold() -> None:
    svgs = training_plots(run(), best=30)
    assert list(svgs) == ["loss", "learning_rate", "held_out"]
    assert {"loss", "labels", "embedding", "Step", "Loss"} <= set(texts(svgs["loss"]))
    assert "Learning rate" in texts(svgs["learning_rate"])
    held_out = {"TAR at FAR 0.01", "cosine to the teacher", "EER", "best: step 30", "TAR and cosine"}
    assert held_out <= set(texts(svgs["held_out"]))


def test_a_line_goes_through_its_rows() -> None:
    (line,) = lines(training_plots(run())["learning_rate"], "series-1")
    steps, heights = np.array(line).T
    assert len(line) == 6
    np.testing.assert_allclose(np.diff(steps), np.diff(steps)[0], rtol=1e-4)
    np.testing.assert_allclose(np.diff(heights), np.diff(heights)[0], rtol=1e-4)  # 0.1 step / steps is straight
    assert heights[-1] < heights[0]  # up in a picture is down in its numbers


def test_one_term_is_the_loss_and_is_drawn_once() -> None:
    rows = [{"step": step, "lr": 0.1, "loss": 3.0 - step, "labels": 3.0 - step} for step in (1, 2)]
    (loss, rate) = (svg for svg in training_plots(rows).values())
    assert "loss (labels)" in texts(loss)
    assert len(lines(loss, "series-1")) == 1
    assert not lines(loss, "series-2")
    assert len(lines(rate, "series-1")) == 1


@pytest.mark.parametrize(("least", "logarithmic"), [(0.01, True), (1.0, False), (-1.0, False)])
def test_the_axis_is_logarithmic_where_the_terms_span_over_two_decades(least: float, logarithmic: bool) -> None:
    rows = [{"step": step, "lr": 0.1, "loss": 9.0 + least, "labels": 9.0, "cosine": least} for step in (10, 20)]
    assert any(text.startswith("10⁻") for text in texts(training_plots(rows)["loss"])) == logarithmic


def test_many_rows_are_averaged_with_what_they_are_the_mean_of_behind() -> None:
    rng = np.random.default_rng(0)
    rows = [{"step": step, "lr": 0.1, "loss": 2 + rng.normal()} for step in range(10, 50_000, 10)]
    svg = training_plots(rows)["loss"]
    (line,) = lines(svg, "series-1")
    assert len(line) <= MOST_POINTS
    assert len(svg) < 60_000
    few = training_plots(rows[:MOST_POINTS])["loss"]
    assert svg.count("fill-opacity: 0.14") == 1
    assert few.count("fill-opacity: 0.14") == 0


def test_what_no_row_holds_is_not_drawn() -> None:
    assert training_plots([]) == {}
    assert list(training_plots([{"step": 0, "held_out_eer": 0.5}])) == ["held_out"]
    assert list(training_plots([{"step": 10, "lr": 0.1, "loss": 1.0, "labels": 1.0}])) == ["loss", "learning_rate"]
    shown = texts(training_plots(run(far=False))["held_out"])
    assert "cosine" in shown
    assert not any("TAR" in text for text in shown)


def test_a_file_stands_alone_in_light_and_dark_and_without_css_variables() -> None:
    for name, svg in training_plots(run(), best=30).items():
        root = ET.fromstring(svg.encode())
        assert root.get("role") == "img"
        assert len(root.get("aria-label", "")) > 20, name
        assert root.get("width", "").endswith("pt")
        (style,) = (element.text or "" for element in root.iter(f"{SVG}style"))
        assert "prefers-color-scheme: dark" in style
        used = set(re.findall(r"var\((--[\w-]+)", svg))
        assert {"--series-1", "--ink", "--paper"} <= used
        for variable in used:
            assert style.count(f"{variable}: #") == 2, variable
        for element in root.iter():
            for key, color in re.findall(r"([\w-]+): var\(--[\w-]+, (#\w+)\)", element.get("style", "")):
                assert element.get(key) == color
    assert training_plots(run()) == training_plots(run())
