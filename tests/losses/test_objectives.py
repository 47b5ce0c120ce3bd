"""Value, slope and edge of each objective, against formulas written out in numpy's float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facekd.core.types import Array
from facekd.losses.distillation import embedding_mse, softened_logits
from facekd.losses.softmax import softmax_cross_entropy


def randn(*shape: int, seed: int = 0, scale: float = 1.0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale


def softmax(logits: Array) -> Array:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def kl_by_definition(student: Array, teacher: Array, temperature: float) -> float:
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return temperature**2 * float(np.mean((p * (np.log(p) - np.log(q))).sum(axis=1)))


@given(st.integers(0, 10**6), st.sampled_from([0.5, 1.0, 4.0, 20.0]), st.integers(1, 5), st.integers(2, 9))
@settings(max_examples=30, deadline=None)
def test_softened_logits_is_the_kl_by_its_definition(seed: int, temperature: float, batch: int, classes: int) -> None:
    student, teacher = randn(batch, classes, seed=seed, scale=3), randn(batch, classes, seed=seed + 1, scale=3)
    wanted = kl_by_definition(student.numpy(), teacher.numpy(), temperature)
    assert float(softened_logits(student, teacher, temperature)) == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_softened_logits_by_hand() -> None:
    # Two classes, teacher (3/4, 1/4), student (1/2, 1/2): KL = 3/4 ln 3/2 + 1/4 ln 1/2.
    teacher = torch.tensor([[math.log(3.0), 0.0]])
    wanted = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    assert float(softened_logits(torch.zeros(1, 2), teacher, 1.0)) == pytest.approx(wanted, rel=1e-6)
    # The other direction would be another number: 1/2 ln 2/3 + 1/2 ln 2.
    assert wanted != pytest.approx(0.5 * math.log(2 / 3) + 0.5 * math.log(2), rel=1e-2)


def test_softened_logits_is_zero_where_the_two_agree() -> None:
    logits = randn(4, 7).requires_grad_()
    # Adding a number to all of a row's logits changes no probability.
    loss = softened_logits(logits, logits.detach() + 5, 4.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-12


def test_t_squared_keeps_the_gradients_size() -> None:
    # Hinton et al., section 2: with centered logits and large T the gradient tends to (z - v) / C per row.
    student, teacher = randn(3, 6).requires_grad_(), randn(3, 6, seed=1)
    centered = student - student.mean(1, keepdim=True) - (teacher - teacher.mean(1, keepdim=True))
    wanted = (centered / 6 / 3).detach()
    gradients = []
    for temperature in (50.0, 500.0, 5000.0):
        (gradient,) = torch.autograd.grad(softened_logits(student, teacher, temperature), student)
        gradients.append(gradient)
    assert float(gradients[0].norm() / gradients[2].norm()) == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(gradients[2], wanted, atol=1e-4, rtol=1e-2)


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_embedding_mse_is_two_minus_two_cosines(seed: int, batch: int, dim: int) -> None:
    student, teacher = randn(batch, dim, seed=seed).numpy(), randn(batch, dim, seed=seed + 1).numpy()
    cosines = (student * teacher).sum(1) / np.sqrt((student**2).sum(1) * (teacher**2).sum(1))
    loss = float(embedding_mse(torch.from_numpy(student), torch.from_numpy(teacher)))
    assert loss == pytest.approx(float(np.mean(2 - 2 * cosines)), rel=1e-9, abs=1e-12)


def test_embedding_mse_at_its_ends_and_at_any_length() -> None:
    a, b = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 0.5]])
    assert float(embedding_mse(a, a * 7)) == pytest.approx(0, abs=1e-12)
    assert float(embedding_mse(a, -a)) == pytest.approx(4)
    assert float(embedding_mse(a, b)) == pytest.approx(2)
    student, teacher = randn(5, 4), randn(5, 4, seed=1)
    lengths = torch.tensor([0.01, 1, 3, 50, 1000], dtype=torch.float64)[:, None]
    torch.testing.assert_close(
        embedding_mse(student * lengths, teacher / lengths), embedding_mse(student, teacher), rtol=1e-9, atol=0
    )


def test_cross_entropy_by_its_definition() -> None:
    logits, labels = randn(6, 5, scale=4), torch.tensor([0, 4, -1, 2, 2, -1])
    p = softmax(logits.numpy())
    wanted = -np.mean([np.log(p[i, label]) for i, label in enumerate(labels.tolist()) if label >= 0])
    assert float(softmax_cross_entropy(logits, labels)) == pytest.approx(wanted, rel=1e-12)
    # A guess that knows nothing costs ln C.
    assert float(softmax_cross_entropy(torch.zeros(3, 5), torch.tensor([0, 1, 2]))) == pytest.approx(math.log(5))


def test_a_crop_without_label_gives_no_gradient() -> None:
    logits = randn(3, 4).requires_grad_()
    softmax_cross_entropy(logits, torch.tensor([1, -1, 0])).backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[1], torch.zeros(4, dtype=torch.float64))
    assert logits.grad[0].abs().sum() > 0


def test_a_batch_without_any_label_is_zero_with_a_zero_gradient() -> None:
    logits = randn(3, 4).requires_grad_()
    loss = softmax_cross_entropy(logits, torch.full((3,), -1))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_gradients_agree_with_finite_differences() -> None:
    teacher, labels = randn(3, 5, seed=1), torch.tensor([4, -1, 0])
    for objective in (
        lambda s: softened_logits(s, teacher, 4.0),
        lambda s: embedding_mse(s, teacher),
        lambda s: softmax_cross_entropy(s, labels),
    ):
        assert torch.autograd.gradcheck(objective, (randn(3, 5).requires_grad_(),))


@pytest.mark.parametrize("objective", [lambda s, t: softened_logits(s, t, 4.0), embedding_mse])
def test_the_teacher_gets_no_gradient_and_nothing_is_written_to(objective) -> None:  # type: ignore[no-untyped-def]
    student, teacher = randn(3, 5).requires_grad_(), randn(3, 5, seed=1).requires_grad_()
    before = student.detach().clone(), teacher.detach().clone()
    objective(student, teacher).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert torch.equal(student, before[0])
    assert torch.equal(teacher, before[1])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_low_precision_and_extremes_stay_finite(dtype: torch.dtype) -> None:
    student = (randn(4, 6).to(dtype) * 50).requires_grad_()
    teacher = (randn(4, 6, seed=1) * 50).to(dtype)
    same = student.detach().clone()
    for loss in (
        softened_logits(student, teacher, 4.0),
        softened_logits(student, same, 1.0),
        embedding_mse(student, teacher),
        embedding_mse(student, torch.zeros_like(teacher)),
        softmax_cross_entropy(student, torch.tensor([0, 5, -1, 2])),
    ):
        (gradient,) = torch.autograd.grad(loss, student)
        assert torch.isfinite(loss)
        assert torch.isfinite(gradient).all()


def test_a_zero_embedding_is_no_nan() -> None:
    student = torch.zeros(2, 4, requires_grad=True)
    loss = embedding_mse(student, torch.ones(2, 4))
    loss.backward()
    assert loss.item() == pytest.approx(1)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()
