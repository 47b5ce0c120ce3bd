"""Any network file as one call: a facekd run, or an ONNX embedder with its contract."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from facekd.core.contract import Contract, known_contract, read_contract
from facekd.core.files import sha256_file
from facekd.core.suggest import nearest
from facekd.core.types import Array
from facekd.errors import UserError
from facekd.nets.runtimes import BACKENDS, FEW, FEW_INT8, cores, onnxruntime_call, openvino_call, pieces, spread

METADATA = "facekd.contract"  # key in the metadata of an ONNX file that facekd wrote
INPUT = "facekd.input"  # another; its value UINT8 says that the graph takes the crops themselves
UINT8 = "uint8[N, S, S, 3] RGB crops"
MANY = 64  # crops at a time for a runtime that spreads a call over the cores itself
EXTERNAL = 1  # TensorProto.DataLocation: the numbers lie in a file beside the model


@dataclass(frozen=True, slots=True)
class Network:
    """An embedder that was read from a file."""

    path: Path
    contract: Contract
    run: Callable[[Array], Array]  # input of core.pixels.to_input -> float32[N, dim], of any norm; on all its cores
    step: Callable[[Array], Array]  # the same on one core, from any thread; takes the crops where `uint8`
    threads: int  # how many may call `step` at once; 1 where the runtime spreads a call over the cores itself
    few: int  # crops to give `step` at a time
    parameters: int
    macs: int | None  # None for an ONNX file: it is not counted there
    bytes: int
    uint8: bool = False  # the graph takes uint8[N, S, S, 3] RGB crops, all the contract asks for is inside


def load_network(
    path: Path, contract_file: Path | None = None, threads: int | None = None, backend: str | None = None
) -> Network:
    """The network in a facekd run folder, a ``.safetensors`` or an ``.onnx`` file.

    An ONNX file's contract is `contract_file`; else the one in its metadata; else the one that facekd carries
    for these very weights.

    Args:
        threads: cores it may use; None takes all.
        backend: one of BACKENDS; None takes torch for a facekd network and ONNX Runtime for an ONNX file.

    Raises:
        UserError: no such file, no network, no contract, a contract that does not fit the network, or a backend that
            does not run such a file.
    """
    if backend is not None and backend not in BACKENDS:
        raise UserError(f"no backend {backend!r}{nearest(backend, BACKENDS)}")
    if not path.exists():
        raise UserError(f"{path}: no such model; give a run folder or an .onnx file")
    if path.is_dir() or path.suffix == ".safetensors":
        if contract_file is not None:
            raise UserError(f"{path}: a facekd network brings its own contract; leave --contract out")
        if backend not in (None, "torch"):
            raise UserError(f"{path}: {backend} runs an exported network; 'facekd export {path} model.onnx' makes one")
        return _load_saved(path, threads)
    if backend == "torch":
        raise UserError(f"{path}: torch runs a run folder or a .safetensors file; give that, or leave the backend out")
    return _load_onnx(path, contract_file, threads or cores(), backend or "onnxruntime")


def _load_saved(path: Path, threads: int | None) -> Network:
    import torch

    from facekd.nets.cost import num_macs, num_parameters
    from facekd.nets.forward import forward
    from facekd.nets.saved import MODEL, load_model

    saved = load_model(path)
    net = saved.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if threads is not None:
        torch.set_num_threads(threads)
    home = os.getpid()

    def run(inputs: Array) -> Array:
        if os.getpid() != home:
            torch.set_num_threads(1)  # OpenMP's threads are not in a forked process, and it would wait for them
        vectors: Array = forward(net, torch.from_numpy(inputs)).numpy()
        return vectors

    file = path / MODEL if path.is_dir() else path
    macs = num_macs(saved.net, saved.contract.size)
    return Network(path, saved.contract, run, run, 1, MANY, num_parameters(saved.net), macs, file.stat().st_size)


def read_onnx(path: Path) -> Any:
    """The ModelProto in a file, without weights that lie beside it.

    Raises:
        UserError: a file of another kind, or one whose weights lie outside its folder.
    """
    import onnx

    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception as error:  # protobuf's own classes, which have no common public home
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not an ONNX network ({first}); give another file, or copy it again") from error
    for name in _beside(model):
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\\" in name or not name:
            raise UserError(
                f"{path}: wants to read its weights from {name!r}, outside its own folder; don't trust this file"
            )
        if not (path.parent / place).is_file():
            raise UserError(f"{path}: its weights lie in {name!r} beside it, and that is not there; copy it too")
    return model


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


def _load_onnx(path: Path, contract_file: Path | None, threads: int, backend: str) -> Network:
    model = read_onnx(path)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    uint8 = metadata.get(INPUT) == UINT8
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    outputs = list(model.graph.output)
    input_name, output_name = (values[0].name if values else "" for values in (inputs, outputs))
    if backend == "onnxruntime":
        call = onnxruntime_call(path, input_name, output_name)
    _check_kind(path, inputs, outputs, uint8)
    if backend == "openvino":
        call = openvino_call(path, output_name, threads)
    digest = _digest(path, model)
    contract = _contract_of(path, metadata, contract_file, digest)
    batch = inputs[0].type.tensor_type.shape.dim[0].dim_value or None
    few = FEW_INT8 if any(node.op_type == "QuantizeLinear" for node in model.graph.node) else FEW

    def step(inputs: Array) -> Array:
        if len(inputs) == 0:
            return np.zeros((0, contract.dim), np.float32)
        if batch is None:
            vectors = call(inputs)
            return vectors.reshape(len(inputs), -1)
        # A batch size frozen into the graph is met by running it piece by piece.
        found = []
        for start in range(0, len(inputs), batch):
            piece = inputs[start : start + batch]
            missing = batch - len(piece)
            if missing:
                piece = np.concatenate([piece, np.repeat(piece[-1:], missing, axis=0)])
            found.append(call(piece)[: batch - missing].reshape(batch - missing, -1))
        return np.concatenate(found)

    def run(inputs: Array) -> Array:
        if uint8:
            raise UserError(
                f"{path}: takes uint8 crops, and network input can't be made crops again; give the network it was "
                "exported from, or export it without --uint8-input"
            )
        found = spread(lambda part: step(inputs[part]), pieces(len(inputs), threads, few), threads)
        return np.concatenate([np.zeros((0, contract.dim), np.float32), *found])

    _check_fit(path, contract, step, uint8)
    size = path.stat().st_size + sum((path.parent / name).stat().st_size for name in _beside(model))
    return Network(path, contract, run, step, threads, few, _parameters(model), None, size, uint8)


def _check_kind(path: Path, inputs: list[Any], outputs: list[Any], uint8: bool) -> None:
    from onnx import TensorProto

    def shown(value: Any) -> str:
        tensor = value.type.tensor_type
        return f"{TensorProto.DataType.Name(tensor.elem_type).lower()} of rank {len(tensor.shape.dim)}"

    wanted = TensorProto.UINT8 if uint8 else TensorProto.FLOAT
    kinds = [(value.type.tensor_type.elem_type, len(value.type.tensor_type.shape.dim)) for value in inputs]
    if kinds != [(wanted, 4)] or not outputs or outputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        taken = ", ".join(map(shown, inputs)) or "no input"
        given = shown(outputs[0]) if outputs else "nothing"
        raise UserError(
            f"{path}: takes {taken} and gives {given}; an embedder takes one batch of float images and gives "
            "floats, so give another file"
        )


def _contract_of(path: Path, metadata: dict[str, str], contract_file: Path | None, digest: str) -> Contract:
    if contract_file is not None:
        given = read_contract(contract_file)
        if given.weights_sha256 and given.weights_sha256 != digest:
            raise UserError(
                f"{contract_file}: was written for other weights than {path}; give the contract of this file"
            )
        return replace(given, weights_sha256=digest)
    if METADATA in metadata:
        try:
            values = json.loads(metadata[METADATA])
        except ValueError as error:
            raise UserError(f"{path}: its contract is no JSON ({error}); export it again or give --contract") from error
        return Contract.from_mapping(values, f"{path} (its metadata)")
    known = known_contract(digest)
    if known is None:
        raise UserError(
            f"{path}: carries no contract, so how to feed it is unknown; give --contract FILE with lines such as "
            "'dim: 512', 'channels: RGB', 'mean: [127.5, 127.5, 127.5]', 'std: [127.5, 127.5, 127.5]'"
        )
    return known


def _check_fit(path: Path, contract: Contract, step: Callable[[Array], Array], uint8: bool) -> None:
    size = contract.size
    shape = (1, size, size, 3) if uint8 or contract.layout == "NHWC" else (1, 3, size, size)
    try:
        dim = step(np.zeros(shape, np.uint8 if uint8 else np.float32)).shape[1]
    except Exception as error:  # the runtime's own classes again
        first = str(error).splitlines()[0]
        raise UserError(f"{path}: does not take input {shape} as its contract says ({first})") from error
    if dim != contract.dim:
        raise UserError(
            f"{path}: gives {dim} numbers where its contract says dim: {contract.dim}; correct the contract"
        )


def _digest(path: Path, model: Any) -> str:
    """64 hex digits over the file, and over those that hold its weights where they lie beside it."""
    own, beside = sha256_file(path), _beside(model)
    if not beside:
        return own
    return hashlib.sha256("\n".join([own, *(sha256_file(path.parent / name) for name in beside)]).encode()).hexdigest()


def _parameters(model: Any) -> int:
    """Numbers in the graph's weights; scales and zero points of quantised ones are no weights."""
    coding = {"QuantizeLinear", "DequantizeLinear"}
    aside = {name for node in model.graph.node if node.op_type in coding for name in node.input[1:]}
    sizes = (
        int(np.prod(tensor.dims)) for tensor in model.graph.initializer if tensor.dims and tensor.name not in aside
    )
    return sum(sizes)
