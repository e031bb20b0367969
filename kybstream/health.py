"""The pages on which a component without an HTTP interface says how it does: `/healthz`, `/readyz`, `/metrics`.

A port of its own, for probes and Prometheus, in the component's event loop: a loop that does not turn does not answer.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import structlog
from aiohttp import web
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from kybstream.errors import RunError

Check = Callable[[], str | None]
"""None when all is well, else the reason, for people; holds no value of a record."""

_SERVER = "kyb-stream"
_PROBLEM = "application/problem+json"
_CLOSE_SECONDS = 1.0
_READING = frozenset({"GET", "HEAD"})
_KEEPALIVE_SECONDS = 75.0

log = structlog.get_logger(__name__)


class HealthPages:
    """Answers the requests.

    Args:
        alive: Why the process should be ended and started again.
        ready: Why it does not do its work now.
        metrics: All metrics in Prometheus' text format.
    """

    def __init__(self, alive: Check, ready: Check, metrics: Callable[[], bytes]) -> None:
        self._alive = alive
        self._ready = ready
        self._metrics = metrics

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """The answer to any request."""
        if request.path not in {"/healthz", "/readyz", "/metrics"}:
            return _problem(404, "not-found", "There is nothing at this address.")
        if request.method not in _READING:
            return _problem(405, "method-not-allowed", "This address is read with GET.", {"Allow": "GET, HEAD"})
        if request.path == "/metrics":
            return _response(200, self._metrics(), CONTENT_TYPE_PLAIN_0_0_4)
        if request.path == "/healthz":
            return self._checked(self._alive(), "ok", "stalled", "Nothing goes on although there is work.")
        return self._checked(self._ready(), "ready", "not-ready", "No work is done now.")

    def _checked(self, reason: str | None, well: str, code: str, title: str) -> web.Response:
        if reason is None:
            return _response(200, well.encode(), "text/plain; charset=utf-8")
        return _problem(503, code, title, reason=reason)


@asynccontextmanager
async def serve_health(pages: HealthPages, component: str, host: str, port: int | None) -> AsyncIterator[int | None]:
    """Answers while the block runs; gives the port, which is another one than asked for only if that was 0.

    Args:
        pages: The answers.
        component: Whose pages they are; in errors, with its settings `health_host` and `health_port`.
        host: Address to listen on.
        port: None: no server.

    Raises:
        RunError: The port is in use, or the address cannot be listened on.
    """
    if port is None:
        yield None
        return
    server = web.Server(pages.answer, access_log=None, keepalive_timeout=_KEEPALIVE_SECONDS)
    try:
        listener = await asyncio.get_running_loop().create_server(server, host, port)
    except OSError as error:
        raise _cannot_listen(error, component, host, port) from None
    try:
        bound = int(listener.sockets[0].getsockname()[1])
        log.info("health_listening", component=component, host=host, port=bound)
        yield bound
    finally:
        listener.close()
        await server.shutdown(_CLOSE_SECONDS)


def _cannot_listen(error: OSError, component: str, host: str, port: int) -> RunError:
    if error.errno == errno.EADDRINUSE:
        return RunError(
            f"port {port} for the health pages of the {component} is in use on {host}",
            hint=f"Set {component}.health_port to another one, one for each process, or end the process that has it.",
        )
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else "the host is not known"
    return RunError(f"the health pages of the {component} cannot listen on {host}:{port}: {reason}")


def _problem(
    status: int, code: str, title: str, headers: dict[str, str] | None = None, reason: str | None = None
) -> web.Response:
    content = {"type": f"urn:kyb-stream:problem:{code}", "title": title, "status": status}
    if reason is not None:
        content["reason"] = reason
    return _response(status, msgspec.json.encode(content), _PROBLEM, headers)


def _response(status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=body,
        headers={"Content-Type": content_type, "Server": _SERVER, "Cache-Control": "no-store", **(headers or {})},
    )
