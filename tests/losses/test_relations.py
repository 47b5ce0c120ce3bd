"""Relational objectives against twins that go pair by pair and triplet by triplet."""

from __future__ import annotations

from collections.abc import Callable

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facekd.losses.relations import (
    FARS,
    evaluation_oriented,
    negative_thresholds,
    rkd_angle,
    rkd_distance,
    similarity_preserving,
)

LABELS = torch.tensor([0, 1, 0, -1, 2, 1])
STUDENT_THRESHOLDS = torch.tensor([0.1, 0.4, 0.6], dtype=torch.float64)
TEACHER_THRESHOLDS = torch.tensor([0.0, 0.3, 0.7], dtype=torch.float64)


def ekd(student: Tensor, teacher: Tensor) -> Tensor:
    thresholds = STUDENT_THRESHOLDS.to(student), TEACHER_THRESHOLDS.to(student)
    return evaluation_oriented(student, teacher, LABELS, *thresholds, temperature=0.1, hardest=4)


TERMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "rkd_distance": rkd_distance,
    "rkd_angle": rkd_angle,
    "similarity": similarity_preserving,
    "ekd": ekd,
}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 10**6), st.integers(2, 6), st.integers(2, 6))
@settings(max_examples=15, deadline=None)
def test_they_are_their_definitions(seed: int, dim: int, teacher_dim: int) -> None:
    s, t = randn(6, dim, seed=seed), randn(6, teacher_dim, seed=seed + 1)
    a, b = s.tolist(), t.tolist()
    thresholds = STUDENT_THRESHOLDS.tolist(), TEACHER_THRESHOLDS.tolist()
    wanted = {
        "rkd_distance": oracles.rkd_distance(a, b),
        "rkd_angle": oracles.rkd_angle(a, b),
        "similarity": oracles.similarity_preserving(a, b),
        "ekd": oracles.evaluation_oriented(a, b, LABELS.tolist(), *thresholds, 0.1, 4),
    }
    for name, value in wanted.items():
        assert float(TERMS[name](s, t)) == pytest.approx(value, rel=1e-7, abs=1e-10), name


@pytest.mark.parametrize("name", ["rkd_distance", "rkd_angle", "similarity"])
def test_a_turned_and_stretched_student_is_the_same(name: str) -> None:
    student = randn(6, 4)
    turn, _ = torch.linalg.qr(randn(4, 4, seed=7))
    loss = TERMS[name]((student @ turn) * 3, student)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert float(TERMS[name](randn(6, 4, seed=1), student)) > 1e-3


@pytest.mark.parametrize("name", TERMS)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    teacher = randn(6, 5, seed=1)
    assert torch.autograd.gradcheck(lambda s: TERMS[name](s, teacher), (randn(6, 3).requires_grad_(),))


@pytest.mark.parametrize("name", TERMS)
def test_the_teacher_gets_no_gradient_and_nothing_is_written_to(name: str) -> None:
    student, teacher = randn(6, 3).requires_grad_(), randn(6, 5, seed=1).requires_grad_()
    before = student.detach().clone(), teacher.detach().clone()
    TERMS[name](student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert torch.equal(student, before[0])
    assert torch.equal(teacher, before[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", TERMS)
def test_twins_zeros_and_low_precision_stay_finite(name: str, dtype: torch.dtype) -> None:
    student, teacher = randn(6, 3).to(dtype), randn(6, 5, seed=1).to(dtype)
    student[1] = student[0]  # two crops in one place have no direction between them
    student[2] = 0
    for taught in (teacher, torch.ones(6, 5, dtype=dtype)):
        given_ = student.clone().requires_grad_()
        loss = TERMS[name](given_, taught)
        (slope,) = torch.autograd.grad(loss, given_)
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        assert torch.isfinite(slope).all()


@pytest.mark.parametrize("name", ["rkd_distance", "rkd_angle", "similarity"])
@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_too_small_for_a_relation_costs_nothing(name: str, count: int) -> None:
    student = randn(count, 3).requires_grad_()
    loss = TERMS[name](student, randn(count, 3, seed=1))
    loss.backward()
    assert torch.isfinite(loss)
    if count == 1 or name == "rkd_angle":
        assert loss.item() == pytest.approx(0, abs=1e-12)


def test_thresholds_are_the_cosines_that_so_many_impostors_reach() -> None:
    # Four crops of four people on one plane: cosines of the six pairs are those of the angles between them.
    angles = torch.tensor([0.0, 0.3, 1.0, 2.0], dtype=torch.float64)
    points = torch.stack([angles.cos(), angles.sin()], dim=1)
    cosines = sorted((float(torch.cos(b - a)) for i, a in enumerate(angles) for b in angles[i + 1 :]), reverse=True)
    found = negative_thresholds(points, torch.arange(4), fars=(0.5, 0.34, 0.01))
    assert found.tolist() == pytest.approx([cosines[3], cosines[2], cosines[0]])
    one_person = negative_thresholds(points, torch.zeros(4, dtype=torch.int64))
    assert len(one_person) == len(FARS)
    assert one_person.isnan().all()
    # A pair with a crop whose person is not known is no impostor pair.
    labels = torch.tensor([0, 1, -1, -1])
    assert negative_thresholds(points, labels, fars=(0.01,)).tolist() == pytest.approx([float(torch.cos(angles[1]))])


def test_ekd_leaves_free_what_changes_no_rate() -> None:
    def crops(angle: float) -> Tensor:
        return torch.tensor([[1.0, 0.0], [torch.cos(torch.tensor(angle)), torch.sin(torch.tensor(angle))]])

    thresholds = torch.tensor([0.2, 0.5])
    labels = torch.tensor([0, 0])

    def loss(student_angle: float, teacher_angle: float) -> float:
        return float(evaluation_oriented(crops(student_angle), crops(teacher_angle), labels, thresholds, thresholds))

    assert loss(0.5, 0.2) == pytest.approx(0, abs=1e-6)  # both above every threshold
    assert loss(1.2, 0.5) == pytest.approx(1, abs=1e-3)  # the student's pair passes one, the teacher's two
    assert loss(1.5, 0.5) == pytest.approx(4, abs=1e-2)


def test_ekd_of_a_batch_without_labels_costs_nothing() -> None:
    student = randn(4, 3).requires_grad_()
    labels, thresholds = torch.full((4,), -1), torch.zeros(2, dtype=torch.float64)
    loss = evaluation_oriented(student, randn(4, 3, seed=1), labels, thresholds, thresholds)
    (slope,) = torch.autograd.grad(loss, student)
    assert loss.item() == 0
    assert not slope.any()
