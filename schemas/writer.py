"""Avro bodies of our records, written by functions that are compiled from the schemas: the hot half of `schemas.codec`.

fastavro writes dictionaries, so a record costs a dictionary first, and a check of each value against its type. Our records are
typed already, and a function that knows the fields in their order needs neither: a third of the time (docs/performance.md).
What is written is held to fastavro's bytes by a property test over every kind of record; reading is fastavro's alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from itertools import chain
from typing import Any

from kybstream.ids import to_micros

Write = Callable[[Any], bytes]
"""From a record to its Avro body, after a given beginning."""

AvroType = str | list[Any] | dict[str, Any]

_SHORT = 8192
_EIGHT_BYTES_FROM = 1 << 49
_NINE_BYTES_FROM = 1 << 56
_INDENT = "    "


def compile_writer(schema: dict[str, Any], beginning: bytes) -> Write:
    """A function that writes records of this schema, each after `beginning`.

    The record has an attribute for each field of the schema; the attribute's type is the field's. Supported is what our
    schemas use: string, bytes, long, int, boolean, timestamp-micros, enums, arrays, maps, records, and null or one of these.

    Raises:
        ValueError: The schema uses something else.
    """
    lines = ["def write(r):", f"{_INDENT}parts = [beginning]", f"{_INDENT}add = parts.append"]
    lines += (_INDENT + line for line in _record("r", schema["fields"], 0))
    lines.append(f"{_INDENT}return join(parts)")
    names: dict[str, Any] = {
        "beginning": beginning,
        "join": b"".join,
        "long": long_bytes,
        "short": _LENGTHS,
        "moment": _moment,
        "SHORT": _SHORT,
        "symbols": {},
    }
    _number_symbols(schema, names["symbols"])
    # The source is made of our own schema files, whose names Avro restricts to identifiers.
    exec("\n".join(lines), names)  # noqa: S102
    write: Write = names["write"]
    return write


def long_bytes(value: int) -> bytes:
    """An Avro long (or int): zigzag, then seven bits a byte, the lowest first."""
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    out = bytearray()
    while rest > 0x7F:  # noqa: PLR2004
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


@lru_cache(maxsize=256)
def _moment(value: datetime) -> bytes:
    """`long_bytes` of the microseconds; all times of this century have eight bytes. One delivery's records have few times."""
    n = to_micros(value) << 1
    if not _EIGHT_BYTES_FROM <= n < _NINE_BYTES_FROM:
        return long_bytes(n >> 1)
    return bytes(
        (
            n & 0x7F | 0x80,
            n >> 7 & 0x7F | 0x80,
            n >> 14 & 0x7F | 0x80,
            n >> 21 & 0x7F | 0x80,
            n >> 28 & 0x7F | 0x80,
            n >> 35 & 0x7F | 0x80,
            n >> 42 & 0x7F | 0x80,
            n >> 49,
        )
    )


_LENGTHS = tuple(long_bytes(number) for number in range(_SHORT))


def _record(expression: str, fields: list[Any], depth: int) -> Iterator[str]:
    for field in fields:
        if not str(field["name"]).isidentifier():
            raise ValueError(f"{field['name']!r} is not a name")
        yield from _value(f"{expression}.{field['name']}", field["type"], depth)


def _value(expression: str, kind: AvroType, depth: int) -> Iterator[str]:
    """Lines that write the value of an expression. `depth` keeps the names of nested loops apart."""
    name = f"v{depth}"
    match kind:
        case ["null", other]:
            yield f"{name} = {expression}"
            yield f"if {name} is None:"
            yield f"{_INDENT}add({long_bytes(0)!r})"
            yield "else:"
            yield f"{_INDENT}add({long_bytes(1)!r})"
            yield from _indented(_value(name, other, depth))
        case {"type": "long", "logicalType": "timestamp-micros"}:
            yield f"add(moment({expression}))"
        case {"type": "enum", "name": str(enum)}:
            # A KeyError here is a value that the type of the field does not have either.
            yield f"add(symbols[{enum!r}][{expression}])"
        case {"type": "record", "fields": list(fields)}:
            yield from _record(expression, fields, depth)
        case {"type": "array", "items": inner}:
            yield from _many(expression, depth, f"for i{depth} in v{depth}:", _value(f"i{depth}", inner, depth + 1))
        case {"type": "map", "values": inner}:
            pair = chain(_value(f"k{depth}", "string", depth + 1), _value(f"i{depth}", inner, depth + 1))
            yield from _many(expression, depth, f"for k{depth}, i{depth} in v{depth}.items():", pair)
        case {"type": str(plain)}:
            yield from _value(expression, plain, depth)
        case _:
            yield from _primitive(expression, kind)


def _primitive(expression: str, kind: AvroType) -> Iterator[str]:
    match kind:
        case "string" | "bytes":
            yield f"b = {expression}{'.encode()' if kind == 'string' else ''}"
            yield "n = len(b)"
            yield "add(short[n] if n < SHORT else long(n))"
            yield "add(b)"
        case "long" | "int":
            yield f"n = {expression}"
            yield "add(short[n] if 0 <= n < SHORT else long(n))"
        case "boolean":
            yield f"add(b'\\x01' if {expression} else b'\\x00')"
        case _:
            raise ValueError(f"no writer for the Avro type {kind!r}")


def _many(expression: str, depth: int, loop: str, entry: Iterator[str]) -> Iterator[str]:
    """An array or a map: one block with its number of entries, then the end."""
    yield f"v{depth} = {expression}"
    yield f"n = len(v{depth})"
    yield "if n:"
    yield f"{_INDENT}add(short[n] if n < SHORT else long(n))"
    yield f"{_INDENT}{loop}"
    yield from _indented(_indented(entry))
    yield f"add({long_bytes(0)!r})"


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (_INDENT + line for line in lines)


def _number_symbols(kind: AvroType, found: dict[str, dict[str, bytes]]) -> None:
    """Collects what each symbol of each enum is written as."""
    match kind:
        case {"type": "enum", "name": str(name), "symbols": list(symbols)}:
            found[name] = {symbol: long_bytes(number) for number, symbol in enumerate(symbols)}
        case {"type": "record", "fields": list(fields)}:
            for field in fields:
                _number_symbols(field["type"], found)
        case {"items": inner} | {"values": inner} | ["null", inner]:
            _number_symbols(inner, found)
        case _:
            pass
