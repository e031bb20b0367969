"""A server before ClickHouse that stops answering inserts, as a ClickHouse that hangs does, until it is let go."""

from __future__ import annotations

import asyncio

from aiohttp import web

from tests.sinks.lossy_proxy import LossyProxy

_LONGEST_SECONDS = 45.0


class StuckProxy(LossyProxy):
    """Answers the first inserts; the others land, and their answers wait.

    Args:
        target: ClickHouse's URL.
        answered: How many inserts are answered, errors included.
    """

    def __init__(self, target: str, answered: int) -> None:
        super().__init__(target, losses=0)
        self._answered = answered
        self._go_on = asyncio.Event()
        self.stuck = asyncio.Event()

    def let_go(self) -> None:
        """Answers everything from now on."""
        self._go_on.set()

    async def _forward(self, request: web.BaseRequest) -> web.StreamResponse:
        answer = await super()._forward(request)
        if request.query.get("insert_deduplication_token") is not None:
            if self._answered == 0:
                self.stuck.set()
                async with asyncio.timeout(_LONGEST_SECONDS):  # else a test that fails waits for its proxy
                    await self._go_on.wait()
            else:
                self._answered -= 1
        return answer
