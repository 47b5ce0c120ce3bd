"""Packages that a plain install has not, and the extra that brings each: said in one sentence where one is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from facekd.errors import UserError

# By the name that is imported. The base must import none of them; tests/test_base_install.py keeps it so.
EXTRAS = {
    "torch": "train",
    "torchvision": "train",
    "facenet_pytorch": "train",
    "accelerate": "train",
    "albumentations": "train",
    "onnxscript": "train",
    "safetensors": "train",
    "sklearn": "sklearn",
    "fastapi": "serve",
    "uvicorn": "serve",
    "python_multipart": "serve",
    "pillow_heif": "heif",
    "flwr": "federated",
}


@contextlib.contextmanager
def told_of_missing(what: str) -> Iterator[None]:
    """What is done inside needs a package of EXTRAS, perhaps.

    Raises:
        UserError: it is missing; `what` needs it.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:  # a part missing of a package that is there is another fault
            raise
        raise UserError(
            f"{what} needs {error.name}; install it with: pip install 'facekd[{EXTRAS[error.name]}]'"
        ) from error
