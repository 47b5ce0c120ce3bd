"""A report like the quickstart's: synthetic scores, drawn pictures, and names that try to break out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facekd.core.run import environment
from facekd.core.types import Scores
from facekd.rates.counts import Curve, curve
from facekd.rates.identification import Ranks
from facekd.rates.rates import rate_at
from facekd.reports import plots
from facekd.reports.document import Figure, Picture, Pictures, Repeat, Section, Table, Text, write_html

HOSTILE = "<img src=x onerror=\"document.title='pwned'\">&amp;</td></svg><script>document.title='pwned'</script>"
LABELS = (
    "anna · 0.11",
    HOSTILE,
    "Łukasz Żółć",
    "李小龙 · 0.17",
    "مريم · 0.2",
    "a_long_name_without_any_space.jpeg",
    "Ann",
    "Bo",
)
MODELS = {"teacher": 0.63, "student alone": 0.36, "student, distilled": 0.52, "student.onnx, int8": 0.50}


def scores_of(mean: float, seed: int, n: int = 3000, missing: int = 6) -> Scores:
    """n genuine pairs around `mean`, n impostor pairs around 0.04; the first `missing` have no embedding."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(mean, 0.15, n), rng.normal(0.04, 0.09, n)]).clip(-1, 1)
    values[:missing] = -np.inf
    names = tuple(f"photo-{k}" for k in range(2 * n))
    return Scores(values, np.arange(2 * n) < n, names, names[::-1], np.zeros(2 * n, np.int16))


def drawn_face(seed: int, size: int = 112) -> bytes:
    """JPEG bytes of a cartoon, so that no report under test shows a person."""
    rng = np.random.default_rng(seed)
    picture = np.full((size, size, 3), rng.integers(90, 200, 3), np.uint8)
    skin = tuple(int(v) for v in rng.integers((120, 150, 180), (170, 200, 250)))
    cv2.ellipse(picture, (56, 60), (int(rng.integers(32, 42)), 48), 0, 0, 360, skin, -1, cv2.LINE_AA)
    for x in (38, 74):
        cv2.circle(picture, (x, 51), 5, (40, 30, 20), -1, cv2.LINE_AA)
    cv2.line(picture, (56, 58), (56, 72), (90, 100, 140), 2, cv2.LINE_AA)
    cv2.ellipse(picture, (56, 86), (14, int(rng.integers(2, 8))), 0, 0, 180, (70, 70, 160), 2, cv2.LINE_AA)
    return cv2.imencode(".jpg", picture)[1].tobytes()


@pytest.fixture(scope="session")
def curves() -> dict[str, Curve]:
    scores = {name: scores_of(mean, seed) for seed, (name, mean) in enumerate(MODELS.items())}
    return {name: curve(each.values, each.same) for name, each in scores.items()}


@pytest.fixture(scope="session")
def report(curves: dict[str, Curve]) -> dict[str, Any]:
    """The keyword arguments of write_html and to_markdown."""
    rng = np.random.default_rng(7)
    rows = []
    for name, each in curves.items():
        cells = [name]
        for far in (1e-1, 1e-2, 1e-3, 1e-4):
            rate = rate_at(each, far)
            cells.append(
                "too few impostor pairs"
                if rate.tar is None or rate.low is None or rate.high is None
                else f"{100 * rate.tar:.1f} ({100 * rate.low:.1f}–{100 * rate.high:.1f})"
            )
        rows.append(
            (*cells, f"{rng.uniform(1, 40):.2f}", f"{rng.uniform(200, 2400):,.0f}", f"{rng.uniform(2, 60):.1f}")
        )
    steps = np.arange(0, 2000, 20)
    losses = {
        "teacher": [],
        "student alone": [{"step": int(k), "loss": 6 * np.exp(-k / 700) + 0.3 * rng.random()} for k in steps],
        "student, distilled": [{"step": int(k), "loss": 5 * np.exp(-k / 400) + 0.2 * rng.random()} for k in steps],
    }
    costs = [
        plots.CostPoint(name, macs, tar, tar - 0.02, min(1.0, tar + 0.015))
        for (name, macs, tar) in zip(MODELS, (2430e6, 221e6, 221e6, 55e6), (0.98, 0.84, 0.955, 0.948), strict=True)
    ]
    fars = np.geomspace(0.00101, 0.9, 12)
    bands = {name: [rate_at(each, float(f"{far:.3g}")) for far in fars] for name, each in curves.items()}
    shares = 1 - np.outer([0.02, 0.15, 0.06, 0.07], np.arange(1, 21) ** -0.7)
    ranked = {name: Ranks(share, share - 0.02, share + 0.015) for name, share in zip(MODELS, shares, strict=True)}
    sections = (
        Section(
            "How well it tells people apart",
            (
                Text(
                    "Measured on 6,000 pairs of 120 people that no training saw. A pair counts as accepted when its "
                    "score is at least the threshold; photos without a face count as rejected."
                ),
                Table(
                    "True accept rate in percent at four false accept rates, with 95 % intervals",
                    ("Model", "FAR 1e-1", "FAR 1e-2", "FAR 1e-3", "FAR 1e-4", "Parameters (M)", "MACs (M)", "ms"),
                    tuple(rows),
                    "Intervals are Wilson's, for independent pairs. 3,000 impostor pairs can't show FAR 1e-4.",
                ),
                Figure(plots.roc(curves, bands), "ROC: share of genuine pairs accepted at each false accept rate."),
                Figure(plots.det(curves, bands), "DET: both kinds of error, log axes; lower left is better."),
                Figure(
                    plots.histograms(scores_of(0.52, 2), {"FAR 1e-3": 0.32}),
                    "Scores of the distilled student. The less the two hills overlap, the better.",
                ),
                Figure(plots.cmc(ranked), "CMC: share of probes found by rank."),
            ),
        ),
        Section(
            "What it cost",
            (
                Figure(
                    plots.cost(costs, x_label="Multiply-accumulates of one crop", y_label="TAR at FAR 1e-3"),
                    "Accuracy against arithmetic; up and left is better.",
                ),
                Figure(plots.training(losses, y="loss", y_label="Training loss"), "Training loss of both students."),
            ),
        ),
        Section(
            "Looking at it",
            (
                Pictures(
                    "The genuine pairs with the lowest scores.",
                    tuple(
                        Picture(drawn_face(k), label)
                        for k, label in enumerate(LABELS)
                    ),
                ),
                Table("Identified", ("Photo", "Name", "Score"), ((HOSTILE, HOSTILE, "0.71"), ("b.jpg", "nobody", "–"))),
            ),
        ),
    )  # fmt: skip
    return {
        "title": "facekd quickstart, 21 November 2026",
        "lead": "The distilled student keeps 97 % of its teacher's accuracy at a tenth of its arithmetic: "
        "TAR 95.5 % (94.7–96.2) at FAR 1e-3.",
        "sections": sections,
        "repeat": Repeat(("facekd quickstart --out runs/quickstart --seed 0",), environment()),
    }


@pytest.fixture(scope="session")
def write_sample(report: dict[str, Any]) -> Callable[[Path], None]:
    return lambda path: write_html(path, **report)
