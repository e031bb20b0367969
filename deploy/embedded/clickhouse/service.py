"""The HTTP handler: health checks, and one statement a request."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, ParamSpec, TypeVar

import structlog
from aiohttp import web

from deploy.embedded.clickhouse.access import Credentials, comes_from_a_page, require_password
from deploy.embedded.clickhouse.answers import Frame, compressed, new_exception_tag
from deploy.embedded.clickhouse.compression import Compressor, choose_coding, compressor
from deploy.embedded.clickhouse.engine import Engine, Outcome
from deploy.embedded.clickhouse.exceptions import ClickHouseError, RequestRefusedError
from deploy.embedded.clickhouse.queries import DEFAULT_ANSWER_FORMAT, Answer, ask, begin_insert
from deploy.embedded.clickhouse.question import Question, parse_question
from deploy.embedded.clickhouse.sessions import Session, SessionRegistry
from deploy.embedded.clickhouse.upload import (
    Body,
    ClientGoneError,
    Insertion,
    Statement,
    read_form,
    read_statement,
)

_log = structlog.get_logger(__name__)
_P = ParamSpec("_P")
_T = TypeVar("_T")

# An answer up to this size is sent whole, with its counts and with an error as a status; a longer one as it is computed.
_HELD_BYTES: Final = 8 * 1024 * 1024
_DISCARD_SECONDS: Final = 10.0
_FORBIDDEN: Final = "This server answers only requests to its own address that no web page of another origin sends.\n"
_NO_SUCH_PATH: Final = "There is nothing here. Queries go to /, health checks to /ping and /replicas_status.\n"


@dataclass(frozen=True, slots=True)
class _Asked:
    question: Question
    work: Insertion | Statement
    files: dict[str, bytes]
    body: Body | None


class Service:
    """Answers ClickHouse's HTTP interface from one engine."""

    def __init__(
        self, engine: Engine, sessions: SessionRegistry, threads: Executor, *, port: int, credentials: Credentials
    ) -> None:
        self._engine = engine
        self._sessions = sessions
        self._threads = threads
        self._port = port
        self._credentials = credentials

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Any request to the server."""
        if comes_from_a_page(request.headers, self._port):
            return web.Response(status=403, text=_FORBIDDEN)
        if request.path in ("/ping", "/replicas_status"):
            return web.Response(text="Ok.\n")
        if request.path != "/":
            return web.Response(status=404, text=_NO_SUCH_PATH)
        if request.method in ("GET", "HEAD") and "query" not in request.query:
            return web.Response(text="Ok.\n")
        if request.method not in ("GET", "HEAD", "POST", "PUT"):
            return web.Response(status=501, text=f"The method {request.method} is not supported.\n")
        return await self._answer(request)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        frame = Frame(str(uuid.uuid4()), self._engine.timezone, None, new_exception_tag())
        body: Body | None = None
        try:
            require_password(self._credentials, request.raw_path, request.headers)
            await _go_on(request)
            asked = await self._read(request)
            body = asked.body
            frame = self._frame(request, asked.question)
            async with self._session(asked.question) as session:
                if isinstance(asked.work, Insertion):
                    outcome = await self._insert(session, asked.question, asked.work, body)
                    return web.Response(headers=replace(frame, coding=None).headers(DEFAULT_ANSWER_FORMAT, outcome))
                answer = await self._call(ask, self._engine, session, asked.question, asked.work, asked.files)
                return await self._send(request, frame, answer)
        except ClientGoneError:
            _log.info("client_gone", query_id=frame.query_id)
            return web.Response(status=400)  # nobody reads it
        except (ClickHouseError, RequestRefusedError) as error:
            refusal = error if isinstance(error, ClickHouseError) else error.worded(self._engine.version)
            _log.info("query_refused", query_id=frame.query_id, code=refusal.code)
            await _discard(body)
            return frame.failure(refusal)

    async def _read(self, request: web.BaseRequest) -> _Asked:
        """The question and its statement, wherever they are: URL, body, form, or a mixture."""
        if request.content_type == "multipart/form-data":
            form = await read_form(request)
            question = parse_question(request.method, request.raw_path, request.headers, form.fields, frozenset(form.files))
            return _Asked(question, Statement(question.query, reads_input=False), form.files, None)
        question = parse_question(request.method, request.raw_path, request.headers, {})
        if question.block_decompression:
            raise RequestRefusedError(48, "NOT_IMPLEMENTED", "decompress=1 is not supported: use Content-Encoding.")
        body = Body(request)
        return _Asked(question, await read_statement(question.query, question.default_format, body), {}, body)

    def _frame(self, request: web.BaseRequest, question: Question) -> Frame:
        coding = None
        switched_off = question.settings.get("enable_http_compression", "1").lower() in ("0", "false")
        if not switched_off and not question.block_compression:
            coding = choose_coding(request.headers.get("Accept-Encoding", ""))
        timezone = question.settings.get("session_timezone") or self._engine.timezone
        query_id = question.query_id if question.query_id and question.query_id.isprintable() else str(uuid.uuid4())
        return Frame(query_id, timezone, coding, new_exception_tag())

    @asynccontextmanager
    async def _session(self, question: Question) -> AsyncIterator[Session]:
        session = await self._call(
            lambda: self._sessions.acquire(
                question.session_id,
                timeout_seconds=question.session_timeout_seconds,
                must_exist=question.session_must_exist,
            )
        )
        try:
            yield session
        finally:
            await asyncio.shield(self._call(self._sessions.release, session, question.session_id))

    async def _insert(self, session: Session, question: Question, insertion: Insertion, body: Body | None) -> Outcome:
        """Feed the body to the engine as it arrives; nothing stays in the table unless all of it was good."""
        insert = await self._call(begin_insert, session, question, insertion)
        try:
            if body is not None:
                async for piece in body.large_pieces(insertion.first):
                    await self._call(insert.append, piece)
            return await self._call(insert.finish)
        finally:
            await asyncio.shield(self._call(insert.cancel))

    async def _send(self, request: web.BaseRequest, frame: Frame, answer: Answer) -> web.StreamResponse:
        blocks = answer.blocks
        try:
            held = await self._call(_hold, blocks)
            if held.complete:
                data = held.outcome.data
                if frame.coding is not None:
                    data = await self._call(compressed, data, compressor(frame.coding))
                return web.Response(body=data, headers=frame.headers(answer.answer_format, held.outcome))
            return await self._send_blockwise(request, frame, answer, held.outcome)
        finally:
            close: Callable[[], None] | None = getattr(blocks, "close", None)
            if close is not None:
                await asyncio.shield(self._call(close))

    async def _send_blockwise(
        self, request: web.BaseRequest, frame: Frame, answer: Answer, begun: Outcome
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=frame.headers(answer.answer_format, begun))
        response.enable_chunked_encoding()
        await response.prepare(request)
        squeeze: Compressor | None = compressor(frame.coding) if frame.coding is not None else None
        data: bytes | None = begun.data
        try:
            while data is not None:
                await response.write(await self._call(squeeze.compress, data) if squeeze else data)
                data = await self._call(_next_data, answer.blocks)
        except ClickHouseError as error:
            _log.info("query_failed_late", query_id=frame.query_id, code=error.code)
            told = frame.late_failure(error)
            await response.write(squeeze.compress(told) + squeeze.flush() if squeeze else told)
            # No last chunk: a client that does not know the marker sees a broken answer, not a short one.
            if request.transport is not None:
                request.transport.close()
            return response
        if squeeze:
            await response.write(squeeze.flush())
        await response.write_eof()
        return response

    async def _call(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a blocking function on the engine's threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: function(*args, **kwargs))


@dataclass(frozen=True, slots=True)
class _Held:
    outcome: Outcome
    complete: bool


def _hold(blocks: Iterator[Outcome]) -> _Held:
    """The first blocks of an answer as one; all of them, when they are few."""
    pieces: list[bytes] = []
    total = Outcome()
    for block in blocks:
        pieces.append(block.data)
        total = _added(total, block)
        if sum(map(len, pieces)) > _HELD_BYTES:
            return _Held(replace(total, data=b"".join(pieces)), complete=False)
    return _Held(replace(total, data=b"".join(pieces)), complete=True)


def _added(total: Outcome, block: Outcome) -> Outcome:
    return Outcome(
        result_rows=total.result_rows + block.result_rows,
        read_rows=total.read_rows + block.read_rows,
        read_bytes=total.read_bytes + block.read_bytes,
        written_rows=total.written_rows + block.written_rows,
        written_bytes=total.written_bytes + block.written_bytes,
        elapsed_seconds=max(total.elapsed_seconds, block.elapsed_seconds),
    )


def _next_data(blocks: Iterator[Outcome]) -> bytes | None:
    block = next(blocks, None)
    return None if block is None else block.data


async def _go_on(request: web.BaseRequest) -> None:
    """Ask for the body of a client that waits to be asked, as curl does with more than a MiB."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # what counts from here is the answer


async def _discard(body: Body | None) -> None:
    """Let a client that is still sending finish, so that it reads the refusal instead of a reset connection."""
    if body is None:
        return
    try:
        async with asyncio.timeout(_DISCARD_SECONDS):
            await body.discard()
    except (TimeoutError, ClientGoneError):
        return
