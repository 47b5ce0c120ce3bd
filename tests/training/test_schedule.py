"""Which crops and which learning rate: pure functions of the step."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facekd.training.schedule import batch_indices, learning_rate


def test_learning_rate_by_hand() -> None:
    rates = [learning_rate(step, steps=110, warmup=10, peak=0.5) for step in range(111)]
    assert rates[0] == pytest.approx(0.05)  # the first step learns too
    assert rates[4] == pytest.approx(0.25)
    assert rates[9] == rates[10] == pytest.approx(0.5)
    assert rates[60] == pytest.approx(0.25)  # half of the cosine's way
    assert rates[35] == pytest.approx(0.5 * (1 + math.cos(math.pi / 4)) / 2)
    assert rates[110] == pytest.approx(0, abs=1e-15)
    assert all(a < b for a, b in pairwise(rates[:10]))
    assert all(a > b for a, b in pairwise(rates[10:]))


def test_poly_by_hand_and_as_torch_has_it() -> None:
    rates = [learning_rate(step, steps=110, warmup=10, peak=0.5, schedule="poly") for step in range(111)]
    assert rates[:10] == [learning_rate(step, 110, 10, 0.5) for step in range(10)]  # the same warm-up
    assert rates[10] == 0.5
    assert rates[60] == pytest.approx(0.125)  # half of the way: a quarter of the peak
    assert rates[85] == pytest.approx(0.03125)
    assert rates[110] == 0
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    twin = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=100, power=2)
    for rate in rates[10:]:
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate, rel=1e-9, abs=1e-15)
        optimizer.step()
        twin.step()


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 1), (2, 1), (5, 5), (3, 0)])
def test_short_plans_have_a_rate_at_every_step(steps: int, warmup: int, schedule: str) -> None:
    rates = [learning_rate(step, steps, warmup, 1.0, schedule) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    assert max(rates) == 1


@given(st.integers(1, 40), st.integers(1, 17), st.integers(0, 1000))
@settings(max_examples=50, deadline=None)
def test_each_epoch_is_a_permutation_without_a_gap_between(count: int, batch: int, seed: int) -> None:
    steps = math.ceil(3 * count / batch)
    pieces = [batch_indices(step, batch, count, seed) for step in range(steps)]
    assert all(len(places) == len(views) == batch for places, views in pieces)
    places = np.concatenate([places for places, _ in pieces])
    views = np.concatenate([views for _, views in pieces])
    for epoch in range(3):
        here = slice(epoch * count, (epoch + 1) * count)
        assert sorted(places[here].tolist()) == list(range(count))
        assert set(views[here].tolist()) == {epoch}  # so a crop is another view each time


def test_batches_are_pure_in_the_step() -> None:
    forward = [batch_indices(step, 7, 30, seed=3) for step in range(20)]
    backward = [batch_indices(step, 7, 30, seed=3) for step in reversed(range(20))][::-1]
    for one, two in zip(forward, backward, strict=True):
        np.testing.assert_array_equal(one, two)


def test_seeds_and_epochs_have_their_own_order() -> None:
    orders = [batch_indices(step, 100, 100, seed)[0].tolist() for seed in (0, 1) for step in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] != sorted(orders[0])
