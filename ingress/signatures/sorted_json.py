"""JSON written anew with sorted keys, each number with the digits it came with: 1.0 must not become 1 under a signature."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeAlias

from schemas.providers.body import require_bounded

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
        NotAnObjectError: It is not UTF-8, not JSON, not an object, nested too deeply, or has too many values.
    """
    try:
        require_bounded(body)
        value = json.loads(body.decode("utf-8-sig"), parse_int=Number, parse_float=Number, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise NotAnObjectError from None
    if not isinstance(value, dict):
        raise NotAnObjectError
    return value


def write_sorted(value: Mapping[str, Value]) -> bytes:
    """The object without white space, keys sorted by code point on every level, characters beyond ASCII as they are.

    Raises:
        NotAnObjectError: It is nested too deeply, or holds half of a surrogate pair.
    """
    try:
        return _written(dict(value)).encode()
    except (RecursionError, UnicodeEncodeError):
        raise NotAnObjectError from None


def _written(value: Value) -> str:
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{_quoted(name)}:{_written(value[name])}" for name in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_written(item) for item in value) + "]"
    return _quoted(value)


def _refuse(constant: str) -> Value:
    del constant
    raise NotAnObjectError  # NaN and Infinity are no JSON
