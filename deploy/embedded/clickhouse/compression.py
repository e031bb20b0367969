"""HTTP content codings: gzip, deflate, zstd and LZ4 frames, both ways, as bytes arrive."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Final, Protocol

import lz4.frame  # type: ignore[import-untyped]
from backports import zstd

from deploy.embedded.clickhouse.exceptions import RequestRefusedError

_GZIP_WINDOW: Final = 16 + zlib.MAX_WBITS
_GZIP_LEVEL: Final = 3  # ClickHouse's default for HTTP answers


class Compressor(Protocol):
    """Turns an answer's pieces into one compressed stream."""

    def compress(self, data: bytes, /) -> bytes:
        """The next piece; may return nothing yet."""

    def flush(self) -> bytes:
        """The end of the stream."""


class _FrameDecompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class _Lz4Compressor:
    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameCompressor()
        self._begun = False

    def compress(self, data: bytes, /) -> bytes:
        head = b"" if self._begun else bytes(self._frame.begin())
        self._begun = True
        return head + bytes(self._frame.compress(data))

    def flush(self) -> bytes:
        head = b"" if self._begun else bytes(self._frame.begin())
        return head + bytes(self._frame.flush())


class _Lz4Decompressor:
    """LZ4FrameDecompressor gives None for unused data; this gives nothing, as the others do."""

    def __init__(self) -> None:
        self._frame = lz4.frame.LZ4FrameDecompressor()
        self.eof = False
        self.unused_data = b""

    def decompress(self, data: bytes, /) -> bytes:
        plain = bytes(self._frame.decompress(data))
        self.eof = bool(self._frame.eof)
        self.unused_data = bytes(self._frame.unused_data or b"")
        return plain


_COMPRESSORS: Final[dict[str, Callable[[], Compressor]]] = {
    "zstd": zstd.ZstdCompressor,
    "lz4": _Lz4Compressor,
    "gzip": lambda: zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW),
    "deflate": lambda: zlib.compressobj(_GZIP_LEVEL),
}
_DECOMPRESSORS: Final[dict[str, Callable[[], _FrameDecompressor]]] = {
    "zstd": lambda: zstd.ZstdDecompressor(),  # noqa: PLW0108 - as below
    "lz4": _Lz4Decompressor,
    "gzip": lambda: zlib.decompressobj(_GZIP_WINDOW),
    "deflate": lambda: zlib.decompressobj(),  # noqa: PLW0108 - it has optional arguments
}


class Decoder:
    """Undoes a body's Content-Encoding, piece by piece; several frames in a row are one body."""

    def __init__(self, coding: str) -> None:
        """For the value of Content-Encoding; empty and `identity` change nothing.

        Raises:
            RequestRefusedError: The coding is not supported.
        """
        self._make: Callable[[], _FrameDecompressor] | None = None
        self._frame: _FrameDecompressor | None = None
        if coding.lower() not in ("", "identity"):
            self._make = _DECOMPRESSORS.get(coding.lower())
            if self._make is None:
                raise RequestRefusedError(48, "NOT_IMPLEMENTED", f"Unknown compression method '{coding}'.")

    def decode(self, data: bytes) -> bytes:
        """The plain bytes of the next piece.

        Raises:
            RequestRefusedError: The bytes are not what the coding promises.
        """
        if self._make is None:
            return data
        plain = []
        while data:
            self._frame = self._frame or self._make()
            try:
                plain.append(self._frame.decompress(data))
            except (zlib.error, zstd.ZstdError, RuntimeError):
                raise RequestRefusedError(271, "CANNOT_DECOMPRESS", "Cannot decompress the request body.") from None
            if not self._frame.eof:
                break
            data, self._frame = self._frame.unused_data, None
        return b"".join(plain)

    def finish(self) -> None:
        """Check that the body was whole.

        Raises:
            RequestRefusedError: It ended inside a frame.
        """
        if self._frame is not None:
            raise RequestRefusedError(271, "CANNOT_DECOMPRESS", "The compressed request body ends too early.")


def choose_coding(accept_encoding: str) -> str | None:
    """The first coding of an Accept-Encoding header that this server can send; None for none."""
    for choice in accept_encoding.split(","):
        name, _, weight = choice.partition(";")
        if name.strip().lower() in _COMPRESSORS and weight.replace(" ", "") not in ("q=0", "q=0.0"):
            return name.strip().lower()
    return None


def compressor(coding: str) -> Compressor:
    """A compressor for a coding that `choose_coding` gave."""
    return _COMPRESSORS[coding]()
