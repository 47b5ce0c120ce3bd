"""What an export puts around a network: crops in, embeddings of unit norm out, names that stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from facekd.core.contract import Contract
from facekd.core.pixels import to_input
from facekd.errors import UserError
from facekd.nets.files import INPUT, UINT8
from facekd.nets.graph import Graph, set_metadata

OPSET = 18  # the least that an export has: reductions with their axes as an input, Split in two, per-channel quantizing
FED, CROPS, EMBEDDING = "input", "crops", "embedding"  # what an export calls its input, images or crops, and its output
LEAST_NORM = 1e-12  # what an embedding is divided by at least
MOST_LEAST = 1e-5  # the most that another's norm may have there, and still be the same function


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
    """The model with float32[N, dim] embeddings of unit norm; a zero embedding stays zero.

    A norm that the model ends in already is taken away first: the same function, once. The norm is written in plain
    operators, as some mobile runtimes compute ReduceL2 wrongly for more than one crop.
    """
    graph = Graph(model)
    (output,) = graph.proto.graph.output
    raw = before_norm(graph)
    if raw is not None:
        output.name = raw
        graph.prune()
        graph = Graph(graph.model())  # the names of what is gone are free again
        (output,) = graph.proto.graph.output
    shape = graph.weight("embedding_shape", np.array([0, dim], np.int64))
    axes = graph.weight("embedding_axes", np.array([1], np.int64))
    least = graph.weight("embedding_least_norm", np.array(LEAST_NORM, np.float32))
    names = ("flat", "squares", "sum", "norm", "above", "unit")
    flat, squares, total, norm, above, made = (graph.name(f"embedding_{what}") for what in names)
    graph.nodes += [
        helper.make_node("Reshape", [output.name, shape], [flat]),
        helper.make_node("Mul", [flat, flat], [squares]),
        helper.make_node("ReduceSum", [squares, axes], [total], keepdims=1),
        helper.make_node("Sqrt", [total], [norm]),
        helper.make_node("Max", [norm, least], [above]),
        helper.make_node("Div", [flat, above], [made]),
    ]
    del graph.proto.graph.output[:]
    graph.proto.graph.output.append(helper.make_tensor_value_info(made, TensorProto.FLOAT, ["batch", dim]))
    return graph.model()


def with_names(model: Any, fed: str) -> Any:
    """The model with its input called `fed` and its output ``embedding``, whatever they were called before."""
    graph = Graph(model)
    (given,), (made,) = graph.proto.graph.input, graph.proto.graph.output
    if given.name == made.name:
        return model
    graph.rename(given.name, fed)
    graph.rename(made.name, EMBEDDING)
    return graph.model()


def before_norm(graph: Graph) -> str | None:
    """What the graph divides by its own length at the end, a Reshape to [0, dim] left out; None where it does not.

    Known forms: x / |x|, |x| by ReduceL2 or by the root of a sum of squares, kept above a small number or not, and
    LpNormalization, each along the last axis.
    """
    makers = graph.makers()

    def made_by(name: str, *kinds: str) -> Any:
        node = makers.get(name)
        return node if node is not None and node.op_type in kinds else None

    def along(node: Any) -> bool:
        axes = next((list(a.ints) or [a.i] for a in node.attribute if a.name in ("axes", "axis")), None)
        if axes is None and len(node.input) > 1 and node.input[1] in graph.weights:
            axes = graph.weights[node.input[1]].reshape(-1).tolist()
        keep = next((a.i for a in node.attribute if a.name == "keepdims"), 1)
        return axes in ([1], [-1]) and keep == 1

    last = made_by(graph.proto.graph.output[0].name, "Div", "LpNormalization")
    if last is None:
        return None
    if last.op_type == "LpNormalization":
        order = next((a.i for a in last.attribute if a.name == "p"), 2)
        axis = next((a.i for a in last.attribute if a.name == "axis"), -1)
        return _before_flat(graph, last.input[0]) if order == 2 and axis in (1, -1) else None
    whole, length = last.input
    guard = made_by(length, "Max", "Clip", "Add", "Expand")
    if guard is not None:
        length = next((name for name in guard.input if made_by(name, "ReduceL2", "Sqrt", "Clip") is not None), "")
        if (inner := made_by(length, "Clip")) is not None:  # torch's normalize: Clip, then Expand
            guard, length = inner, inner.input[0]
        least = [graph.weights[n] for n in guard.input if n in graph.weights and guard.op_type != "Expand"]
        if any(value.size != 1 or not abs(float(value.flat[0])) <= MOST_LEAST for value in least):
            return None
    norm = made_by(length, "ReduceL2", "Sqrt")
    if norm is not None and norm.op_type == "ReduceL2":
        return _before_flat(graph, whole) if norm.input[0] == whole and along(norm) else None
    total = None if norm is None else made_by(norm.input[0], "ReduceSum", "ReduceSumSquare")
    if total is None or not along(total):
        return None
    if total.op_type == "ReduceSum":
        squares = made_by(total.input[0], "Mul")
        if squares is None or list(squares.input) != [whole, whole]:
            return None
    elif total.input[0] != whole:
        return None
    return _before_flat(graph, whole)


def _before_flat(graph: Graph, name: str) -> str:
    maker = graph.makers().get(name)
    if maker is None or maker.op_type != "Reshape" or maker.input[1] not in graph.weights:
        return name
    shape = graph.weights[maker.input[1]].tolist()
    return str(maker.input[0]) if len(shape) == 2 and shape[0] == 0 else name


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
