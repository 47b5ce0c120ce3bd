"""The groups of the photos' rooms: what they refuse, what they take in another spelling, where they stand."""

from __future__ import annotations

from pathlib import Path

import pytest

from facekd.errors import UserError
from facekd.settings.group import flat
from facekd.settings.photos import (
    Alignment,
    Answers,
    EmbeddedFaces,
    EnrollDecision,
    EnrollReport,
    FaceChoice,
    FaceSearch,
    OneFace,
    PairDecision,
    Population,
    QualityGate,
)


@pytest.mark.parametrize(
    ("group", "values", "words"),
    [
        (Alignment, {"size": 15}, "--size 15: a crop is from 16 to 4096"),
        (Alignment, {"show": -1}, "--show -1"),
        (Population, {"people": 0}, "--people is 0: give 1 or more"),
        (QualityGate, {"max_yaw": float("nan")}, "--max-yaw nan: give a number from 0 up"),
        (QualityGate, {"min_score": 1.5}, "confidence is from 0 to 1"),
        (PairDecision, {"threshold": 2}, "--threshold 2: is no cosine"),
        (PairDecision, {"threshold": 0.5, "far": 0.1}, "give one of them"),
        (EnrollDecision, {"threshold": -2}, "--threshold -2: is no cosine"),
        (EnrollDecision, {"suspect_threshold": 2}, "--suspect-threshold 2: is no cosine"),
        (EnrollReport, {"report": "r.txt"}, "written as .csv or .parquet"),
        (EnrollReport, {"review": "r.csv"}, "--review r.csv: a page is written as .html"),
        (Answers, {"top": 0}, "--top 0"),
        (Answers, {"out": "a.txt"}, "written as .json, .parquet or .csv"),
        (Answers, {"where": ["office"]}, "give key=value, each key once"),
    ],
)
def test_what_can_not_be_is_refused(group: type, values: dict[str, object], words: str) -> None:
    with pytest.raises(UserError, match=words):
        group(**values)


def test_a_group_that_adds_to_another_refuses_and_takes_what_that_does() -> None:
    assert [kind(choose="centre").choose for kind in (FaceChoice, Alignment, EmbeddedFaces, OneFace)] == ["center"] * 4
    assert FaceSearch(weights="w.onnx").weights == Path("w.onnx")
    assert Answers(where=["office=Basel", "floor=2"]).metadata() == {"office": "Basel", "floor": "2"}


def test_defaults() -> None:
    assert flat(EmbeddedFaces()) == {"detector": "yunet", "weights": None, "min_face": 20, "choose": "best"}
    assert (FaceSearch().detector, FaceSearch().detector_name, OneFace().min_face) == (None, "yunet", None)
