"""Where a training begins: at fresh weights, or at those of another trained network."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from facekd.core.contract import Contract
from facekd.core.files import sha256_file
from facekd.crops.cropset import CropSet
from facekd.crops.training import TrainingCrops
from facekd.errors import UserError
from facekd.nets import DIMS, build
from facekd.nets.cost import num_macs, num_parameters
from facekd.nets.files import Network, load_network
from facekd.nets.fold import fold_norms
from facekd.nets.heads import HEAD, Head, load_head
from facekd.nets.saved import MODEL, SavedModel, load_model
from facekd.settings.training import Student, TeacherNetwork
from facekd.teachers.onnx_layers import take_layers
from facekd.training.checkpoint import LAST

# What torch.save and its kin write: reading one can run any program that its maker put into it.
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".tar", ".pyt"}


@dataclass(frozen=True, slots=True)
class Start:
    """What was taken from another run; by default nothing."""

    said: str = ""
    files: tuple[Path, ...] = ()  # what was read
    digest: str = "none"  # over it: a resumed run is to have begun at the same weights

    @property
    def clause(self) -> str:
        """`said`, to be put behind another sentence."""
        return f"; {self.said}" if self.said else ""


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
    if source.suffix.lower() == ".onnx":
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


@dataclass(frozen=True, slots=True)
class Learner:
    """A network that is to be trained."""

    name: str  # in nets.NETS
    contract: Contract  # its weights' digest is not known yet
    source: Source | None
    activation: str = "prelu"
    fold: bool = False  # the norms of the network that it begins at

    @property
    def folded(self) -> bool:
        """Whether it learns without norms."""
        return self.fold or (self.source is not None and self.source.folded)

    @property
    def kind(self) -> str:
        """The network in words, by all that makes its steps other ones."""
        return f"{self.name} {self.contract.dim} {self.activation}" + (" without norms" if self.folded else "")

    def build(self, seed: int) -> nn.Module:
        """The network with fresh weights, in memory as convolutions like it; torch's random state is of `seed`."""
        torch.manual_seed(seed)
        folded = self.source is not None and self.source.folded
        contract = self.contract
        net = build(self.name, dim=contract.dim, size=contract.size, activation=self.activation, folded=folded)
        return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]

    def begin(self, net: nn.Module, head: Head | None, crops: TrainingCrops) -> Start:
        """Put the weights of the network that it begins at, if there is one, into `net`, and its head's into `head`
        where that is for the same people.

        Only weights are taken: step, optimizer and learning rate begin anew. Going on with a run is --resume.

        Args:
            net: as `build` gives it.
            head: over the people of `crops`; None where the run has none.

        Raises:
            UserError: another network; both sides are named.
        """
        if self.source is None:
            return Start()
        if self.source.network is not None:
            return _begin_from_onnx(self.source, self.source.network, self.name, net, self.contract)
        start = _begin_from_run(self, self.source, net, head, crops)
        if self.fold:
            fold_norms(net)
        return start

    def said(self, net: nn.Module) -> str:
        """What it costs, in a line."""
        macs = num_macs(net, self.contract.size)
        return f"{self.name}: {num_parameters(net) / 1e6:.2f} M parameters, {macs / 1e6:.0f} M MACs"


def plan_learner(asked: Student | TeacherNetwork, crops: CropSet, out: Path | None) -> Learner:
    """The network that settings ask for, for crops like these.

    Args:
        out: the run's folder, where it is known.

    Raises:
        UserError: as `read_source`.
    """
    source = None if asked.init_from is None else read_source(asked.init_from, out)
    dim = asked.dim
    if dim is None:
        dim = DIMS.get(asked.net, 128) if source is None else source.contract.dim
    contract = Contract(dim=dim, size=crops.size, template=crops.template)
    if source is not None:
        contract = source.spec(contract)
    if isinstance(asked, TeacherNetwork):
        return Learner(asked.net, contract, source)
    return Learner(asked.net, contract, source, asked.activation, asked.fold_norms)


def about_run(learner: Learner, start: Start, crops: TrainingCrops, precision: str, seed: int) -> dict[str, str]:
    """What makes any training this training: a checkpoint of another is refused."""
    contract = learner.contract
    return {
        "dim": str(contract.dim),
        "init": start.digest,
        "data": crops.train.digest(),
        "precision": precision,
        "crops": f"{contract.size} px {contract.template}",
        "seed": str(seed),
    }


def _begin_from_run(learner: Learner, source: Source, net: nn.Module, head: Head | None, crops: TrainingCrops) -> Start:
    saved, model = source.saved, source.file
    assert saved is not None
    ours = _kind(learner.name, net, learner.contract)
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
