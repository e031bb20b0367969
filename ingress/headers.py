"""Headers of a webhook that go on with its record, bounded: they are the sender's text."""

from __future__ import annotations

from multidict import MultiMapping

from schemas.providers.codings import MAX_CODINGS, codings

_MAX_TEXT = 255
_MAX_CODING = 32
"""Characters of the name of a coding; the longest that is known has seven."""
_LONG_CODING = "(long name)"
_MAX_TRACEPARENT = 128


def content_type(headers: MultiMapping[str]) -> str | None:
    """`Content-Type` as sent."""
    return _text(headers.get("Content-Type"))


def content_encoding(headers: MultiMapping[str]) -> str | None:
    """The codings of the body, in the order in which they were applied; several lines are one list.

    All lines are read. `identity` is left out; so are codings beyond one more than can be undone, and a long name is not told:
    with these, too, the codings cannot be undone.
    """
    names = codings(",".join(headers.getall("Content-Encoding", [])))[: MAX_CODINGS + 1]
    return _text(",".join(name if len(name) <= _MAX_CODING else _LONG_CODING for name in names)) or None


def traceparent(headers: MultiMapping[str]) -> str | None:
    """The W3C trace context if it can be one; nothing else of the sender's goes into our headers."""
    value = headers.get("traceparent")
    if value and len(value) <= _MAX_TRACEPARENT and value.isascii() and value.isprintable():
        return value
    return None


def _text(value: str | None) -> str | None:
    """A header's text, cut to the limit; bytes that were not UTF-8 become question marks."""
    if value is None:
        return None
    value = value[:_MAX_TEXT]
    return value if value.isascii() else value.encode("utf-8", "replace").decode()
