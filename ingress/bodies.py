"""Reading a request's body: under a cap while it is read, and inflated under the same cap."""

from __future__ import annotations

import asyncio
import zlib

from aiohttp import StreamReader

from ingress.shares import Share

_GZIP = frozenset({"gzip", "x-gzip"})
_DEFLATE = "deflate"
_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_ZLIB_CINFO_MASK = 0x0F
_ZLIB_METHOD = 8
_MAX_MEMBERS = 16
"""Each member costs a copy of what follows it: thousands of empty ones must not keep the loop busy."""


class TooLargeError(Exception):
    """The body, as sent or inflated, exceeds the cap."""


class SlowBodyError(Exception):
    """The body did not arrive in time."""


async def read_body(content: StreamReader, *, max_bytes: int, timeout_seconds: float, in_flight: Share) -> bytes:
    """The body as sent. The caller takes its size from `in_flight` again; after an error nothing is left there.

    Raises:
        TooLargeError: It has more than `max_bytes`; at most one network read beyond is held.
        SlowBodyError: It took longer than `timeout_seconds`.
        BusyError: The requests under way hold too much; what had been read of this one is given back.
    """
    # Most bodies arrive with their head: no timer, no waiting.
    first = content.read_nowait()
    if len(first) > max_bytes:
        raise TooLargeError
    if content.at_eof():
        in_flight.add(len(first))
        return first
    chunks = [first]
    size = len(first)
    in_flight.add(size)
    complete = False
    try:
        async with asyncio.timeout(timeout_seconds):
            while not content.at_eof():
                chunk = await content.readany()
                in_flight.add(len(chunk))
                chunks.append(chunk)
                size += len(chunk)
                if size > max_bytes:
                    raise TooLargeError
        complete = True
    except TimeoutError:
        raise SlowBodyError from None
    finally:
        if not complete:
            in_flight.add(-size)
    return b"".join(chunks)


def inflate(body: bytes, encoding: str | None, *, max_bytes: int) -> bytes:
    """The body without its content encoding (`gzip`, `deflate`, or none).

    What cannot be inflated (another encoding, broken data) is given back as it was sent: an authentic delivery may be the
    only one, so it is kept and quarantined with its bytes rather than refused.

    Raises:
        TooLargeError: Inflated it would exceed `max_bytes`; not more than that is ever held.
    """
    coding = (encoding or "").strip().lower()
    if coding in _GZIP:
        windows: tuple[int, ...] = (_GZIP_WINDOW,)
    elif coding == _DEFLATE:
        # The standard means zlib's format; some senders leave out its header.
        zlib_header = bool(body) and body[0] & _ZLIB_CINFO_MASK == _ZLIB_METHOD
        windows = (zlib.MAX_WBITS, -zlib.MAX_WBITS) if zlib_header else (-zlib.MAX_WBITS,)
    else:
        return body
    for window in windows:
        inflated = _inflated(body, window, max_bytes)
        if inflated is not None:
            return inflated
    return body


def _inflated(body: bytes, window: int, max_bytes: int) -> bytes | None:
    """The content of one or several members one after the other, or None when it is broken."""
    parts: list[bytes] = []
    left = max_bytes
    for _ in range(_MAX_MEMBERS):
        member = zlib.decompressobj(window)
        try:
            part = member.decompress(body, left + 1)
        except zlib.error:
            return None
        if len(part) > left:
            raise TooLargeError
        if not member.eof:
            return None
        parts.append(part)
        left -= len(part)
        body = member.unused_data
        if not body:
            return b"".join(parts)
    return None
