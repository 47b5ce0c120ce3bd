"""An ONNX graph as numbers and nodes that can be rewritten."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from facekd.core.types import Array


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
        """How often each name is read: by nodes, by graphs inside of nodes, and as the graph's output."""
        read = Counter(name for node in self.nodes for inner in _with_inner(node) for name in inner.input)
        read.update(output.name for output in self.proto.graph.output)
        return read

    def rename(self, old: str, new: str) -> None:
        """Call `old`, whatever it is, `new`; what had that name before gets another."""
        if old == new:
            return
        if new in self._taken:
            spare = self.name(new)
            self._taken.discard(spare)
            self.rename(new, spare)
        for node in self.nodes:
            for inner in _with_inner(node):
                for names in (inner.input, inner.output):
                    for place, name in enumerate(names):
                        if name == old:
                            names[place] = new
        for value in (*self.proto.graph.input, *self.proto.graph.output):
            if value.name == old:
                value.name = new
        if old in self.weights:
            self.weights[new] = self.weights.pop(old)
        self._taken.discard(old)
        self._taken.add(new)

    def prune(self) -> None:
        """Drop the nodes whose outputs nobody reads, and those that only they read."""
        while True:
            read = self.uses()
            kept = [node for node in self.nodes if any(read[name] for name in node.output)]
            if len(kept) == len(self.nodes):
                return
            self.nodes = kept

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


def _with_inner(node: Any) -> Iterator[Any]:
    """The node, and the nodes of the graphs that it holds, as If and Loop do."""
    yield node
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _with_inner(inner)


def folded(model: Any, *, norms: bool = True) -> Any:
    """The model with constants computed and norms folded into the convolutions before them, in standard operators.

    ONNX Runtime does both when it loads a file; done here, what follows sees the convolutions as they will run.
    Reshape comes without ``allowzero``, which some readers refuse: it changes nothing where no dimension is zero.

    Args:
        norms: false leaves the norms, so that no weight of a convolution changes.

    Raises:
        OSError: no room for a copy of the model in the folder for temporary files.
    """
    import onnxruntime

    data = model.SerializeToString()
    with tempfile.TemporaryDirectory(prefix="facekd-fold-") as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        place = Path(folder) / "folded.onnx"
        place.write_bytes(data)  # ONNX Runtime writes as much over it; where there is no room, it does not say so
        options.optimized_model_filepath = str(place)
        onnxruntime.InferenceSession(
            data,
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=[] if norms else ["ConvBNFusion", "ConvMulFusion", "ConvAddFusion"],
        )
        made = onnx.load(str(place))
    zeros = {t.name for t in made.graph.initializer if t.dims and not numpy_helper.to_array(t).all()}
    for node in made.graph.node:
        if node.op_type == "Reshape":
            needed = node.input[1] in zeros
            kept_attributes = [a for a in node.attribute if a.name != "allowzero" or (needed and a.i != 0)]
            del node.attribute[:]
            node.attribute.extend(kept_attributes)
    used = {node.domain for node in made.graph.node} | {""}
    kept = [entry for entry in made.opset_import if entry.domain in used]
    del made.opset_import[:]
    made.opset_import.extend(kept)
    return made


def set_metadata(model: Any, values: Mapping[str, str]) -> None:
    """Write metadata entries, in place; entries of the same key are replaced."""
    kept = {entry.key: entry.value for entry in model.metadata_props} | dict(values)
    del model.metadata_props[:]
    for key, value in kept.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value
