"""What makes a step quicker and changes nothing else."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # of mallopt(3)


def keep_memory() -> None:
    """Let the C library keep freed memory: a step frees and asks for the same gigabyte, and new pages cost zeroing.

    Part of what `benchmarks/train_step.py` measures. Elsewhere than on glibc nothing happens.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 30)
        mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)
        mallopt(M_TOP_PAD, 1 << 28)


class KeptScale(nn.Module):
    """The state of fp16's gradient scaler as buffers, so that a checkpoint holds it as it holds a network."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.zeros((), dtype=torch.float64))
        self.register_buffer("grown", torch.zeros((), dtype=torch.int64))  # steps since it last changed

    def take(self, scaler: torch.amp.GradScaler) -> None:
        """Note the scaler's state."""
        state = scaler.state_dict()
        self.get_buffer("scale").fill_(state["scale"])
        self.get_buffer("grown").fill_(state["_growth_tracker"])

    def give(self, scaler: torch.amp.GradScaler) -> None:
        """Put what was noted, if anything was, into the scaler."""
        if float(self.get_buffer("scale")) > 0:
            noted = {"scale": float(self.get_buffer("scale")), "_growth_tracker": int(self.get_buffer("grown"))}
            scaler.load_state_dict({**scaler.state_dict(), **noted})


def compiled(net: nn.Module, images_BCHW: Tensor, tell: Callable[[str], None]) -> Callable[[Tensor], Tensor]:
    """`net` through torch.compile, or as it is where that fails, which is told.

    Only the call is another: parameters, buffers and the state dict stay the net's. A trial step on `images_BCHW`
    leaves them as they were.

    Args:
        images_BCHW: of the shape that training has.
        tell: gets one sentence where the network can't be compiled here.
    """
    # Left to itself, inductor hands a depthwise convolution's backward its input in the order of a weight whose strides
    # tie, and copies it back and forth.
    options: dict[str, str | int | bool | Callable[..., object]] = {
        "force_layout_optimization": images_BCHW.device.type == "cpu"
    }
    quick = cast("Callable[[Tensor], Tensor]", torch.compile(net, dynamic=False, options=options))
    before = [buffer.clone() for buffer in net.buffers()]
    try:
        torch.autograd.backward(quick(images_BCHW).sum())
    except (torch._dynamo.exc.TorchDynamoException, torch._inductor.exc.InductorError) as error:
        first = str(error).strip().splitlines()[0]
        tell(f"torch.compile can't be had here ({first}): trains without it")
        return net
    finally:
        for buffer, value in zip(net.buffers(), before, strict=True):
            buffer.copy_(value)
        net.zero_grad(set_to_none=True)
    return quick
