"""Where a training begins that does not begin afresh: at the weights of another trained network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facekd.errors import UserError

if TYPE_CHECKING:
    from torch import nn

    from facekd.core.contract import Contract
    from facekd.nets.heads import Head
    from facekd.stages.training_run import TrainingData

# What torch.save and its kin write: reading one can run any program that its maker put into it.
PICKLES = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".tar", ".pyt"}


@dataclass(frozen=True, slots=True)
class Start:
    """What was taken from another run."""

    said: str
    files: tuple[Path, ...]  # what was read
    digest: str  # over it: a resumed run is to have begun at the same weights


def begin_from(
    source: Path,
    out: Path | None,
    name: str,
    net: nn.Module,
    contract: Contract,
    head: Head | None,
    crops: TrainingData,
) -> Start:
    """Put a trained network's weights into `net`, and its head's into `head` where it is for the same people.

    Only weights are taken: step, optimiser and learning rate begin anew. Going on with a run is --resume.

    Args:
        source: a finished run folder, its ``model.safetensors``, or another file of `nets.saved.save_model`.
        out: the folder of the run that begins, where it is known.
        name: of `net`, in nets.NETS.
        contract: of `net`.
        head: over the people of `crops`; None where the run has none.

    Raises:
        UserError: no network there, another kind of file, or another network; both sides are named.
    """
    from facekd.core.files import sha256_file
    from facekd.nets.heads import HEAD, load_head
    from facekd.nets.saved import MODEL, load_model
    from facekd.training.checkpoint import LAST

    flag = f"--init-from {source}"
    if source.suffix.lower() in PICKLES:  # not opened: its name is enough
        raise UserError(
            f"{flag}: is a pickle by its name, and reading one can run any program that is in it, so facekd never "
            "does; give a run folder or a .safetensors file (save_model of facekd.nets.saved writes one)"
        )
    if not source.exists():
        raise UserError(f"{flag}: is not there; give a finished run folder or its {MODEL}")
    if out is not None and source.resolve().is_relative_to(out.resolve()):
        raise UserError(f"{flag}: lies in --out itself; --resume {out} goes on with it, a new run needs another --out")
    if source.is_file() and source.suffix != ".safetensors":
        raise UserError(
            f"{flag}: can't be trained on; give a run folder or its {MODEL}, an exported file has no way back"
        )
    if source.parts[-2:] == LAST.parts:
        raise UserError(f"{flag}: is a checkpoint; --resume {source.parents[1]} goes on with it, or give {MODEL}")
    model = source / MODEL if source.is_dir() else source
    if not model.exists():
        raise UserError(f"{flag}: holds no {MODEL}; finish that run by --resume {source}, or give another")
    saved = load_model(model)
    ours = _kind(name, net, contract)
    theirs = _kind(saved.name, saved.net, saved.contract)
    if ours != theirs:
        others = [key for key in ours if ours[key] != theirs[key]]
        there, here = (", ".join(f"{key} {side[key]}" for key in others) for side in (theirs, ours))
        raise UserError(f"{flag}: is of {there}, this run of {here}; ask for the same, or begin from another network")
    net.load_state_dict(saved.net.state_dict())
    said, digest, beside = f"begins at the weights of {source}", sha256_file(model), model.with_name(HEAD)
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


def _kind(name: str, net: nn.Module, contract: Contract) -> dict[str, str]:
    activation = str(getattr(net, "activation", "prelu"))
    return {
        "net": name if activation == "prelu" else f"{name} with {activation}",
        "dim": str(contract.dim),
        "size": f"{contract.size} pixels",
        "template": contract.template,
    }
