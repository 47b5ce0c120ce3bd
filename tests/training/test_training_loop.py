"""The loop on a three-layer network: what it minimizes, what it refuses, and going on bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from toy import tiny_net

from facekd.core.run import read_metrics
from facekd.errors import UserError
from facekd.training.checkpoint import LAST, restore, save_checkpoint
from facekd.training.loop import Batch, NotFiniteError, Plan, fit, make_optimizer
from facekd.training.norms import settle_norms

PLAN = Plan(steps=12, warmup=3, peak_lr=0.05, weight_decay=1e-2)


def batch(step: int) -> Batch:
    """A batch that is a function of the step; its label is whether the picture is bright."""
    generator = torch.Generator().manual_seed(step)
    labels = torch.arange(6) % 2
    images = torch.randn(6, 3, 8, 8, generator=generator) * 0.5 + labels[:, None, None, None]
    return Batch(images, labels, tuple(f"crop{step}-{i}" for i in range(6)))


class Run:
    """A network, a dropout that uses torch's random state, and their optimizer."""

    def __init__(self, seed: int = 0, plan: Plan = PLAN) -> None:
        net = nn.Sequential(tiny_net(2, 8, seed), nn.Dropout(0.2))
        torch.manual_seed(seed)
        self.plan, self.modules = plan, {"net": net}
        self.optimizer = make_optimizer(self.modules, plan)

    def loss(self, batch: Batch) -> Mapping[str, Tensor]:
        return {"labels": nn.functional.cross_entropy(self.modules["net"](batch.images_BCHW), batch.labels_B)}

    def fit(self, steps: Iterable[int], start: int = 0) -> list[dict[str, float]]:
        rows = fit(self.modules, self.optimizer, map(batch, steps), self.loss, self.plan, start, Accelerator(cpu=True))
        return list(rows)

    def state(self) -> dict[str, Tensor]:
        net = {f"net.{key}": value.clone() for key, value in self.modules["net"].state_dict().items()}
        momenta = {str(i): s["momentum_buffer"].clone() for i, s in enumerate(self.optimizer.state.values())}
        return {**net, **momenta}


