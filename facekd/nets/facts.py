"""What facekd needs to know of an ONNX file, without its graph."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Self

EXTERNAL = 1  # TensorProto.DataLocation: the numbers lie in a file beside the model
UNKNOWN = -1  # of a dimension that the file leaves free


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output of a graph."""

    name: str
    kind: str  # "float", "float16", "double", "uint8" …: ONNX's own word, in small letters
    dims: tuple[int, ...]  # UNKNOWN where the file leaves it free

    def __str__(self) -> str:
        return f"{self.name!r} ({self.kind}[{', '.join('N' if d == UNKNOWN else str(d) for d in self.dims)}])"


@dataclass(frozen=True, slots=True)
class Facts:
    """What facekd needs to know of an ONNX file."""

    inputs: tuple[Port, ...]  # those that nobody but the caller can fill
    outputs: tuple[Port, ...]
    metadata: dict[str, str]
    parameters: int
    quantized: bool
    beside: tuple[str, ...]  # files that hold its weights, by their place beside it

    @classmethod
    def of(cls, model: Any) -> Self:
        """Those of a ModelProto, whose weights may lie beside it."""
        from onnx import TensorProto

        def port(value: Any) -> Port:
            tensor = value.type.tensor_type
            # 0 is some exporters' word for a free one.
            dims = tuple(d.dim_value or UNKNOWN for d in tensor.shape.dim)
            return Port(value.name, TensorProto.DataType.Name(tensor.elem_type).lower(), dims)

        weights = {tensor.name for tensor in model.graph.initializer}
        return cls(
            tuple(port(value) for value in model.graph.input if value.name not in weights),
            tuple(port(value) for value in model.graph.output),
            {entry.key: entry.value for entry in model.metadata_props},
            _parameters(model),
            any(node.op_type == "QuantizeLinear" for node in model.graph.node),
            tuple(_beside(model)),
        )

    def to_values(self) -> dict[str, Any]:
        """As values of JSON."""
        return asdict(self)

    @classmethod
    def from_values(cls, values: Any) -> Self:
        """Those that `to_values` gave.

        Raises:
            KeyError, TypeError: other values.
        """
        ports = {
            key: tuple(Port(port["name"], port["kind"], tuple(port["dims"])) for port in values[key])
            for key in ("inputs", "outputs")
        }
        return cls(**{**values, **ports, "beside": tuple(values["beside"])})


def _beside(model: Any) -> list[str]:
    """The names of the files that hold weights of the model, each once."""
    found: dict[str, None] = {}
    for tensor in _tensors(model.graph):
        if tensor.data_location == EXTERNAL:
            found[next((entry.value for entry in tensor.external_data if entry.key == "location"), "")] = None
    return list(found)


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _tensors(inner)


def digest_of_weights(model: Any) -> str:
    """64 hex digits over names, types, shapes and numbers of a ModelProto's weights, all inside it, in any order."""
    from onnx import numpy_helper

    total = hashlib.sha256()
    for tensor in sorted(model.graph.initializer, key=lambda one: str(one.name)):
        total.update(f"{tensor.name} {tensor.data_type} {list(tensor.dims)}\n".encode())
        total.update(tensor.raw_data or numpy_helper.to_array(tensor).tobytes())
    return total.hexdigest()


def _parameters(model: Any) -> int:
    """Numbers in the graph's weights; scales and zero points of quantized ones are no weights."""
    coding = {"QuantizeLinear", "DequantizeLinear"}
    aside = {name for node in model.graph.node if node.op_type in coding for name in node.input[1:]}
    sizes = (_product(tensor.dims) for tensor in model.graph.initializer if tensor.dims and tensor.name not in aside)
    return sum(sizes)


def _product(dims: Any) -> int:
    count = 1
    for dim in dims:
        count *= dim
    return count


def processor() -> str:
    """Words for the processor that this process runs on: what is quick on one may be slow on another."""
    import platform

    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            first = file.read(4096)  # one of many cores says enough, and the file is made while it is read
    except OSError:
        first = platform.processor()
    kinds = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU ")
    words = [line for line in first.split("\n\n")[0].splitlines() if line.startswith(kinds)]
    return "\n".join([platform.machine(), *(words or [first])])
