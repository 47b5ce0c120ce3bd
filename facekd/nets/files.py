"""Any network file as one call: a facekd run, or an ONNX embedder with its contract."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from facekd.core import formats
from facekd.core.contract import Contract, known_contract, read_contract
from facekd.core.extras import told_of_missing
from facekd.core.files import sha256_bytes, sha256_file
from facekd.core.kept import keep, kept
from facekd.core.process import set_torch_threads
from facekd.core.suggest import nearest
from facekd.core.system import cores
from facekd.core.types import Array
from facekd.errors import UserError
from facekd.nets.facts import UNKNOWN, Facts, Port
from facekd.nets.quick import quick_form, quick_key, trial_inputs
from facekd.nets.runtimes import (
    BACKENDS,
    FEW,
    FEW_INT8,
    onnxruntime_call,
    onnxruntime_session,
    openvino_call,
    pieces,
    spread,
)

METADATA = "facekd.contract"  # key in the metadata of an ONNX file that facekd wrote
INPUT = "facekd.input"  # another; its value UINT8 says that the graph takes the crops themselves
UINT8 = "uint8[N, S, S, 3] RGB crops"
MANY = 64  # crops at a time for a runtime that spreads a call over the cores itself
FLOATS = ("float16", "bfloat16", "double")  # images of these are not what facekd makes
LARGEST = 512 << 20  # bytes of a file that is held in memory to be rewritten


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
    rewritten: bool = False  # what runs is not the file as it comes, but a quicker form of it


def load_network(
    path: Path,
    contract_file: Path | None = None,
    threads: int | None = None,
    backend: str | None = None,
    *,
    quick: bool = True,
) -> Network:
    """The network in a facekd run folder, a ``.safetensors`` or an ``.onnx`` file.

    An ONNX file's contract is `contract_file`; else the one in its metadata; else the one that facekd carries
    for these very weights. Two of them that disagree are refused.

    Args:
        threads: cores it may use; None takes all.
        backend: one of BACKENDS; None takes torch for a facekd network and ONNX Runtime for an ONNX file.
        quick: let ONNX Runtime run the quickest form that gives the same embeddings (nets.quick), not the file as it
            comes.

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
        with told_of_missing(f"{path}: a network that is not exported"):
            return _load_saved(path, threads)
    if backend == "torch":
        raise UserError(f"{path}: torch runs a run folder or a .safetensors file; give that, or leave the backend out")
    return _load_onnx(path, contract_file, threads or cores(), backend or "onnxruntime", quick)


def _load_saved(path: Path, threads: int | None) -> Network:
    import torch

    from facekd.nets.cost import num_macs, num_parameters
    from facekd.nets.forward import forward
    from facekd.nets.saved import MODEL, load_model

    saved = load_model(path)
    net = saved.net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if threads is not None:
        set_torch_threads(threads)
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
    facts = Facts.of(model)
    formats.check_format("exported network", facts.metadata.get(formats.METADATA), path)
    for name in facts.beside:
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\\" in name or not name:
            raise UserError(
                f"{path}: wants to read its weights from {name!r}, outside its own folder; don't trust this file"
            )
        if not (path.parent / place).is_file():
            raise UserError(f"{path}: its weights lie in {name!r} beside it, and that is not there; copy it too")
    return model


@dataclass(frozen=True, slots=True)
class _Opened:
    """An ONNX file as it was read, once for all that follows."""

    facts: Facts
    digest: str  # 64 hex digits over the file, and over those that hold its weights where they lie beside it
    data: bytes | None  # the file; None where its weights lie beside it, or it is too large to hold
    key: str  # of its quick form
    form: bytes | None  # the quick form
    tried: bool  # whether there is none because there can't be


def _open(path: Path, quick: bool) -> _Opened:
    """The file, without reading its graph where all that is asked of it is kept."""
    try:
        data = path.read_bytes() if path.stat().st_size <= LARGEST else None
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); check the path") from error
    own = sha256_file(path) if data is None else sha256_bytes(data)
    key = quick_key(own) if quick and data is not None else ""
    found = kept(key) if key else None
    if found is not None:
        with contextlib.suppress(KeyError, TypeError):
            return _Opened(Facts.from_values(found[0]), own, data, key, found[1] or None, tried=True)
    facts = Facts.of(read_onnx(path))
    if facts.beside:
        parts = [own, *(sha256_file(path.parent / name) for name in facts.beside)]
        return _Opened(facts, sha256_bytes("\n".join(parts).encode()), None, "", None, tried=True)
    return _Opened(facts, own, data, key, None, tried=not key)


