"""Two processes with half a batch each take the step that one takes with the whole."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from toy import write_store

from facekd.cli import run
from facekd.core.run import read_metrics
from facekd.nets.heads import HEAD, load_head
from facekd.nets.saved import MODEL, load_model
from facekd.recipes import train as training_walk
from facekd.training.checkpoint import LAST
from facekd.training.loop import Batch, Plan, fit, make_optimizer
from facekd.training.norms import settle_norms
from facekd.training.parallel import SharedNorm, num_processes, rank, share_norms, whole_mean

STEPS = 10
CASES = {("float64", "sgd"): 1e-9, ("float32", "sgd"): 1e-4, ("float64", "muon"): 1e-9}  # and how near they come
STOP = 4  # the step after which a run is asked to end


def fifty_steps(dtype: torch.dtype, name: str) -> dict[str, Any]:
    """The losses of fifty steps of the loop, each process on its half of the batch, and what the norms have kept.

    A net with norms of both kinds; crops without identity, of which one half of a batch has more than the other.
    """
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(144, 6), nn.BatchNorm1d(6)]
    net, head = nn.Sequential(*layers).to(dtype), nn.Linear(6, 3).to(dtype)
    modules: dict[str, nn.Module] = {"net": net, "head": head}
    plan = Plan(steps=50, warmup=5, peak_lr=0.1, weight_decay=1e-2, optimizer=name)
    optimizer = make_optimizer(modules, plan)
    share_norms(net)

    def batch(step: int) -> Batch:
        labels = torch.arange(16) % 3
        noise = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(step), dtype=torch.float64)
        images = (noise + 0.3 * labels[:, None, None, None]).to(dtype)
        labels[: step % 7] = -1
        part = slice(rank() * 16 // num_processes(), (rank() + 1) * 16 // num_processes())
        return Batch(images[part], labels[part], tuple("abcdefghijklmnop"))

    def loss(batch: Batch) -> Mapping[str, Tensor]:
        mean = nn.functional.cross_entropy(head(net(batch.images_BCHW)), batch.labels_B, ignore_index=-1)
        return {"labels": whole_mean(mean, (batch.labels_B >= 0).sum())}

    rows = list(fit(modules, optimizer, map(batch, range(50)), loss, plan, 0, Accelerator(cpu=True)))
    settle_norms(net, (batch(step).images_BCHW for step in range(5)))
    net.eval()
    return {
        "losses": [row["loss"] for row in rows],
        "kept": [buffer.double().tolist() for buffer in net.buffers()],
        "out": net(batch(99).images_BCHW)[-1].tolist() if rank() == num_processes() - 1 else None,
        "keys": sorted(net.state_dict()),
    }


def asked_to_stop(patch: pytest.MonkeyPatch, here: bool = True) -> None:
    """A run that logs each step; SIGTERM reaches this process at step STOP, where it is `here`."""
    real = training_walk.progress

    def rows(source: Iterator[dict[str, float]], *rest: Any, **more: Any) -> Iterator[dict[str, float]]:
        for row in real(source, *rest, **more):
            if row["step"] == STOP and here:
                os.kill(os.getpid(), signal.SIGTERM)
            yield row

    patch.setattr(training_walk, "LOG_EVERY", 1)
    patch.setattr(training_walk, "progress", rows)


# What each of the two processes does; it calls the functions of this file.
WORKER = """
import json, sys
from pathlib import Path
import pytest, torch
from facekd.cli import run
from facekd.recipes import train as training_walk
from facekd.training.parallel import rank
from test_parallel import CASES, asked_to_stop, fifty_steps
home, flags = Path(sys.argv[1]), sys.argv[2:]
torch.set_num_threads(1)
from accelerate import Accelerator
Accelerator(cpu=True)
said = {" ".join(case): fifty_steps(getattr(torch, case[0]), case[1]) for case in CASES}
(home / f"steps_{rank()}.json").write_text(json.dumps(said))

out = ["--out", str(home / "two")]
for more in ([*out, "--batch", "9"], ["--batch", "8"], [*out, "--head", "adaface"]):
    assert run([*flags, *more]) == 2
with pytest.MonkeyPatch.context() as patch:
    asked_to_stop(patch, here=rank() == 1)  # one of them is asked, both end
    try:
        run([*flags, "--batch", "8", *out])
    except SystemExit as ended:
        assert ended.code == 143, ended.code
    else:
        raise AssertionError("it was not stopped")
