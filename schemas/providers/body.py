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


_decoder = msgspec.json.Decoder(dict[str, object])


def read_body(body: bytes) -> dict[str, Json]:
    """The JSON object that the body is. A UTF-8 byte order mark is allowed; the last of equal keys counts.

    Raises:
        UnreadableBodyError: It is not UTF-8, not JSON, too deeply nested, or not an object.
    """
    try:
        return _decoder.decode(body.removeprefix(b"\xef\xbb\xbf"))  # type: ignore[return-value]  # JSON in, Json out
    except msgspec.ValidationError as error:
        if str(error).startswith("Expected `object`"):
            raise UnreadableBodyError(NOT_AN_OBJECT, "the top level is not a JSON object") from None
        raise UnreadableBodyError(NOT_JSON, "a number is out of range") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise UnreadableBodyError(NOT_JSON, _detail(error)) from None


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
