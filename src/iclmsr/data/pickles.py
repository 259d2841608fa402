# SPDX-License-Identifier: Apache-2.0
"""Pickled data files, read as data: nothing that a file names is ever looked up or called.

``pickle.load`` runs whatever a file tells it to. Here :mod:`pickletools` cuts the file into
instructions, and a stack machine carries out those that make data; it has no others.
"""

import io
import math
import pickletools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from iclmsr.errors import IclmsrError

INSTRUCTIONS = {instruction.code: instruction for instruction in pickletools.opcodes}
KNOWN_NAMES = frozenset(
    {
        "_codecs.encode",
        "builtins.bytes",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.multiarray.scalar",
        "numpy.core.numeric._frombuffer",
        "numpy.dtype",
        "numpy.ndarray",
    }
)


class _RefusedError(Exception):
    """Something that no data file needs."""


@dataclass(frozen=True)
class _Symbol:
    """One of ``KNOWN_NAMES``, where the file has it."""

    name: str


@dataclass
class _Dtype:
    """A numeric dtype; a box, because the file sets its byte order after others refer to it."""

    value: "np.dtype[Any]"


def read_pickle(data: bytes, name: str) -> object:
    r"""What a pickle of plain data holds, for any protocol from 0 to 5.

    Args:
        data: The file's bytes.
        name: The file's name, for messages.

    Returns:
        None, bools, numbers, bytes, strings, tuples, lists, dicts and numpy arrays of numbers.
        Python 2's ``str`` is bytes.

    Raises:
        IclmsrError: The file names anything else, e.g. a function, or is damaged.

    >>> read_pickle(b"(lp0\nI7\naVseven\na.", "demo")
    [7, 'seven']
    >>> read_pickle(b"cos\nsystem\n(Vdate\ntR.", "demo")
    Traceback (most recent call last):
    iclmsr.errors.IclmsrError: demo: refusing 'os.system': a data file may hold only arrays, ...
    """
    try:
        return _run(data)
    except _RefusedError as error:
        raise IclmsrError(
            f"{name}: refusing {error}: a data file may hold only arrays, strings, lists and dicts"
        ) from None
    except (ValueError, TypeError, LookupError, OverflowError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise IclmsrError(f"{name}: not a complete pickle ({reason})") from error


def _run(data: bytes) -> object:
    """Carries out the instructions; malformed input raises one of a few built-in exceptions."""
    stack: list[Any] = []
    below: list[list[Any]] = []  # what was on the stack at each open MARK
    memo: dict[int, Any] = {}
    for name, argument in _instructions(data):
        match name:
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                memo[_int(argument)] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET" | "GET":
                stack.append(memo[_int(argument)])
            case "BININT" | "BININT1" | "BININT2" | "INT" | "LONG" | "LONG1" | "LONG4":
                stack.append(_int(argument))
            case "STRING" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument.encode("latin-1"))
            case "UNICODE" | "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8":
                stack.append(argument)
            case "SHORT_BINBYTES" | "BINBYTES" | "BINBYTES8" | "BYTEARRAY8":
                stack.append(argument)
            case "FLOAT" | "BINFLOAT":
                stack.append(argument)
            case "NONE":
                stack.append(None)
            case "NEWTRUE" | "NEWFALSE":
                stack.append(name == "NEWTRUE")
            case "MARK":
                below.append(stack)
                stack = []
            case "POP_MARK":
                stack = below.pop()
            case "POP" if stack:
                stack.pop()
            case "POP":  # on an empty stack it takes the MARK
                stack = below.pop()
            case "DUP":
                stack.append(stack[-1])
            case "EMPTY_LIST":
                stack.append([])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_DICT":
                stack.append({})
            case "LIST":
                items, stack = stack, below.pop()
                stack.append(items)
            case "TUPLE":
                items, stack = stack, below.pop()
                stack.append(tuple(items))
            case "DICT":
                items, stack = stack, below.pop()
                stack.append(_dict(items))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [stack.pop() for _ in range(int(name[-1]))]
                stack.append(tuple(reversed(items)))
            case "APPEND":
                item = stack.pop()
                list.append(stack[-1], item)  # a TypeError unless it is a list; so below
            case "APPENDS":
                items, stack = stack, below.pop()
                list.extend(stack[-1], items)
            case "SETITEM":
                value, key = stack.pop(), stack.pop()
                dict.update(stack[-1], _dict([key, value]))
            case "SETITEMS":
                items, stack = stack, below.pop()
                dict.update(stack[-1], _dict(items))
            case "GLOBAL":
                stack.append(_symbol(argument.replace(" ", ".")))
            case "STACK_GLOBAL":
                attribute, module = stack.pop(), stack.pop()
                stack.append(_symbol(".".join((module, attribute))))
            case "REDUCE":
                arguments = stack.pop()
                stack[-1] = _reduce(stack[-1], arguments)
            case "BUILD":
                state = stack.pop()
                _build(stack[-1], state)
            case "PROTO" | "FRAME":
                pass
            case "INST":
                raise _RefusedError(repr(argument.replace(" ", ".")))
            case _:
                raise _RefusedError(f"the pickle instruction {name}")
    return stack.pop()


