"""From photos of people to a small network that tells them apart, and the proof of how well it does.

    from facekd import Embedder, Gallery

Both are loaded when they are asked for: ``import facekd`` itself takes no time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime looks when it is loaded, which nothing in here does before this line; worker processes inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from facekd.api import Embedder as Embedder
    from facekd.api import Gallery as Gallery
    from facekd.transformer import FaceTransformer as FaceTransformer

__all__ = ["Embedder", "FaceTransformer", "Gallery"]
_HOMES = {"Embedder": "facekd.api", "Gallery": "facekd.api", "FaceTransformer": "facekd.transformer"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'facekd' has no attribute {name!r}; it has {', '.join(__all__)}")
    import importlib

    from facekd.core.extras import told_of_missing

    with told_of_missing(f"facekd.{name}"):
        return getattr(importlib.import_module(_HOMES[name]), name)
