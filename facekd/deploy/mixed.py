"""Mixed precision: the images that cost an int8 network most of its accuracy stay float, and the layers that read them
store their weights as fp16."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from onnx import helper

from facekd.core.types import Array
from facekd.deploy.costs import costliest, embedded
from facekd.deploy.quantize import LAYERS, to_fp16, to_int8
from facekd.nets.graph import Graph

Q, DQ = "QuantizeLinear", "DequantizeLinear"
MEASURED = 1  # batches


def int8_forms(full: Any, inputs: Sequence[Array]) -> Iterator[Any]:
    """The network in int8, then with ever more of it in float; the last has some of it in int8 still.

    Args:
        full: in fp32, as `quantize.to_int8` takes it, its nodes named.
        inputs: what the graph takes, batches of real crops.
    """
    small = to_int8(full, inputs)
    yield to_fp16(small, only=_float_weights(small))
    for images in costliest(image_costs(full, small, inputs[:MEASURED])):
        made = relieved(small, full, images)
        if int8_layers(made)[0] == 0:
            return
        yield to_fp16(made, only=_float_weights(made))


def int8_layers(model: Any) -> tuple[int, int]:
    """How many layers are computed in int8, and how many there are."""
    graph = Graph(model)
    makers = graph.makers()
    layers = [node for node in graph.nodes if node.op_type in LAYERS]
    made = [[makers.get(name) for name in node.input[:2]] for node in layers]
    return sum(all(node is not None and node.op_type == DQ for node in both) for both in made), len(layers)


def image_costs(full: Any, small: Any, inputs: Sequence[Array]) -> dict[str, float]:
    """What each image of `small` that is quantized costs alone: 1 less the mean cosine of the embeddings.

    Args:
        full: the same network in fp32.
    """

    wanted = embedded(full, inputs)
    found = {}
    for image, scale, zero in _quantized(Graph(small)):
        graph = Graph(full)
        names = graph.weight("probe_scale", scale), graph.weight("probe_zero", zero)
        coded, decoded = graph.name("probe_coded"), graph.name("probe_decoded")
        _read_instead(graph, image, decoded)
        nodes = [helper.make_node(Q, [image, *names], [coded]), helper.make_node(DQ, [coded, *names], [decoded])]
        made = graph.makers().get(image)
        at = 0 if made is None else 1 + next(i for i, node in enumerate(graph.nodes) if node is made)
        graph.nodes[at:at] = nodes
        found[image] = float(1 - (embedded(graph.model(), inputs) * wanted).sum(axis=1).mean())
    return found


def relieved(small: Any, full: Any, images: set[str]) -> Any:
    """`small` with these images in float, and the weights of the layers that read them as `full` has them."""
    graph, source = Graph(small), Graph(full)
    theirs = {node.name: node for node in source.nodes}
    made_there = source.makers()
    for node in [one for one in graph.nodes if one.op_type == Q and one.input[0] in images]:
        image = node.input[0]
        for decoder in [one for one in graph.nodes if one.op_type == DQ and one.input[0] == node.output[0]]:
            _read_instead(graph, decoder.output[0], image)
        # The codes of an image begin at zero where a Relu made it, so quantizing left the Relu out.
        bent, maker = made_there.get(image), graph.makers().get(image)
        if (
            bent is not None
            and maker is not None
            and maker.op_type != bent.op_type
            and bent.op_type in ("Relu", "Clip")
        ):
            maker.output[0] = graph.name(f"{image}_unbent")
            again = helper.make_node(bent.op_type, [maker.output[0], *bent.input[1:]], [image], name=bent.name)
            for name in bent.input[1:]:
                graph.weights.setdefault(name, source.weights[name])
            graph.nodes.insert(1 + next(i for i, one in enumerate(graph.nodes) if one is maker), again)
    makers = graph.makers()
    for node in graph.nodes:
        fed = makers.get(node.input[0]) if node.op_type in LAYERS else None
        if node.op_type not in LAYERS or (fed is not None and fed.op_type == DQ):
            continue
        for place, name in enumerate(theirs[node.name].input[1:], 1):
            if node.input[place] in makers:  # codes made weights again; a bias keeps its name there
                node.input[place] = graph.weight(f"{name}_float", source.weights[name])
    graph.prune()
    return graph.model()


def _read_instead(graph: Graph, old: str, new: str) -> None:
    """Let every node that reads `old` read `new`; the graph's output stays its own."""
    for node in graph.nodes:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new


def _quantized(graph: Graph) -> list[tuple[str, Array, Array]]:
    """Images that are quantized, with scale and zero point; weights are no images."""
    return [
        (node.input[0], graph.weights[node.input[1]], graph.weights[node.input[2]])
        for node in graph.nodes
        if node.op_type == Q and node.input[0] not in graph.weights
    ]


def _float_weights(model: Any) -> set[str]:
    """The names of the weights that layers read as they are."""
    graph = Graph(model)
    return {node.input[1] for node in graph.nodes if node.op_type in LAYERS and node.input[1] in graph.weights}
