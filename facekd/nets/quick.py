"""An ONNX network in the form that ONNX Runtime runs quickest and that gives the same embeddings.

Activations are rewritten as an export writes them, narrow groups widened, and weights that an old exporter also lists
as inputs become constants, so that they fold. Whether the form is the same network, and quicker on this machine, is
measured once; it is kept by the digest of the file, and else the file runs as it comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from facekd.core.contract import Contract
from facekd.core.pixels import to_input
from facekd.core.types import Array
from facekd.nets.facts import processor

VERSION = 2  # of what is done here and checked before it is kept; a higher one is kept under other keys
MOST_APART = 1e-5  # between two numbers of unit embeddings
RUNS, WARM = 7, 2  # of each form, in turns, for the time that it takes
LEAST_GAIN = 0.97  # of the file's own time: a form that is no quicker than that stays away
SEED = 0

Call = Callable[[Array], Array]


def quick_key(digest: str) -> str:
    """What the form of the file with this digest is kept under."""
    import onnxruntime

    from facekd.core.files import sha256_bytes

    parts = ("quick form", str(VERSION), str(onnxruntime.__version__), processor(), digest)
    return sha256_bytes("\n".join(parts).encode())[:40]


def quick_form(data: bytes, plain: Call, started: Callable[[bytes], Call], inputs: Sequence[Array]) -> bytes | None:
    """The file that is quicker and gives the same embeddings; None where there is none.

    Args:
        data: the ONNX file, its weights inside.
        plain: runs it as it comes.
        started: what runs a file given as bytes.
        inputs: what a network of this kind takes, of the batch that the graph takes.

    Raises:
        OSError, MemoryError: it could not be told, for want of room.
    """
    try:
        form = _rewritten(data)
        if form is None:
            return None
        quick = started(form)
        # NaN is not under it.
        if not all(_apart(plain(one), quick(one)) <= MOST_APART for one in inputs):
            return None
        return form if _seconds_ratio(plain, quick, inputs[0]) <= LEAST_GAIN else None
    except (OSError, MemoryError):
        raise
    except Exception:  # a graph of a kind that the rewriting does not know, in one of many ways
        return None


def trial_inputs(contract: Contract, uint8: bool, batch: int) -> list[Array]:
    """Noise, one color, ramps and blobs, as the network takes them, each `batch` times."""
    size = contract.size
    rng = np.random.default_rng(SEED)
    ramp = np.linspace(0, 255, size)
    y, x = np.mgrid[:size, :size] / size
    blobs = 127 + 120 * np.sin(6 * x + np.array([0, 1, 2])[:, None, None]) * np.cos(5 * y)
    crops = [
        rng.integers(0, 256, (size, size, 3)),
        np.zeros((size, size, 3)),
        np.full((size, size, 3), 255),
        np.broadcast_to(ramp[:, None, None], (size, size, 3)),
        np.stack([np.broadcast_to(ramp, (size, size)), np.full((size, size), 90), ramp[::-1, None] + 0 * x], axis=2),
        blobs.transpose(1, 2, 0),
    ]
    found = []
    for crop in crops:
        several = np.repeat(np.round(crop).astype(np.uint8)[None], batch, axis=0)
        found.append(several if uint8 else to_input(several, contract, template=contract.template))
    return found


def _rewritten(data: bytes) -> bytes | None:
    """The file rewritten, or None where nothing in it calls for that."""
    import onnx

    from facekd.nets.activation import rewrite_prelu
    from facekd.nets.graph import Graph, folded
    from facekd.nets.grouped import widen_groups

    model = onnx.load_from_string(data)
    if any(node.op_type == "QuantizeLinear" for node in model.graph.node):
        return None  # its ranges belong to the operators as they are
    dims = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    listed = any(value.name in dims for value in model.graph.input)
    if not listed and not any(node.op_type == "PRelu" or _narrow(node, dims) for node in model.graph.node):
        return None
    made: Any = widen_groups(rewrite_prelu(folded(Graph(model).model()))[0])
    del made.metadata_props[:]  # the file's own are read from the file
    form: bytes = made.SerializeToString()
    return form


def _narrow(node: Any, dims: dict[str, tuple[int, ...]]) -> bool:
    """Whether a convolution has groups of more than one channel."""
    grouped = node.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in node.attribute)
    return grouped and dims.get(node.input[1], (0, 1))[1] > 1


def _apart(a: Array, b: Array) -> float:
    def unit(vectors: Array) -> Array:
        flat = vectors.reshape(len(vectors), -1).astype(np.float64)
        made: Array = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
        return made

    return float(np.abs(unit(a) - unit(b)).max())


def _seconds_ratio(plain: Call, quick: Call, one: Array) -> float:
    """Time of the quick form as a share of the plain one's: medians of runs in turns, of this thread alone."""
    taken: tuple[list[float], list[float]] = ([], [])
    for number in range(WARM + RUNS):
        for call, times in zip((plain, quick), taken, strict=True):
            before = time.thread_time()
            call(one)
            if number >= WARM:
                times.append(time.thread_time() - before)
    return float(np.median(taken[1]) / max(float(np.median(taken[0])), 1e-9))
