"""Heads: the class weights that turn embeddings into logits or cosines, and the file they are kept in.

A head lies beside its network in ``head.safetensors`` and never in the network's own file: what is exported or handed
on holds neither the weights nor the names of the people who were trained on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facekd.core.choices import HEADS, HeadName
from facekd.core.files import no_stream, write_bytes
from facekd.core.formats import FORMATS, KEY, check_format
from facekd.errors import UserError
from facekd.nets.saved import digest

HEAD = "head.safetensors"  # its name in a run folder
ABOUT = "facekd"  # the one key of its metadata
WEIGHTS = "weights_sha256"  # in what lies there
SUB_CENTERS = 3  # of an identity in sub-center ArcFace; the paper's choice


class Head(nn.Module):
    """The class weights of one of HEADS.

    Args:
        name: a key of HEADS.
        dim: length of the embedding.
        classes: identities.
        margin: of the loss; None takes the kind's own.
        scale: on cosines; None takes the kind's own.
    """

    bias: nn.Parameter | None
    norm_mean: Tensor
    norm_deviation: Tensor

    def __init__(
        self, name: HeadName, dim: int, classes: int, margin: float | None = None, scale: float | None = None
    ) -> None:
        super().__init__()
        kind = HEADS[name]
        self.name = name
        self.margin = kind.margin if margin is None else margin
        self.scale = kind.scale if scale is None else scale
        self.register_parameter("bias", None)
        if name == "softmax":
            linear = nn.Linear(dim, classes)
            self.weight, self.bias = linear.weight, linear.bias
        elif name == "subarcface":
            self.weight = nn.Parameter(torch.randn(classes, SUB_CENTERS, dim) * 0.01)
        else:
            self.weight = nn.Parameter(torch.randn(classes, dim) * 0.01)
        if name == "adaface":  # of the lengths of embeddings; the first values are the authors'
            self.register_buffer("norm_mean", torch.tensor(20.0))
            self.register_buffer("norm_deviation", torch.tensor(100.0))

    def forward(self, embeddings_BD: Tensor) -> Tensor:
        """float[B, C] logits W x + b of a softmax head; of any other the cosines to the centers, float[B, C], or
        float[B, C, K] to each identity's sub-centers."""
        if self.name == "softmax":
            return F.linear(embeddings_BD, self.weight, self.bias)
        # In float32 whatever the autocast: near a cosine of 1 bfloat16 is 0.004 apart.
        with torch.autocast(embeddings_BD.device.type, enabled=False):
            embeddings = embeddings_BD.float() if embeddings_BD.dtype.itemsize < 4 else embeddings_BD
            cosines = F.linear(F.normalize(embeddings), F.normalize(self.weight.flatten(0, -2)))
        return cosines.reshape(len(cosines), *self.weight.shape[:-1])

    def logits(self, outputs: Tensor) -> Tensor:
        """float[B, C] from what `forward` gave, as a teacher hands them on: scale · nearest cosine, without margin."""
        if self.name == "softmax":
            return outputs
        assert self.scale is not None
        return self.scale * (outputs.amax(dim=2) if outputs.ndim == 3 else outputs)

    @torch.no_grad()
    def see_norms(self, norms_B: Tensor, momentum: float = 0.01) -> None:
        """Move AdaFace's running mean and deviation of embedding lengths toward this batch's."""
        if len(norms_B) > 1:
            self.norm_mean.lerp_(norms_B.mean().to(self.norm_mean), momentum)
            self.norm_deviation.lerp_(norms_B.std().to(self.norm_deviation), momentum)


@dataclass(frozen=True, slots=True)
class SavedHead:
    """A trained head with its classes."""

    head: Head  # in eval mode
    identities: tuple[str, ...]  # the classes, in order
    model_id: str  # of the network it was trained on


def save_head(path: Path, head: Head, identities: tuple[str, ...], model_id: str) -> None:
    """Write a head to `path`."""
    about: dict[str, object] = {KEY: FORMATS["head"], "head": head.name, "margin": head.margin, "scale": head.scale}
    weights = {key: value.detach().cpu().contiguous() for key, value in head.state_dict().items()}
    about |= {"identities": identities, "model": model_id, WEIGHTS: digest(weights)}
    write_bytes(path, safetensors.torch.save(weights, {ABOUT: json.dumps(about)}))


def load_head(path: Path) -> SavedHead:
    """The head in a file that `save_head` wrote; loading executes nothing.

    Raises:
        UserError: a file of another kind, or weights that do not fit the head they name.
    """
    no_stream(path)
    try:
        with safetensors.safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})[ABOUT])
            check_format("head", dict(about).get(KEY), path)
            weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # no mapping
        weight = weights["weight"]
        identities = tuple(str(name) for name in about["identities"])
        head = Head(about["head"], weight.shape[-1], len(identities), about["margin"], about["scale"])
        head.load_state_dict(weights)
        if WEIGHTS in about and about[WEIGHTS] != digest(weights):  # a head of before has no digest
            raise ValueError("its weights are not those that were written")
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, safetensors.SafetensorError) as error:
        raise UserError(f"{path}: not a readable facekd head ({error}); copy it again or train it again") from error
    return SavedHead(head.eval().requires_grad_(False), identities, about["model"])
