"""aiohttp's low-level server, with its error answers and log lines replaced: they would tell paths, which hold tokens."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any

import structlog
from aiohttp import web

from ingress import problems
from kybstream.errors import RunError

KEEPALIVE_SECONDS = 75.0
"""An idle connection is closed after it: longer than the 60 s of common proxies."""

LINGER_SECONDS = 2.0
"""How long the rest of a body is read and dropped after an early answer, so that the sender gets to see it."""

BACKLOG = 1024

_log = structlog.get_logger(__name__)


class Connection(web.RequestHandler):
    """One HTTP connection."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what is not HTTP (400), and to exceptions that came as far as here (503: nothing was stored)."""
        del message
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is under way already")
        if status == problems.BAD_HTTP.status:
            _log.debug("bad_http", error=type(exc).__name__)
            return problems.BAD_HTTP.response()
        _log.error("request_failed", error=type(exc).__name__)
        response = problems.NOT_DURABLE.response()
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Says what kind of exception it was, and nothing of the request."""
        del args
        _log.error("connection_failed", error=type(kw.get("exc_info")).__name__)


class HttpServer(web.Server):
    """Makes a `Connection` for each peer; it is the protocol factory of the listening socket."""

    def __call__(self) -> Connection:
        """A new connection's protocol."""
        return Connection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # None switches it off
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,  # ours caps what comes out: ingress.bodies
        )


async def listen(server: HttpServer, host: str, port: int) -> tuple[asyncio.Server, int]:
    """Listens; returns the listener and the port, which differs from the one asked for only if that was 0.

    Raises:
        RunError: The port is in use, or the address cannot be listened on.
    """
    try:
        listener = await asyncio.get_running_loop().create_server(server, host, port, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise RunError(
                f"port {port} for the ingress is in use on {host}",
                hint="Set ingress.port to another one, or end the process that has it.",
            ) from None
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "the host is not known"
        raise RunError(f"the ingress cannot listen on {host}:{port}: {reason}") from None
    return listener, int(listener.sockets[0].getsockname()[1])
