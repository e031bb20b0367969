"""The body of a request: decoded as it arrives, cut into statement and data, or read as a multipart form."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from aiohttp import BodyPartReader, ClientPayloadError, web

from deploy.embedded.clickhouse.compression import Decoder
from deploy.embedded.clickhouse.exceptions import RequestRefusedError
from deploy.embedded.clickhouse.statement import InsertHead, Plain, split_insert

_PIECE_BYTES: Final = 1024 * 1024  # what the engine is handed at once
_LONGEST_STATEMENT_BYTES: Final = 64 * 1024 * 1024
_LONGEST_FORM_BYTES: Final = 256 * 1024 * 1024


class ClientGoneError(Exception):
    """The client hung up in the middle of its body: nobody waits for an answer, and nothing may be kept."""


class Body:
    """A request's body without its Content-Encoding."""

    def __init__(self, request: web.BaseRequest) -> None:
        """May raise RequestRefusedError for an unknown Content-Encoding."""
        self._stream = request.content
        self._decoder = Decoder(request.headers.get("Content-Encoding", ""))
        self._ended = False

    async def piece(self) -> bytes:
        """The next bytes that arrived; empty at the end of a complete body."""
        while not self._ended:
            data = await self._raw()
            if not data:
                self._ended = True
                self._decoder.finish()
            elif plain := self._decoder.decode(data):
                return plain
        return b""

    async def large_pieces(self, first: bytes) -> AsyncIterator[bytes]:
        """`first` and the rest of the body in pieces of about a MiB."""
        gathered = bytearray(first)
        while data := await self.piece():
            gathered += data
            if len(gathered) >= _PIECE_BYTES:
                yield bytes(gathered)
                gathered.clear()
        if gathered:
            yield bytes(gathered)

    async def rest(self, first: bytes, limit: int = _LONGEST_STATEMENT_BYTES) -> bytes:
        """`first` and all the rest, at most `limit` bytes."""
        gathered = bytearray(first)
        while data := await self.piece():
            gathered += data
            if len(gathered) > limit:
                raise RequestRefusedError(229, "QUERY_IS_TOO_LARGE", f"A statement may have {limit} bytes over HTTP.")
        return bytes(gathered)

    async def discard(self) -> None:
        """Read what is left, so that a client that still sends gets to read the answer."""
        while await self._raw():
            pass

    async def _raw(self) -> bytes:
        try:
            return await self._stream.readany()
        except (ClientPayloadError, ConnectionError, web.RequestPayloadError) as error:
            raise ClientGoneError from error


@dataclass(frozen=True, slots=True)
class Insertion:
    """An INSERT whose data are the body's: `first`, then what the body still has."""

    statement: bytes
    data_format: str
    first: bytes


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that is complete as it stands."""

    sql: bytes
    reads_input: bool


async def read_statement(query: bytes, default_format: str | None, body: Body) -> Insertion | Statement:
    """Find the statement in the URL's `query`, the body, or both (the body then goes on where the URL's text ends).

    Raises:
        RequestRefusedError: No statement, or one beyond 64 MiB.
        ClientGoneError: The client hung up.
    """
    if query.strip():
        found = split_insert(query, final=True)
        if isinstance(found, InsertHead) and (found.data_format or default_format):
            left = query[found.data_start :]
            data_format = found.data_format or default_format or "Values"
            return Insertion(found.statement, data_format, left + b"\n" if left else b"")
        query += b"\n"
    text = query + await body.piece()
    while (found := split_insert(text, final=False)) is None:
        piece = await body.piece()
        text += piece
        if not piece or len(text) > _LONGEST_STATEMENT_BYTES:
            break
    if found is None:
        found = split_insert(text, final=True)
    if isinstance(found, InsertHead):
        data_format = found.data_format or default_format or "Values"
        return Insertion(found.statement, data_format, text[found.data_start :])
    text = await body.rest(text)
    if not text.strip():
        raise RequestRefusedError(62, "SYNTAX_ERROR", "Syntax error (empty query).")
    return Statement(text, isinstance(found, Plain) and found.reads_input)


@dataclass(frozen=True, slots=True)
class Form:
    """A multipart form: text fields, and files by field name (external tables)."""

    fields: dict[str, str]
    files: dict[str, bytes]


async def read_form(request: web.BaseRequest) -> Form:
    """Read a multipart form of at most 256 MiB.

    Raises:
        RequestRefusedError: It is malformed or larger.
        ClientGoneError: The client hung up.
    """
    fields: dict[str, str] = {}
    files: dict[str, bytes] = {}
    size = 0
    try:
        parts = await request.multipart()
        while (part := await parts.next()) is not None:
            if not isinstance(part, BodyPartReader):
                raise RequestRefusedError(117, "INCORRECT_DATA", "A form inside a form is not supported.")
            data = bytes(await part.read(decode=True))
            size += len(data)
            if size > _LONGEST_FORM_BYTES:
                raise RequestRefusedError(229, "QUERY_IS_TOO_LARGE", f"A form may have {_LONGEST_FORM_BYTES} bytes.")
            if part.filename is None:
                fields[part.name or ""] = data.decode("utf-8", "surrogateescape")
            else:
                files[part.name or ""] = data
    except (ClientPayloadError, ConnectionError, web.RequestPayloadError) as error:
        raise ClientGoneError from error
    except (ValueError, AssertionError, LookupError):
        raise RequestRefusedError(117, "INCORRECT_DATA", "The multipart form cannot be read.") from None
    return Form(fields, files)
