"""Any network file as one call: a facekd run, or an ONNX embedder with its contract."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from facekd.core import formats
from facekd.core.contract import Contract
from facekd.core.extras import told_of_missing
from facekd.core.files import sha256_bytes, sha256_file
from facekd.core.kept import keep, kept
from facekd.core.pixels import to_standard_input
from facekd.core.process import set_torch_threads
from facekd.core.suggest import nearest
from facekd.core.system import cores
from facekd.core.types import Array
from facekd.errors import UserError
from facekd.nets.facts import UNKNOWN, Facts, digest_of_weights
from facekd.nets.fit import check_fit, check_kind, check_rows, check_shape, contract_of, embedding_output
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
INPUT = "facekd.input"  # another; says what the graph takes where that is not what the contract asks for
WEIGHTS = "facekd.weights"  # another; facts.digest_of_weights when it was written: its contract names its source's
UINT8 = "uint8[N, S, S, 3] RGB crops"  # the crops themselves
STANDARD = "float32[N, 3, S, S] RGB, (pixels - 127.5) / 127.5"  # what most software feeds a face embedder
MANY = 64  # crops at a time for a runtime that spreads a call over the cores itself
DEVICES = (".tflite", ".ncnn.zip", ".mlpackage", ".xml", ".pte")  # endings of deploy.targets
LARGEST = 512 << 20  # bytes of a file that is held in memory to be rewritten


@dataclass(frozen=True, slots=True)
class Network:
    """An embedder that was read from a file."""

    path: Path
    contract: Contract
    run: Callable[[Array], Array]  # to_input(crops, contract) -> float32[N, dim], of any norm; on all its cores
    step: Callable[[Array], Array]  # to_input(crops, fed) on one core, from any thread; the crops where `uint8`
    threads: int  # how many may call `step` at once; 1 where the runtime spreads a call over the cores itself
    few: int  # crops to give `step` at a time
    parameters: int
    macs: int | None  # None for an ONNX file: it is not counted there
    bytes: int
    rewritten: bool = False  # what runs is not the file as it comes, but a quicker form of it
    takes: str | None = None  # UINT8 or STANDARD, where the graph itself makes of it what the contract asks for

    @property
    def uint8(self) -> bool:
        """Whether `step` takes uint8[N, S, S, 3] RGB crops."""
        return self.takes == UINT8

    @property
    def fed(self) -> Contract:
        """How crops become what `step` takes."""
        return self.contract.standard() if self.takes == STANDARD else self.contract


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
    if path.name.endswith(DEVICES):
        raise UserError(
            f"{path}: is a file for a device, which facekd writes and does not run; give the run or .onnx file that it "
            "was exported from"
        )
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


def is_exported(path: Path) -> bool:
    """Whether `load_network` takes what lies there for an ONNX file, whatever it is called."""
    return path.is_file() and path.suffix != ".safetensors"


def json_beside(model: Path) -> Path:
    """Where the JSON of an exported model lies (deploy.model_json)."""
    return model.with_name(f"{model.name}.json")


def _check_described(path: Path, digest: str) -> None:
    """Refuse a file that is not the one that its JSON describes: it is damaged, or somebody else's.

    Args:
        digest: 64 hex digits over the file.
    """
    try:
        said = json.loads(json_beside(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # none there, or none of facekd's
        return
    if isinstance(said, dict) and "model_id" in said and said.get("sha256", digest) != digest:
        raise UserError(
            f"{path}: is not the file that {json_beside(path).name} beside it describes (its SHA-256 is another); copy "
            "both again, or delete the JSON if the file is meant to be another"
        )


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
    found: bool = False  # whether an earlier load kept this, and with it that the network is sound


def _open(path: Path, quick: bool) -> _Opened:
    """The file, without reading its graph where all that is asked of it is kept."""
    try:
        data = path.read_bytes() if path.stat().st_size <= LARGEST else None
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror}); check the path") from error
    own = sha256_file(path) if data is None else sha256_bytes(data)
    _check_described(path, own)
    key = quick_key(own) if quick and data is not None else ""
    found = kept(key) if key else None
    if found is not None:
        with contextlib.suppress(KeyError, TypeError):
            return _Opened(Facts.from_values(found[0]), own, data, key, found[1] or None, tried=True, found=True)
    model = read_onnx(path)
    facts = Facts.of(model)
    said = facts.metadata.get(WEIGHTS)
    if said is not None and not facts.beside and said != digest_of_weights(model):
        raise UserError(
            f"{path}: its weights are not those that facekd wrote into it, so it is another network than it says; copy "
            "it again, or export the changed network from its own source"
        )
    if facts.beside:
        parts = [own, *(sha256_file(path.parent / name) for name in facts.beside)]
        return _Opened(facts, sha256_bytes("\n".join(parts).encode()), None, "", None, tried=True)
    return _Opened(facts, own, data, key, None, tried=not key)


def _load_onnx(path: Path, contract_file: Path | None, threads: int, backend: str, quick: bool) -> Network:
    opened = _open(path, quick and backend == "onnxruntime")
    facts = opened.facts
    formats.check_format("exported network", facts.metadata.get(formats.METADATA), path)  # kept facts come unchecked
    takes = facts.metadata.get(INPUT)
    if takes not in (None, UINT8, STANDARD):
        raise UserError(f"{path}: its metadata {INPUT} is {takes!r}, which this facekd can't feed; export it again")
    uint8 = takes == UINT8
    check_kind(path, facts, uint8)
    session = None
    if backend == "onnxruntime":
        session = onnxruntime_session(opened.form or opened.data or path, path)
    contract = contract_of(path, facts.metadata.get(METADATA), contract_file, opened.digest)
    fed = contract.standard() if takes == STANDARD else contract
    check_shape(path, facts.inputs[0], fed, uint8)
    input_name, output_name = facts.inputs[0].name, embedding_output(path, facts, contract.dim)
    frozen = facts.inputs[0].dims[0]
    batch = None if frozen == UNKNOWN else frozen
    few = FEW_INT8 if facts.quantized else FEW
    if session is None:
        call = openvino_call(path, output_name, threads)
    else:
        call = onnxruntime_call(session, input_name, output_name)
    form, told = opened.form, False
    if opened.data is not None and not opened.tried:

        def started(data: bytes) -> Callable[[Array], Array]:
            return onnxruntime_call(onnxruntime_session(data, path), input_name, output_name)

        check_fit(path, fed, call, batch or 1, uint8)  # else the trial is of no network
        with contextlib.suppress(OSError, MemoryError):  # for want of room: the next load tries again
            form = quick_form(opened.data, call, started, trial_inputs(fed, uint8, batch or 1))
            told = True
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
            found.append(call(piece).reshape(batch, -1)[: batch - missing])
        return np.concatenate(found)

    def run(inputs: Array) -> Array:
        if uint8:
            raise UserError(
                f"{path}: takes uint8 crops, and network input can't be made crops again; give the network it was "
                "exported from, or export it without --uint8-input"
            )
        if takes == STANDARD:
            inputs = to_standard_input(inputs, contract)
        found = spread(lambda part: step(inputs[part]), pieces(len(inputs), threads, few), threads)
        return np.concatenate([np.zeros((0, contract.dim), np.float32), *found])

    check_fit(path, fed, step, 1, uint8)
    if not opened.found:
        check_rows(path, fed, step, trial_inputs(fed, uint8, 1)[-2:])
    if told:
        keep(opened.key, facts.to_values(), form or b"")  # of a network that all of this found sound
    size = path.stat().st_size + sum((path.parent / name).stat().st_size for name in facts.beside)
    parameters, rewritten = facts.parameters, form is not None
    return Network(path, contract, run, step, threads, few, parameters, None, size, rewritten, takes)
