"""Where a training begins that does not begin afresh: at the weights of another trained network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from facekd.core.contract import Contract
    from facekd.crops.training import TrainingCrops
    from facekd.nets.files import Network
    from facekd.nets.heads import Head
    from facekd.nets.saved import SavedModel

# What torch.save and its kin write: reading one can run any program that its maker put into it.
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".tar", ".pyt"}


@dataclass(frozen=True, slots=True)
class Start:
    """What was taken from another run."""

    said: str
    files: tuple[Path, ...]  # what was read
    digest: str  # over it: a resumed run is to have begun at the same weights


@dataclass(frozen=True, slots=True)
class Source:
    """A trained network that a run can begin at."""

    path: Path  # as it was given
    file: Path  # that holds the weights
    contract: Contract
    folded: bool  # it has no batch norms: those that it had are in its convolutions
    saved: SavedModel | None  # of facekd
    network: Network | None  # or an ONNX file as a runtime runs it

    @property
    def flag(self) -> str:
        return f"--init-from {self.path}"

    def spec(self, contract: Contract) -> Contract:
        """`contract` with the pixels' scale that this network is used to."""
        own = self.contract
        return replace(contract, mean=own.mean, std=own.std, channels=own.channels)


def read_source(source: Path, out: Path | None) -> Source:
    """The network that ``--init-from`` names.

    Args:
        source: a finished run folder, its ``model.safetensors``, another file of `nets.saved.save_model`, or an ONNX
            file.
        out: the folder of the run that begins, where it is known.

    Raises:
        UserError: no network there, or another kind of file.
    """
    from facekd.nets.files import load_network
    from facekd.nets.saved import MODEL, load_model
    from facekd.training.checkpoint import LAST

    flag = f"--init-from {source}"
    if source.suffix.lower() in PICKLES:  # not opened: its name is enough
        raise UserError(
            f"{flag}: is a pickle by its name, and reading one can run any program that is in it, so facekd never "
            "does; give a run folder, a .safetensors file (save_model of facekd.nets.saved writes one) or an ONNX file"
        )
    if not source.exists():
        raise UserError(f"{flag}: is not there; give a finished run folder, its {MODEL} or an ONNX file")
    if out is not None and source.resolve().is_relative_to(out.resolve()):
        raise UserError(f"{flag}: lies in --out itself; --resume {out} goes on with it, a new run needs another --out")
    if source.suffix == ".onnx":
        network = load_network(source)
        return Source(source, source, network.contract, True, None, network)
    if source.is_file() and source.suffix != ".safetensors":
        raise UserError(f"{flag}: can't be trained on; give a run folder, its {MODEL} or an ONNX file")
    if source.parts[-2:] == LAST.parts:
        raise UserError(f"{flag}: is a checkpoint; --resume {source.parents[1]} goes on with it, or give {MODEL}")
    model = source / MODEL if source.is_dir() else source
    if not model.exists():
        raise UserError(f"{flag}: holds no {MODEL}; finish that run by --resume {source}, or give another")
    saved = load_model(model)
    return Source(source, model, saved.contract, bool(getattr(saved.net, "folded", False)), saved, None)


def begin_from(
    source: Source, name: str, net: nn.Module, contract: Contract, head: Head | None, crops: TrainingCrops
) -> Start:
    """Put a trained network's weights into `net`, and its head's into `head` where it is for the same people.

    Only weights are taken: step, optimizer and learning rate begin anew. Going on with a run is --resume.

    Args:
        name: of `net`, in nets.NETS; `net` has folded norms where the source has.
        contract: of `net`.
        head: over the people of `crops`; None where the run has none.

    Raises:
        UserError: another network; both sides are named.
    """
    from facekd.core.files import sha256_file
    from facekd.nets.heads import HEAD, load_head

    if source.saved is None:
        assert source.network is not None
        return _begin_from_onnx(source, source.network, name, net, contract)
    saved, model = source.saved, source.file
    ours = _kind(name, net, contract)
    theirs = _kind(saved.name, saved.net, saved.contract)
    if ours != theirs:
        others = [key for key in ours if ours[key] != theirs[key]]
        there, here = (", ".join(f"{key} {side[key]}" for key in others) for side in (theirs, ours))
        raise UserError(
            f"{source.flag}: is of {there}, this run of {here}; ask for the same, or begin from another network"
        )
    net.load_state_dict(saved.net.state_dict())
    said, digest, beside = f"begins at the weights of {source.path}", sha256_file(model), model.with_name(HEAD)
    if not beside.exists():
        new = "" if head is None else "; the head is new, for none lies beside them"
        return Start(said + new, (model,), digest)
    found = load_head(beside)
    if found.model_id != saved.contract.model_id:
        raise UserError(f"{beside}: is the head of another network than {model}; copy the two together from one run")
    known = len(set(found.identities).intersection(crops.held.identities))
    seen = f"; {known} people held out here were trained on there, so rates on them flatter" if known else ""
    if head is None:
        return Start(said + seen, (model,), digest)
    if found.head.name != head.name or found.identities != crops.names:
        why = "knows other people" if found.head.name == head.name else f"is {found.head.name}"
        return Start(f"{said}; the head is new, for the one there {why}{seen}", (model,), digest)
    head.load_state_dict(found.head.state_dict())
    return Start(f"{said} and of its head{seen}", (model, beside), f"{digest} {sha256_file(beside)}")


def _begin_from_onnx(source: Source, network: Network, name: str, net: nn.Module, contract: Contract) -> Start:
    import torch

    from facekd.core.files import sha256_file
    from facekd.teachers.onnx_layers import take_layers

    theirs = source.contract
    for what in ("dim", "size", "template", "layout"):
        here, there = getattr(contract, what), getattr(theirs, what)
        if here != there:
            raise UserError(f"{source.flag}: has {what} {there}, this run {here}; ask for the same")
    try:
        take_layers(net.eval(), network)
    except UserError as error:
        raise UserError(f"--init-from {error}; choose another --net for {name}, or begin afresh") from error
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Start(f"begins at the layers of {source.path}", (source.path,), sha256_file(source.path))


def _kind(name: str, net: nn.Module, contract: Contract) -> dict[str, str]:
    activation = str(getattr(net, "activation", "prelu"))
    folded = " without norms" if getattr(net, "folded", False) else ""
    return {
        "net": (name if activation == "prelu" else f"{name} with {activation}") + folded,
        "dim": str(contract.dim),
        "size": f"{contract.size} pixels",
        "template": contract.template,
    }
