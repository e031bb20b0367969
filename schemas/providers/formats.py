"""From a body as it was sent to the JSON in it: its codings undone, taken out of a form or a text where the source says so."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar

from kybstream.settings.values import FORM, JSON_TEXT, MAX_BODY_BYTES
from schemas.providers.body import BYTE_ORDER_MARK, NOT_JSON, UnreadableBodyError
from schemas.providers.codings import TooLargeError, undo
from schemas.providers.json_text import inner_json
from schemas.providers.mending import MAX_UNREADABLE

MAX_FORM_FIELDS = 64
"""Fields of a form that are looked through for the one with the JSON."""

R = TypeVar("R")

_BARE_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_TOKENS = re.compile(r"[A-Za-z0-9!#$&^_.+-]{1,32}(?:, ?[A-Za-z0-9!#$&^_.+-]{1,32}){0,7}")


def read_sent(read: Callable[[bytes], R], body: bytes, body_format: str | None, content_encoding: str | None) -> R:
    """What is read of the JSON of a delivery.

    Args:
        read: Reads JSON; raises UnreadableBodyError.
        body: As the record of the delivery has it, in clear.
        body_format: `json-text`, `form:<field>`, or None for JSON, as in the record.
        content_encoding: The codings that the ingress could not undo; a body that was not coded at all is read as it is.

    Raises:
        UnreadableBodyError: There is none, or `read` raises it. The detail names a coding that cannot be undone.
    """
    if content_encoding is None:
        return read(_json(body, body_format))
    try:
        undone = undo(body, content_encoding, max_bytes=MAX_BODY_BYTES)
    except TooLargeError:
        undone = None
    try:
        return read(_json(body if undone is None else undone, body_format))
    except UnreadableBodyError as error:
        if undone is not None:
            raise
        # Only names of codings, nothing else that a sender may have written there.
        name = content_encoding if _TOKENS.fullmatch(content_encoding) else "of no known form"
        raise UnreadableBodyError(NOT_JSON, f"its content coding cannot be undone: {name}") from error


def _json(body: bytes, body_format: str | None) -> bytes:
    if body_format is None:
        return body
    body = body.removeprefix(BYTE_ORDER_MARK)
    if body_format != JSON_TEXT:
        return _form_field(body, body_format.removeprefix(FORM).encode())
    found = inner_json(body)
    if found is None:
        raise UnreadableBodyError(NOT_JSON, "the body is no JSON text, as body_format says")
    return found


def _form_field(body: bytes, wanted: bytes) -> bytes:
    """The field of a form (`application/x-www-form-urlencoded`); the last of equal ones counts."""
    for pair in reversed(body.strip().split(b"&", MAX_FORM_FIELDS)[:MAX_FORM_FIELDS]):
        name, _, value = pair.partition(b"=")
        if len(name) <= 3 * len(wanted) and _unquoted(name) == wanted:
            return _unquoted(value)
    raise UnreadableBodyError(NOT_JSON, "the body is no form with the field that body_format names")


def _unquoted(text: bytes) -> bytes:
    """A name or a value of a form in clear. A percent sign without two hexadecimal digits behind it stands for itself.

    Python's own way takes a tenth of a second for a mebibyte of percent signs; its decoder of escapes is written in C.
    """
    text, wrong = _BARE_PERCENT.subn(b"%25", text.replace(b"+", b" "), count=MAX_UNREADABLE)
    if wrong == MAX_UNREADABLE:
        raise UnreadableBodyError(NOT_JSON, "the body is no form: too many percent signs stand for nothing")
    return text.replace(b"\\", rb"\\").replace(b"%", rb"\x").decode("unicode_escape").encode("latin-1")
