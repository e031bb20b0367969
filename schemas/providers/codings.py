"""Content codings of HTTP (`gzip, br`), undone within a bound: by the ingress, or by the intake where the ingress could not."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Protocol

import brotli
from backports import zstd

IDENTITY = "identity"
MAX_CODINGS = 4
"""Codings of one body that are undone, one after the other; `identity` does not count."""
MAX_MEMBERS = 16
"""Each member costs a copy of what follows it: thousands of empty ones must not keep the loop busy."""

_GZIP_WINDOW = 16 + zlib.MAX_WBITS
_ZLIB_CINFO_MASK = 0x0F
_ZLIB_METHOD = 8
_ZSTD_WINDOW_LOG = 23
"""8 MiB: what the specification of this coding (RFC 9659) lets a sender use."""


class TooLargeError(Exception):
    """The body, as sent or with its codings undone, exceeds the cap."""


class _Decompressor(Protocol):
    """One member of a body, as the libraries have it."""

    @property
    def eof(self) -> bool:
        """Whether the member is complete."""

    @property
    def unused_data(self) -> bytes:
        """What follows the member."""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """At most so many bytes of the content."""


def codings(encoding: str) -> list[str]:
    """The codings in a `Content-Encoding`, in the order in which they were applied; `identity` is none."""
    return [name for part in encoding.split(",") if (name := part.strip()) and name.lower() != IDENTITY]


def undo(body: bytes, encoding: str, *, max_bytes: int) -> bytes | None:
    """The body without its content codings, or None when one of them cannot be undone.

    That is: a coding that is not known, broken data, more than `MAX_CODINGS`. Such a body is kept as it was sent, with the name
    of its coding: an authentic delivery may be the only one.

    Args:
        body: As sent.
        encoding: `Content-Encoding`, all its lines joined by commas, in the order in which the codings were applied.
        max_bytes: What the body may have, after each coding.

    Raises:
        TooLargeError: It has more; never more than that is held.
    """
    names = codings(encoding.lower())
    if len(names) > MAX_CODINGS:
        return None
    for name in reversed(names):
        undone = next((found for way in _ways(name, body) if (found := way(body, max_bytes)) is not None), None)
        if undone is None:
            return None
        body = undone
    return body


_Way = Callable[[bytes, int], bytes | None]


def _members(new: Callable[[], _Decompressor]) -> _Way:
    """Undoes one or several members, one after the other."""

    def undo_members(body: bytes, max_bytes: int) -> bytes | None:
        parts: list[bytes] = []
        left = max_bytes
        for _ in range(MAX_MEMBERS):
            member = new()
            try:
                part = member.decompress(body, left + 1)
            except (zlib.error, zstd.ZstdError):
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

    return undo_members


def _brotli(body: bytes, max_bytes: int) -> bytes | None:
    decompressor = brotli.Decompressor()
    parts: list[bytes] = []
    left = max_bytes
    data = body
    try:
        while True:
            part = decompressor.process(data, output_buffer_limit=left + 1)
            if len(part) > left:
                raise TooLargeError
            parts.append(part)
            left -= len(part)
            if decompressor.is_finished():
                return b"".join(parts)
            if decompressor.can_accept_more_data():
                return None  # cut off
            data = b""
    except brotli.error:
        return None


def _deflate(body: bytes) -> tuple[_Way, ...]:
    # The standard means zlib's format; some senders leave out its header.
    zlib_header = bool(body) and body[0] & _ZLIB_CINFO_MASK == _ZLIB_METHOD
    return (_ZLIB, _RAW) if zlib_header else (_RAW,)


_ZLIB = _members(lambda: zlib.decompressobj(zlib.MAX_WBITS))
_RAW = _members(lambda: zlib.decompressobj(-zlib.MAX_WBITS))
_GZIP = _members(lambda: zlib.decompressobj(_GZIP_WINDOW))
_ZSTD = _members(lambda: zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}))

_WAYS: Mapping[str, _Way] = {"gzip": _GZIP, "x-gzip": _GZIP, "br": _brotli, "zstd": _ZSTD}


def _ways(name: str, body: bytes) -> tuple[_Way, ...]:
    """How a coding may be undone, most likely first."""
    if name == "deflate":
        return _deflate(body)
    return (_WAYS[name],) if name in _WAYS else ()
