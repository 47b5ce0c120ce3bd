"""The gated MobileFaceNet is the published one: counted, its gate and its window by their definitions."""

from __future__ import annotations

import numpy as np
import torch

from facekd.nets.cost import num_macs, num_parameters
from facekd.nets.mobilefacenet import slopes_of
from facekd.nets.mobilefacenet_se import Gate, MobileFaceNetSE, stretched


def test_its_size_is_that_of_intels_file() -> None:
    net = MobileFaceNetSE()
    # Open Model Zoo, face-reidentification-retail-0095: 1.107 M parameters, 0.588 GFLOPs (two for a multiply-add, and
    # activations with them).
    assert num_parameters(net) == 1_106_814
    assert round(num_macs(net) / 1e6, 1) == 288.7
    assert num_parameters(MobileFaceNetSE(dim=128)) == 1_106_814 - 128 * 512


def test_a_gate_weighs_channels_by_what_their_means_say() -> None:
    torch.manual_seed(0)
    gate = Gate(16, slopes_of("prelu", shared=True))
    down, slope, up = gate.layers
    x = torch.randn(2, 16, 5, 4)
    means = x.numpy().mean((2, 3))
    squeezed = means @ down.weight.detach().numpy()[:, :, 0, 0].T + down.bias.detach().numpy()
    squeezed = np.where(squeezed > 0, squeezed, squeezed * slope.weight.item())
    opened = squeezed @ up.weight.detach().numpy()[:, :, 0, 0].T + up.bias.detach().numpy()
    wanted = x.numpy() / (1 + np.exp(-opened))[:, :, None, None]
    np.testing.assert_allclose(gate(x).detach().numpy(), wanted, atol=1e-6)


def test_the_window_leaves_a_margin_and_is_stretched_to_a_square() -> None:
    ramp = torch.arange(112.0).expand(1, 3, 112, 112)  # each pixel says its column
    window = stretched(ramp)
    assert window.shape == (1, 3, 128, 128)
    # Bilinear with half-pixel centers, clamped at the edges: column j shows column 8 + (j + 1/2) · 96/128 - 1/2.
    wanted = np.clip(8 + (np.arange(128) + 0.5) * 96 / 128 - 0.5, 8, 103)
    np.testing.assert_allclose(window[0, 0, 0].numpy(), wanted, atol=1e-4)
    rows = np.clip((np.arange(128) + 0.5) * 112 / 128 - 0.5, 0, 111)
    np.testing.assert_allclose(stretched(ramp.mT)[0, 0, :, 0].numpy(), rows, atol=1e-4)


def test_smaller_images_go_through_the_same_weights() -> None:
    net = MobileFaceNetSE().eval()
    with torch.no_grad():
        assert net(torch.randn(2, 3, 64, 64)).shape == (2, 256)