def assert_same(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> None:
    assert one.keys() == two.keys()
    for key, value in one.items():
        assert torch.equal(value, two[key]), key


def test_a_short_training_learns_and_tells_each_step() -> None:
    run = Run()
    rows = run.fit(range(12))
    assert [row["step"] for row in rows] == list(range(1, 13))
    assert rows[0].keys() == {"step", "loss", "lr", "labels"}
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[2]["lr"] == pytest.approx(PLAN.peak_lr)


def test_a_step_is_sgd_with_nesterov_and_decay_on_matrices_only() -> None:
    run = Run(plan=Plan(steps=3, warmup=1, peak_lr=0.1, weight_decay=0.5, clip=1e9))
    run.modules["net"][1].p = 0.0
    before = {key: value.clone() for key, value in run.modules["net"].named_parameters()}
    run.fit([0])
    twin = nn.Sequential(tiny_net(2, 8, 0))
    nn.functional.cross_entropy(twin(batch(0).images_BCHW), batch(0).labels_B).backward()
    for (key, value), parameter in zip(before.items(), twin.parameters(), strict=True):
        assert parameter.grad is not None
        gradient = parameter.grad + (0.5 * value if value.ndim > 1 else 0)
        # The first Nesterov step: the momentum is the gradient itself, so it counts 1 + 0.9 times.
        wanted = value - 0.1 * (1 + 0.9) * gradient
        torch.testing.assert_close(run.modules["net"].get_parameter(key), wanted, atol=1e-5, rtol=1e-4)


def test_the_gradient_is_clipped_to_its_norm() -> None:
    run = Run(plan=Plan(steps=3, warmup=1, peak_lr=1.0, weight_decay=0.0, momentum=0.9, clip=1e-3))
    before = [p.detach().clone() for p in run.modules["net"].parameters()]
    run.fit([0])
    moved = torch.cat([(p - b).flatten() for p, b in zip(run.modules["net"].parameters(), before, strict=True)])
    assert float(moved.detach().norm()) == pytest.approx(1.9e-3, rel=2e-2)


def test_a_loss_that_is_not_finite_stops_with_the_crops() -> None:
    run = Run()
    state = {key: value.clone() for key, value in run.modules["net"].named_parameters()}
    bad = batch(0)
    bad.images_BCHW[3] = torch.inf
    rows = fit(run.modules, run.optimizer, [bad], run.loss, PLAN, 5, Accelerator(cpu=True))
    with pytest.raises(UserError, match=r"not finite at step 5 \(labels nan; crops crop0-0, crop0-1.*lower --lr"):
        next(rows)
    assert_same(state, dict(run.modules["net"].named_parameters()))  # no such step was taken


def test_a_gradient_that_is_not_finite_stops_too() -> None:
    run = Run()
    state = {key: value.clone() for key, value in run.modules["net"].named_parameters()}

    def loss(batch: Batch) -> Mapping[str, Tensor]:
        zero = (run.modules["net"](batch.images_BCHW) * 0).sum()
        return {"labels": zero.sqrt()}  # 0, with a slope that has no end

    rows = fit(run.modules, run.optimizer, [batch(0)], loss, PLAN, 5, Accelerator(cpu=True))
    with pytest.raises(
        NotFiniteError, match=r"the gradient is not finite at step 5 \(labels 0; crops crop0-0"
    ) as caught:
        next(rows)
    assert (caught.value.step, caught.value.crop_ids) == (5, batch(0).crop_ids)
    assert_same(state, dict(run.modules["net"].named_parameters()))


@pytest.mark.parametrize("cut", [1, 7])
@pytest.mark.parametrize(("optimizer", "decays"), [("adamw", [0.1, 0.0]), ("muon", [0.1, 0.1, 0.0])])
def test_others_go_on_bit_for_bit_and_decay_matrices_only(
    tmp_path: Path, cut: int, optimizer: str, decays: list[float]
) -> None:
    plan = Plan(steps=12, warmup=3, peak_lr=1e-3, weight_decay=0.1, optimizer=optimizer)
    whole = Run(plan=plan)
    rows = whole.fit(range(12))
    first = Run(plan=plan)
    first.fit(range(cut))
    save_checkpoint(tmp_path / "last", cut, first.modules, first.optimizer, {})
    torch.manual_seed(999)
    second = Run(seed=5, plan=plan)
    assert restore(tmp_path / "last", second.modules, second.optimizer, {}) == cut
    assert second.fit(range(cut, 12), cut) == rows[cut:]
    assert_same(dict(second.modules["net"].state_dict()), dict(whole.modules["net"].state_dict()))
    assert [group["weight_decay"] for group in whole.optimizer.param_groups] == decays
    assert all(p.ndim <= 1 for p in whole.optimizer.param_groups[-1]["params"])


def test_a_plan_without_a_step_is_refused() -> None:
    with pytest.raises(UserError, match="no step"):
        Plan(steps=0, warmup=1, peak_lr=0.1, weight_decay=0)


@pytest.mark.parametrize("cut", [1, 5, 11])
def test_a_restored_run_is_the_undisturbed_one_bit_for_bit(tmp_path: Path, cut: int) -> None:
    whole = Run()
    rows = whole.fit(range(12))

    first = Run()
    first.fit(range(cut))
    save_checkpoint(tmp_path / "last", cut, first.modules, first.optimizer, {"net": "tiny"})
    torch.manual_seed(999)  # whatever happened in between
    second = Run(seed=5)
    assert restore(tmp_path / "last", second.modules, second.optimizer, {"net": "tiny"}) == cut
    assert_same(second.state(), first.state())
    assert second.fit(range(cut, 12), cut) == rows[cut:]
    assert_same(second.state(), whole.state())


def test_a_checkpoint_of_another_run_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    run = Run()
    run.fit(range(2))
    save_checkpoint(tmp_path / "last", 2, run.modules, run.optimizer, {"net": "tiny", "seed": "0"})
    other = Run(seed=1)
    before = {key: value.clone() for key, value in other.modules["net"].state_dict().items()}
    for about in ({"net": "tiny", "seed": "1"}, {"net": "tiny"}, {"net": "tiny", "seed": "0", "teacher": "x"}):
        with pytest.raises(UserError, match=r"is of another run \((seed|teacher) was .* choose another --out"):
            restore(tmp_path / "last", other.modules, other.optimizer, about)
    assert_same(before, other.modules["net"].state_dict())


def test_a_checkpoint_of_another_network_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    """Where what the runs are called says nothing of it: crops of another size, a net with a layer more."""
    run = Run()
    run.fit(range(2))
    save_checkpoint(tmp_path / "last", 2, run.modules, run.optimizer, {})
    wider, deeper = Run(), Run()
    wider.modules = {"net": nn.Sequential(tiny_net(2, 16, 3), nn.Dropout(0.2))}
    deeper.modules = {"net": nn.Sequential(tiny_net(2, 8, 3), nn.Linear(2, 2))}
    for other, words in (
        (wider, r"net\.0\.4\.weight was \(2, 64\) and is \(2, 256\)"),
        (deeper, r"net\.1\.weight was not there and is \(2, 2\)"),
    ):
        before, random = {k: v.clone() for k, v in other.modules["net"].state_dict().items()}, torch.get_rng_state()
        with pytest.raises(UserError, match=rf"last: is of another network \({words}\); choose another --out"):
            restore(tmp_path / "last", other.modules, make_optimizer(other.modules, PLAN), {})
        assert_same(before, other.modules["net"].state_dict())
        assert torch.equal(torch.get_rng_state(), random)


def test_no_checkpoint_is_a_start(tmp_path: Path) -> None:
    run = Run()
    assert restore(tmp_path / "none", run.modules, run.optimizer, {}) == 0


@pytest.mark.parametrize("keep", [0, 20, -5])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, keep: int) -> None:
    run = Run()
    run.fit(range(2))
    save_checkpoint(tmp_path / "last", 2, run.modules, run.optimizer, {})
    (tmp_path / "last").write_bytes((tmp_path / "last").read_bytes()[:keep])
    with pytest.raises(UserError, match=r"no readable checkpoint.*delete it to start again"):
        restore(tmp_path / "last", run.modules, run.optimizer, {})


