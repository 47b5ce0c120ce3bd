"""A head is its weights, its cosines and its file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from facekd.core.choices import HEADS
from facekd.errors import UserError
from facekd.nets.heads import SUB_CENTERS, Head, load_head, save_head


def embeddings(count: int = 5, dim: int = 8) -> torch.Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(count)) * 3


def head(name: str, **numbers: float) -> Head:
    torch.manual_seed(0)
    return Head(name, 8, 4, **numbers)


@pytest.mark.parametrize("name", HEADS)
def test_what_a_head_gives(name: str) -> None:
    one, x = head(name), embeddings()
    outputs = one(x)
    if name == "softmax":
        torch.testing.assert_close(outputs, x @ one.weight.T + one.bias)
        assert torch.equal(one.logits(outputs), outputs)
        return
    assert outputs.shape == ((5, 4, SUB_CENTERS) if name == "subarcface" else (5, 4))
    for i in range(5):
        for c in range(4):
            own = outputs[i, c] if name == "subarcface" else outputs[i, c : c + 1]
            wanted = F.cosine_similarity(x[i : i + 1], one.weight[c].reshape(-1, 8))
            torch.testing.assert_close(own, wanted, atol=1e-6, rtol=0)
    nearest = outputs.amax(2) if name == "subarcface" else outputs
    torch.testing.assert_close(one.logits(outputs), 64.0 * nearest)


def test_cosines_do_not_know_lengths_and_are_taken_in_float32() -> None:
    one, x = head("arcface"), embeddings()
    torch.testing.assert_close(one(x * 100), one(x))
    with torch.autocast("cpu", torch.bfloat16):
        outputs = one(x)
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, one(x))
    assert one(x.bfloat16()).dtype == torch.float32


def test_adafaces_lengths_follow_slowly() -> None:
    one = head("adaface")
    one.see_norms(torch.tensor([10.0, 14.0]))
    assert float(one.norm_mean) == pytest.approx(20 + 0.01 * (12 - 20))
    assert float(one.norm_deviation) == pytest.approx(100 + 0.01 * (8**0.5 - 100), rel=1e-5)
    before = one.norm_mean.clone()
    one.see_norms(torch.tensor([5.0]))  # one crop has no deviation
    assert torch.equal(one.norm_mean, before)


@pytest.mark.parametrize("name", HEADS)
def test_a_saved_head_is_the_same_head(tmp_path: Path, name: str) -> None:
    numbers = {"margin": 0.25, "scale": 30.0} if HEADS[name].margin is not None else {}
    one = head(name, **numbers)
    if name == "adaface":
        one.see_norms(torch.tensor([10.0, 14.0]))
    save_head(tmp_path / "h", one, ("a", "b", "ç", "d"), "net-1")
    found = load_head(tmp_path / "h")
    assert (found.identities, found.model_id) == (("a", "b", "ç", "d"), "net-1")
    assert (found.head.name, found.head.margin, found.head.scale) == (name, one.margin, one.scale)
    assert found.head.state_dict().keys() == one.state_dict().keys()
    assert all(torch.equal(value, found.head.state_dict()[key]) for key, value in one.state_dict().items())
    assert (tmp_path / "h").stat().st_mode & 0o777 == 0o600  # it names people
    save_head(tmp_path / "again", one, ("a", "b", "ç", "d"), "net-1")
    assert (tmp_path / "h").read_bytes() == (tmp_path / "again").read_bytes()


@pytest.mark.parametrize("damage", ["cut", "zeros", "text", "classes", "kind"])
def test_another_file_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "h"
    save_head(path, head("arcface"), ("a", "b", "c", "d"), "net-1")
    data = path.read_bytes()
    if damage == "classes":
        save_head(path, head("arcface"), ("a", "b", "c"), "net-1")
    else:
        path.write_bytes(
            {
                "cut": data[:-8],
                "zeros": data[:-64] + bytes(64),
                "text": b"not a head",
                "kind": data.replace(b"arcface", b"arcfake"),
            }[damage]
        )
    with pytest.raises(UserError, match="not a readable facekd head"):
        load_head(path)
