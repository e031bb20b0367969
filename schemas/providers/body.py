"""A webhook's body as JSON: read leniently, never repaired, and never a crash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TypeAlias

import msgspec

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = Mapping[str, Json]

NOT_JSON = "not_json"
NOT_AN_OBJECT = "not_an_object"
NO_ENTITY = "no_entity"

MAX_NESTING = 100
"""Levels of arrays and objects. Without a limit of our own the interpreter's decides, which depends on who calls."""


class UnreadableBodyError(ValueError):
    """The body is no JSON object.

    Attributes:
        reason: `not_json` or `not_an_object`.
        detail: Where the reading stopped, without any of the body.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


_TOO_DEEP = "nested too deeply"
_decoder = msgspec.json.Decoder(dict[str, object])


def read_body(body: bytes) -> dict[str, Json]:
    """The JSON object that the body is. A UTF-8 byte order mark is allowed; the last of equal keys counts.

    Raises:
        UnreadableBodyError: It is not UTF-8, not JSON, too deeply nested, or not an object.
    """
    try:
        content = _decoder.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except msgspec.ValidationError as error:
        if str(error).startswith("Expected `object`"):
            raise UnreadableBodyError(NOT_AN_OBJECT, "the top level is not a JSON object") from None
        raise UnreadableBodyError(NOT_JSON, "a number is out of range") from None
    except RecursionError:
        raise UnreadableBodyError(NOT_JSON, _TOO_DEEP) from None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise UnreadableBodyError(NOT_JSON, _detail(error)) from None
    # Only a body with this many brackets can be nested this deeply: the others are not walked through.
    if body.count(b"[") + body.count(b"{") > MAX_NESTING and _too_deep(content):
        raise UnreadableBodyError(NOT_JSON, _TOO_DEEP)
    return content  # type: ignore[return-value]  # JSON in, Json out


def _too_deep(content: object) -> bool:
    level: list[object] = [content]
    for _ in range(MAX_NESTING):
        inner: list[object] = []
        for node in level:
            if isinstance(node, dict):
                inner += [value for value in node.values() if isinstance(value, dict | list)]
            elif isinstance(node, list):
                inner += [value for value in node if isinstance(value, dict | list)]
        level = inner
    return bool(level)


def _detail(error: Exception) -> str:
    # msgspec words a position, never content; other errors may quote the body, so only their kind is told.
    return str(error) if type(error) is msgspec.DecodeError else type(error).__name__


def canonical_digest(body: JsonObject) -> str:
    """SHA-256 (hex) of the body with sorted keys and without white space: equal for equal content."""
    return hashlib.sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()


def id_text(value: Json) -> str | None:
    """An id as text: ids are opaque, and either JSON text or an integer; anything else, or nothing, is no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)
    return value if isinstance(value, str) and value.strip() else None
