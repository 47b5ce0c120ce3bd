"""Make ``import torchvision`` work beside a CPU torch.

The registry's torchvision wheels are built for CUDA. Beside the CPU build of torch their compiled part
does not load, and ``import torchvision`` dies with ``RuntimeError: operator torchvision::nms does not
exist``, taking facenet-pytorch with it. Only that one operator is missed by what facekd uses, so it is
defined here.
"""

from __future__ import annotations

import importlib
import sys
from typing import Literal

KNOWN = "operator torchvision::nms does not exist"
_library = None  # an operator lives as long as the library that defined it


def repair() -> Literal["whole", "repaired"]:
    """Import torchvision, with an NMS of our own where its compiled part is missing; say which case held.

    A whole torchvision is left as it is. Any other failure to import it is raised as it came.
    """
    if "torchvision" in sys.modules:
        return "repaired" if _library is not None else "whole"
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if KNOWN not in str(error):
            raise
    else:
        return "whole"
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    _define_nms()
    importlib.import_module("torchvision")
    # Only now: while torchvision is importing, a "yes" would make it ask for every other compiled operator.
    extension = sys.modules["torchvision.extension"]
    extension._has_ops = lambda: True  # type: ignore[attr-defined]
    return "repaired"


def _define_nms() -> None:
    import torch

    from facekd.faces.nms import nms

    def greedy(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
        return torch.from_numpy(nms(dets.detach().numpy(), scores.detach().numpy(), iou_threshold))

    global _library
    _library = library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):  # torchvision's import asks for both; it runs qnms on quantized boxes only
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        library.define(schema)  # type: ignore[no-untyped-call]
    library.impl("nms", greedy, "CPU")  # type: ignore[no-untyped-call]
