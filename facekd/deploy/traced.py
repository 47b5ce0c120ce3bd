"""A network of torch as an ONNX graph; export does the rest, which needs no torch."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from facekd.core.contract import Contract


def to_onnx(net: nn.Module, contract: Contract) -> Any:
    """The network as an ONNX ModelProto of dynamic batch, its output as the network gives it.

    Args:
        net: takes float32[B, 3, S, S] as `contract` says.
    """
    net = net.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    example = torch.zeros(2, 3, contract.size, contract.size)
    batch = torch.export.Dim("batch", min=1)
    with warnings.catch_warnings():
        # torch 2.13's exporter meets its own deprecated tree classes; nothing a user could mend
        warnings.filterwarnings("ignore", category=FutureWarning, message=".*LeafSpec.*")
        program = torch.onnx.export(
            net,
            (example,),
            input_names=["input"],
            output_names=["features"],
            dynamic_shapes=({0: batch},),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return without_traces(program.model_proto)


def without_traces(model: Any) -> Any:
    """`model` without the exporter's notes on nodes and values: paths of this machine, which would change a digest."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del part.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
    return model
