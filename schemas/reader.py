"""Avro bodies of our records, read by functions that are compiled from the schemas: the counterpart of `schemas.writer`.

fastavro reads into a dictionary, of which msgspec then makes the record and checks each value again. A function that knows the
fields in their order makes the record at once: a third of the time (docs/performance.md). It is for the kinds that the worker
reads by the thousand; all others, and all older schemas, are read by fastavro. A property test holds both to the same answers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, TypeVar

from kybstream.ids import from_micros

R = TypeVar("R")

Read = Callable[[bytes, int], tuple[R, int]]
"""From bytes and where the body begins to the record and where it ends.

The end may lie behind the end of the bytes: then the bytes end early, and the record is of no use.
"""

AvroType = str | list[Any] | dict[str, Any]

_INDENT = "    "
_ONE_BYTE_SYMBOLS = 64
_LAST_SHIFT = 63
"""Of the tenth byte of a long; there is no eleventh."""


def compile_reader(schema: dict[str, Any], kind: Callable[..., R]) -> Read[R]:
    """A function that reads bodies of this schema.

    `kind` is called with a keyword for each field of the schema. Supported is what the records need that are read often:
    string, bytes, long, int, boolean, timestamp-micros, enums, arrays, and null or one of these. An array becomes a tuple.

    What it returns raises ValueError, IndexError, KeyError or OverflowError for bytes that are no such body.

    Raises:
        ValueError: The schema uses something else.
    """
    symbols: dict[str, Mapping[int, str]] = {}
    lines = ["def read(b, p):"]
    names = [str(field["name"]) for field in schema["fields"]]
    for name, field in zip(names, schema["fields"], strict=True):
        if not name.isidentifier():
            raise ValueError(f"{name!r} is not a name")
        lines += (_INDENT + line for line in _value(f"f_{name}", field["type"], symbols))
    lines.append(f"{_INDENT}return kind({', '.join(f'{name}=f_{name}' for name in names)}), p")
    given: dict[str, Any] = {"kind": kind, "size": _size, "long": read_long, "moment": _moment, "symbols": symbols}
    # The source is made of our own schema files, whose names Avro restricts to identifiers.
    exec("\n".join(lines), given)  # noqa: S102
    read: Read[R] = given["read"]
    return read


def read_long(source: bytes, position: int) -> tuple[int, int]:
    """The Avro long (or int) at a position, and the position after it.

    Raises:
        IndexError: The bytes end before it does.
        ValueError: It has more than ten bytes.
    """
    value = shift = 0
    while True:
        byte = source[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte <= 0x7F:  # noqa: PLR2004
            return (value >> 1) ^ -(value & 1), position
        shift += 7
        if shift > _LAST_SHIFT:
            raise ValueError("a number of more than ten bytes")


def _moment(source: bytes, position: int) -> tuple[datetime, int]:
    """A timestamp-micros; all times of this century have eight bytes, whose groups of seven bits are joined in pairs."""
    n = int.from_bytes(source[position : position + 8], "little")
    if n & 0x8080808080808080 != 0x0080808080808080:  # noqa: PLR2004 - all but the eighth byte say that there is more
        micros, position = read_long(source, position)
        return from_micros(micros), position
    n = n & 0x007F007F007F007F | (n & 0x7F007F007F007F00) >> 1
    n = n & 0x00003FFF00003FFF | (n & 0x3FFF00003FFF0000) >> 2
    n = n & 0x000000000FFFFFFF | (n & 0x0FFFFFFF00000000) >> 4
    return from_micros((n >> 1) ^ -(n & 1)), position + 8


def _size(source: bytes, position: int) -> tuple[int, int]:
    """A long that is a length."""
    number, position = read_long(source, position)
    if number < 0:
        raise ValueError("a length below zero")
    return number, position


def _value(target: str, kind: AvroType, symbols: dict[str, Mapping[int, str]]) -> Iterator[str]:
    """Lines that read a value into a variable."""
    match kind:
        case ["null", other]:
            yield "n = b[p]; p += 1"
            yield "if n == 2:"
            yield from _indented(_value(target, other, symbols))
            yield "elif n == 0:"
            yield f"{_INDENT}{target} = None"
            yield "else:"
            yield f"{_INDENT}raise ValueError"
        case {"type": "long", "logicalType": "timestamp-micros"}:
            yield f"{target}, p = moment(b, p)"
        case {"type": "enum", "name": str(enum), "symbols": list(known)}:
            if len(known) > _ONE_BYTE_SYMBOLS:
                raise ValueError(f"no reader for an enum of {len(known)} symbols")
            symbols[enum] = {number << 1: symbol for number, symbol in enumerate(known)}
            yield f"{target} = symbols[{enum!r}][b[p]]; p += 1"
        case {"type": "array", "items": str(inner)}:
            yield from _array(target, inner, symbols)
        case {"type": str(plain)}:
            yield from _value(target, plain, symbols)
        case _:
            yield from _primitive(target, kind)


def _primitive(target: str, kind: AvroType) -> Iterator[str]:
    match kind:
        case "string" | "bytes":
            # Nearly all lengths are below 64: one byte, whose lowest bit is the sign.
            yield "n = b[p]"
            yield "if n & 0x81:"
            yield f"{_INDENT}n, p = size(b, p)"
            yield "else:"
            yield f"{_INDENT}n >>= 1; p += 1"
            yield f"{target} = b[p:p + n]{'.decode()' if kind == 'string' else ''}"
            yield "p += n"
        case "long" | "int":
            yield f"{target}, p = long(b, p)"
        case "boolean":
            yield f"{target} = (False, True)[b[p]]; p += 1"
        case _:
            raise ValueError(f"no reader for the Avro type {kind!r}")


def _array(target: str, inner: str, symbols: dict[str, Mapping[int, str]]) -> Iterator[str]:
    """Blocks until an empty one; a negative number of entries is followed by the block's size in bytes."""
    yield "if b[p] == 0:"
    yield f"{_INDENT}{target} = (); p += 1"
    yield "else:"
    yield f"{_INDENT}many = []"
    yield f"{_INDENT}while True:"
    yield f"{_INDENT * 2}left, p = long(b, p)"
    yield f"{_INDENT * 2}if left == 0: break"
    yield f"{_INDENT * 2}if left < 0: left = -left; n, p = long(b, p)"
    yield f"{_INDENT * 2}for _ in range(left):"
    yield from _indented(_indented(_indented(_value("one", inner, symbols))))
    yield f"{_INDENT * 3}many.append(one)"
    yield f"{_INDENT}{target} = tuple(many)"


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (_INDENT + line for line in lines)
