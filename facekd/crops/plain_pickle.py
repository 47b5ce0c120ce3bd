"""Pickles of lists, bytes, numbers and numpy arrays, read without running them.

A pickle is a program that can start any other. Here only the few instructions are followed that such values need, by a
machine that calls nothing: what a pickle asks to be called is compared with a short list of names, and what each of
them would give is made here, from bytes. Every other name and instruction ends the reading.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np

_VALUES = {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE",
           "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"}  # fmt: skip
_CONSTANTS = {"NEWTRUE": True, "NEWFALSE": False, "NONE": None}
_CORE = ("numpy.core.multiarray", "numpy._core.multiarray")
_NAMES = {
    ("_codecs", "encode"): "encode",  # how Python 3 writes bytes up to protocol 2
    **{(module, "bytearray"): "bytearray" for module in ("builtins", "__builtin__")},
    **{(module, "bytes"): "bytearray" for module in ("builtins", "__builtin__")},
    ("numpy", "dtype"): "dtype",
    ("numpy", "ndarray"): "ndarray",
    **{(module, "_reconstruct"): "array" for module in _CORE},
    **{(module, "scalar"): "scalar" for module in _CORE},
    **{(module, "_frombuffer"): "frombuffer" for module in ("numpy.core.numeric", "numpy._core.numeric")},
}
_MARK = object()


class RefusedPickle(ValueError):
    """The pickle asks for something that no plain value needs."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A name that a pickle may ask for; nothing is called by it."""

    does: str


@dataclass(slots=True)
class _Later:
    """An array or its kind, whose state a later instruction gives."""

    value: Any = None


def unpickle(data: bytes) -> Any:
    """What the pickle builds.

    Raises:
        RefusedPickle: it asks for anything else.
        ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError: it is damaged.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    made = 0  # bytes that were copied: a small file may ask for the same ones again and again

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
        elif name in ("BINSTRING", "SHORT_BINSTRING", "STRING"):
            assert isinstance(arg, str)  # genops reads Python 2's bytes as latin-1
            stack.append(arg.encode("latin-1"))
        elif name == "BYTEARRAY8":
            stack.append(bytes(arg))  # type: ignore[arg-type]
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
            if len(stack) < n:
                raise ValueError("a tuple of less than it says")
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
        elif name == "GLOBAL":
            stack.append(_named(*str(arg).split(" ", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = stack.pop(), stack.pop()
            stack.append(_named(module, attribute))
        elif name == "REDUCE":
            args, function = stack.pop(), stack.pop()
            if not (isinstance(function, _Name) and isinstance(args, tuple)):
                raise RefusedPickle("its pickle asks for REDUCE of what is no known name")
            stack.append(_call(function.does, args))
            made += _size(stack[-1])
        elif name == "BUILD":
            state = stack.pop()
            if not isinstance(stack[-1], _Later):
                raise RefusedPickle("its pickle asks for BUILD")
            _set(stack[-1], state)
            made += _size(stack[-1])
        elif name == "STOP":
            return _plain(stack[-1])
        elif name not in ("PROTO", "FRAME"):
            raise RefusedPickle(f"its pickle asks for {name}" + (f" {arg}" if name == "INST" else ""))
        if made > 4 * len(data):
            raise ValueError("it makes more bytes than it has")
    raise ValueError("it has no end")


def _named(module: Any, attribute: Any = None) -> _Name:
    does = _NAMES.get((module, attribute)) if isinstance(module, str) and isinstance(attribute, str) else None
    if does is None:
        raise RefusedPickle(f"its pickle asks for {str(module)[:80]} {str(attribute)[:80]}")
    return _Name(does)


def _call(does: str, args: tuple[Any, ...]) -> Any:
    """What a name of `_NAMES` gives for these arguments."""
    if does == "encode" or (does == "bytearray" and len(args) == 2):
        text, encoding = args
        if encoding not in ("latin1", "latin-1"):
            raise ValueError(f"bytes written as {encoding!r}")
        if not isinstance(text, str):
            raise RefusedPickle("its pickle asks for the bytes of what is no text")
        return text.encode("latin-1")
    if does == "bytearray":
        if args and not isinstance(args[0], bytes):
            raise RefusedPickle("its pickle asks for bytes of what holds none")
        return args[0] if args else b""
    if does == "dtype":
        return _Later(_dtype(args[0]))
    if does == "array":  # its state follows
        return _Later()
    if does == "scalar":
        kind, data = args
        return _array(data, kind, ()).item()
    if does == "frombuffer":
        data, kind, shape, order = args
        return _Later(_array(data, kind, shape, fortran=order == "F"))
    raise RefusedPickle(f"its pickle asks to call {does}")


def _set(what: _Later, state: Any) -> None:
    """Give an array its state, ``(1, shape, kind, fortran, bytes)``, or a kind its byte order, ``(3, '<', …)``."""
    if isinstance(what.value, np.dtype):
        order = state[1]
        if order not in ("|", "<", ">", "="):
            raise ValueError(f"numbers of the byte order {order!r}")
        what.value = what.value.newbyteorder(order) if order in ("<", ">") else what.value
        return
    _, shape, kind, fortran, data = state
    what.value = _array(data, kind, shape, bool(fortran))


def _array(data: Any, kind: Any, shape: Any, fortran: bool = False) -> Any:
    if not (isinstance(kind, _Later) and isinstance(kind.value, np.dtype)):
        raise ValueError("an array of no known kind")
    if kind.value.kind == "O":  # a list of other things
        if not isinstance(data, list) or len(shape) != 1 or shape[0] != len(data):
            raise ValueError("an array of other things than it says")
        return data
    found = np.frombuffer(data, kind.value)
    return found.reshape(shape, order="F" if fortran else "C")


def _dtype(name: Any) -> np.dtype[Any]:
    known = {"b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "O8", "O"}
    if isinstance(name, bytes):
        name = name.decode("latin-1")
    if name not in known:
        raise RefusedPickle(f"its pickle asks for arrays of {str(name)[:40]}")
    found: np.dtype[Any] = np.dtype(name)
    return found


def _plain(value: Any) -> Any:
    """The value with arrays in the place of what stood for them, two levels deep."""

    def inner(one: Any) -> Any:
        return one.value if isinstance(one, _Later) else one

    def outer(one: Any) -> Any:
        one = inner(one)
        return [inner(item) for item in one] if isinstance(one, list) else one

    value = inner(value)
    return type(value)(outer(one) for one in value) if isinstance(value, tuple | list) else value


def _size(value: Any) -> int:
    value = value.value if isinstance(value, _Later) else value
    return value.nbytes if isinstance(value, np.ndarray) else len(value) if isinstance(value, bytes) else 0
