"""JSON written anew with sorted keys, each number with the digits it came with: 1.0 must not become 1 under a signature."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

from schemas.providers.body import require_bounded
from schemas.providers.mending import BAD_ESCAPE

_quoted = json.JSONEncoder(ensure_ascii=False).encode


class Number(str):
    """A JSON number as its text."""

    __slots__ = ()


Value: TypeAlias = "bool | Number | str | list[Value] | dict[str, Value] | None"


class NotAnObjectError(ValueError):
    """The body is no JSON object that can be read."""


def parse_object(body: bytes) -> dict[str, Value]:
    """The JSON object that the body is.

    Raises:
        NotAnObjectError: It is not UTF-8, not JSON, not an object, nested too deeply, has too many values, or half of a
            surrogate pair, which could not be written.
    """
    try:
        require_bounded(body)
        if _has_half_a_pair(body):
            raise NotAnObjectError
        value = json.loads(body.decode("utf-8-sig"), parse_int=Number, parse_float=Number, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise NotAnObjectError from None
    if not isinstance(value, dict):
        raise NotAnObjectError
    return value


def _has_half_a_pair(body: bytes) -> bool:
    if rb"\ud" not in body and rb"\uD" not in body:
        return False
    return BAD_ESCAPE.search(body.replace(rb"\\", b"").replace(rb"\"", b"")) is not None


def write_sorted(value: Mapping[str, Value]) -> bytes:
    """The object without white space, keys sorted by code point on every level, characters beyond ASCII as they are.

    Raises:
        NotAnObjectError: It is nested too deeply, or holds half of a surrogate pair.
    """
    try:
        return text_of(value).encode()
    except UnicodeEncodeError:
        raise NotAnObjectError from None


def text_of(value: Mapping[str, Value]) -> str:
    """As `write_sorted`, before it is encoded: halves of surrogate pairs stay as they are.

    Raises:
        NotAnObjectError: It is nested too deeply.
    """
    pieces: list[str] = []
    try:
        _write(dict(value), pieces)
    except RecursionError:
        raise NotAnObjectError from None
    return "".join(pieces)


def _write(value: Value, pieces: list[str]) -> None:
    """Adds the value's pieces: to join them on each level would copy a text once a level."""
    if isinstance(value, Number):
        pieces.append(str(value))
    elif isinstance(value, dict):
        before = "{"
        for name in sorted(value):
            pieces += (before, _quoted(name), ":")
            _write(value[name], pieces)
            before = ","
        pieces.append("}" if value else "{}")
    elif isinstance(value, list):
        before = "["
        for item in value:
            pieces.append(before)
            _write(item, pieces)
            before = ","
        pieces.append("]" if value else "[]")
    else:
        pieces.append(_quoted(value))


def _refuse(constant: str) -> Value:
    del constant
    raise NotAnObjectError  # NaN and Infinity are no JSON
