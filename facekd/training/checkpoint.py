"""Where a killed run goes on: every tensor that training changes, in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from facekd.core.files import no_stream, write_bytes
from facekd.core.formats import FORMATS, KEY, check_format
from facekd.errors import UserError
from facekd.nets.saved import digest

RUN = "facekd.run"  # key in a checkpoint's metadata
TENSORS = "tensors_sha256"  # in what lies there: a power cut or a bad disk may leave zeros behind a whole beginning
LAST = Path("checkpoints") / "last.safetensors"  # below the run folder


def save_checkpoint(
    path: Path, step: int, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, about: Mapping[str, str]
) -> None:
    """Write modules, optimizer state and torch's random state after `step` steps.

    Args:
        about: what the run is (net, data digest, plan …); `restore` refuses another.
    """
    tensors = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    for place, parameter in enumerate(_parameters(optimizer)):
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{place}.{key}"] = value
    tensors["rng"] = torch.get_rng_state()
    plain = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    # One key: safetensors writes several in any order, and the same state is to have the same bytes.
    run = {KEY: FORMATS["checkpoint"], "step": step, "about": dict(about), TENSORS: digest(plain)}
    write_bytes(path, safetensors.torch.save(plain, {RUN: json.dumps(run)}))


def restore(
    path: Path, modules: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, about: Mapping[str, str]
) -> int:
    """Put a checkpoint's state into `modules` and `optimizer`; the number of steps done comes back.

    Returns 0, and changes nothing, where there is no checkpoint yet.

    Any number of processes may go on with it: each of them reads it, and what it holds is the same in all of them.
    Reading executes nothing, whatever the file holds.

    Raises:
        UserError: a damaged file, one of another kind, or a checkpoint of another run (other data, net, plan or seed).
    """
    if not path.exists():
        return 0
    no_stream(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            run = json.loads((file.metadata() or {})[RUN])
            check_format("checkpoint", dict(run).get(KEY), path)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
        step, found, rng = int(run["step"]), dict(run["about"]), tensors["rng"]
        if TENSORS in run and run[TENSORS] != digest(tensors):  # a checkpoint of before has no digest
            raise ValueError("its tensors are not those that were written")
    except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: no readable checkpoint ({error}); delete it to start again") from error
    for key in {**found, **about}:
        if found.get(key) != about.get(key):
            raise UserError(
                f"{path}: is of another run ({key} was {found.get(key)!r} and is {about.get(key)!r}); "
                "choose another --out"
            )
    # The same names and numbers may stand for crops of another size.
    for key, value in ((f"{n}.{k}", v) for n, module in modules.items() for k, v in module.state_dict().items()):
        kept = tuple(tensors[key].shape) if key in tensors else "not there"
        if kept != tuple(value.shape):
            raise UserError(
                f"{path}: is of another network ({key} was {kept} and is {tuple(value.shape)}); choose another --out"
            )
    for name, module in modules.items():
        prefix = f"{name}."
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
    for place, parameter in enumerate(_parameters(optimizer)):
        prefix = f"optimizer.{place}."
        # AdamW counts its steps in a tensor that stays on the CPU.
        state = {
            key.removeprefix(prefix): value if key.endswith(".step") else value.to(parameter.device)
            for key, value in tensors.items()
            if key.startswith(prefix)
        }
        if state:
            optimizer.state[parameter] = state
    torch.set_rng_state(rng)
    return step


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
