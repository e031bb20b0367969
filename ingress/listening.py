"""aiohttp's low-level server, with its error answers and log lines replaced: they would tell paths, which hold tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import structlog
from aiohttp import EMPTY_PAYLOAD, StreamReader, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import _ErrInfo

from ingress import heads, problems
from ingress.connections import Connections
from ingress.heads import MAX_HEAD_BYTES, HeadTooLargeError, SlowHeadError

KEEPALIVE_SECONDS = 75.0
"""An idle connection is closed after it: longer than the 60 s of common proxies."""

LINGER_SECONDS = 2.0
"""How long what still comes is read and dropped after an early answer, so that the sender gets to see it."""

HEAD_SECONDS = 10.0
"""How long a head may take from its first part to its end; then 408."""

UNREAD_SECONDS = 10.0
"""How long an answer may wait for a peer that does not read; then the connection is closed."""

MAX_CONNECTIONS = 2048
"""Where nothing else is set."""

READ_BYTES = 64 * 1024
"""A connection's body is read ahead up to twice as far, then the sender has to wait."""

_log = structlog.get_logger(__name__)


class Connection(web.RequestHandler):
    """One HTTP connection.

    Args:
        server: Whose connection it is.
        connections: All of the server's, of which it becomes one.
        on_bad_http: Called with a reason for what was turned away before its path was known.
        options: Of aiohttp's handler.

    Attributes:
        asked: Whether a request has come on it.
    """

    __slots__ = (
        "_all",
        "_answered",
        "_body",
        "_half_closed",
        "_head_bytes",
        "_head_timer",
        "_linger_timer",
        "_on_bad_http",
        "_refused",
        "_unread_timer",
        "asked",
    )

    def __init__(
        self, server: web.Server, connections: Connections, *, on_bad_http: Callable[[str], None], **options: Any
    ) -> None:
        super().__init__(server, **options)
        self._on_bad_http = on_bad_http
        self._all = connections
        self._answered = 0  # of aiohttp's _request_count
        self._body: StreamReader = EMPTY_PAYLOAD  # of the newest request
        self._half_closed = False
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._linger_timer: asyncio.TimerHandle | None = None
        self._refused = False
        self._unread_timer: asyncio.TimerHandle | None = None
        self.asked = False

    def abort(self) -> None:
        """Closes it at once, without a word."""
        if self.transport is not None:
            self.transport.abort()
        self.force_close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio."""
        super().connection_made(transport)
        self._all.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Of asyncio."""
        self._stop_head_timer()
        self._stop_unread_timer()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
        self._all.lost(self)
        if self._waiter is not None and self._task_handler is not None:
            # It may have been woken up for a request a moment ago; aiohttp would fail to make one.
            self._task_handler.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parses what came; after the first thing that is not HTTP the connection listens no more.

        aiohttp would go on parsing until its answer is sent, and each failure leaves a cycle of error, traceback and frame
        with the bytes in it until the next full garbage collection. Measured: 48 strangers with a header that does not end,
        6 MB each, made the process grow by 516 MiB; with this, by nothing.
        """
        if self._close or self._force_close:
            return
        before, between = self._request_count, self._body.is_eof()
        super().data_received(data)
        if self._request_count != before:
            self._requests_came(len(data))
        elif data and between:
            self._head_goes_on(data)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio lets it say whether to stay open
        """The sender has closed its side: what it has asked is answered all the same, and then the connection closes.

        A body that is cut short is an error where it is read.
        """
        self._half_closed = True
        unanswered = self._request_count > self._answered
        if not self._body.is_eof():
            if unanswered:
                self._body.set_exception(web.RequestPayloadError("the body is cut short"))
            else:
                self._body.feed_eof()  # the rest of a body that nobody reads
        return unanswered

    def pause_writing(self) -> None:
        """The peer does not read its answer: it has some seconds to begin."""
        super().pause_writing()
        self._unread_timer = self._loop.call_later(UNREAD_SECONDS, self.abort)
        self._all.unread(self)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._stop_unread_timer()
        self._all.read(self)

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends the answer, and says with the last one to a sender that has closed its side that the connection ends."""
        if self._half_closed and self._answered + 1 == self._request_count:
            resp.force_close()
        try:
            return await super().finish_response(request, resp, start_time)
        finally:
            self._answered += 1
            if self._answered == self._request_count:
                if self._half_closed:
                    if not self._body.is_eof():
                        self._body.feed_eof()  # there is no rest to wait for
                    self.close()
                else:
                    if self._refused:
                        self._linger()
                    if not self._head_bytes:
                        self._all.idle(self)

    def _linger(self) -> None:
        """Ends our side and drops what the peer still sends, until it ends its own or LINGER_SECONDS are over.

        After a close, a reset would answer what comes later, and could take the answer from the peer (RFC 9112, 9.6).
        """
        if self.transport is None:
            return
        transport = self.transport
        if transport.can_write_eof():
            transport.write_eof()
        self._force_close = True  # aiohttp leaves the connection to us
        self._linger_timer = self._loop.call_later(LINGER_SECONDS, transport.close)

    def _requests_came(self, size: int) -> None:
        self._all.busy(self)
        self.asked = True
        newest, self._body = self._messages[-1]
        if self._head_bytes:
            size += self._head_bytes
            self._head_bytes = 0
            self._stop_head_timer()
        if isinstance(newest, _ErrInfo):
            self._close = self._refused = True
            newest.exc.__traceback__ = None
        elif size > MAX_HEAD_BYTES and heads.head_bytes(newest) > MAX_HEAD_BYTES:
            self._messages.pop()
            self._request_count -= 1
            self._refuse(HeadTooLargeError())

    def _head_goes_on(self, data: bytes) -> None:
        """Bounds a head that does not come at once: in bytes, and in time from its first part on, however it drips.

        A part that came in one read with the end of the request before is not noticed until more comes; then, and as an idle
        connection, it costs one read.
        """
        if not self._head_bytes:
            if not data.strip(b"\r\n"):
                return  # empty lines between requests
            self._all.head_begun(self)
            self._head_timer = self._loop.call_later(HEAD_SECONDS, self._head_is_late)
        self._head_bytes += len(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HeadTooLargeError())

    def _head_is_late(self) -> None:
        if self._request_count > self._answered:  # it waits behind a request that we have not answered
            self._head_timer = self._loop.call_later(HEAD_SECONDS, self._head_is_late)
        else:
            self._refuse(SlowHeadError())

    def _refuse(self, error: HttpProcessingError) -> None:
        """Answers with an error after what is being answered, and listens no more."""
        self._stop_head_timer()
        self._request_count += 1
        self._messages.append((_ErrInfo(status=int(problems.BAD_HTTP.status), exc=error, message=""), EMPTY_PAYLOAD))
        self._close = self._refused = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is no HTTP of ours (400, 414, 431), and to exceptions that came as far as here (503)."""
        del message
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already")
        if status == problems.BAD_HTTP.status:
            _log.debug("bad_http", error=type(exc).__name__)
            reason, problem = heads.refusal(exc)
            self._on_bad_http(reason)
            return problem.response()
        _log.error("request_failed", error=type(exc).__name__)
        response = problems.NOT_DURABLE.response()
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Says what kind of exception it was, and nothing of the request."""
        del args
        error = kw.get("exc_info")
        say = _log.debug if isinstance(error, web.RequestPayloadError) else _log.error  # a sender's fault is no error of ours
        say("connection_failed", error=type(error).__name__)
