"""What every file for a device is fed: the RGB pixels of a crop, 0 to 255; the rest happens inside."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from facekd.core.contract import Contract
from facekd.core.pixels import mean_and_std
from facekd.errors import UserError
from facekd.nets.graph import Graph

PIXELS = "input"  # what a device feeds: float32[N, 3, S, S], or [N, S, S, 3] where the device's images are so


def with_pixels(model: Any, contract: Contract) -> Any:
    """The model taking float32[N, 3, S, S] RGB pixels from 0 to 255: what `contract` asks for is done inside.

    The mean is subtracted before anything is multiplied: a pixel less its mean keeps its bits in fp16.

    Raises:
        UserError: the contract adds the embedding of the mirrored crop.
    """
    if contract.flip:
        raise UserError(
            "the contract adds the embedding of each crop's mirror image, and a file for a device runs a network once; "
            "export it with a contract without 'flip', and let the app add both"
        )
    graph = Graph(model)
    (fed,) = graph.proto.graph.input
    old = graph.name("normalized")
    graph.rename(fed.name, old)
    mean, std = (values.reshape(1, 3, 1, 1) for values in mean_and_std(contract))
    at, head = PIXELS, list[Any]()

    def add(op: str, *inputs: str, **attributes: Any) -> None:
        nonlocal at
        head.append(helper.make_node(op, [at, *inputs], [graph.name(f"pixels_{op.lower()}")], **attributes))
        at = head[-1].output[0]

    if contract.channels == "BGR":  # every runtime has a convolution
        add("Conv", graph.weight("pixels_bgr", np.eye(3, dtype=np.float32)[::-1].reshape(3, 3, 1, 1)))
    if mean.any():
        add("Sub", graph.weight("pixels_mean", mean))
    if (std != 1).any():
        add("Mul", graph.weight("pixels_scale", 1 / std))
    if contract.layout == "NHWC":
        add("Transpose", perm=[0, 2, 3, 1])
    if head:
        head[-1].output[0] = old
        graph.nodes = head + graph.nodes
    else:
        graph.rename(old, PIXELS)
    made = graph.model()
    del made.graph.input[:]
    shape: list[str | int | None] = ["batch", 3, contract.size, contract.size]
    made.graph.input.append(helper.make_tensor_value_info(PIXELS, TensorProto.FLOAT, shape))
    return made
