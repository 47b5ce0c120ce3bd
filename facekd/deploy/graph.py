"""What an export puts around a network: crops in, embeddings of unit norm out, names that stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from facekd.core.contract import Contract
from facekd.core.pixels import to_input
from facekd.core.types import Array
from facekd.errors import UserError
from facekd.nets.files import INPUT, STANDARD, UINT8
from facekd.nets.graph import Graph, set_metadata

OPSET = 18  # of what is rewritten here, and the highest that an export has: reductions with their axes as an input
OLDER = 17  # that of the export where nothing in it is newer: onnx2torch, for one, knows no Resize of 18
IR = 8  # of the file itself; it is the first that opset 18 may have
FED, CROPS, EMBEDDING = "input", "crops", "embedding"  # what an export calls its input, images or crops, and its output
LEAST_NORM = 1e-12  # what an embedding is divided by at least
MOST_LEAST = 1e-5  # the most that another's norm may have there, and still be the same function


def at_opset(model: Any, where: str) -> Any:
    """The model in opset 18 and IR 8, its batch free, and without the shapes that its exporter wrote for one batch.

    Raises:
        UserError: onnx's converter does not know a node of it.
    """
    version = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    if version != OPSET:
        try:
            made = onnx.version_converter.convert_version(Graph(made).model(), OPSET)
        except Exception as error:  # RuntimeError with a C++ message, or ValueError
            first = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(
                f"{where}: its opset {version} can't be brought to {OPSET} ({first}); export it anew from its framework"
            ) from error
    made = Graph(made).model()
    made.ir_version = IR
    for value in (*made.graph.input, *made.graph.output):
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_param = "batch"
    return made


def at_older_opset(model: Any) -> Any:
    """The model in opset 17 where onnx's converter can bring it there, else as it is; its metadata stay."""
    try:
        made = onnx.version_converter.convert_version(model, OLDER)
        made.ir_version = IR
        del made.graph.value_info[:]  # the converter's; with them tract takes no batch of a fixed size
        onnx.checker.check_model(made)
    except Exception:  # as in `at_opset`; opset 18 says the same
        return model
    set_metadata(made, {entry.key: entry.value for entry in model.metadata_props})
    return made


def with_unit_norm(model: Any, dim: int) -> Any:
    """The model with float32[N, dim] embeddings of unit norm; a zero embedding stays zero.

    A norm that the model ends in already is taken away first: the same function, once. The norm is written in plain
    operators, as some mobile runtimes compute ReduceL2 wrongly for more than one crop.
    """
    graph = Graph(model)
    (output,) = graph.proto.graph.output
    while (raw := before_norm(graph)) is not None:  # some take it twice
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
    """The model with its input called `fed` and its output ``embedding``, whatever they were called before.

    Nodes are named too, in small letters: insightface takes a first node whose name begins with Sub or Mul for a sign
    that the file wants pixels from 0 to 255.
    """
    graph = Graph(model)
    for number, node in enumerate(graph.nodes):
        node.name = f"{node.op_type.lower()}_{number}"
    (given,), (made,) = graph.proto.graph.input, graph.proto.graph.output
    if given.name == made.name:
        return graph.model()
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
    head = _Head(graph, "crops")
    at = head.mirrored(axis=2) if contract.flip else head.given
    if contract.channels == "BGR":
        at = head.add("Gather", at, graph.weight("crops_bgr", np.array([2, 1, 0], np.int64)), axis=3)
    if contract.layout == "NCHW":
        at = head.add("Transpose", at, perm=[0, 3, 1, 2])  # while a pixel is one byte
    black, white = _ends(contract)
    # Every pixel is alike, so one of them, with the channel's axis where the layout has it, stands for all.
    shape = (3, 1, 1) if contract.layout == "NCHW" else (1, 1, 3)
    scale = graph.weight("crops_scale", ((white - black) / np.float32(np.iinfo(np.uint8).max)).reshape(shape))
    shift = graph.weight("crops_shift", black.reshape(shape))
    head.add("Add", head.add("Mul", head.add("Cast", at, to=TensorProto.FLOAT), scale), shift)
    made = head.before(contract)
    size = contract.size
    made.graph.input.append(helper.make_tensor_value_info(head.given, TensorProto.UINT8, ["batch", size, size, 3]))
    set_metadata(made, {INPUT: UINT8})
    return made


def with_standard_input(model: Any, contract: Contract) -> Any:
    """The model taking what ``contract.standard()`` describes: what `contract` asks for otherwise happens inside.

    Scale, shift and the order of channels are one convolution of 1x1, which every runtime knows.
    """
    graph = Graph(model)
    head = _Head(graph, "images")
    at = head.mirrored(axis=3) if contract.flip else head.given
    black, white = _ends(contract)
    order = [0, 1, 2] if contract.channels == "RGB" else [2, 1, 0]
    scale = (white - black) / 2  # from -1 … 1
    kernel = np.zeros((3, 3, 1, 1), np.float32)
    kernel[[0, 1, 2], order, 0, 0] = scale
    names = (graph.weight("images_scale", kernel), graph.weight("images_shift", black + scale))
    at = head.add("Conv", at, *names, kernel_shape=[1, 1])
    if contract.layout == "NHWC":
        head.add("Transpose", at, perm=[0, 2, 3, 1])
    made = head.before(contract)
    size = contract.size
    made.graph.input.append(helper.make_tensor_value_info(head.given, TensorProto.FLOAT, ["batch", 3, size, size]))
    set_metadata(made, {INPUT: STANDARD})
    return made


def _ends(contract: Contract) -> tuple[Array, Array]:
    """float32[3] each: what black and white pixels become, taken from the one function that knows it."""
    ends = np.stack([np.full((contract.size, contract.size, 3), value, np.uint8) for value in (0, 255)])
    black, white = to_input(ends, contract, template=contract.template)
    pixel = np.s_[:, 0, 0] if contract.layout == "NCHW" else np.s_[0, 0, :]
    return black[pixel], white[pixel]


class _Head:
    """Nodes that turn another input into the one that a graph takes."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.wish = graph, name
        self.given = graph.name(name)
        self.nodes: list[Any] = []

    def add(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = self.graph.name(f"{self.wish}_{op.lower()}")
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def mirrored(self, axis: int) -> str:
        """The input and behind it, along the batch, its mirror images."""
        names = (("end", -1), ("end", -(2**31)), ("width", axis), ("end", -1))
        at = (self.graph.weight(f"{self.wish}_{what}", np.array([value], np.int64)) for what, value in names)
        return self.add("Concat", self.given, self.add("Slice", self.given, *at), axis=0)

    def before(self, contract: Contract) -> Any:
        """The model with these nodes first, no input yet; the two halves of its output are added after a mirroring."""
        graph = self.graph
        self.nodes[-1].output[0] = graph.proto.graph.input[0].name
        graph.nodes = self.nodes + graph.nodes
        output = graph.proto.graph.output[0]
        if contract.flip:
            once, mirrored, both = (graph.name(f"embedding_{what}") for what in ("once", "mirrored", "both"))
            graph.nodes += [
                helper.make_node("Split", [output.name], [once, mirrored], axis=0, num_outputs=2),
                helper.make_node("Add", [once, mirrored], [both]),
            ]
            output.name = both
        made = graph.model()
        del made.graph.input[:]
        return made
