"""Two processes with half a batch each take the step that one takes with the whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from toy import write_store

from facekd.cli import run
from facekd.core.run import read_metrics
from facekd.nets.heads import HEAD, load_head
from facekd.nets.saved import load_model

LAUNCH = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

# In float64, where rounding does not grow into what a reader could see: 50 steps of the loop on a net with norms of
# both kinds, each process on its half. Prints the losses and what the first norm has kept.
STEPS = """
import json, sys, torch
from accelerate import Accelerator
from torch import nn
from facekd.training.loop import Batch, Plan, fit, make_optimizer
from facekd.training.norms import settle_norms
from facekd.training.parallel import num_processes, rank, share_norms
torch.set_default_dtype(torch.float64)
accelerator = Accelerator(cpu=True)
torch.manual_seed(0)
layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU(4), nn.Flatten(), nn.Linear(144, 6), nn.BatchNorm1d(6)]
net = nn.Sequential(*layers)
head = nn.Linear(6, 3)
modules = {"net": net, "head": head}
plan = Plan(steps=50, warmup=5, peak_lr=0.1, weight_decay=1e-2)
optimizer = make_optimizer(modules, plan)
share_norms(net)
def batch(step):
    labels = torch.arange(16) % 3
    images = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(step)) + 0.3 * labels[:, None, None, None]
    part = slice(rank() * 16 // num_processes(), (rank() + 1) * 16 // num_processes())
    return Batch(images[part], labels[part], tuple("abcdefghijklmnop"))
def loss(batch):
    return {"labels": nn.functional.cross_entropy(head(net(batch.images_BCHW)), batch.labels_B)}
rows = list(fit(modules, optimizer, map(batch, range(50)), loss, plan, 0, accelerator))
settle_norms(net, (batch(step).images_BCHW for step in range(5)))
net.eval()
said = {"losses": [row["loss"] for row in rows], "kept": [b.tolist() for b in net.buffers()],
        "out": net(batch(99).images_BCHW)[:1].tolist(), "keys": sorted(net.state_dict())}
if rank() == 0:
    open(sys.argv[1], "w").write(json.dumps(said))
"""


def two_processes(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LAUNCH, *command], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.slow
def test_fifty_steps_of_two_are_those_of_one(tmp_path: Path) -> None:
    script = tmp_path / "steps.py"
    script.write_text(STEPS)
    subprocess.run([sys.executable, str(script), str(tmp_path / "one")], check=True, timeout=300)
    done = two_processes(str(script), str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one", "two"))
    assert len(one["losses"]) == 50
    assert one["losses"][-1] < 0.7 * one["losses"][0]
    assert two["losses"] == pytest.approx(one["losses"], rel=1e-9)
    assert two["keys"] == one["keys"]
    for a, b in zip(one["kept"], two["kept"], strict=True):
        assert b == pytest.approx(a, rel=1e-9, abs=1e-12)
    assert two["out"][0] == pytest.approx(one["out"][0], rel=1e-8)


# What two processes can't do is refused by both of them; then they train.
RUNS = """
import sys
from facekd.cli import run
data, out = sys.argv[1:]
flags = ["train-teacher", "--data", data, "--net", "iresnet18-quarter", "--held-out", "0.34", "--epochs", "3.4",
         "--dim", "8", "--lr", "0.002"]
for more in (["--out", out, "--batch", "9"], ["--batch", "8"], ["--out", out, "--head", "adaface"]):
    assert run([*flags, *more]) == 2
sys.exit(run([*flags, "--out", out, "--batch", "8"]))
"""


@pytest.mark.slow
def test_torchrun_trains_one_run_that_one_process_goes_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = write_store(tmp_path / "crops")
    (tmp_path / "runs.py").write_text(RUNS)
    done = two_processes(str(tmp_path / "runs.py"), str(store), str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    for words in (
        "--batch 9: does not fall into 2 processes",
        "several processes train one run: name its folder with --out",
        "--head adaface: trains in one process so far",
    ):
        assert words in done.stderr
    assert done.stderr.count("teacher trained; next") == 1  # one process speaks
    flags = ["train-teacher", "--config", str(tmp_path / "two" / "run.yaml"), "--out", str(tmp_path / "one"), "--quiet"]
    assert run(flags) == 0
    alone, together = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    assert [row["step"] for row in together] == [row["step"] for row in alone] == [0, 10]
    # In float32 the number of threads alone moves the loss as much.
    assert together[1]["loss"] == pytest.approx(alone[1]["loss"], rel=2e-3)
    assert load_head(tmp_path / "two" / HEAD).model_id == load_model(tmp_path / "two").contract.model_id
    capsys.readouterr()
    assert run(["train-teacher", "--resume", str(tmp_path / "two")]) == 0
    assert "trained already" in capsys.readouterr().err
