"""A port of each process's own for probes and metrics: on a shared port a scrape would meet one or another of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from ingress import problems
from ingress.accepting import Reception
from ingress.http_server import HttpServer
from ingress.metrics import IngressMetrics
from ingress.sockets import take_port

PAGES = frozenset({"/healthz", "/readyz", "/metrics"})

MAX_PROBE_CONNECTIONS = 32

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Probes:
    """Answers probes and nothing else.

    Args:
        answer: Answers on the ingress' own port.
        metrics: Where its connections are counted when they are closed or refused.
    """

    def __init__(self, answer: Answer, metrics: IngressMetrics) -> None:
        self._answer = answer
        self._server = HttpServer(
            self._page, on_bad_http=lambda _reason: None, metrics=metrics, max_connections=MAX_PROBE_CONNECTIONS
        )
        self._reception: Reception | None = None

    async def open(self, host: str, port: int) -> None:
        """Listens.

        Raises:
            RunError: The port is in use.
        """
        self._reception = Reception(self._server, take_port(host, port, setting="ingress.metrics_port"))
        await self._reception.open()

    async def close(self, seconds: float) -> None:
        """Ends it; who is being answered has so many seconds."""
        if self._reception is not None:
            await self._reception.hand_back()
            self._server.pre_shutdown()
            await self._server.shutdown(seconds)

    async def _page(self, request: web.BaseRequest) -> web.StreamResponse:
        return await self._answer(request) if request.path.removesuffix("/") in PAGES else problems.NOT_FOUND.response()