def _load_onnx(path: Path, contract_file: Path | None, threads: int, backend: str, quick: bool) -> Network:
    opened = _open(path, quick and backend == "onnxruntime")
    facts = opened.facts
    formats.check_format("exported network", facts.metadata.get(formats.METADATA), path)  # kept facts come unchecked
    uint8 = facts.metadata.get(INPUT) == UINT8
    session = None
    if backend == "onnxruntime":
        session = onnxruntime_session(opened.form or opened.data or path, path)
    _check_kind(path, facts, uint8)
    contract = _contract_of(path, facts.metadata, contract_file, opened.digest)
    _check_shape(path, facts.inputs[0], contract, uint8)
    input_name, output_name = facts.inputs[0].name, _output(path, facts, contract.dim)
    frozen = facts.inputs[0].dims[0]
    batch = None if frozen == UNKNOWN else frozen
    few = FEW_INT8 if facts.quantized else FEW
    if session is None:
        call = openvino_call(path, output_name, threads)
    else:
        call = onnxruntime_call(session, input_name, output_name)
    form = opened.form
    if opened.data is not None and not opened.tried:

        def started(data: bytes) -> Callable[[Array], Array]:
            return onnxruntime_call(onnxruntime_session(data, path), input_name, output_name)

        _check_fit(path, contract, call, batch or 1, uint8)  # else the trial is of no network
        form = quick_form(opened.data, call, started, trial_inputs(contract, uint8, batch or 1))
        keep(opened.key, facts.to_values(), form or b"")
        if form is not None:
            call = started(form)

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

    _check_fit(path, contract, step, 1, uint8)
    size = path.stat().st_size + sum((path.parent / name).stat().st_size for name in facts.beside)
    parameters, rewritten = facts.parameters, form is not None
    return Network(path, contract, run, step, threads, few, parameters, None, size, uint8, rewritten)


def _check_kind(path: Path, facts: Facts, uint8: bool) -> None:
    """Refuse what is no embedder of one batch of images."""

    def shown(port: Port) -> str:
        return f"{port.kind} of rank {len(port.dims)}"

    wanted = "uint8" if uint8 else "float"
    outputs = [port for port in facts.outputs if port.kind == "float"]
    if [(port.kind, len(port.dims)) for port in facts.inputs] == [(wanted, 4)] and outputs:
        return
    taken = ", ".join(map(shown, facts.inputs)) or "no input"
    given = shown((outputs or list(facts.outputs))[0]) if facts.outputs else "nothing"
    images = [port for port in facts.inputs if len(port.dims) == 4]
    remedy = "give another file"
    if len(facts.inputs) > 1 and images:
        others = ", ".join(str(port) for port in facts.inputs if port is not images[0])
        remedy = f"make constants of {others} where it is exported, or give another file"
    elif images and images[0].kind in FLOATS:
        remedy = "export it with float32 input and output, its weights may stay as they are, or give another file"
    elif images and images[0].kind in ("uint8", "int8"):
        remedy = "give the float network it was made from, or put a Cast from float32 before its input"
    raise UserError(
        f"{path}: takes {taken} and gives {given}; an embedder takes one batch of float images and gives floats, "
        f"so {remedy}"
    )


def _shape(contract: Contract, uint8: bool) -> tuple[int, int, int]:
    size = contract.size
    return (size, size, 3) if uint8 or contract.layout == "NHWC" else (3, size, size)


