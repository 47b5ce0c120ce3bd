from __future__ import annotations

import torch
from toy import SIZE, tiny_net

from facekd.nets.forward import FEW, forward


def test_pieces_give_what_the_whole_gives_and_no_gradient() -> None:
    net = tiny_net().eval()
    for count in (0, 1, FEW * torch.get_num_threads() + 3):
        images = torch.randn(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0), requires_grad=True)
        found = forward(net, images)
        torch.testing.assert_close(found, net(images).detach(), rtol=1e-5, atol=1e-6)
        assert not found.requires_grad
        assert found.shape == (count, 8)
