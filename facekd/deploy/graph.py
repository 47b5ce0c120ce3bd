"""An ONNX graph as numbers and nodes that can be rewritten, and what an export puts around a network."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from facekd.core.contract import Contract
from facekd.core.pixels import to_input
from facekd.core.types import Array
from facekd.errors import UserError
from facekd.nets.files import INPUT, UINT8

OPSET = 18  # the least that an export has: ReduceL2 with its axes as an input, Split in two, per-channel quantising


class Graph:
    """The graph of a model with its weights as arrays, to be changed; `model` writes it as a new ModelProto."""

    def __init__(self, model: Any) -> None:
        self.proto = onnx.ModelProto()
        self.proto.CopyFrom(model)
        self.nodes: list[Any] = list(self.proto.graph.node)
        self.weights: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._taken = {name for node in self.nodes for name in (*node.input, *node.output)} | set(self.weights)

    def makers(self) -> dict[str, Any]:
        """Node by the name of what it makes."""
        return {name: node for node in self.nodes for name in node.output}

    def uses(self) -> Counter[str]:
        """How often each name is read, by nodes and as the graph's output."""
        read = Counter(name for node in self.nodes for name in node.input)
        read.update(output.name for output in self.proto.graph.output)
        return read

    def name(self, wish: str) -> str:
        """A name that nothing in the graph has yet."""
        number, name = 1, wish
        while name in self._taken:
            number, name = number + 1, f"{wish}_{number}"
        self._taken.add(name)
        return name

    def weight(self, wish: str, value: Array) -> str:
        """The name of a new weight."""
        name = self.name(wish)
        self.weights[name] = np.ascontiguousarray(value)
        return name

    def model(self) -> Any:
        """A new ModelProto: nodes in this order, only weights that a node reads, no stale shapes."""
        made = onnx.ModelProto()
        made.CopyFrom(self.proto)
        del made.graph.node[:], made.graph.initializer[:], made.graph.value_info[:]
        made.graph.node.extend(self.nodes)
        read = self.uses()
        made.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in self.weights.items() if read[k])
        fed = [value for value in self.proto.graph.input if value.name not in self.weights]  # old files list both
        del made.graph.input[:]
        made.graph.input.extend(fed)
        return made


def folded(model: Any) -> Any:
    """The model with constants computed and norms folded into the convolutions before them, in standard operators.

    ONNX Runtime does both when it loads a file; done here, what follows sees the convolutions as they will run.
    """
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="facekd-export-") as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        made = onnx.load(options.optimized_model_filepath)
    used = {node.domain for node in made.graph.node} | {""}
    kept = [entry for entry in made.opset_import if entry.domain in used]
    del made.opset_import[:]
    made.opset_import.extend(kept)
    return made


def upgraded(model: Any, where: str) -> Any:
    """The model in opset 18 or later, its batch free, and without the shapes that its exporter wrote for one batch.

    Raises:
        UserError: onnx's converter does not know a node of it.
    """
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.ir_version = max(made.ir_version, 8)
    if version < OPSET:
        try:
            made = onnx.version_converter.convert_version(Graph(made).model(), OPSET)
        except Exception as error:  # RuntimeError with a C++ message, or ValueError
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{where}: its opset {version} can't be brought to {OPSET} ({first}); export it anew from its framework"
            ) from error
    made = Graph(made).model()
    for value in (*made.graph.input, *made.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return made


def with_unit_norm(model: Any, dim: int) -> Any:
    """The model with float32[N, dim] embeddings of unit norm; a zero embedding stays zero."""
    graph = Graph(model)
    (output,) = graph.proto.graph.output
    shape = graph.weight("embedding_shape", np.array([0, dim], np.int64))
    axes = graph.weight("embedding_axes", np.array([1], np.int64))
    least = graph.weight("embedding_least_norm", np.array(1e-12, np.float32))
    flat, norm, above = (graph.name(f"embedding_{what}") for what in ("flat", "norm", "above"))
    graph.nodes += [
        helper.make_node("Reshape", [output.name, shape], [flat]),
        helper.make_node("ReduceL2", [flat, axes], [norm], keepdims=1),
        helper.make_node("Max", [norm, least], [above]),
        helper.make_node("Div", [flat, above], [graph.name("embedding")]),
    ]
    made = graph.model()
    del made.graph.output[:]
    name = graph.nodes[-1].output[0]
    made.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", dim]))
    return made


def with_uint8_input(model: Any, contract: Contract) -> Any:
    """The model taking uint8[N, S, S, 3] RGB crops: all that `contract` asks for happens inside, mirrored pass too."""
    graph = Graph(model)
    (fed,) = graph.proto.graph.input
    # What is subtracted and divided by is taken from the one function that knows it: how it turns black and white.
    ends = np.stack([np.full((contract.size, contract.size, 3), value, np.uint8) for value in (0, 255)])
    black, white = to_input(ends, contract, template=contract.template)
    # Every pixel is alike, so one of them, with the channel's axis where the layout has it, stands for all.
    pixel = np.s_[:, :1, :1] if contract.layout == "NCHW" else np.s_[:1, :1, :]
    scale = graph.weight("crops_scale", (white[pixel] - black[pixel]) / np.float32(np.iinfo(np.uint8).max))
    shift = graph.weight("crops_shift", black[pixel])
    crops = graph.name("crops")
    head: list[Any] = []

    def add(op: str, *inputs: str, **attributes: Any) -> str:
        name = graph.name(f"crops_{op.lower()}")
        head.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    at = crops
    if contract.flip:
        axis = graph.weight("crops_width", np.array([2], np.int64))
        last, first, back = (graph.weight("crops_end", np.array([v], np.int64)) for v in (-1, -(2**31), -1))
        at = add("Concat", at, add("Slice", at, last, first, axis, back), axis=0)
    if contract.channels == "BGR":
        at = add("Gather", at, graph.weight("crops_bgr", np.array([2, 1, 0], np.int64)), axis=3)
    if contract.layout == "NCHW":
        at = add("Transpose", at, perm=[0, 3, 1, 2])  # while a pixel is one byte
    add("Add", add("Mul", add("Cast", at, to=TensorProto.FLOAT), scale), shift)
    head[-1].output[0] = fed.name
    graph.nodes = head + graph.nodes
    if contract.flip:
        (output,) = graph.proto.graph.output
        once, mirrored, both = (graph.name(f"embedding_{what}") for what in ("once", "mirrored", "both"))
        graph.nodes += [
            helper.make_node("Split", [output.name], [once, mirrored], axis=0, num_outputs=2),
            helper.make_node("Add", [once, mirrored], [both]),
        ]
    made = graph.model()
    del made.graph.input[:]
    size = contract.size
    made.graph.input.append(helper.make_tensor_value_info(crops, TensorProto.UINT8, ["batch", size, size, 3]))
    if contract.flip:
        output = made.graph.output[0]
        output.name = graph.nodes[-1].output[0]
    set_metadata(made, {INPUT: UINT8})
    return made


def set_metadata(model: Any, values: Mapping[str, str]) -> None:
    """Write metadata entries, in place; entries of the same key are replaced."""
    kept = {entry.key: entry.value for entry in model.metadata_props} | dict(values)
    del model.metadata_props[:]
    for key, value in kept.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
