"""Networks that the benchmarks of speed run: MobileFaceNets with settled norms, exported in every form."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from facekd.core.contract import Contract
from facekd.core.pixels import to_input
from facekd.nets import build
from facekd.nets.saved import MODEL, save_model

WEIGHTS = Path(__file__).parents[2] / "shared" / "data" / "weights"
SIZE = 112


def pictures(count: int, seed: int = 0, size: int = SIZE) -> np.ndarray:
    """uint8[count, size, size, 3]: smooth colored patterns; what is in a crop does not change the speed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 8, 8, 3), np.uint8)
    return np.stack([cv2.resize(one, (size, size), interpolation=cv2.INTER_CUBIC) for one in coarse])


def settled_run(folder: Path, activation: str, dim: int = 512, seed: int = 0) -> Path:
    """A run folder of a MobileFaceNet with random weights, whose norms have seen pictures and whose slopes differ."""
    torch.manual_seed(seed)
    net = build("mobilefacenet", dim=dim, activation=activation)
    contract = Contract(dim=dim)
    for module in net.modules():
        if isinstance(module, torch.nn.PReLU):
            torch.nn.init.uniform_(module.weight, 0.0, 0.5)
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 0.5
    with torch.no_grad():
        for i in range(6):
            net.train()(torch.from_numpy(to_input(pictures(16, seed=i), contract)))
    save_model(folder / MODEL, "mobilefacenet", net, contract)
    return folder
