"""An ONNX file's weights in a network of facekd: the same embeddings, or a list of what does not match."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from toy import SIZE, onnx_of, tiny_net

from facekd.core.contract import Contract
from facekd.core.pixels import to_input
from facekd.deploy.traced import to_onnx
from facekd.errors import UserError
from facekd.nets import build
from facekd.nets.files import METADATA, Network, load_network
from facekd.nets.fold import fold_norms
from facekd.teachers.onnx_layers import take_layers


def exported(path: Path, net: torch.nn.Module, contract: Contract) -> Network:
    """The network as an ONNX file that says its contract."""
    model = to_onnx(net, contract)
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA, contract.to_json()
    path.write_bytes(model.SerializeToString())
    return load_network(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilefacenet-se", "mobilefacenet-half", "iresnet18-quarter"])
def test_an_exported_network_comes_back_layer_by_layer(tmp_path: Path, name: str) -> None:
    torch.manual_seed(5)
    source = build(name, dim=8, size=SIZE).eval()
    for module in source.modules():
        if isinstance(module, torch.nn.PReLU):
            torch.nn.init.uniform_(module.weight, -1.5, 1.5)
    network = exported(tmp_path / "net.onnx", source, Contract(dim=8, size=SIZE))
    found = build(name, dim=8, size=SIZE, folded=True).eval()
    take_layers(found, network)
    images = torch.from_numpy(
        to_input(np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8), network.contract)
    )
    with torch.no_grad():
        one, two = (torch.nn.functional.normalize(net(images)) for net in (found, source))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=0)


@pytest.mark.slow
def test_a_file_built_otherwise_is_refused_with_what_differs(tmp_path: Path) -> None:
    net = build("mobilefacenet-half", dim=8, size=SIZE).eval()
    network = exported(tmp_path / "net.onnx", net, Contract(dim=8, size=SIZE))
    other = build("mobilefacenet-half", dim=12, size=SIZE, folded=True).eval()
    with pytest.raises(
        UserError, match=r"1 layers are not in the file: layer \d+ \(convolution 256 to 12, 1x1"
    ) as error:
        take_layers(other, network)
    assert "convolution 256 to 8, 1x1" in str(error.value)
    assert str(tmp_path / "net.onnx") in str(error.value)


def test_the_same_layers_in_another_order_of_sums_are_refused(tmp_path: Path) -> None:
    """Layers that agree are not enough: what lies between them may differ."""
    path = onnx_of(tiny_net(), tmp_path / "tiny.onnx")
    (tmp_path / "c.yaml").write_text(f"dim: 8\nsize: {SIZE}\n")
    network = load_network(path, tmp_path / "c.yaml")
    same = tiny_net(seed=1).eval()
    fold_norms(same)
    take_layers(same, network)

    class Doubled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = tiny_net().eval()
            fold_norms(self.inner)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x) + 0.1

    with pytest.raises(UserError, match="gives other embeddings"):
        take_layers(Doubled().eval(), network)
