"""A trained network as one safetensors file: weights, name and contract together; loading executes nothing."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from facekd.core.contract import Contract
from facekd.core.files import no_stream, write_bytes
from facekd.core.formats import FORMATS, KEY, check_format
from facekd.errors import UserError
from facekd.nets import build

MODEL = "model.safetensors"  # its name in a run folder
ABOUT = "facekd"  # the one key of its metadata: safetensors writes several in any order, and the same network is to
# have the same bytes


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A trained network with what it needs to be used; its head, if it has one, is a file of its own: nets.heads."""

    name: str  # in nets.NETS
    net: nn.Module  # in eval mode
    contract: Contract


def save_model(path: Path, name: str, net: nn.Module, contract: Contract) -> Contract:
    """Write a network to `path`; the contract that comes back carries the digest of its weights."""
    weights = {f"net.{key}": value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    contract = replace(contract, weights_sha256=digest(weights))
    about: dict[str, Any] = {KEY: FORMATS["trained network"], "name": name, "contract": contract.to_values()}
    if getattr(net, "activation", "prelu") != "prelu":
        about["activation"] = net.activation
    if getattr(net, "folded", False):
        about["folded"] = True
    write_bytes(path, safetensors.torch.save(weights, {ABOUT: json.dumps(about)}))
    return contract


def load_model(path: Path) -> SavedModel:
    """The network in a run folder or a ``.safetensors`` file.

    Raises:
        UserError: no such file, a file of another kind, or weights that do not fit the network they name.
    """
    if path.is_dir():
        path = path / MODEL
    if not path.exists():
        raise UserError(f"{path}: no trained network there; give a finished run folder or an .onnx file")
    no_stream(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})[ABOUT])
            check_format("trained network", dict(about).get(KEY), path)
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
        name = about["name"]
        activation, folded = about.get("activation", "prelu"), about.get("folded", False) is True
        contract = Contract.from_mapping(about["contract"], str(path))
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(
            f"{path}: not a facekd network ({error}); give a finished run folder or an .onnx file"
        ) from error
    net = build(name, dim=contract.dim, size=contract.size, activation=activation, folded=folded)
    own = {key.removeprefix("net."): value for key, value in weights.items() if key.startswith("net.")}
    try:
        net.load_state_dict(own)
    except RuntimeError as error:
        raise UserError(f"{path}: its weights do not fit {name} ({str(error).splitlines()[1].strip()})") from error
    if digest({f"net.{k}": v for k, v in own.items()}) != contract.weights_sha256:
        raise UserError(f"{path}: its weights are not those its contract was made for; train or copy it again")
    return SavedModel(name, net.eval(), contract)


def digest(weights: dict[str, Tensor]) -> str:
    """SHA-256 over names, shapes and bytes, whatever the order."""
    total = hashlib.sha256()
    for key in sorted(weights):
        value = weights[key].detach().cpu().contiguous()
        total.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        total.update(value.numpy().tobytes())
    return total.hexdigest()
