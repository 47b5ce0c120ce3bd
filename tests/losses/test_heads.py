"""Value, slope and edge of each head, against formulas by acos, in float64, and against what is known by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import oracles
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from facekd.losses.heads import adaface, arcface, cosface, norm_quality, normsoftmax, subarcface
from facekd.losses.softmax import class_weights, softmax_cross_entropy

LABELS = torch.tensor([2, 0, -1, 4, 3])
QUALITY = torch.tensor([-1.0, 0.5, 0.0, 1.0, -0.3], dtype=torch.float64)


def around(c: Tensor) -> Tensor:
    """Three sub-centers for each class, the second of them the nearest."""
    return torch.stack([c - 0.5, c, c - 0.25], dim=2)


# Each head as a function of cosines (and of labels and weights), on LABELS; scale 8 keeps the other classes in the sum.
LOSSES: dict[str, Callable[..., Tensor]] = {
    "normsoftmax": lambda c, y=LABELS, w=None: normsoftmax(c, y, scale=8.0, weights_B=w),
    "cosface": lambda c, y=LABELS, w=None: cosface(c, y, margin=0.35, scale=8.0, weights_B=w),
    "arcface": lambda c, y=LABELS, w=None: arcface(c, y, margin_rad=0.5, scale=8.0, weights_B=w),
    "adaface": lambda c, y=LABELS, w=None: adaface(c, y, QUALITY, margin_rad=0.4, scale=8.0, weights_B=w),
    "subarcface": lambda c, y=LABELS, w=None: subarcface(around(c), y, margin_rad=0.5, scale=8.0, weights_B=w),
}
MARGINS = {"normsoftmax": 0.0, "cosface": 0.35, "arcface": 0.5, "adaface": 0.4, "subarcface": 0.5}
KINDS = {name: "arcface" if name == "subarcface" else name for name in LOSSES}  # as the formula knows it


def cosines(seed: int = 0, classes: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(5, classes, generator=generator, dtype=torch.float64) * 1.98 - 0.99


def own_logit(loss: Callable[[Tensor, Tensor], Tensor], angle: float) -> tuple[float, float]:
    """What a head makes of cos `angle` (a logit at scale 1), and its slope: read off a two-class cross-entropy."""
    c = torch.tensor([[math.cos(angle), 0.0]], dtype=torch.float64, requires_grad=True)
    value = loss(c, torch.tensor([0]))  # log(1 + exp(0 - own))
    (slope,) = torch.autograd.grad(value, c)
    own = -math.log(math.expm1(value.item()))
    return own, float(slope[0, 0]) / -math.exp(-own) * (1 + math.exp(-own))


@pytest.mark.parametrize("name", LOSSES)
@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_value_is_the_papers_formula_by_angles(name: str, seed: int) -> None:
    c = cosines(seed)
    wanted = oracles.margin_loss(KINDS[name], c.tolist(), LABELS.tolist(), MARGINS[name], 8.0, QUALITY.tolist())
    assert float(LOSSES[name](c)) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_agrees_with_finite_differences(name: str) -> None:
    for seed in range(5):
        assert torch.autograd.gradcheck(LOSSES[name], (cosines(seed).requires_grad_(),))


@pytest.mark.parametrize("angle", [0.05, 0.3, 1.0, 2.0, math.pi - 0.51])
def test_the_slope_of_arcface_is_sin_t_plus_m_over_sin_t(angle: float) -> None:
    own, slope = own_logit(lambda c, y: arcface(c, y, margin_rad=0.5, scale=1.0), angle)
    assert own == pytest.approx(math.cos(angle + 0.5), abs=1e-9)
    assert slope == pytest.approx(math.sin(angle + 0.5) / math.sin(angle), rel=1e-8)  # 2.43 at 0.3, where others give 1


def test_arcface_falls_all_the_way_to_pi() -> None:
    def own(angle: float) -> float:
        return own_logit(lambda c, y: arcface(c, y, margin_rad=0.5, scale=1.0), angle)[0]

    values = [own(math.pi * k / 400) for k in range(401)]
    assert all(a > b for a, b in pairwise(values))
    assert own(3.0) == pytest.approx(math.cos(3.0) - 0.5 * math.sin(0.5), abs=1e-9)  # the authors' continuation
    _, slope = own_logit(lambda c, y: arcface(c, y, margin_rad=0.5, scale=1.0), 3.0)
    assert slope == pytest.approx(1.0, abs=1e-9)


def test_adaface_at_its_ends_is_arcface_and_the_other_way_round() -> None:
    def own(quality: float, angle: float) -> float:
        def loss(c: Tensor, y: Tensor) -> Tensor:
            return adaface(c, y, torch.tensor([quality], dtype=torch.float64), margin_rad=0.4, scale=1.0)

        return own_logit(loss, angle)[0]

    # Paper, section 3: q = -1 is ArcFace, q = 0 is CosFace, q = 1 turns the other way and takes 2 m.
    assert own(-1.0, 1.0) == pytest.approx(math.cos(1.4), abs=1e-9)
    assert own(0.0, 1.0) == pytest.approx(math.cos(1.0) - 0.4, abs=1e-9)
    assert own(1.0, 1.0) == pytest.approx(math.cos(0.6) - 0.8, abs=1e-9)
    # The turned angle stays within [0, pi].
    assert own(1.0, 0.2) == pytest.approx(1.0 - 0.8, abs=1e-9)
    assert own(-1.0, 3.0) == pytest.approx(-1.0, abs=1e-9)


def test_quality_follows_the_length_within_bounds() -> None:
    norms = torch.tensor([20.0, 26.0, 14.0, 1000.0, 0.0], requires_grad=True)
    quality = norm_quality(norms, torch.tensor(20.0), torch.tensor(2.0))
    wanted = [0.0, 6 / 2.001 * 0.333, -6 / 2.001 * 0.333, 1.0, -1.0]
    torch.testing.assert_close(quality, torch.tensor(wanted), atol=1e-5, rtol=0)
    assert not quality.requires_grad


def test_the_nearest_sub_center_counts_and_alone_learns() -> None:
    stack = torch.stack([cosines(1), cosines(2), cosines(3)], dim=2).requires_grad_()
    loss = subarcface(stack, LABELS, margin_rad=0.5, scale=8.0)
    nearest = stack.detach().numpy().max(axis=2)
    wanted = oracles.margin_loss("arcface", nearest.tolist(), LABELS.tolist(), 0.5, 8.0)
    assert loss.item() == pytest.approx(wanted, rel=1e-12)
    (slope,) = torch.autograd.grad(loss, stack)
    assert torch.equal((slope[LABELS >= 0] != 0).sum(2), torch.ones(4, 6, dtype=torch.int64))
    assert torch.autograd.gradcheck(lambda c: subarcface(c, LABELS, margin_rad=0.5, scale=8.0), (stack,))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("edge", [1.0, -1.0, 1.0 + 1e-6, -1.0 - 1e-6])
def test_at_the_ends_value_and_slope_are_finite(name: str, dtype: torch.dtype, edge: float) -> None:
    c = torch.zeros(5, 6, dtype=torch.float64)
    c[range(5), LABELS.clamp(min=0)] = edge  # a cosine of 1 + 1e-6 is what rounding gives a unit vector with itself
    c = c.to(dtype).requires_grad_()
    loss = LOSSES[name](c)
    (slope,) = torch.autograd.grad(loss, c)
    assert torch.isfinite(loss)
    assert torch.isfinite(slope).all()
    assert slope.dtype == dtype
    held = c.detach().double().clamp(-1, 1)
    wanted = oracles.margin_loss(KINDS[name], held.tolist(), LABELS.tolist(), MARGINS[name], 8.0, QUALITY.tolist())
    tolerance = 1e-5 if dtype == torch.float64 else 2e-2
    assert loss.item() == pytest.approx(wanted, rel=tolerance)


@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_is_computed_in_float32(name: str) -> None:
    half = cosines().to(torch.bfloat16)
    loss = LOSSES[name](half)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, LOSSES[name](half.float()), rtol=0, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_arguments_stay_as_they_are_and_unlabeled_crops_get_no_gradient(name: str) -> None:
    c = cosines().requires_grad_()
    before, labels = c.detach().clone(), LABELS.clone()
    (slope,) = torch.autograd.grad(LOSSES[name](c), c)
    assert torch.equal(c, before)
    assert torch.equal(LABELS, labels)
    assert torch.equal(slope[2], torch.zeros(6, dtype=torch.float64))
    assert (slope[0] != 0).all()


def test_a_batch_without_a_label_costs_nothing() -> None:
    c, labels = cosines().requires_grad_(), torch.full((5,), -1)
    losses = [
        normsoftmax(c, labels, scale=64.0),
        cosface(c, labels, margin=0.35, scale=64.0),
        arcface(c, labels, margin_rad=0.5, scale=64.0),
        adaface(c, labels, QUALITY, margin_rad=0.4, scale=64.0),
    ]
    for loss in losses:
        (slope,) = torch.autograd.grad(loss, c)
        assert loss.item() == 0
        assert not slope.any()


def test_without_a_margin_they_are_one() -> None:
    c = cosines()
    wanted = normsoftmax(c, LABELS, scale=8.0)
    torch.testing.assert_close(cosface(c, LABELS, margin=0.0, scale=8.0), wanted)
    torch.testing.assert_close(arcface(c, LABELS, margin_rad=0.0, scale=8.0), wanted)
    torch.testing.assert_close(adaface(c, LABELS, QUALITY, margin_rad=0.0, scale=8.0), wanted)


def slope_by_angle(kind: str, angle: float, quality: float) -> float:
    """d(own logit) / d(cosine), as each paper's formula has it by angles; at 0 and π its limit from within.

    There sin(θ + a) / sin θ has no limit: what is promised at the two ends is cos a.
    """
    if kind in ("normsoftmax", "cosface"):
        return 1.0
    turn = MARGINS[kind] * (1.0 if kind == "arcface" else -quality)
    if kind == "arcface" and angle + turn > math.pi:
        return 1.0  # the continuation, cos θ − m sin m
    if not 0 <= angle + turn <= math.pi:
        return 0.0  # AdaFace holds the turned angle
    return math.cos(turn) if angle in (0.0, math.pi) else math.sin(angle + turn) / math.sin(angle)


ANGLES = [0.0, 0.1, 1.0, math.pi - 0.55, math.pi - 0.45, 3.0, math.pi]  # the last three are past π − m


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_the_whole_gradient_by_its_formula(name: str, angle: float, dtype: torch.dtype) -> None:
    cosine = math.cos(angle)
    if dtype.itemsize < 8 and angle not in (0.0, math.pi):
        cosine = torch.tensor(cosine).to(dtype).double().item()  # as near as it comes to it
        angle = math.acos(cosine)
    c = cosines(seed=9)
    c[range(5), LABELS.clamp(min=0)] = cosine
    c = c.to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = LOSSES[name](c)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    (found,) = torch.autograd.grad(loss, c)
    assert found.dtype == dtype
    kind, rows = KINDS[name], c.detach().double()
    held = rows.tolist()
    for i, label in enumerate(LABELS.tolist()):
        if label < 0:
            assert not found[i].any()
            continue
        quality = float(QUALITY[i])
        turn = MARGINS[kind] * (1.0 if kind == "arcface" else -quality)
        if kind == "arcface":
            past = angle + turn > math.pi
            own = cosine - turn * math.sin(turn) if past else math.cos(angle + turn)
        elif kind == "adaface":
            own = math.cos(min(max(angle + turn, 0.0), math.pi)) - MARGINS[kind] * (1 + quality)
        else:
            own = cosine - MARGINS[kind]
        p = oracles.softmax([8.0 * (own if j == label else value) for j, value in enumerate(held[i])])
        wanted = [8.0 * p_j / 4 for p_j in p]  # four crops have a label
        wanted[label] = 8.0 * (p[label] - 1) / 4 * slope_by_angle(kind, angle, quality)
        exact = dtype in (torch.float64, torch.float32)
        assert found[i].double().tolist() == pytest.approx(
            wanted, rel=1e-5 if exact else 2e-2, abs=1e-6 if exact else 2e-3
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_plain_softmax_is_computed_in_float32_too(dtype: torch.dtype) -> None:
    half = (cosines() * 20).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = softmax_cross_entropy(half, LABELS)
    wanted = softmax_cross_entropy(half.detach().float(), LABELS)
    assert loss.dtype == torch.float32
    assert loss.item() == wanted.item()
    (slope,) = torch.autograd.grad(loss, half)
    p = torch.softmax(half.detach().double(), dim=1)
    for i, label in enumerate(LABELS.tolist()):
        if label >= 0:
            p[i, label] -= 1
    p[LABELS < 0] = 0
    torch.testing.assert_close(slope.double(), p / 4, atol=1e-3, rtol=1e-2)


PLAIN = {**LOSSES, "softmax": lambda c, y=LABELS, w=None: softmax_cross_entropy(8 * c, y, w)}
WEIGHTS = torch.tensor([0.25, 2.0, 7.0, 0.0, 1.5], dtype=torch.float64)


@pytest.mark.parametrize("name", PLAIN)
def test_a_weight_is_how_often_a_crop_counts(name: str) -> None:
    loss, c = PLAIN[name], cosines().requires_grad_()
    alone = []
    for i in range(5):
        only = torch.full_like(LABELS, -1)
        only[i] = LABELS[i]
        alone.append(loss(c, only))
    before = WEIGHTS.clone()
    found = loss(c, LABELS, WEIGHTS)
    # Over the number of labeled crops, four, and not over the weights' sum: see softmax_cross_entropy.
    assert found.item() == pytest.approx(sum(float(w) * a.item() for w, a in zip(WEIGHTS, alone, strict=True)) / 4)
    (slope,) = torch.autograd.grad(found, c)
    assert not slope[2].any()  # it has no label, whatever its weight
    assert not slope[3].any()  # it weighs nothing
    assert slope[4].abs().sum() > 0
    assert torch.equal(WEIGHTS, before)
    assert loss(c, LABELS, torch.ones(5)).item() == pytest.approx(loss(c).item(), rel=1e-12)
    assert torch.autograd.gradcheck(lambda c: loss(c, LABELS, WEIGHTS), (cosines(3).requires_grad_(),))


@pytest.mark.parametrize("name", PLAIN)
@pytest.mark.parametrize("label", [6, 100, -2])
def test_a_label_beyond_the_head_is_our_own_mistake(name: str, label: int) -> None:
    labels = LABELS.clone()
    labels[1] = label
    with pytest.raises(AssertionError, match=f"labels from .*{label}.* for a head of 6 classes"):
        PLAIN[name](cosines(), labels)
    empty = PLAIN[name](cosines()[:0], LABELS[:0]) if name != "adaface" else torch.zeros(())
    assert empty.item() == 0


@given(st.lists(st.integers(1, 300), min_size=1, max_size=8), st.floats(0, 0.99999))
@settings(max_examples=60, deadline=None)
def test_class_weights_are_one_over_the_effective_number(counts: list[int], beta: float) -> None:
    found = class_weights(torch.tensor(counts), beta)
    assert found.dtype == torch.float64
    # Proposition 1 of the paper as a sum: the n-th crop adds β^(n − 1).
    inverse = [1 / sum(beta**k for k in range(n)) for n in counts]
    mean = sum(w * n for w, n in zip(inverse, counts, strict=True)) / sum(counts)
    assert found.tolist() == pytest.approx([w / mean for w in inverse], rel=1e-9)
    assert float((found * torch.tensor(counts)).sum()) == pytest.approx(sum(counts), rel=1e-9)  # mean one over crops


def test_class_weights_at_their_ends() -> None:
    counts = torch.tensor([1, 10, 100_000])
    assert class_weights(counts, 0.0).tolist() == [1.0, 1.0, 1.0]
    alike = class_weights(counts, 1 - 1e-12) * counts  # what a whole class weighs
    assert alike.tolist() == pytest.approx([100_011 / 3] * 3, rel=1e-6)
    # By hand at β = 0.9: effective numbers 1, 6.513, 10.
    halfway = class_weights(counts, 0.9)
    assert float(halfway[0] / halfway[2]) == pytest.approx(10, rel=1e-9)
    assert float(halfway[0] / halfway[1]) == pytest.approx((1 - 0.9**10) / 0.1, rel=1e-9)
    with pytest.raises(AssertionError, match="without a crop"):
        class_weights(torch.tensor([3, 0]), 0.9)
