"""Headers of a webhook that go on with its record, bounded: they are the sender's text."""

from __future__ import annotations

from multidict import MultiMapping

_MAX_TEXT = 255
_MAX_TRACEPARENT = 128


def content_type(headers: MultiMapping[str]) -> str | None:
    """`Content-Type` as sent."""
    return _text(headers.get("Content-Type"))


def content_encoding(headers: MultiMapping[str]) -> str | None:
    """The codings of the body, in the order in which they were applied; several lines are one list."""
    return _text(",".join(headers.getall("Content-Encoding", []))) or None


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
