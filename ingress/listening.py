"""aiohttp's low-level server, with its error answers and log lines replaced: they would tell paths, which hold tokens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import _ErrInfo

from ingress import problems
from ingress.problems import Problem

KEEPALIVE_SECONDS = 75.0
"""An idle connection is closed after it: longer than the 60 s of common proxies."""

LINGER_SECONDS = 2.0
"""How long the rest of a body is read and dropped after an early answer, so that the sender gets to see it."""

MAX_URL_BYTES = 4096
"""A longer one gets 414. Ours have less than 500; what a sender appends as a query is its own."""

MAX_HEADER_BYTES = 8190
"""Of the name of a header, and of its value; beyond it 431."""

MAX_HEADERS = 100
"""Headers of one request; beyond it 431. Together the bounds say what a head can cost before anybody has looked at it."""

READ_BYTES = 64 * 1024
"""A connection's body is read ahead up to twice as far, then the sender has to wait."""

_LOOK_SECONDS = 0.02

_TOO_MANY_HEADERS = "Too many headers received"
"""What aiohttp's parser says; without a class of its own. A test pins it; were it reworded, the answer would be a 400."""

_log = structlog.get_logger(__name__)


class Connection(web.RequestHandler):
    """One HTTP connection.

    Args:
        server: Whose connection it is.
        on_bad_http: Called with a reason for what was turned away before its path was known.
        options: Of aiohttp's handler.

    Attributes:
        asked: Whether a request has come on it.
    """

    __slots__ = ("_on_bad_http", "asked")

    def __init__(self, server: HttpServer, *, on_bad_http: Callable[[str], None], **options: Any) -> None:
        super().__init__(server, **options)
        self._on_bad_http = on_bad_http
        self.asked = False

    def data_received(self, data: bytes) -> None:
        """Parses what came; after the first thing that is not HTTP the connection listens no more.

        aiohttp would go on parsing until its answer is sent, and each failure leaves a cycle of error, traceback and frame
        with the bytes in it until the next full garbage collection. Measured: 48 strangers with a header that does not end,
        6 MB each, made the process grow by 516 MiB; with this, by nothing.
        """
        super().data_received(data)
        if self._messages:
            self.asked = True
            if isinstance(self._messages[-1][0], _ErrInfo):
                self._close = True
                self._messages[-1][0].exc.__traceback__ = None

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
            reason, problem = _refusal(exc)
            self._on_bad_http(reason)
            return problem.response()
        _log.error("request_failed", error=type(exc).__name__)
        response = problems.NOT_DURABLE.response()
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Says what kind of exception it was, and nothing of the request."""
        del args
        _log.error("connection_failed", error=type(kw.get("exc_info")).__name__)


def _refusal(error: BaseException | None) -> tuple[str, Problem]:
    if isinstance(error, LineTooLong):
        # The parser tells the two apart by their limit alone.
        _, limit, *_ = error.args
        if limit == MAX_URL_BYTES:
            return "url_too_long", problems.URL_TOO_LONG
        return "headers_too_large", problems.HEADERS_TOO_LARGE
    if error is not None and error.args == (_TOO_MANY_HEADERS,):
        return "headers_too_large", problems.HEADERS_TOO_LARGE
    return "bad_http", problems.BAD_HTTP


class HttpServer(web.Server):
    """Makes a `Connection` for each peer; it is the protocol factory of the listening socket.

    Args:
        handler: Answers requests.
        on_bad_http: Called with a reason for what was turned away before its path was known.
    """

    def __init__(
        self, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], *, on_bad_http: Callable[[str], None]
    ) -> None:
        super().__init__(handler)
        self._on_bad_http = on_bad_http

    def __call__(self) -> Connection:
        """A new connection's protocol."""
        return Connection(
            self,
            on_bad_http=self._on_bad_http,
            loop=asyncio.get_running_loop(),
            access_log=None,  # None switches it off
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,  # ours caps what comes out: ingress.bodies
            max_line_size=MAX_URL_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADERS,
            read_bufsize=READ_BYTES,
        )

    async def until_asked(self, seconds: float) -> None:
        """Returns when a request has come on every open connection, or the time is over."""
        await self._until(lambda: all(each.asked for each in self.connections if isinstance(each, Connection)), seconds)

    async def until_left(self, seconds: float) -> None:
        """Returns when no connection is open, or the time is over."""
        await self._until(lambda: not self.connections, seconds)

    async def _until(self, condition: Callable[[], bool], seconds: float) -> None:
        deadline = asyncio.get_running_loop().time() + seconds
        while not condition() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(_LOOK_SECONDS)
