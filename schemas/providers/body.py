"""A webhook's body as JSON: read leniently, its structure never repaired, and never a crash."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Mapping
from functools import cache
from typing import NamedTuple, TypeAlias

import msgspec

from schemas.providers.mending import MAX_QUOTES, REPLACEMENT, REPLACEMENT_BYTES, mend

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
JsonObject: TypeAlias = Mapping[str, Json]

NOT_JSON = "not_json"
NOT_AN_OBJECT = "not_an_object"
NO_ENTITY = "no_entity"

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

MAX_NESTING = 100
"""Levels of arrays and objects. Without a limit of our own the interpreter's decides, which depends on who calls."""

MAX_VALUES = 20_000
"""Of a body: its commas and opening brackets outside texts. Each value costs an object; documented bodies have some forty."""

_EXACT = 2**53


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


class Reading(NamedTuple):
    """What a body says.

    Attributes:
        content: The JSON object.
        unreadable: Top-level fields that hold, somewhere, a text or number that cannot be read, in the body's order.
    """

    content: dict[str, Json]
    unreadable: tuple[str, ...] = ()


IDS = ("service_id", "userNo", "merchantNo", "subMerchantNo")
"""Fields that say what a body is about: of these, different texts stay different even where they cannot be read."""

_TOO_DEEP = "nested too deeply"
_TOO_MANY = f"more than {MAX_VALUES} values"
_NOT_AN_OBJECT = "the top level is not a JSON object"
_OTHER_VALUES = frozenset(bytes([first]) for first in b'["-0123456789tfn')
"""First bytes of JSON that is no object."""
_LARGE = 32 * 1024
"""Bytes from which a decoder that remembers the numbers it has read is worth being made."""


def read_float(text: str) -> float:
    """A JSON number that is no integer, by the interpreter's own reader: at most 2 us, whatever its digits and its exponent.

    The `float_hook` of every decoder of what a sender wrote: msgspec's own reader takes 20 us for `9e307`.

    Raises:
        msgspec.ValidationError: It is out of range.
    """
    value = float(text)
    if math.isinf(value):
        raise msgspec.ValidationError("Number out of range")
    return value


_Decoder: TypeAlias = msgspec.json.Decoder[dict[str, object]]
_decoder = msgspec.json.Decoder(dict[str, object], float_hook=read_float)
decode = msgspec.json.Decoder(float_hook=read_float).decode
"""Any JSON."""
_ids_decoder = msgspec.json.Decoder(msgspec.defstruct("Ids", [(name, msgspec.Raw, msgspec.Raw()) for name in IDS]))
_raw_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_body(body: bytes) -> Reading:
    r"""The JSON object that the body is. A UTF-8 byte order mark is allowed; the last of equal keys counts.

    What cannot be read within a text (half of a surrogate pair, bytes that are no UTF-8, control characters, a broken escape)
    becomes U+FFFD. A number that no number type holds (1e999, NaN, Infinity, more than 4300 digits) becomes null. In the fields
    of `IDS` it becomes an escape such as `\ud83d` instead: two ids that differ must not become one. An id of which nothing can
    be read is null.

    Raises:
        UnreadableBodyError: It is not JSON, too deeply nested, not an object, or has too many values.
    """
    body = body.removeprefix(BYTE_ORDER_MARK)
    brackets = require_bounded(body)
    # A body that is mended is read twice, its numbers once.
    decoder = _decoder if len(body) < _LARGE else msgspec.json.Decoder(dict[str, object], float_hook=cache(read_float))
    try:
        reading = Reading(_decoded(body, decoder))
    except UnreadableBodyError as error:
        if error.reason != NOT_JSON or error.detail == _TOO_DEEP:
            raise
        reading = _read_mended(body, decoder, error)
    # Only a body with this many brackets can be nested this deeply: the others are not walked through.
    if brackets > MAX_NESTING and _too_deep(reading.content):
        raise UnreadableBodyError(NOT_JSON, _TOO_DEEP)
    return reading


