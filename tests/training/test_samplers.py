"""Samplers: pure in the step, balanced as they say, and no view twice."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facekd.errors import UserError
from facekd.training.samplers import balanced, shuffled, square_root
from facekd.training.schedule import batch_indices, ramp

LABELS = np.array([2] * 1 + [0] * 100 + [1] * 9 + [3] * 4 + [4] * 25)  # people with 100, 9, 1, 4 and 25 crops


def people(places: np.ndarray) -> Counter[int]:
    return Counter(LABELS[places].tolist())


@given(st.integers(0, 10**6), st.integers(0, 200))
@settings(max_examples=25, deadline=None)
def test_a_balanced_batch_is_people_times_photos(seed: int, step: int) -> None:
    places, views = balanced(LABELS, 12, 4, seed)(step)
    assert set(people(places).values()) <= {4, 8}  # a person may end one round and begin the next
    for person, count in people(places).items():
        distinct = len(set(places[LABELS[places] == person].tolist()))
        assert distinct == min(count, int((person == LABELS).sum())) or count == 8
    assert len(set(views.tolist())) == 12
    assert places.dtype == views.dtype == np.int64


def test_everyone_comes_as_often_when_balanced() -> None:
    sample = balanced(LABELS, 8, 4, seed=0)
    counts = sum((people(sample(step)[0]) for step in range(50)), Counter[int]())
    assert counts == dict.fromkeys(range(5), 80)  # 100 places for people, 5 people, 4 crops each


def test_square_root_is_halfway() -> None:
    sample = square_root(LABELS, 100, seed=0)
    counts = sum((people(sample(step)[0]) for step in range(300)), Counter[int]())
    roots = {0: 10, 1: 3, 2: 1, 3: 2, 4: 5}  # √ of the crops of each
    for person, root in roots.items():
        assert counts[person] / 30_000 == pytest.approx(root / 21, rel=0.06)
    # Within a person each crop alike.
    own = Counter(place for step in range(300) for place in sample(step)[0].tolist() if LABELS[place] == 1)
    assert len(own) == 9
    assert max(own.values()) < 1.3 * min(own.values())


def test_a_crop_without_identity_is_a_person_of_its_own() -> None:
    labels = np.array([0] * 16 + [-1] * 4)
    drawn = np.concatenate([square_root(labels, 100, seed=1)(step)[0] for step in range(100)])
    assert float((labels[drawn] == -1).mean()) == pytest.approx(0.5, abs=0.02)  # √16 against 4 × √1
    assert drawn.min() == 0
    assert drawn.max() == 19


def test_they_are_pure_in_step_and_seed() -> None:
    for make in (
        lambda seed: shuffled(len(LABELS), 8, seed),
        lambda seed: balanced(LABELS, 8, 4, seed),
        lambda seed: square_root(LABELS, 8, seed),
    ):
        forward = [make(3)(step) for step in range(10)]
        backward = [make(3)(step) for step in reversed(range(10))][::-1]
        for one, two in zip(forward, backward, strict=True):
            np.testing.assert_array_equal(one, two)
        assert any((make(3)(step)[0] != make(4)(step)[0]).any() for step in range(3))
        assert any((make(3)(step)[0] != make(3)(step + 1)[0]).any() for step in range(3))


def test_shuffled_is_epochs_without_a_gap() -> None:
    for step in range(5):
        np.testing.assert_array_equal(shuffled(30, 7, 1)(step), batch_indices(step, 7, 30, 1))


@pytest.mark.parametrize(
    ("labels", "batch", "per_person", "words"),
    [
        (LABELS, 12, 5, "--per-person 5: use 2 or more that divide --batch 12"),
        (LABELS, 12, 1, "--per-person 1"),
        (LABELS, 12, 0, "--per-person 0"),
        (LABELS, 24, 4, "--batch 24: is 6 people, the data has 5"),
        (np.array([0, 0, 1, 1, -1]), 4, 2, "1 crops have no identity"),
    ],
)
def test_a_batch_that_can_not_be_balanced_is_refused(
    labels: np.ndarray, batch: int, per_person: int, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        balanced(labels, batch, per_person, seed=0)


def test_a_ramp_by_hand() -> None:
    assert [ramp(step, 4) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert ramp(0, 0) == 1
