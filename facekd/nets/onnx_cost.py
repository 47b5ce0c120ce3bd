"""What an ONNX network costs: multiply-adds, counted on its graph."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import onnx


def onnx_macs(path: Path, input_shape: tuple[int, ...]) -> int | None:
    """Multiply-adds of the convolutions and matrix products for one crop, as `cost.num_macs` counts them.

    Args:
        input_shape: of one crop as the graph takes it, batch first: (1, 3, 112, 112).

    Returns:
        None where the graph's shapes can't be told from its input's.
    """
    model: Any = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    (given,) = [value for value in graph.input if value.name not in weights]
    if given.type.tensor_type.elem_type == onnx.TensorProto.UINT8:  # an export that takes the crops themselves
        input_shape = (1, input_shape[2], input_shape[2], 3)
    batch = given.type.tensor_type.shape.dim[0].dim_value or 1  # a batch frozen into the graph stays
    for axis, size in zip(given.type.tensor_type.shape.dim, (batch, *input_shape[1:]), strict=True):
        axis.dim_value = size
    del graph.value_info[:]  # of another batch
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = dict(weights)
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        shapes[value.name] = tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
    total = 0
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        made, taken = shapes.get(node.output[0], ()), shapes.get(node.input[1], ())
        if not made or not taken or 0 in made or 0 in taken:
            return None
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        each = math.prod(taken[1:]) if node.op_type == "Conv" or transposed else taken[-2]
        total += math.prod(made) * each
    return total // batch
