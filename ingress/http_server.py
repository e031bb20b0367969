"""The HTTP server of the ingress: the connections of one process, and the bounds that aiohttp is told to keep."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from ingress import heads
from ingress.connections import Connections
from ingress.listening import KEEPALIVE_SECONDS, LINGER_SECONDS, MAX_CONNECTIONS, READ_BYTES, Connection
from ingress.metrics import IngressMetrics

_LOOK_SECONDS = 0.02


class HttpServer(web.Server):
    """Makes a `Connection` for each peer; it is the protocol factory of the listening socket.

    Args:
        handler: Answers requests.
        on_bad_http: Called with a reason for what was turned away before its path was known.
        metrics: Where connections are counted.
        max_connections: How many there may be at one time.

    Attributes:
        open: The connections.
        metrics: As given.
    """

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        *,
        on_bad_http: Callable[[str], None],
        metrics: IngressMetrics,
        max_connections: int = MAX_CONNECTIONS,
    ) -> None:
        super().__init__(handler)
        self._on_bad_http = on_bad_http
        self.metrics = metrics
        self.open = Connections(max_connections, lambda reason: metrics.connections_closed.labels(reason).inc())

    def __call__(self) -> Connection:
        """A new connection's protocol."""
        return Connection(
            self,
            self.open,
            on_bad_http=self._on_bad_http,
            loop=asyncio.get_running_loop(),
            access_log=None,  # None switches it off
            keepalive_timeout=KEEPALIVE_SECONDS,
            lingering_time=LINGER_SECONDS,
            auto_decompress=False,  # ours caps what comes out: ingress.bodies
            max_line_size=heads.MAX_URL_BYTES,
            max_field_size=heads.MAX_HEADER_BYTES,
            max_headers=heads.MAX_HEADERS,
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
