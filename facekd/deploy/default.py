"""The model that comes with facekd, which anybody may use: see ``facekd/weights/README.md``."""

from __future__ import annotations

from pathlib import Path

from facekd.errors import UserError

NAME = "mobilefacenet-se.onnx"
WORTH = "99.5 % on LFW"
WEIGHTS = Path(__file__).parents[1] / "weights"


def default_model() -> Path:
    """The ONNX file taken where no model is named: package data, so that it is there after any kind of install.

    Raises:
        UserError: it was not installed along.
    """
    path = WEIGHTS / NAME
    if not path.exists():
        raise UserError(f"{path}: facekd's own model is not installed; install facekd again, or name one with --model")
    return path