training_walk.LOG_EVERY = 1
sys.exit(run(["train-teacher", "--resume", str(home / "one")]))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process did, and two: `alone` whole, `one` begun by one and ended by two, `two` begun by two."""
    folder = tmp_path_factory.mktemp("together")
    flags = [  # SGD: on crops so small Muon carries rounding too far for a bound; see exactness.py
        "train-teacher", "--data", str(write_store(folder / "crops")), "--net", "iresnet18-quarter", "--dim", "8",
        "--held-out", "0.34", "--epochs", "3.4", "--optimizer", "sgd", "--lr", "0.002",
    ]  # fmt: skip
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_walk, "LOG_EVERY", 1)
        assert run([*flags, "--batch", "8", "--out", str(folder / "alone"), "--quiet"]) == 0
        asked_to_stop(patch)
        with pytest.raises(SystemExit):
            run([*flags, "--batch", "8", "--out", str(folder / "one"), "--quiet"])
    torch.set_num_threads(threads)
    (folder / "worker.py").write_text(WORKER)
    tests = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         str(folder / "worker.py"), str(folder), *flags],
        env={**os.environ, "PYTHONPATH": f"{tests}:{tests.parent}", "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (folder / "stderr").write_text(done.stderr)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_fifty_steps_of_two_are_those_of_one(home: Path, case: tuple[str, str]) -> None:
    name, near = " ".join(case), CASES[case]
    one = fifty_steps(getattr(torch, case[0]), case[1])
    first, last = (json.loads((home / f"steps_{i}.json").read_text())[name] for i in range(2))
    assert len(one["losses"]) == 50
    assert one["losses"][-1] < 0.7 * one["losses"][0]
    assert first["losses"] == last["losses"]
    assert first["losses"] == pytest.approx(one["losses"], rel=near)
    assert first["keys"] == one["keys"]
    for a, b in zip(one["kept"], first["kept"], strict=True):
        assert b == pytest.approx(a, rel=near, abs=near)
    assert last["out"] == pytest.approx(one["out"], rel=10 * near, abs=10 * near)


@pytest.mark.slow
def test_what_two_processes_can_not_do_is_refused(home: Path) -> None:
    said = (home / "stderr").read_text()
    for words in (
        "--batch 9: does not fall into 2 processes",
        "several processes train one run: name its folder with --out",
        "--head adaface: trains in one process so far",
    ):
        assert words in said
    assert said.count(f"stopped by SIGTERM after step {STOP}") == 1  # one process speaks
    assert said.count("teacher trained; next") == 1


@pytest.mark.slow
def test_a_run_goes_on_in_another_number_of_processes(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_walk, "LOG_EVERY", 1)
    assert not (home / "two" / MODEL).exists()
    assert [row["step"] for row in read_metrics(home / "two")] == list(range(STOP + 1))
    assert run(["train-teacher", "--resume", str(home / "two"), "--quiet"]) == 0
    alone = read_metrics(home / "alone")
    assert [row["step"] for row in alone] == list(range(STEPS + 1))
    for name in ("one", "two"):
        rows = read_metrics(home / name)
        assert [row["step"] for row in rows] == list(range(STEPS + 1))
        assert [row["lr"] for row in rows[1:]] == [row["lr"] for row in alone[1:]]
        # Norms over eight crops of 32 pixels: what rounding leaves grows faster here than in any real run.
        assert [row["loss"] for row in rows[1:]] == pytest.approx([row["loss"] for row in alone[1:]], rel=1e-3), name
        assert load_head(home / name / HEAD).model_id == load_model(home / name).contract.model_id
        assert (home / name / LAST).stat().st_size == (home / "alone" / LAST).stat().st_size


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (8, 5)])
def test_a_shared_norm_is_torchs(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    torchs = (nn.BatchNorm2d(5) if len(shape) == 4 else nn.BatchNorm1d(5)).double()
    nn.init.normal_(torchs.weight)
    nn.init.normal_(torchs.bias)
    ours = SharedNorm(copy.deepcopy(torchs))
    values = [(torch.randn(shape, dtype=torch.float64) * 3 + 50).requires_grad_() for _ in range(2)]
    slope = torch.randn(shape, dtype=torch.float64)
    given = []
    for norm in (torchs, ours):
        leaf = values[0].detach().clone().requires_grad_()
        for _ in range(2):  # the second time the statistics are no longer the first ones
            output = norm(leaf)
        output.backward(slope)
        given.append([output, leaf.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
        norm.eval()
        given[-1].append(norm(values[1]))
    for one, two in zip(*given, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-9, atol=1e-9)
    assert ours.train()(values[0]).dtype == torch.float64
    small = torch.randn(3, 5, *shape[2:], dtype=torch.float64, requires_grad=True)
    parameters = [torch.randn(5, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def normed(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        norm = SharedNorm(nn.BatchNorm2d(5).double())
        del norm.weight, norm.bias
        norm.weight, norm.bias = weight, bias
        return norm(x)

    assert torch.autograd.gradcheck(normed, (small, *parameters))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_shared_norm_keeps_its_digits_over_many_places(dtype: torch.dtype) -> None:
    """As many places as the first layers of a network see, in the layout that training uses."""
    generator = torch.Generator().manual_seed(0)
    values = (torch.randn(16, 8, 112, 112, generator=generator) + 3).to(dtype)
    norm = SharedNorm(nn.BatchNorm2d(8, momentum=1.0))
    output = norm(values.to(memory_format=torch.channels_last))
    assert output.dtype == dtype
    assert output.is_contiguous(memory_format=torch.channels_last)
    wide = values.double()
    torch.testing.assert_close(norm.running_mean.double(), wide.mean((0, 2, 3)), rtol=2e-7, atol=0)
    torch.testing.assert_close(norm.running_var.double(), wide.var((0, 2, 3)), rtol=5e-7, atol=0)
