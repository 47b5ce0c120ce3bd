"""insightface's ``.bin`` verification sets (lfw, cfp_fp, agedb_30, calfw, cplfw), read without running their pickle.

Such a file is the pickle of ``([image, image, …], [same, …])``: two encoded 112x112 crops for each pair, in the order
of the pairs. A pickle is a program that can start any other; here only the few instructions that build lists, bytes
and truth values are followed, and every other one ends the reading.
"""

from __future__ import annotations

import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from facekd.core.files import sha256_bytes
from facekd.core.names import NameColumn
from facekd.core.pixels import decode_crop
from facekd.core.types import PairList
from facekd.crops.cropset import CropSet
from facekd.errors import UserError

FOLDS = 10  # insightface judges these sets by sklearn's KFold(10) without shuffling: contiguous tenths

_VALUES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2",
           "INT"}  # fmt: skip
_CONSTANTS = {"NEWTRUE": True, "NEWFALSE": False}
_MARK = object()
_ENCODE = object()  # _codecs.encode: how Python 3 writes bytes in protocol 2


class _Refused(ValueError):
    """The pickle does something that no such set needs."""


def read_bin(path: Path) -> tuple[CropSet, PairList]:
    """The crops and the pairs of a ``.bin`` set; folds are contiguous tenths of the list.

    A crop's id is the digest of its bytes, so a crop that many pairs use is there once. Who the people are is not in
    the file.

    Raises:
        UserError: no such file, one cut short, one whose pickle wants to do more than hold crops, or whose numbers
            of crops and pairs do not agree.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such .bin set; check the path")
    try:
        # In memory: a length written in the file can then ask for no more than the file has.
        value = _interpret(path.read_bytes())
    except _Refused as error:
        raise UserError(
            f"{path}: {error}, which no verification set needs, so it was not followed; get the file from where you "
            "trust it"
        ) from error
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: not a whole .bin set ({error}); copy it again") from error
    images, same = _checked(path, value)
    ids = [sha256_bytes(image)[:16] for image in images]
    encoded = dict(zip(ids, images, strict=True))
    crops = CropSet(
        path=path,
        ids=tuple(encoded),
        identities=(None,) * len(encoded),
        sources=tuple(encoded),
        images=pa.chunked_array([pa.array(list(encoded.values()), pa.large_binary())]),
        rows=np.arange(len(encoded)),
        size=decode_crop(images[0]).shape[0],
        template="arcface",
    )
    fold = np.full(len(same), -1, np.int16)
    if len(same) >= FOLDS:
        for number, part in enumerate(np.array_split(np.arange(len(same)), FOLDS)):
            fold[part] = number
    return crops, PairList(NameColumn.of(ids[::2]), NameColumn.of(ids[1::2]), np.array(same, bool), fold)


def _checked(path: Path, value: Any) -> tuple[list[bytes], list[bool]]:
    if not (isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(part, list) for part in value)):
        raise UserError(f"{path}: holds no list of images and list of labels; give an insightface .bin set")
    images, same = value
    if not all(isinstance(image, bytes) for image in images):
        raise UserError(f"{path}: one of its images is not bytes; give an insightface .bin set")
    if not all(isinstance(label, bool | int) and label in (0, 1) for label in same):
        raise UserError(f"{path}: one of its labels is not True or False; give an insightface .bin set")
    if not same:
        raise UserError(f"{path}: holds no pair")
    if len(images) != 2 * len(same):
        raise UserError(f"{path}: holds {len(images)} images for {len(same)} pairs, not two for each; copy it again")
    return images, [bool(label) for label in same]


def _interpret(data: bytes) -> Any:
    """What the pickle builds, by a machine that knows lists, tuples, bytes, numbers and its own memory only."""
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        place = len(stack) - 1
        while stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("a list without a beginning")
        items = stack[place + 1 :]
        del stack[place:]
        return items

    for opcode, arg, _ in pickletools.genops(data):
        name = opcode.name
        if name in _VALUES:
            stack.append(arg)
        elif name in ("BINSTRING", "SHORT_BINSTRING"):
            assert isinstance(arg, str)  # genops reads Python 2's bytes as latin-1
            stack.append(arg.encode("latin-1"))
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("EMPTY_LIST", "EMPTY_TUPLE"):
            stack.append([] if name == "EMPTY_LIST" else ())
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("LIST", "TUPLE"):
            items = since_mark()
            stack.append(items if name == "LIST" else tuple(items))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            n = int(name[-1])
            stack[-n:] = [tuple(stack[-n:])]
        elif name in ("APPEND", "APPENDS"):
            items = since_mark() if name == "APPENDS" else [stack.pop()]
            if not isinstance(stack[-1], list):
                raise ValueError("something is added to what is no list")
            stack[-1].extend(items)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(arg)] = stack[-1]  # type: ignore[arg-type]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[int(arg)])  # type: ignore[arg-type]
        elif name == "GLOBAL" and arg == "_codecs encode":
            stack.append(_ENCODE)
        elif name == "REDUCE" and len(stack) >= 2 and stack[-2] is _ENCODE:
            text, encoding = stack.pop()
            if encoding not in ("latin1", "latin-1"):
                raise ValueError(f"bytes written as {encoding!r}")
            stack[-1] = text.encode("latin-1")
        elif name == "STOP":
            return stack[-1]
        elif name not in ("PROTO", "FRAME"):
            raise _Refused(f"its pickle asks for {name}" + (f" {arg}" if name in ("GLOBAL", "INST") else ""))
    raise ValueError("it has no end")