def read_ids(body: bytes) -> dict[str, Json]:
    """The fields of `IDS` that are texts or numbers, as `read_body` gives them, without making objects of everything else.

    Costs milliseconds a mebibyte, whatever is in it. It says nothing of the rest: `read_body` may still refuse the body.

    Raises:
        UnreadableBodyError: The structure is not sound, no object, or has too many values.
    """
    body = body.removeprefix(BYTE_ORDER_MARK)
    require_bounded(body)
    try:
        return _ids_of(body)
    except RecursionError:
        raise UnreadableBodyError(NOT_JSON, _TOO_DEEP) from None
    except (msgspec.MsgspecError, ValueError) as error:
        if str(error).startswith("Expected `object`"):
            raise UnreadableBodyError(NOT_AN_OBJECT, _NOT_AN_OBJECT) from None
        unreadable = UnreadableBodyError(NOT_JSON, _detail(error))
    mended = mend(body)
    if mended is None or mended.body == body:
        raise unreadable
    try:
        content = _ids_of(mended.body)
        marked = _ids_decoder.decode(mended.marked)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise unreadable from None
    names = tuple(name for name in IDS if REPLACEMENT_BYTES in bytes(getattr(marked, name)))
    distinct = mend(body, distinct=True) if names else None
    told_apart = {} if distinct is None else _ids_of(distinct.body)
    for name in names:
        content[name] = _told(content.get(name), told_apart.get(name))
    return content


def _told(mended: Json, told_apart: Json) -> Json:
    """An id that may be unreadable: null if nothing of it can be read. U+FFFD as it was sent is an id like others."""
    if isinstance(mended, str) and isinstance(told_apart, str) and told_apart.replace("\\\\", "\\") == mended:
        return mended
    legible = str(mended).replace(REPLACEMENT, "").strip()
    return told_apart if legible or told_apart == mended else None


def _ids_of(body: bytes) -> dict[str, Json]:
    found = _ids_decoder.decode(body)
    content: dict[str, Json] = {}
    for name in IDS:
        raw = bytes(getattr(found, name))
        if raw and raw[:1] not in (b"[", b"{"):
            content[name] = decode(raw)
    return content


def _read_mended(body: bytes, decoder: _Decoder, error: UnreadableBodyError) -> Reading:
    mended = mend(body)
    if mended is None or mended.body == body:
        raise error
    try:
        content = _decoded(mended.body, decoder)
    except UnreadableBodyError as still:
        # Positions are those of the body as it came.
        raise (error if still.reason == NOT_JSON else still) from None
    raw = _raw_decoder.decode(mended.marked)
    unreadable = tuple(name for name, value in raw.items() if REPLACEMENT in name or REPLACEMENT_BYTES in bytes(value))
    if not set(IDS).isdisjoint(unreadable):
        content |= _ids(body, content, unreadable)
    return Reading(content, unreadable)


def _ids(body: bytes, content: JsonObject, unreadable: Collection[str]) -> dict[str, Json]:
    """The ids among the unreadable fields, as `read_body` promises; an id of which nothing can be read is null."""
    distinct = mend(body, distinct=True)
    # The rest of the body is not read once more for them.
    told_apart = {} if distinct is None else _ids_of(distinct.body)
    return {
        name: _told(value, told_apart.get(name))
        for name in IDS
        if name in unreadable and not isinstance(value := content[name], list | dict)
    }


def require_bounded(body: bytes) -> int:
    """How many brackets the body opens, at most. Costs milliseconds a mebibyte, whatever is in it.

    Raises:
        UnreadableBodyError: It has more than `MAX_VALUES`.
    """
    brackets = _brackets(body)
    if brackets + body.count(b",") <= MAX_VALUES and body.count(b'"') <= MAX_QUOTES:
        return brackets
    # Or only its texts are full of them.
    text = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    if text.count(b'"') <= MAX_QUOTES:
        outside = b"".join(text.split(b'"')[::2])
        if _brackets(outside) + outside.count(b",") <= MAX_VALUES:
            return brackets
    if body.lstrip(b" \t\r\n")[:1] in _OTHER_VALUES:
        raise UnreadableBodyError(NOT_AN_OBJECT, _NOT_AN_OBJECT)
    raise UnreadableBodyError(NOT_JSON, _TOO_MANY)


def _brackets(body: bytes) -> int:
    return body.count(b"[") + body.count(b"{")


def _decoded(body: bytes, decoder: _Decoder) -> dict[str, Json]:
    try:
        return decoder.decode(body)  # type: ignore[return-value]  # JSON in, Json out
    except msgspec.ValidationError as error:
        if str(error).startswith("Expected `object`"):
            raise UnreadableBodyError(NOT_AN_OBJECT, _NOT_AN_OBJECT) from None
        raise UnreadableBodyError(NOT_JSON, "a number is out of range") from None
    except RecursionError:
        raise UnreadableBodyError(NOT_JSON, _TOO_DEEP) from None
    except (msgspec.DecodeError, UnicodeDecodeError, ValueError) as error:
        raise UnreadableBodyError(NOT_JSON, _detail(error)) from None


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


def code_text(value: Json) -> str | None:
    """A code as text: as `id_text`, and a number with a fraction or an exponent that is whole is that integer: 2.0 is 2.

    A number too large to be told from its neighbours (2^53) is none.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return str(int(value))
    return id_text(value)