def _instructions(data: bytes) -> Iterator[tuple[str, Any]]:
    """Names and arguments up to STOP: ``pickletools.genops``, which wants a STRING in ASCII."""
    stream = io.BytesIO(data)
    while (code := stream.read(1)) != b".":
        instruction = INSTRUCTIONS.get(code.decode("latin-1"))
        if instruction is None:
            raise ValueError(f"unknown instruction {code!r}" if code else "no STOP at its end")
        if instruction.name == "STRING":
            quoted = stream.readline().rstrip(b"\n")
            yield "STRING", quoted[1:-1].decode("unicode_escape")
        else:
            yield instruction.name, instruction.arg and instruction.arg.reader(stream)


def _int(value: Any) -> Any:
    """The integer (or bool) itself, if it fits into 64 bits: no size or label needs more."""
    if not -(2**63) <= value < 2**63:
        raise OverflowError("an integer of more than 64 bits")
    return value


def _dict(items: list[Any]) -> dict[str | bytes | int, Any]:
    """``[key, value, key, value, ...]`` as a dict."""
    keys = items[::2]
    if not all(isinstance(key, str | bytes | int) for key in keys):
        raise TypeError("a key is neither a string nor an integer")
    return dict(zip(keys, items[1::2], strict=True))


def _symbol(name: str) -> _Symbol:
    """A known name; numpy 2 and Python 2 have others for the same things."""
    known = name.replace("numpy._core.", "numpy.core.").replace("__builtin__.", "builtins.")
    if known not in KNOWN_NAMES:
        raise _RefusedError(repr(name))
    return _Symbol(known)


def _reduce(symbol: Any, arguments: Any) -> Any:
    """What the call stands for, if it is one of those that make up a pickled array."""
    match symbol, arguments:
        case _Symbol("numpy.dtype"), (str() | bytes() as code, *_):
            return _Dtype(_numeric(code if isinstance(code, str) else code.decode("latin-1")))
        case _Symbol("numpy.core.multiarray._reconstruct"), (_Symbol("numpy.ndarray"), _, _):
            return np.empty(0, np.uint8)  # BUILD fills it in
        case _Symbol("numpy.core.multiarray.scalar"), (_Dtype() as dtype, bytes() as raw):
            return _array(raw, dtype, (), "C").item()
        case (
            _Symbol("numpy.core.numeric._frombuffer"),
            (bytes() | bytearray() as raw, _Dtype() as dtype, tuple() as shape, str() as order),
        ) if order in ("C", "F"):
            return _array(raw, dtype, shape, "C" if order == "C" else "F")
        case _Symbol("_codecs.encode"), (str() as text, "latin1" | "latin-1"):
            return text.encode("latin-1")
        case _Symbol("builtins.bytes"), ():
            return b""
        case _Symbol(name), _:
            raise TypeError(f"{name} with arguments that no array of numbers has")
    raise TypeError("a call of something that is not a name")


def _build(target: Any, state: Any) -> None:
    """Gives an array its content or a dtype its byte order, in place: the memo refers to it."""
    match target, state:
        case (
            np.ndarray(),
            (int(), tuple() as shape, _Dtype() as dtype, int() as fortran, bytes() as raw),
        ):
            _check_size(raw, dtype, shape)
            content: Any = (1, shape, dtype.value, bool(fortran), raw)
            target.__setstate__(content)
        case _Dtype(), (int(), "<" | b"<" | "|" | b"|", None, None, None, *_):
            target.value = target.value.newbyteorder("<")
        case _Dtype(), (int(), ">" | b">", None, None, None, *_):
            target.value = target.value.newbyteorder(">")
        case _:
            raise TypeError("a state that no array of numbers has")


def _numeric(code: str) -> "np.dtype[Any]":
    """The dtype of a code such as ``u1`` or ``f4``."""
    if not re.fullmatch(r"[biufc]\d+", code):
        raise _RefusedError(f"values of type {code!r}")
    return np.dtype(code)


def _array(
    raw: bytes | bytearray, dtype: _Dtype, shape: tuple[Any, ...], order: Literal["C", "F"]
) -> NDArray[Any]:
    """The array whose memory is ``raw``."""
    _check_size(raw, dtype, shape)
    return np.ndarray(shape, dtype.value, raw, order=order)


def _check_size(raw: bytes | bytearray, dtype: _Dtype, shape: tuple[Any, ...]) -> None:
    """Raises unless ``raw`` has exactly the bytes that an array of ``shape`` has."""
    if len(shape) > 32 or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise TypeError("a shape is not made of at most 32 integers >= 0")
    expected = math.prod(shape) * dtype.value.itemsize
    if len(raw) != expected:
        raise ValueError(
            f"an array of shape {shape} and {dtype.value} takes {expected:,} bytes, "
            f"found {len(raw):,}"
        )