@pytest.mark.parametrize("key", ["net.0.4.weight", "optimizer.0.momentum_buffer", "rng"])
def test_a_checkpoint_whose_tensors_were_changed_is_refused_and_changes_nothing(tmp_path: Path, key: str) -> None:
    """Its head is whole, as a power cut leaves it; without a digest zeros would go on as weights."""
    run = Run()
    run.fit(range(2))
    save_checkpoint(tmp_path / "last", 2, run.modules, run.optimizer, {})
    with safe_open(tmp_path / "last", "pt") as file:
        tensors, about = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    tensors[key] = torch.zeros_like(tensors[key])
    save_file(tensors, tmp_path / "last", about)
    other = Run(seed=1)
    before, random = {k: v.clone() for k, v in other.modules["net"].state_dict().items()}, torch.get_rng_state()
    with pytest.raises(UserError, match=r"no readable checkpoint \(its tensors are not .*delete it to start again"):
        restore(tmp_path / "last", other.modules, other.optimizer, {})
    assert_same(before, other.modules["net"].state_dict())
    assert torch.equal(torch.get_rng_state(), random)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_a_run_folder_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in (LAST, "metrics.jsonl"):
        os.mkfifo(tmp_path / name)
    run = Run()
    with pytest.raises(UserError, match=r"last\.safetensors: is a pipe"):
        restore(tmp_path / LAST, run.modules, run.optimizer, {})
    with pytest.raises(UserError, match=r"metrics\.jsonl: is a pipe"):
        read_metrics(tmp_path)


def test_settled_norms_are_the_averages_of_the_batches() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.3))
    images = [torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(i)) * (i + 1) + i for i in range(4)]
    weights = {key: value.clone() for key, value in net.named_parameters()}
    net(torch.randn(5, 3, 6, 6) * 100)  # stale statistics, to be forgotten
    settle_norms(net, images)

    inputs = [batch.numpy().astype(np.float64) for batch in images]
    np.testing.assert_allclose(net[0].running_mean, np.mean([x.mean((0, 2, 3)) for x in inputs], 0), rtol=1e-5)
    # torch keeps the unbiased variance: over n - 1 of the batch's places.
    wanted = np.mean([x.transpose(1, 0, 2, 3).reshape(3, -1).var(1, ddof=1) for x in inputs], 0)
    np.testing.assert_allclose(net[0].running_var, wanted, rtol=1e-5)

    # The second norm sees what the first gives in training: each batch normed by its own statistics.
    seen = []
    for x in inputs:
        normed = (x - x.mean((0, 2, 3), keepdims=True)) / np.sqrt(x.var((0, 2, 3), keepdims=True) + 1e-5)
        seen.append(nn.functional.conv2d(torch.from_numpy(normed), net[1].weight.detach().double(),
                                         net[1].bias.detach().double()).numpy())  # fmt: skip
    np.testing.assert_allclose(net[2].running_mean, np.mean([x.mean((0, 2, 3)) for x in seen], 0), rtol=1e-4, atol=1e-5)
    wanted = np.mean([x.transpose(1, 0, 2, 3).reshape(4, -1).var(1, ddof=1) for x in seen], 0)
    np.testing.assert_allclose(net[2].running_var, wanted, rtol=1e-4)
    assert (net[0].momentum, net[2].momentum) == (0.1, 0.3)
    assert_same(weights, dict(net.named_parameters()))
    assert all(parameter.grad is None for parameter in net.parameters())
