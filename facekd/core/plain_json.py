"""Any result as JSON can hold it, and as a terminal can show it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Set
from typing import Any

import numpy as np
import pyarrow as pa


def json_line(value: Any) -> str:
    """`value`, which is plain, as JSON on one line; what could steer a terminal, or is no UTF-8, is an escape in it."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else json.dumps(sign)[1:-1] for sign in text)


def plain_json(value: Any) -> Any:
    """`value` as objects, lists, texts and numbers: null for what is no number, a table as its rows, a path as text.

    A dataclass is an object of its public fields; what has no JSON of its own is its text.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if not field.name.startswith("_")]
        return {name: plain_json(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(name): plain_json(one) for name, one in value.items()}
    if isinstance(value, pa.Table):
        return plain_json(value.to_pylist())
    if isinstance(value, list | tuple | Set):
        return [plain_json(one) for one in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else str(value)
