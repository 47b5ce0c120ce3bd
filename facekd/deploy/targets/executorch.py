"""An exported graph as an ExecuTorch program, a .pte, its work done by XNNPACK."""

from __future__ import annotations

from pathlib import Path

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower

from facekd.deploy.targets.module import read_module

LARGEST_BATCH = 16  # the program keeps memory for so many crops


def write(source: Path, out: Path, precision: str) -> None:
    """Write the network of the ONNX file `source` to `out`: float32[N, 3, S, S] in, float32[N, D] out, N up to 16."""
    net = read_module(source, "a .pte")
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH + 1)  # what is below it is planned for
    program = torch.export.export(net, (torch.zeros(2, 3, net.size, net.size),), dynamic_shapes=({0: batch},))
    made = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch()
    out.write_bytes(made.buffer)