def _check_shape(path: Path, port: Port, contract: Contract, uint8: bool) -> None:
    """Refuse a contract whose images have another shape than the file says of its input."""
    wanted, dims = _shape(contract, uint8), port.dims[1:]
    if all(dim in (UNKNOWN, side) for dim, side in zip(dims, wanted, strict=True)):
        return
    layout = next((name for name, at in (("NCHW", 0), ("NHWC", 2)) if dims[at] == 3), None)
    sides = {"NCHW": dims[1:], "NHWC": dims[:2], None: ()}[layout]
    corrections = []
    if layout is None:
        remedy = "facekd's crops have three channels; give a network of color images"
    elif len(set(sides)) != 1:
        remedy = "facekd's crops are square; give a network that takes such"
    else:
        if layout != contract.layout and not uint8:
            corrections.append(f"layout: {layout}")
        if sides[0] not in (UNKNOWN, contract.size):
            corrections.append(f"size: {sides[0]}")
        remedy = f"correct it to say {' and '.join(corrections)}" if corrections else "correct it"
    raise UserError(f"{path}: does not take input {(1, *wanted)} as its contract says, but {port}; {remedy}")


def _output(path: Path, facts: Facts, dim: int) -> str:
    """The name of the output that is the embedding: the only one, or the only one of `dim` numbers."""
    floats = [port for port in facts.outputs if port.kind == "float"]
    if len(facts.outputs) == 1:
        return floats[0].name

    def numbers(port: Port) -> int:
        sides = port.dims[1:]
        return UNKNOWN if UNKNOWN in sides or not port.dims else math.prod(sides)

    for wanted in (dim, UNKNOWN):
        found = [port for port in floats if numbers(port) == wanted]
        if len(found) == 1:
            return found[0].name
        if found:
            break
    shown = ", ".join(map(str, facts.outputs))
    raise UserError(
        f"{path}: gives {shown}, and which of them is the embedding of {dim} numbers that its contract names is "
        "unclear; keep that one with onnx.utils.extract_model"
    )


def _contract_of(path: Path, metadata: dict[str, str], contract_file: Path | None, digest: str) -> Contract:
    own = None
    if METADATA in metadata:
        try:
            values = json.loads(metadata[METADATA])
        except ValueError as error:
            raise UserError(f"{path}: its contract is no JSON ({error}); export it again or give --contract") from error
        own = Contract.from_mapping(values, f"{path} (its metadata)")
    # An export keeps its source's digest, by which the source may be known.
    known = known_contract(digest if own is None else own.weights_sha256)
    if own is not None and known is not None:
        _check_agrees(own, known, f"{path} (its metadata)", "export it again from the file that it was made from")
    own = own or known
    if contract_file is not None:
        given = read_contract(contract_file)
        if given.weights_sha256 and given.weights_sha256 not in (digest, own.weights_sha256 if own else digest):
            raise UserError(
                f"{contract_file}: was written for other weights than {path}; give the contract of this file"
            )
        if own is not None:
            _check_agrees(given, own, str(contract_file), "correct it, or leave --contract out")
        return replace(given, weights_sha256=own.weights_sha256 if own else digest)
    if own is None:
        raise UserError(
            f"{path}: carries no contract, so how to feed it is unknown; give --contract FILE with lines such as "
            "'dim: 512', 'channels: RGB', 'mean: [127.5, 127.5, 127.5]', 'std: [127.5, 127.5, 127.5]'"
        )
    return own


def _check_agrees(given: Contract, right: Contract, where: str, remedy: str) -> None:
    """Refuse a contract that feeds a network otherwise than the one that belongs to its weights does."""

    def shown(contract: Contract, name: str) -> str:
        value = getattr(contract, name)
        return f"{name}: {[float(f'{v:g}') for v in value] if isinstance(value, tuple) else value}"

    names = [one.name for one in fields(Contract) if one.name not in ("flip", "weights_sha256")]  # flip is a choice
    wrong = [name for name in names if getattr(given, name) != getattr(right, name)]
    if wrong:
        said, meant = (", ".join(shown(contract, name) for name in wrong) for contract in (given, right))
        raise UserError(f"{where}: says {said}, but this network is known to want {meant}; {remedy}")


def _check_fit(path: Path, contract: Contract, step: Callable[[Array], Array], batch: int, uint8: bool) -> None:
    shape = (batch, *_shape(contract, uint8))
    try:
        dim = step(np.zeros(shape, np.uint8 if uint8 else np.float32)).reshape(batch, -1).shape[1]
    except Exception as error:  # the runtime's own classes again
        first = str(error).splitlines()[0]
        raise UserError(f"{path}: does not take input {shape} as its contract says ({first})") from error
    if dim != contract.dim:
        raise UserError(
            f"{path}: gives {dim} numbers where its contract says dim: {contract.dim}; correct the contract"
        )
