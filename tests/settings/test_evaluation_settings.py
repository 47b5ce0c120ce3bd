"""What the groups of settings of evaluation refuse by themselves, before any command begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from facekd.errors import UserError
from facekd.settings.evaluation import (
    AskedRates,
    AuditFile,
    ComparedData,
    ComparedRates,
    ExportedFile,
    LeakSearch,
    PairData,
    WholeLine,
)
from facekd.settings.runtime import Cluster

HERE = Path("x")


@pytest.mark.parametrize(
    ("group", "values", "words"),
    [
        (PairData, {"pairs": HERE, "all_pairs": True}, "not --pairs and --all-pairs"),
        (PairData, {"bin": HERE, "crops": HERE}, "leave --crops out"),
        (PairData, {"pairs": HERE, "crops": HERE, "embeddings": HERE}, "not --crops and --embeddings"),
        (PairData, {"pairs": HERE, "embeddings": [HERE], "model": [HERE, HERE]}, "2 models for 1 files of embeddings"),
        (PairData, {"identification": True, "group": ["sex"]}, "--group names a column of a pair list"),
        (PairData, {"pairs": HERE, "split": HERE}, "add --identification"),
        (AskedRates, {"far": [0.1, 0.0]}, "FAR 0.0 can't be asked of a list"),
        (AskedRates, {"far": [float("nan")]}, "FAR nan can't be asked"),
        (AskedRates, {"require": ["tar>1"]}, "not a requirement"),
        (ComparedRates, {"far": [2.0]}, "above 0 and at most 1"),
        (ComparedData, {"no_held_out": True}, "leaves the pair list alone"),
        (ComparedData, {"crops": HERE}, "give --pairs LIST, or leave it out"),
        (ComparedData, {"no_held_out": True, "pairs": HERE, "held": HERE}, "is not judged with --no-held-out"),
        (ExportedFile, {"precision": "int8"}, "takes its ranges from real faces"),
        (ExportedFile, {"pairs": HERE}, "give the store of their crops"),
        (ExportedFile, {"precision": "fp16", "thresholds": HERE}, "fp16 scores otherwise"),
        (LeakSearch, {"threshold": 1.5}, "is no cosine"),
        (AskedRates, {"far": []}, "--far: names no rate"),
        (LeakSearch, {"out": "leaks.txt"}, "written as .csv"),
        (AuditFile, {"out": "audit.txt"}, "written as .csv"),
        (WholeLine, {"teacher_views": 0}, "--teacher-views 0: nothing would be learned"),
        (WholeLine, {"student_views": -1}, "--student-views -1: nothing would be learned"),
        (Cluster, {"address": "auto"}, "add --engine ray or leave it out"),
    ],
)
def test_a_group_refuses_what_contradicts_itself(group: Any, values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        group(**values)


def test_rates_are_asked_once_and_those_of_requirements_too() -> None:
    asked = AskedRates(far=[0.1, 0.01, 0.1], require=["tar@1e-3>=0.9", "TAR@0.01 >= 0.5"])
    assert asked.fars == [0.1, 0.01, 1e-3]
    assert [(one.far, one.limit) for one in asked.requirements] == [(1e-3, 0.9), (0.01, 0.5)]
    assert ComparedRates(far=[1e-3, 0.1, 1e-3]).fars == [0.1, 1e-3]
