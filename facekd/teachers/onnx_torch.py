"""An ONNX network as a PyTorch module, so that it runs where PyTorch does, on a GPU too.

onnx2torch translates operators; what it does not know of constants (a file that holds its weights in half precision
and casts them, such as OpenCV's SFace) ONNX Runtime folds beforehand. Whether the two agree is seen, not believed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from facekd.core.pixels import to_input
from facekd.errors import UserError
from facekd.nets.files import Network

AGREE = 1e-3  # largest difference to ONNX Runtime, as a share of the embedding's length
TRIED, SEED = 3, 0  # random crops on which both are run; more than one, as a graph may have its batch of 1 frozen in


def onnx_module(network: Network) -> nn.Module:
    """The network of an ONNX file as a module in eval mode, which agrees with ONNX Runtime.

    Args:
        network: the file as ONNX Runtime runs it.

    Raises:
        UserError: onnx2torch is missing or can't translate the graph, the batch is frozen into it, or the module's
            embeddings are others.
    """
    # torchvision, which onnx2torch imports, may not load as it is.
    from facekd.faces.torchvision_cpu import repair

    repair()
    try:
        import onnx2torch
    except ImportError as error:
        raise UserError("the torch backend for ONNX teachers needs onnx2torch: pip install 'facekd[torch]'") from error
    instead = "use the onnxruntime or openvino backend"
    if network.takes is not None:
        raise UserError(f"{network.path}: prepares its input itself, and PyTorch would feed it otherwise; {instead}")
    size = network.contract.size
    pixels = np.random.default_rng(SEED).integers(0, 256, (TRIED, size, size, 3), np.uint8)
    images = to_input(pixels, network.contract)
    try:
        net = onnx2torch.convert(folded(network.path)).eval()
        with torch.no_grad():
            embeddings = net(torch.from_numpy(images)).reshape(TRIED, -1).numpy()
    except Exception as error:  # each operator fails in its own way
        first = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(f"{network.path}: can't be made a PyTorch network ({first}); {instead}") from error
    wanted = network.run(images)
    apart = np.abs(embeddings - wanted).max() / np.linalg.norm(wanted, axis=1).min()
    if not apart <= AGREE:
        raise UserError(f"{network.path}: gives other embeddings in PyTorch ({apart:.1e} of their length); {instead}")
    module: nn.Module = net
    return module


def folded(path: Path) -> Any:
    """The ModelProto with what is constant in it computed; its operators stay ONNX's own."""
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return onnx.load(options.optimized_model_filepath)
