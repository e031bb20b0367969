"""An HTTP server before ClickHouse that loses answers: the insert arrives and lands, its sender is never told."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from deploy.embedded.ports import free_port


class LossyProxy:
    """Forwards everything, but of each insert token the first `losses` answers are lost.

    Attributes:
        url: Where it listens.
        tokens: How often each token came.
    """

    def __init__(self, target: str, losses: int) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.tokens: Counter[str] = Counter()
        self._target = target
        self._losses = losses

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[LossyProxy]:
        """Answers while the block runs."""
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            self._session = session
            runner = web.ServerRunner(web.Server(self._forward))
            await runner.setup()
            try:
                await web.TCPSite(runner, "127.0.0.1", int(self.url.rpartition(":")[2])).start()
                yield self
            finally:
                await runner.cleanup()

    async def _forward(self, request: web.BaseRequest) -> web.StreamResponse:
        names = ("Accept-Encoding", "Authorization", "X-ClickHouse-Format")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        async with self._session.request(
            request.method, self._target + request.path_qs, data=await request.read(), headers=headers
        ) as answer:
            body = await answer.read()
            token = request.query.get("insert_deduplication_token")
            if token is not None:
                self.tokens[token] += 1
                if self.tokens[token] <= self._losses and request.transport is not None:
                    request.transport.close()
            passed = {name: value for name, value in answer.headers.items() if name.startswith("X-ClickHouse")}
            return web.Response(status=answer.status, body=body, headers=passed)
