"""Smaller images first, batches in parts and other precisions, through the recipes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState
from toy import contract_file, onnx_of, tiny_net

from facekd.commands.distill import distill
from facekd.commands.train_teacher import train_teacher
from facekd.core.run import Trained, read_metrics
from facekd.errors import UserError
from facekd.nets.saved import load_model


@pytest.fixture
def fresh_accelerate() -> Iterator[None]:
    """Accelerate keeps one precision for a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(("train", "net"), [(distill, "mobilefacenet-half"), (train_teacher, "iresnet18-quarter")])
def test_a_training_begins_on_small_images_and_ends_on_whole_ones(
    train: Callable[..., Trained], net: str, tmp_path: Path, store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = []

    def seen(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if module.training and torch.is_grad_enabled() and inputs[0].shape[1] == 3:
            sides.append(inputs[0].shape[-1])

    hook = torch.nn.modules.module.register_module_forward_pre_hook(seen)
    try:
        out = train(
            data=[store], net=net, dim=8, epochs=4, batch=8, resolution=["16=0.5"], held_out=0.34,
            out=tmp_path / "run",
        ).out  # fmt: skip
    finally:
        hook.remove()
    assert capsys.readouterr().err.count("step 6: from here on images of 32×32 pixels; the loss may jump") == 1
    steps = read_metrics(out)[-1]["step"]
    assert steps == 12
    first_layer = [side for i, side in enumerate(sides) if i == 0 or side != sides[i - 1]]
    assert first_layer[:2] == [16, 32]
    assert sides.count(16) == sides.count(32) > 0
    assert load_model(out).contract.size == 32


@pytest.mark.parametrize("asked", ["64", "20=0.5", "32=0.5", "16=0", "16=1.5", "16=x", "=0.5"])
def test_a_resolution_that_can_not_be_is_refused(tmp_path: Path, store: Path, asked: str) -> None:
    with pytest.raises(UserError, match="--resolution"):
        distill(
            data=[store], net="mobilefacenet-half", resolution=[asked], held_out=0.34, out=tmp_path / "run", quiet=True
        )
    assert not (tmp_path / "run").exists()


def test_resolutions_beyond_the_run_are_refused(tmp_path: Path, store: Path) -> None:
    with pytest.raises(UserError, match="more than the whole run"):
        distill(data=[store], resolution=["16=0.6", "16=0.6"], held_out=0.34, out=tmp_path / "run", quiet=True)


def test_a_batch_in_parts_trains_and_one_that_does_not_divide_is_refused(tmp_path: Path, store: Path) -> None:
    settings = {"data": [store], "net": "iresnet18-quarter", "dim": 16, "batch": 8, "held_out": 0.34, "quiet": True}
    out = train_teacher(**settings, epochs=4, accumulate=2, out=tmp_path / "run").out  # type: ignore[arg-type]
    rows = read_metrics(out)
    assert rows[-1]["step"] == 12
    assert rows[-1]["labels"] < rows[1]["labels"]
    with pytest.raises(UserError, match="--accumulate 3: does not divide --batch 8"):
        train_teacher(**settings, accumulate=3, out=tmp_path / "other")  # type: ignore[arg-type]


@pytest.mark.usefixtures("fresh_accelerate")
def test_bf16_trains_weights_of_fp32(tmp_path: Path, store: Path) -> None:
    out = train_teacher(
        data=[store], net="iresnet18-quarter", dim=16, epochs=4, batch=8, held_out=0.34, precision="bf16",
        out=tmp_path / "run", quiet=True,
    ).out  # fmt: skip
    assert all(value.dtype in (torch.float32, torch.int64) for value in load_model(out).net.state_dict().values())
    rows = read_metrics(out)
    assert rows[-1]["labels"] < rows[1]["labels"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_fp16_without_a_gpu_is_refused(tmp_path: Path, store: Path) -> None:
    with pytest.raises(UserError, match="--precision fp16: needs a GPU"):
        train_teacher(data=[store], precision="fp16", out=tmp_path / "run", quiet=True)


def test_openvino_teaches_as_onnxruntime_does(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    from facekd.teachers.teacher import load_teacher

    file, contract = onnx_of(tiny_net(), tmp_path / "net.onnx"), contract_file(tmp_path / "c.yaml", dim=8, size=32)
    images = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    one, two = (
        load_teacher(file, contract, torch.device("cpu"), backend).embed(images) for backend in (None, "openvino")
    )
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)
