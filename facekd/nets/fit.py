"""Whether an ONNX file is an embedder that can be fed as its contract says; each refusal says what to do about it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from facekd.core.contract import Contract, known_contract, read_contract
from facekd.core.types import Array
from facekd.errors import UserError
from facekd.nets.facts import UNKNOWN, Facts, Port

FLOATS = ("float16", "bfloat16", "double")  # images of these are not what facekd makes
# Least cosine of a crop's embedding alone and beside another crop. Dynamic int8 measures its ranges over the batch: of
# foamliu's network in it 0.965 was seen.
ROW_AGREES = 0.9
AGAIN_AGREES = 0.9999  # least cosine of a crop's embedding and the same crop's again
BATCH_REMEDY = "export it with a free first dimension, a row of its output for each crop, or with a batch of one"


def check_kind(path: Path, facts: Facts, uint8: bool) -> None:
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


def check_shape(path: Path, port: Port, contract: Contract, uint8: bool) -> None:
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


def embedding_output(path: Path, facts: Facts, dim: int) -> str:
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


def contract_of(path: Path, written: str | None, contract_file: Path | None, digest: str) -> Contract:
    """The contract of a file's network: `contract_file`, else its own, else the one known for these very weights.

    Args:
        written: the contract in the file's metadata, as JSON.
        digest: SHA-256 of its weights.

    Raises:
        UserError: none is known, or two that disagree.
    """
    own = None
    if written is not None:
        try:
            values = json.loads(written)
        except (ValueError, RecursionError) as error:
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


def check_fit(path: Path, contract: Contract, step: Callable[[Array], Array], batch: int, uint8: bool) -> None:
    """Refuse a network that does not run on what its contract says, or gives another number of numbers."""
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


def check_rows(path: Path, contract: Contract, step: Callable[[Array], Array], inputs: Sequence[Array]) -> None:
    """Refuse a network whose embedding of a crop depends on the crops beside it, or on chance.

    Args:
        inputs: what it takes, of two crops that differ, each a batch of one.
    """
    try:
        alone = [step(one).reshape(1, -1) for one in inputs]
        together = step(np.concatenate(inputs))
    except Exception as error:  # a graph that runs on one crop, and not on two
        first = str(error).splitlines()[0]
        raise UserError(f"{path}: takes one crop and not {len(inputs)} ({first}); {BATCH_REMEDY}") from error
    if together.shape != (len(inputs), contract.dim):
        raise UserError(f"{path}: gives numbers of shape {together.shape} for {len(inputs)} crops; {BATCH_REMEDY}")
    again = step(inputs[0]).reshape(1, -1)
    remedy = "as one exported while it was trained does; export it in evaluation mode (model.eval() in PyTorch)"
    if _least_cosine(alone[0], again) < AGAIN_AGREES:
        raise UserError(f"{path}: gives the same crop another embedding each time, {remedy}")
    if _least_cosine(np.concatenate(alone), together) < ROW_AGREES:
        raise UserError(f"{path}: gives a crop another embedding beside another crop than alone, {remedy}")


def _least_cosine(a: Array, b: Array) -> float:
    """Of the rows of two float32[N, D]; those that have no direction are refused photo by photo, and are left out."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    told = np.isfinite(norms) & (norms > 0)
    return float(((a * b).sum(axis=1)[told] / norms[told]).min(initial=1.0))
