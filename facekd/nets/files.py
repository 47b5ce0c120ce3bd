"""Any network file as one call: a facekd run, or an ONNX embedder with its contract."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from facekd.core.contract import Contract, known_contract, read_contract
from facekd.core.files import sha256_file
from facekd.core.types import Array
from facekd.errors import UserError

METADATA = "facekd.contract"  # key in the metadata of an ONNX file that facekd wrote


@dataclass(frozen=True, slots=True)
class Network:
    """An embedder that was read from a file."""

    path: Path
    contract: Contract
    run: Callable[[Array], Array]  # input of core.pixels.to_input -> float32[N, dim], not of unit norm
    parameters: int
    macs: int | None  # None for an ONNX file: it is not counted there
    bytes: int


def load_network(path: Path, contract_file: Path | None = None, threads: int | None = None) -> Network:
    """The network in a facekd run folder, a ``.safetensors`` or an ``.onnx`` file.

    An ONNX file's contract is `contract_file`; else the one in its metadata; else the one that facekd carries
    for these very weights.

    Args:
        threads: cores it may use; None leaves the runtime's own choice.

    Raises:
        UserError: no such file, no network, no contract, or a contract that does not fit the network.
    """
    if not path.exists():
        raise UserError(f"{path}: no such model; give a run folder or an .onnx file")
    if path.is_dir() or path.suffix == ".safetensors":
        if contract_file is not None:
            raise UserError(f"{path}: a facekd network brings its own contract; leave --contract out")
        return _load_saved(path, threads)
    return _load_onnx(path, contract_file, threads)


def _load_saved(path: Path, threads: int | None) -> Network:
    import torch

    from facekd.nets.cost import num_macs, num_parameters
    from facekd.nets.saved import MODEL, load_model

    saved = load_model(path)
    net = saved.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if threads is not None:
        torch.set_num_threads(threads)

    def run(inputs: Array) -> Array:
        with torch.inference_mode():
            vectors: Array = net(torch.from_numpy(inputs)).numpy()
        return vectors

    file = path / MODEL if path.is_dir() else path
    macs = num_macs(saved.net, saved.contract.size)
    return Network(path, saved.contract, run, num_parameters(saved.net), macs, file.stat().st_size)


def _load_onnx(path: Path, contract_file: Path | None, threads: int | None) -> Network:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # shape warnings of old exporters are not the user's business
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own classes, one for each way a file can be bad
        first = str(error).splitlines()[0]
        raise UserError(f"{path}: not an ONNX network that can be run ({first}); give another file") from error
    digest = sha256_file(path)
    contract = _contract_of(path, session.get_modelmeta().custom_metadata_map, contract_file, digest)
    inputs, output = session.get_inputs(), session.get_outputs()[0]
    if len(inputs) != 1 or {inputs[0].type, output.type} != {"tensor(float)"} or len(inputs[0].shape) != 4:
        taken = ", ".join(f"{one.type} of {one.shape}" for one in inputs) or "no input"
        raise UserError(
            f"{path}: takes {taken} and gives {output.type}; an embedder takes one batch of float images and gives "
            "floats, so give another file"
        )
    first_input = inputs[0]
    batch = first_input.shape[0] if isinstance(first_input.shape[0], int) else None

    def run(inputs: Array) -> Array:
        # A batch size frozen into the graph is met by running it piece by piece.
        step = batch or len(inputs)
        pieces = []
        for start in range(0, len(inputs), max(step, 1)):
            piece = inputs[start : start + step]
            missing = step - len(piece)
            if missing:
                piece = np.concatenate([piece, np.repeat(piece[-1:], missing, axis=0)])
            vectors = session.run([output.name], {first_input.name: piece})[0]
            pieces.append(vectors[: step - missing].reshape(step - missing, -1))
        return np.concatenate(pieces) if pieces else np.zeros((0, contract.dim), np.float32)

    _check_fit(path, contract, run)
    return Network(path, contract, run, _onnx_parameters(path), None, path.stat().st_size)


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


def _check_fit(path: Path, contract: Contract, run: Callable[[Array], Array]) -> None:
    shape = (1, 3, contract.size, contract.size) if contract.layout == "NCHW" else (1, contract.size, contract.size, 3)
    try:
        dim = run(np.zeros(shape, np.float32)).shape[1]
    except Exception as error:  # onnxruntime's own classes again
        first = str(error).splitlines()[0]
        raise UserError(f"{path}: does not take input {shape} as its contract says ({first})") from error
    if dim != contract.dim:
        raise UserError(
            f"{path}: gives {dim} numbers where its contract says dim: {contract.dim}; correct the contract"
        )


def _onnx_parameters(path: Path) -> int:
    import onnx

    model: Any = onnx.load(str(path), load_external_data=False)
    return sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer if len(tensor.dims) > 0)
