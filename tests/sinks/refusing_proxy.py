"""A server before ClickHouse that answers inserts with ClickHouse's errors, instead of passing them on or after it did."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from tests.sinks.lossy_proxy import LossyProxy


class RefusingProxy(LossyProxy):
    """Answers inserts with errors, one after the other; with none left it passes them on.

    Attributes:
        errors: Still to be given: ClickHouse's code and name.
        lands: Whether the refused insert is passed on all the same, and its sender not told.
        refused: The tokens of the refused inserts, in order.
    """

    def __init__(self, target: str, errors: Sequence[tuple[int, str]], *, lands: bool = False) -> None:
        super().__init__(target, losses=0)
        self.errors = list(errors)
        self.lands = lands
        self.refused: list[str] = []

    async def _forward(self, request: web.BaseRequest) -> web.StreamResponse:
        token = request.query.get("insert_deduplication_token")
        if token is None or not self.errors:
            return await super()._forward(request)
        if self.lands:
            await super()._forward(request)
        self.refused.append(token)
        code, name = self.errors.pop(0)
        text = f"Code: {code}. DB::Exception: Not this one: 'ada@example.com'. ({name}) (version 25.8.1.1)"
        headers = {"X-ClickHouse-Exception-Code": str(code), "X-ClickHouse-Format": "Avro"}
        return web.Response(status=500, text=text, headers=headers)
