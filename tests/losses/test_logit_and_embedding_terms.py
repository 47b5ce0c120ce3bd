"""The other objectives on logits, embeddings, centers and weights: against slow twins, by hand, and at their edges."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from facekd.losses.centers import moved_centers, on_centers
from facekd.losses.distillation import (
    decoupled,
    embedding_cosine,
    embedding_huber,
    embedding_mse,
    embedding_mse_raw,
    grouped,
    hard_targets,
    likeliest,
    sigmoid_targets,
    softened_logits,
)
from facekd.losses.weights import shared_weights, weight_distance

LABELS = torch.tensor([3, -1, 0, 5])
TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "hard": hard_targets,
    "sigmoid": sigmoid_targets,
    "dkd": lambda s, t: decoupled(s, t, LABELS, 4.0),
    "gkd": lambda s, t: grouped(s, t, 4.0),
    "raw": embedding_mse_raw,
    "cosine": embedding_cosine,
    "huber": embedding_huber,
    "centers": lambda s, t: on_centers(s, t, LABELS % 4, scale=8.0),
}


def randn(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


@given(st.integers(0, 10**6), st.sampled_from([1.0, 4.0]), st.floats(0, 2), st.floats(0, 10))
@settings(max_examples=25, deadline=None)
def test_dkd_is_its_definition(seed: int, temperature: float, alpha: float, beta: float) -> None:
    s, t = randn(4, 6, seed=seed, scale=3), randn(4, 6, seed=seed + 1, scale=3)
    wanted = oracles.decoupled(s.tolist(), t.tolist(), LABELS.tolist(), temperature, alpha, beta)
    found = decoupled(s, t, LABELS, temperature, alpha, beta)
    assert float(found) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_plain_kd_is_dkd_with_the_teachers_doubt_as_weight() -> None:
    # The paper's equation 6: KD = TCKD + (1 - p_own) NCKD.
    s, t = randn(1, 7, scale=2), randn(1, 7, seed=1, scale=2)
    doubt = 1 - float(F.softmax(t / 4, 1)[0, 2])
    found = decoupled(s, t, torch.tensor([2]), 4.0, 1.0, doubt)
    torch.testing.assert_close(found, softened_logits(s, t, 4.0))


def test_dkd_of_a_sure_teacher_is_finite_and_still_teaches() -> None:
    teacher = torch.tensor([[500.0, 2.0, 1.0]])  # float32 has no room for the others' probability
    student = torch.zeros(1, 3, requires_grad=True)
    loss = decoupled(student, teacher, torch.tensor([0]), 1.0)
    (slope,) = torch.autograd.grad(loss, student)
    assert torch.isfinite(loss)
    assert slope[0, 1] < 0 < slope[0, 2]  # which of the others is likelier


@given(st.integers(0, 10**6), st.sampled_from([1.0, 4.0]), st.floats(0.05, 0.999))
@settings(max_examples=25, deadline=None)
def test_gkd_is_its_definition(seed: int, temperature: float, mass: float) -> None:
    s, t = randn(4, 6, seed=seed, scale=3), randn(4, 6, seed=seed + 1, scale=3)
    wanted = oracles.grouped(s.tolist(), t.tolist(), temperature, mass)
    assert float(grouped(s, t, temperature, mass)) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_gkd_leaves_out_what_is_within_the_tail_and_nothing_else() -> None:
    s, t = randn(3, 6, scale=2), randn(3, 6, seed=1, scale=2)
    torch.testing.assert_close(grouped(s, t, 4.0, mass=2.0), softened_logits(s, t, 4.0))  # no tail at all
    teacher = torch.tensor([[8.0, 0.0, 0.1, 0.2]], dtype=torch.float64)
    one = torch.tensor([[1.0, 0.0, 0.5, 0.9]], dtype=torch.float64)
    other = one[:, [0, 3, 1, 2]]  # the tail's own order
    torch.testing.assert_close(grouped(one, teacher, 1.0), grouped(other, teacher, 1.0))
    assert float(softened_logits(one, teacher, 1.0)) != pytest.approx(float(softened_logits(other, teacher, 1.0)))


def test_hard_and_sigmoid_targets_by_hand() -> None:
    teacher = torch.tensor([[2.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    student = torch.tensor([[0.0, 0.0], [1.0, 3.0]], dtype=torch.float64)
    wanted = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    assert float(hard_targets(student, teacher)) == pytest.approx(wanted)

    def bce(s: float, t: float) -> float:
        p, q = 1 / (1 + math.exp(-t)), 1 / (1 + math.exp(-s))
        return -p * math.log(q) - (1 - p) * math.log(1 - q)

    pairs = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    assert float(sigmoid_targets(student, teacher)) == pytest.approx(sum(bce(s, t) for s, t in pairs) / 2)
    s = student.clone().requires_grad_()
    (slope,) = torch.autograd.grad(sigmoid_targets(s, teacher), s)
    torch.testing.assert_close(slope, (student.sigmoid() - teacher.sigmoid()) / 2)


def test_the_likeliest_classes_in_the_teachers_order() -> None:
    teacher = torch.tensor([[0.0, 3.0, 1.0, 2.0], [9.0, 0.0, -1.0, 5.0]])
    student = torch.tensor([[10.0, 11.0, 12.0, 13.0], [20.0, 21.0, 22.0, 23.0]])
    s, t = likeliest(student, teacher, 2)
    assert t.tolist() == [[3.0, 2.0], [9.0, 5.0]]
    assert s.tolist() == [[11.0, 13.0], [20.0, 23.0]]
    whole = likeliest(student, teacher, 99)
    torch.testing.assert_close(softened_logits(*whole, 4.0), softened_logits(student, teacher, 4.0))


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 9))
@settings(max_examples=25, deadline=None)
def test_embedding_terms_are_their_definitions(seed: int, batch: int, dim: int) -> None:
    s, t = randn(batch, dim, seed=seed), randn(batch, dim, seed=seed + 1)
    a, b = s.numpy(), t.numpy()
    cosines = (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))
    assert float(embedding_cosine(s, t)) == pytest.approx(float(np.mean(1 - cosines)), rel=1e-9, abs=1e-12)
    assert float(embedding_mse_raw(s, t)) == pytest.approx(float(np.mean((a - b) ** 2)), rel=1e-9)
    distances = [math.dist(oracles.unit(x), oracles.unit(y)) for x, y in zip(s.tolist(), t.tolist(), strict=True)]
    wanted = np.mean([oracles.huber(d, 0.5) for d in distances])
    assert float(embedding_huber(s, t)) == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    torch.testing.assert_close(embedding_cosine(s, t), embedding_mse(s, t) / 2)


def test_a_crop_beyond_reach_pulls_no_harder_than_one_at_delta() -> None:
    def pull(angle: float) -> float:
        student = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64, requires_grad=True)
        teacher = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
        (slope,) = torch.autograd.grad(embedding_huber(student, teacher), student)
        return float(slope.norm())

    at_delta = pull(2 * math.asin(0.25))  # chord 0.5
    assert all(pull(angle) <= at_delta for angle in (0.9, 1.5, 2.5))
    assert pull(0.1) == pytest.approx(math.sin(0.1), rel=1e-6)


@pytest.mark.parametrize("name", TERMS)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    teacher = randn(4, 6, seed=1)
    assert torch.autograd.gradcheck(lambda s: TERMS[name](s, teacher), (randn(4, 6).requires_grad_(),))


@pytest.mark.parametrize("name", TERMS)
def test_the_teacher_gets_no_gradient_and_nothing_is_written_to(name: str) -> None:
    student, teacher = randn(4, 6).requires_grad_(), randn(4, 6, seed=1).requires_grad_()
    before, labels = (student.detach().clone(), teacher.detach().clone()), LABELS.clone()
    TERMS[name](student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert torch.equal(student, before[0])
    assert torch.equal(teacher, before[1])
    assert torch.equal(LABELS, labels)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", TERMS)
def test_low_precision_and_extremes_stay_finite(name: str, dtype: torch.dtype) -> None:
    student = (randn(4, 6).to(dtype) * 50).requires_grad_()
    for teacher in ((randn(4, 6, seed=1) * 50).to(dtype), student.detach().clone(), torch.zeros(4, 6, dtype=dtype)):
        loss = TERMS[name](student, teacher)
        (slope,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(loss)
        assert torch.isfinite(slope).all()


@pytest.mark.parametrize("name", ["dkd", "gkd", "raw", "cosine", "huber"])
def test_zero_with_no_pull_where_the_two_agree(name: str) -> None:
    student = randn(4, 6).requires_grad_()
    loss = TERMS[name](student, student.detach())
    (slope,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert float(slope.abs().max()) < 1e-9


def test_a_batch_without_labels_costs_dkd_nothing() -> None:
    student = randn(3, 5).requires_grad_()
    loss = decoupled(student, randn(3, 5, seed=1), torch.full((3,), -1), 4.0)
    (slope,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0
    assert not slope.any()


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_adadistills_centers_move_as_the_twin_says(seed: int) -> None:
    centers = randn(5, 3, seed=seed)
    centers[4] = 0  # not seen yet
    student, teacher = randn(7, 3, seed=seed + 1), randn(7, 3, seed=seed + 2, scale=4)
    labels = torch.tensor([0, 4, -1, 0, 2, 4, 0])
    before = centers.clone()
    identities, moved = moved_centers(centers, student, teacher, labels)
    wanted = oracles.moved_centers(centers.tolist(), student.tolist(), teacher.tolist(), labels.tolist())
    assert identities.tolist() == sorted(wanted)
    for identity, row in zip(identities.tolist(), moved.tolist(), strict=True):
        assert row == pytest.approx(wanted[identity], rel=1e-9, abs=1e-12)
    assert torch.equal(centers, before)


def test_a_first_sight_is_the_teachers_embedding_and_a_match_keeps_the_center() -> None:
    teacher = torch.tensor([[0.0, 2.0]])
    _, first = moved_centers(torch.zeros(1, 2), teacher, teacher, torch.tensor([0]))
    assert first.tolist() == [[0.0, 1.0]]
    _, kept = moved_centers(torch.tensor([[0.0, 1.0]]), teacher, teacher, torch.tensor([0]))
    assert kept.tolist() == [[0.0, 1.0]]
    opposite = -teacher  # a student that is far off: the center is the teacher's embedding of this crop
    _, taken = moved_centers(torch.tensor([[1.0, 1.0]]), opposite, teacher, torch.tensor([0]))
    assert taken.tolist() == [[0.0, 1.0]]
    nobody, nowhere = moved_centers(torch.zeros(1, 2), teacher, teacher, torch.tensor([-1]))
    assert (nobody.tolist(), nowhere.tolist()) == ([], [])


def test_on_centers_is_arcface_by_angles() -> None:
    student, centers, labels = randn(4, 3), randn(5, 3, seed=1), torch.tensor([0, 4, -1, 2])
    cosines = [[oracles.dot(oracles.unit(s), oracles.unit(c)) for c in centers.tolist()] for s in student.tolist()]
    wanted = oracles.margin_loss("arcface", cosines, labels.tolist(), 0.45, 64.0)
    assert float(on_centers(student, centers, labels)) == pytest.approx(wanted, rel=1e-9)


def test_weights_by_hand_over_those_of_one_name_and_shape() -> None:
    student = {"a": torch.tensor([1.0, 2.0], requires_grad=True), "b": torch.ones(3), "c": torch.ones(2, 2)}
    teacher = {"a": torch.tensor([0.0, 4.0], requires_grad=True), "b": torch.ones(4), "d": torch.ones(2, 2)}
    names = shared_weights(student, teacher)
    assert names == ("a",)
    assert weight_distance(student, teacher, names).item() == pytest.approx((1 + 4) / 2)
    loss = weight_distance(student, teacher, names, decay=0.1)
    assert loss.item() == pytest.approx((1 + 4) / 2 + 0.05 * (1 + 4))
    loss.backward()
    assert student["a"].grad is not None
    torch.testing.assert_close(student["a"].grad, torch.tensor([1 + 0.1, -2 + 0.2]))
    assert teacher["a"].grad is None
