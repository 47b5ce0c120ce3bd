"""Any teacher as one call: a facekd network, an ONNX embedder or facenet-pytorch's network, frozen."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from facekd.core.contract import Contract
from facekd.errors import UserError
from facekd.nets.files import Network, load_network
from facekd.nets.forward import forward
from facekd.nets.heads import HEAD, Head, SavedHead, load_head
from facekd.nets.saved import load_model
from facekd.teachers.inception import PICKLED, load_inception
from facekd.teachers.onnx_torch import onnx_module


@dataclass(frozen=True, slots=True)
class Teacher:
    """A network that only teaches: in eval mode, without gradients."""

    path: Path  # of several in one: their paths with " + " between them
    contract: Contract
    embed: Callable[[Tensor], Tensor]  # float32[B, 3, S, S] as its contract says -> float32[B, dim], any norm
    net: nn.Module | None  # of facekd; None for any other
    head: Head | None  # frozen; None for a network of others, or one that was kept without its head
    identities: tuple[str, ...]  # the head's classes
    kind: str = "is a facekd network"  # how an error goes on after its path
    learns: bool = False  # it is trained in the same run, so `net` and `head` are not frozen and `embed` is not used

    @torch.no_grad()
    def logits(self, embeddings_BD: Tensor) -> Tensor:
        """float32[B, C]: the head on the teacher's own embeddings; of a margin head scale · cosine, without margin."""
        assert self.head is not None
        return self.head.logits(self.head(embeddings_BD))


def load_teacher(path: Path, contract_file: Path | None, device: torch.device, backend: str | None = None) -> Teacher:
    """The teacher in a run folder, a ``.safetensors``, an ``.onnx`` (a fixed batch of 1 too) or a ``.pt`` file.

    A ``.pt`` is facenet-pytorch's InceptionResnetV1, see `teachers.inception`.

    Args:
        device: where its embeddings are wanted; a torch network runs there, an ONNX file on the CPU unless it is made
            a torch network.
        backend: what runs an ONNX file: ``onnxruntime``, ``openvino``, or ``torch``, see `teachers.onnx_torch`. None is
            `default_backend`.

    Raises:
        UserError: as `nets.files.load_network` and this package's loaders; a head of another network; or no finite
            embedding.
    """
    if backend is not None and path.suffix != ".onnx":
        raise UserError(f"{path}: is no ONNX file, PyTorch runs it; leave {backend} out")
    if path.suffix in PICKLED:
        if contract_file is not None:
            raise UserError(f"{path}: facenet-pytorch's network brings its own contract; leave --contract out")
        inception, contract = load_inception(path)
        call = _torch_call(inception, device)
        teacher = Teacher(path, contract, call, None, None, (), "is facenet-pytorch's network")
    elif path.suffix == ".onnx" or contract_file is not None:
        if backend is None and path.suffix == ".onnx":
            backend = default_backend(device)
        network = load_network(path, contract_file, backend=None if backend == "torch" else backend)
        call = _torch_call(onnx_module(network), device) if backend == "torch" else _numpy_call(network, device)

        def embed_onnx(images_BCHW: Tensor) -> Tensor:
            embeddings = call(images_BCHW)
            return embeddings + call(images_BCHW.flip(-1)) if network.contract.flip else embeddings

        teacher = Teacher(path, network.contract, embed_onnx, None, None, (), "is an ONNX file")
    else:
        saved = load_model(path)
        call = _torch_call(saved.net, device)
        head = _head_beside(path, saved.contract.model_id)
        if head is None:
            teacher = Teacher(path, saved.contract, call, saved.net, None, ())
        else:
            teacher = Teacher(path, saved.contract, call, saved.net, head.head.to(device), head.identities)
    if teacher.contract.layout != "NCHW":
        raise UserError(f"{path}: a teacher of layout {teacher.contract.layout} can't be fed here; convert it to NCHW")
    size = teacher.contract.size
    if not torch.isfinite(teacher.embed(torch.zeros(1, 3, size, size, device=device))).all():
        raise UserError(f"{path}: gives embeddings that are not finite; it can't teach, choose another teacher")
    return teacher


def default_backend(device: torch.device) -> str:
    """What runs an ONNX teacher: PyTorch where the training runs on another device than the CPU and onnx2torch is at
    hand, for ONNX Runtime would hold up the device; ONNX Runtime elsewhere."""
    found = device.type != "cpu" and importlib.util.find_spec("onnx2torch") is not None
    return "torch" if found else "onnxruntime"


def _numpy_call(network: Network, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The call of a runtime that takes arrays, from tensors to tensors on `device`."""

    def embed(images_BCHW: Tensor) -> Tensor:
        return torch.from_numpy(network.run(images_BCHW.cpu().contiguous().numpy())).to(device)

    return embed


def _torch_call(net: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """The call of a network in eval mode, which is moved to `device` and frozen."""
    net.to(device, memory_format=torch.channels_last).requires_grad_(False)  # type: ignore[call-overload]

    return lambda images_BCHW: forward(net, images_BCHW.to(device))


def _head_beside(path: Path, model_id: str) -> SavedHead | None:
    """The head that lies beside a network's file, in its run folder."""
    file = (path if path.is_dir() else path.parent) / HEAD
    if not file.exists():
        return None
    found = load_head(file)
    if found.model_id != model_id:
        raise UserError(f"{file}: is the head of another network than {path}; copy the two together from one run")
    return found
