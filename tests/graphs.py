"""Small ONNX graphs of one input ``x`` and one output ``y``, for tests of what rewrites them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from facekd.core.types import Array

CHANNELS, SIDE = 16, 5


def model_of(nodes: list[onnx.NodeProto], weights: dict[str, Array]) -> onnx.ModelProto:
    shape = ["batch", CHANNELS, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def outputs(model: onnx.ModelProto, x: Array) -> Array:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: Array = session.run(None, {"x": x})[0]
    return found


def convolution(bias: bool = True, group: int = 1) -> tuple[list[onnx.NodeProto], dict[str, Array]]:
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(CHANNELS, CHANNELS // group, 3, 3)), "b": rng.normal(size=CHANNELS)}
    names = ["x", "w", "b"] if bias else ["x", "w"]
    return [helper.make_node("Conv", names, ["z"], pads=[1, 1, 1, 1], group=group)], weights
