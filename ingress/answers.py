"""The answer to a delivery that is stored: the one answer of the hot path, written in one piece."""

from __future__ import annotations

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time

from ingress.problems import SERVER

BODY = b"ok"
_BEFORE_ID = "HTTP/1.1 200 OK\r\nX-Delivery-Id: "
_BEFORE_DATE = f"\r\nContent-Type: text/plain; charset=utf-8\r\nServer: {SERVER}\r\nContent-Length: {len(BODY)}\r\nDate: "


class Stored(web.StreamResponse):
    """200 with the body `ok` and `X-Delivery-Id`, for a request of HTTP/1.1.

    aiohttp makes a dictionary of headers, checks each, joins them and writes head and body apart; here all but date and id is
    the same each time.

    Args:
        delivery_id: What the delivery is known by.
    """

    def __init__(self, delivery_id: str) -> None:
        super().__init__()
        self._delivery_id = delivery_id
        self._writer: AbstractStreamWriter | None = None

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Keeps where to write to."""
        self._writer = request.writer
        if self._keep_alive is None:
            self._keep_alive = request.keep_alive
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Writes the whole answer."""
        del data
        if self._writer is None or self._eof_sent:
            return
        connection = "" if self._keep_alive else "Connection: close\r\n"
        text = f"{_BEFORE_ID}{self._delivery_id}{_BEFORE_DATE}{rfc822_formatted_time()}\r\n{connection}\r\n"
        await self._writer.write(text.encode("ascii") + BODY)
        self._eof_sent = True
