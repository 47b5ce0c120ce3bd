"""Any teacher as one call: a facekd network or an ONNX embedder, frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from facekd.core.contract import Contract
from facekd.errors import UserError
from facekd.nets.files import load_network
from facekd.nets.saved import load_model


@dataclass(frozen=True, slots=True)
class Teacher:
    """A network that only teaches: in eval mode, without gradients."""

    path: Path
    contract: Contract
    embed: Callable[[Tensor], Tensor]  # float32[B, 3, S, S] as its contract says -> float32[B, dim], any norm
    head: Tensor | None  # float32[C, dim] of its softmax head; None for an ONNX file
    head_bias: Tensor | None  # float32[C]
    identities: tuple[str, ...]  # the head's classes

    def logits(self, embeddings_BD: Tensor) -> Tensor:
        """float32[B, C]: the head on the teacher's own embeddings."""
        assert self.head is not None
        return F.linear(embeddings_BD, self.head, self.head_bias)


def load_teacher(path: Path, contract_file: Path | None, device: torch.device) -> Teacher:
    """The teacher in a run folder, a ``.safetensors`` or an ``.onnx`` file (a fixed batch of 1 too).

    Args:
        device: where its embeddings are wanted; a facekd network runs there, an ONNX file on the CPU.

    Raises:
        UserError: as `nets.files.load_network`; or a network that gives no finite embedding.
    """
    if path.suffix == ".onnx" or contract_file is not None:
        network = load_network(path, contract_file)

        def embed_onnx(images_BCHW: Tensor) -> Tensor:
            images = images_BCHW.cpu().contiguous().numpy()
            embeddings = network.run(images)
            if network.contract.flip:
                embeddings = embeddings + network.run(images[..., ::-1].copy())
            return torch.from_numpy(embeddings).to(device)

        teacher = Teacher(path, network.contract, embed_onnx, None, None, ())
    else:
        saved = load_model(path)
        net = saved.net.to(device, memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]

        def embed(images_BCHW: Tensor) -> Tensor:
            with torch.no_grad():
                embeddings: Tensor = net(images_BCHW.to(device)).float()
            return embeddings

        head = None if saved.head is None else saved.head.to(device)
        bias = None if saved.head_bias is None else saved.head_bias.to(device)
        teacher = Teacher(path, saved.contract, embed, head, bias, saved.identities)
    if teacher.contract.layout != "NCHW":
        raise UserError(f"{path}: a teacher of layout {teacher.contract.layout} can't be fed here; convert it to NCHW")
    size = teacher.contract.size
    if not torch.isfinite(teacher.embed(torch.zeros(1, 3, size, size, device=device))).all():
        raise UserError(f"{path}: gives embeddings that are not finite; it can't teach, choose another teacher")
    return teacher
