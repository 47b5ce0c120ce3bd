"""Any teacher as one call: a facekd network or an ONNX embedder, frozen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from facekd.core.contract import Contract
from facekd.errors import UserError
from facekd.nets.files import load_network
from facekd.nets.heads import HEAD, Head, SavedHead, load_head
from facekd.nets.saved import load_model


@dataclass(frozen=True, slots=True)
class Teacher:
    """A network that only teaches: in eval mode, without gradients."""

    path: Path
    contract: Contract
    embed: Callable[[Tensor], Tensor]  # float32[B, 3, S, S] as its contract says -> float32[B, dim], any norm
    net: nn.Module | None  # None for an ONNX file
    head: Head | None  # frozen; None for an ONNX file or a network that was trained without one
    identities: tuple[str, ...]  # the head's classes

    @torch.no_grad()
    def logits(self, embeddings_BD: Tensor) -> Tensor:
        """float32[B, C]: the head on the teacher's own embeddings; of a margin head scale · cosine, without margin."""
        assert self.head is not None
        return self.head.logits(self.head(embeddings_BD))


def load_teacher(path: Path, contract_file: Path | None, device: torch.device, backend: str | None = None) -> Teacher:
    """The teacher in a run folder, a ``.safetensors`` or an ``.onnx`` file (a fixed batch of 1 too).

    Args:
        device: where its embeddings are wanted; a facekd network runs there, an ONNX file on the CPU.
        backend: what runs an ONNX file: ``onnxruntime``, the default, or ``openvino``.

    Raises:
        UserError: as `nets.files.load_network`; a head of another network; or no finite embedding.
    """
    if path.suffix == ".onnx" or contract_file is not None:
        network = load_network(path, contract_file, backend=backend)

        def embed_onnx(images_BCHW: Tensor) -> Tensor:
            images = images_BCHW.cpu().contiguous().numpy()
            embeddings = network.run(images)
            if network.contract.flip:
                embeddings = embeddings + network.run(images[..., ::-1].copy())
            return torch.from_numpy(embeddings).to(device)

        teacher = Teacher(path, network.contract, embed_onnx, None, None, ())
    elif backend is not None:
        raise UserError(f"{path}: is no ONNX file, PyTorch runs it; leave {backend} out")
    else:
        saved = load_model(path)
        net = saved.net.to(device, memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]

        def embed(images_BCHW: Tensor) -> Tensor:
            with torch.no_grad():
                embeddings: Tensor = net(images_BCHW.to(device)).float()
            return embeddings

        head = _head_beside(path, saved.contract.model_id)
        if head is None:
            teacher = Teacher(path, saved.contract, embed, net, None, ())
        else:
            teacher = Teacher(path, saved.contract, embed, net, head.head.to(device), head.identities)
    if teacher.contract.layout != "NCHW":
        raise UserError(f"{path}: a teacher of layout {teacher.contract.layout} can't be fed here; convert it to NCHW")
    size = teacher.contract.size
    if not torch.isfinite(teacher.embed(torch.zeros(1, 3, size, size, device=device))).all():
        raise UserError(f"{path}: gives embeddings that are not finite; it can't teach, choose another teacher")
    return teacher


def _head_beside(path: Path, model_id: str) -> SavedHead | None:
    """The head that lies beside a network's file, in its run folder."""
    file = (path if path.is_dir() else path.parent) / HEAD
    if not file.exists():
        return None
    found = load_head(file)
    if found.model_id != model_id:
        raise UserError(f"{file}: is the head of another network than {path}; copy the two together from one run")
    return found
