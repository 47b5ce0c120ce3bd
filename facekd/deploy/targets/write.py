"""A file for a device: converted in a process of its own, run on crops, and only then given its name."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from facekd.core.files import sha256_bytes, sha256_file
from facekd.core.types import Array
from facekd.deploy.embedder import CropEmbedder
from facekd.deploy.export import Precision
from facekd.deploy.place import aside, files_of
from facekd.deploy.targets.feed import with_pixels
from facekd.deploy.targets.run import runner
from facekd.deploy.targets.table import Target
from facekd.errors import UserError
from facekd.nets.activation import restore_prelu
from facekd.nets.files import UINT8, Network
from facekd.nets.graph import folded

# What a file for a device keeps of its source, more than another form of an ONNX file has to.
LIMITS = {
    "fp32": Precision("fp32", 0.99999, 0.99999, True),
    "fp16": Precision("fp16", 0.9999, 0.9999, False),
    "int8": Precision("int8", 0.0, 0.97, False),
}
TOGETHER = 16  # crops that are run at a time, beside each alone
# The converters load libraries that would fetch models, look for accelerators and print.
QUIET = {"HF_HUB_OFFLINE": "1", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}


@dataclass(frozen=True, slots=True)
class Written:
    """A converted file that has not got its name yet, ready to embed."""

    path: Path
    embedder: CropEmbedder
    bytes: int
    checked_by: str  # what ran it here, in words


@contextlib.contextmanager
def converted(model: Any, source: Network, target: Target, precision: str, out: Path) -> Iterator[Written]:
    """The network of `model` as the file that `target` names, in a hidden folder beside `out` that goes away.

    Args:
        model: the prepared network of `source`; quantized for int8, fp32 for fp32 and fp16.

    Raises:
        UserError: what the target can't hold, a converter that fails, or a folder that can't be written.
    """
    if precision != "int8":  # PReLU as one operator: what it is rewritten in is quicker in ONNX Runtime alone
        model = restore_prelu(folded(model))[0]
    fed = with_pixels(model, source.fed)
    with aside(out) as folder:
        graph, made = folder / "graph.onnx", folder / out.name
        graph.write_bytes(fed.SerializeToString())
        _convert(target, graph, made, precision)
        own = source.contract
        if not LIMITS[precision].same_model:
            own = replace(own, weights_sha256=_digest(made))
        call = runner(made, target.ending, precision)
        together = TOGETHER if target.free_batch else 1
        size = sum(path.stat().st_size for path in files_of(made))
        network = Network(made, own, _no_input, call, 1, together, source.parameters, None, size, takes=UINT8)
        yield Written(made, CropEmbedder(network), size, _checked_by(target))


def _convert(target: Target, source: Path, out: Path, precision: str) -> None:
    module = "facekd.deploy.targets.convert"
    command = [sys.executable, "-P", "-m", module, target.module, str(source), str(out), precision]
    done = subprocess.run(command, env=os.environ | QUIET, capture_output=True, text=True, errors="replace")
    if done.returncode == 0 and out.exists():
        return
    if shutil.disk_usage(out.parent).free < source.stat().st_size:  # which a converter says in words of its own
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    said = lines[-1].strip() if lines else f"exit code {done.returncode}"
    if done.returncode == 2:
        raise UserError(f"{said}; nothing was written")
    raise UserError(f"{target.name}: its converter could not convert this network ({said}); nothing was written")


def _digest(made: Path) -> str:
    parts = [sha256_file(path) for path in files_of(made)]
    return parts[0] if len(parts) == 1 else sha256_bytes("\n".join(parts).encode())


def _checked_by(target: Target) -> str:
    if not target.runs_here:
        return f"{target.name} program read back and computed by PyTorch {version('torch')}, not run on a Mac"
    package = {"ai_edge_litert": "ai-edge-litert"}.get(target.needs[-1], target.needs[-1])
    return f"run in {target.name} {version(package)}"


def _no_input(inputs: Array) -> Array:
    raise UserError("a file for a device takes pixels, not network input")
