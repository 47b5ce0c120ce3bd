"""A teacher is one call whatever its file, and never learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper, save
from torch.nn import functional as F
from toy import SIZE, contract_file, onnx_of, save_run, tiny_net

from facekd.commands.export import export
from facekd.core.choices import HEADS
from facekd.errors import UserError
from facekd.nets.heads import HEAD, SUB_CENTERS, Head, save_head
from facekd.nets.saved import MODEL, load_model
from facekd.teachers.teacher import load_teacher

CPU = torch.device("cpu")


def give_head(run: Path, name: str, identities: tuple[str, ...], seed: int = 0) -> Head:
    """An untrained head beside the network of a run."""
    torch.manual_seed(seed)
    contract = load_model(run).contract
    head = Head(name, contract.dim, len(identities)).requires_grad_(False)
    save_head(run / HEAD, head, identities, contract.model_id)
    return head


def images(count: int = 5) -> torch.Tensor:
    return torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(count))


@pytest.mark.slow
def test_a_run_and_its_export_teach_the_same(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run", "iresnet18-quarter")
    head = give_head(run, "softmax", ("a", "b", "c"))
    export(run, tmp_path / "net.onnx", quiet=True)
    own, exported = load_teacher(run, None, CPU), load_teacher(tmp_path / "net.onnx", None, CPU)
    assert own.contract == exported.contract
    # The loop hands its batches over in channels_last.
    batch = images().to(memory_format=torch.channels_last)
    one, two = own.embed(batch), exported.embed(batch)
    torch.testing.assert_close(F.normalize(one), F.normalize(two), atol=1e-5, rtol=0)  # an export's have unit norm
    assert own.identities == ("a", "b", "c")
    torch.testing.assert_close(own.logits(one), one @ head.weight.T + head.bias)
    assert (exported.head, exported.identities) == (None, ())


@pytest.mark.parametrize("name", HEADS)
def test_logits_of_a_margin_head_are_scaled_cosines_without_the_margin(tmp_path: Path, name: str) -> None:
    run = save_run(tmp_path / "run")
    head = give_head(run, name, ("a", "b", "c"))
    teacher = load_teacher(run, None, CPU)
    embeddings = teacher.embed(images())
    if name == "softmax":
        wanted = F.linear(embeddings, head.weight, head.bias)
    else:
        centers = head.weight.reshape(3, -1, 16)
        assert centers.shape[1] == (SUB_CENTERS if name == "subarcface" else 1)
        nearest = F.cosine_similarity(embeddings[:, None, None], centers[None], dim=3).max(2).values
        wanted = 64.0 * nearest
    torch.testing.assert_close(teacher.logits(embeddings), wanted, atol=1e-4, rtol=1e-5)
    assert teacher.head is not None
    assert not teacher.head.training
    assert not any(p.requires_grad for p in teacher.head.parameters())


def test_a_head_of_another_network_is_refused(tmp_path: Path) -> None:
    one, two = save_run(tmp_path / "one"), save_run(tmp_path / "two", seed=1)
    give_head(one, "softmax", ("a", "b"))
    (two / HEAD).write_bytes((one / HEAD).read_bytes())
    for path in (two, two / MODEL):
        with pytest.raises(UserError, match=r"head.safetensors: is the head of another network than .*two"):
            load_teacher(path, None, CPU)
    assert load_teacher(one / MODEL, None, CPU).identities == ("a", "b")


@pytest.mark.parametrize("batch", [None, 1])
def test_an_onnx_teacher_gives_its_networks_embeddings(tmp_path: Path, batch: int | None) -> None:
    net = tiny_net().eval()
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE)
    teacher = load_teacher(onnx_of(net, tmp_path / "net.onnx", batch=batch), contract, CPU)
    with torch.no_grad():
        wanted = net(images(3))
    torch.testing.assert_close(teacher.embed(images(3)), wanted, atol=1e-5, rtol=1e-5)


def test_a_teacher_whose_contract_flips_adds_the_mirrored_view(tmp_path: Path) -> None:
    net = tiny_net().eval()
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE, flip="true")
    teacher = load_teacher(onnx_of(net, tmp_path / "net.onnx"), contract, CPU)
    with torch.no_grad():
        wanted = net(images()) + net(images().flip(3))
    torch.testing.assert_close(teacher.embed(images()), wanted, atol=1e-5, rtol=1e-5)


def test_a_teacher_gets_no_gradient_and_never_changes(tmp_path: Path) -> None:
    run = save_run(tmp_path / "run")
    give_head(run, "arcface", ("a", "b"))
    before = {key: value.clone() for key, value in load_model(run).net.state_dict().items()}
    teacher = load_teacher(run, None, CPU)
    net = teacher.embed.__closure__  # the network is only reachable through the call
    assert net is not None
    (inner,) = [cell.cell_contents for cell in net if isinstance(cell.cell_contents, torch.nn.Module)]
    inputs = images().requires_grad_()
    first = teacher.embed(inputs)
    assert not first.requires_grad
    assert not teacher.logits(first).requires_grad
    assert torch.equal(teacher.embed(inputs), first)  # in train mode norms would follow the batch
    torch.testing.assert_close(teacher.embed(inputs[:1]), first[:1], atol=1e-5, rtol=1e-4)
    assert not inner.training
    assert not any(p.requires_grad or p.grad is not None for p in inner.parameters())
    assert all(torch.equal(before[key], value) for key, value in inner.state_dict().items())


def test_a_teacher_that_gives_no_numbers_is_refused(tmp_path: Path) -> None:
    net = tiny_net()
    with torch.no_grad():
        net[4].bias[2] = torch.nan
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE)
    with pytest.raises(UserError, match="not finite; it can't teach"):
        load_teacher(onnx_of(net, tmp_path / "net.onnx"), contract, CPU)


def test_a_teacher_of_another_layout_is_refused(tmp_path: Path) -> None:
    weights = np.ones((SIZE * SIZE * 3, 8), np.float32)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])],
        "nhwc",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        [numpy_helper.from_array(weights, "w")],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10),
         str(tmp_path / "net.onnx"))  # fmt: skip
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE, layout="NHWC")
    with pytest.raises(UserError, match="teacher of layout NHWC can't be fed here"):
        load_teacher(tmp_path / "net.onnx", contract, CPU)


def test_a_contract_for_a_run_and_a_missing_teacher_are_refused(tmp_path: Path) -> None:
    contract = contract_file(tmp_path / "c.yaml", dim=8, size=SIZE)
    with pytest.raises(UserError, match="leave --contract out"):
        load_teacher(save_run(tmp_path / "run"), contract, CPU)
    with pytest.raises(UserError, match="no trained network there"):
        load_teacher(tmp_path / "missing", None, CPU)
