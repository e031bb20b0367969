"""A captured HTTP request as text, read back: what `kyb-stream detect-signature` is given."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from multidict import CIMultiDict

from ingress.signatures.verifier import SignedRequest
from kybstream.errors import UsageError

_TARGET = re.compile(r"(?:https?://|/)\S*")
_REQUEST_LINE = re.compile(rf"(?:(?P<method>[A-Za-z]+)[ \t]+)?(?P<target>{_TARGET.pattern})(?:[ \t]+HTTP/[0-9.]+)?[ \t]*")
_HEADER = re.compile(r"(?P<name>[!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(?P<value>.*?)[ \t]*")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")


def parse_capture(raw: bytes) -> SignedRequest:
    r"""The request in a capture: request line, headers, an empty line, the body's bytes.

    - The request line is `POST /webhooks/kyb/… HTTP/1.1`, or the path alone, which means POST; a URL is cut to its path.
    - Header lines end with LF or CRLF.
    - Everything behind the first empty line is the body, byte for byte. It is cut to `Content-Length`, so that a line end
      which an editor has added does no harm. Where it is chunked, and the capture still shows the chunks, they are joined.
      A body with a `Content-Encoding` is left as it is.

    Raises:
        UsageError: It is not of this form; names the line, and holds nothing of it.
    """
    head, body = _split(raw)
    lines = [line.decode("utf-8", "surrogateescape") for line in head]
    found = _REQUEST_LINE.fullmatch(lines[0]) if lines else None
    if found is None:
        raise _bad("line 1 is no request line", "It should be `POST /path HTTP/1.1`, or the path alone.")
    headers: CIMultiDict[str] = CIMultiDict()
    for number, line in enumerate(lines[1:], start=2):
        pair = _HEADER.fullmatch(line)
        if pair is None:
            raise _bad(f"line {number} is no header", "Headers are `Name: value`, and an empty line comes before the body.")
        headers.add(pair["name"], pair["value"])
    return SignedRequest((found["method"] or "POST").upper(), _path(found["target"]), headers, _body(headers, body))


def _split(raw: bytes) -> tuple[list[bytes], bytes]:
    lines: list[bytes] = []
    position = 0
    while position < len(raw):
        end = raw.find(b"\n", position)
        if end < 0:
            break
        line = raw[position:end].removesuffix(b"\r")
        position = end + 1
        if not line:
            return lines, raw[position:]
        lines.append(line)
    raise _bad("there is no empty line between headers and body", "The body follows an empty line, even when it is empty.")


def _path(target: str) -> str:
    if target.startswith("/"):
        return target
    parts = urlsplit(target)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _body(headers: CIMultiDict[str], body: bytes) -> bytes:
    if "chunked" in headers.get("Transfer-Encoding", "").lower():
        joined = _joined(body)
        return body if joined is None else joined
    length = headers.get("Content-Length", "")
    # Tools that show a body inflated leave the length of what was sent.
    if not length or "Content-Encoding" in headers:
        return body
    if not (length.isascii() and length.isdigit()):
        raise _bad("its Content-Length is no number")
    if int(length) > len(body):
        raise _bad(
            f"its body has {len(body)} bytes, its Content-Length says {length}",
            "The capture is cut off, or its line ends were converted: every byte counts.",
        )
    return body[: int(length)]


def _joined(body: bytes) -> bytes | None:
    """The content of the chunks, or None when these are none."""
    parts: list[bytes] = []
    position = 0
    while (size := _CHUNK.match(body, position)) is not None:
        start, length = size.end(), int(size[1], 16)
        if not length:
            return b"".join(parts)
        parts.append(body[start : start + length])
        position = start + length + 2
        if body[position - 2 : position] != b"\r\n":
            return None
    return None


def _bad(what: str, hint: str | None = None) -> UsageError:
    return UsageError(f"the capture cannot be read: {what}", hint=hint or "docs/how-to/detect-signature.md shows one.")
