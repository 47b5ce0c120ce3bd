"""What a site sends over Flower: whatever it is, the coordinator gets an answer with a name or a sentence."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

pytest.importorskip("flwr", reason="Flower is not installed: pip install 'facekd[federated]'")

from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MessageType, MetricRecord, RecordDict

from facekd.engines.flower import ARRAYS, FAILED, LONGEST, NUMBERS, TASK, _answer


@pytest.fixture(autouse=True)
def coordinator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message can be made only by a process of a run."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(f"flwr.supercore.task_identity.TaskIdentity.{name}", 1)


def asked() -> Message:
    return Message(RecordDict(), dst_node_id=7, message_type=MessageType.TRAIN)


def reply(array: Any, **more: Any) -> Message:
    records = {
        ARRAYS: ArrayRecord({"net.w": array}),
        TASK: ConfigRecord({"site": "A"}),
        NUMBERS: MetricRecord({"crops": 3.0}),
    }
    return Message(RecordDict({**records, **more}), reply_to=asked())


def packed(data: bytes) -> Array:
    return Array(dtype="float32", shape=(2,), stype="numpy.ndarray", data=data)


def test_what_a_site_sends_as_asked_is_taken() -> None:
    answer = _answer(reply(Array(np.ones(2, np.float32))))
    assert (answer.site, answer.problem, answer.numbers) == ("A", "", {"crops": 3.0})
    assert answer.node == "node 7"
    np.testing.assert_array_equal(answer.arrays["net.w"], np.ones(2, np.float32))


@pytest.mark.parametrize("kind", ["archive", "torn", "object", "empty"])
def test_arrays_that_are_none_are_a_sentence(kind: str) -> None:
    file = io.BytesIO()
    if kind == "archive":
        np.savez(file, a=np.ones(2, np.float32))  # what numpy reads is no array then
    elif kind == "object":
        np.save(file, np.array([{}], object), allow_pickle=True)
    elif kind == "torn":
        np.save(file, np.ones(9, np.float32))
        file.truncate(140)
    answer = _answer(reply(packed(file.getvalue())))
    assert answer.site == "node 7"
    assert answer.problem.startswith("its answer can't be read (")


@pytest.mark.parametrize("name", [ARRAYS, TASK, NUMBERS])
def test_records_of_another_kind_are_a_sentence(name: str) -> None:
    other = ConfigRecord({"x": 1}) if name != TASK else MetricRecord({"x": 1})
    assert "can't be read" in _answer(reply(Array(np.ones(2, np.float32)), **{name: other})).problem


@pytest.mark.parametrize(
    ("error", "site", "problem"),
    [
        (Error(FAILED, "B\nno teacher here"), "B", "no teacher here"),
        (Error(2, None), "node 7", "it stopped"),
        (Error(FAILED, "C\n" + "long " * 1000), "C", ("long " * 1000)[:LONGEST]),
    ],
)
def test_a_site_that_fails_is_a_sentence(error: Error, site: str, problem: str) -> None:
    answer = _answer(Message(error, reply_to=asked()))
    assert (answer.site, answer.problem) == (site, problem)
