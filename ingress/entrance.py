"""Where connections come in, alone or beside other processes: opened, and left in an order in which nobody is turned away."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from ingress.accepting import Reception
from ingress.http_server import HttpServer
from ingress.probes import Probes
from ingress.seat import Line, Seat
from ingress.sockets import close, port_of, take_port, url_of
from kybstream.settings import IngressSettings

FIRST_REQUEST_SECONDS = 1.0
"""How long a connection that was accepted just before the end is given to send its first request."""

LAST_ANSWERS_SECONDS = 0.5
"""How long connections stay open at the end, where other processes go on: who sends a request meanwhile is answered, and told
with the answer that the connection closes."""

PARENT_SECONDS = 1.0
"""How long a worker that got a signal waits for a word of its parent, or its parent's end."""


class Entrance:
    """The port, or one of several doors to it, and the port for probes.

    Args:
        ingress: Where to listen.
        server: Answers whoever comes.
        probes: Answers on the port of their own.
        seat: Which of several workers this is; None for one that takes the port itself.

    Attributes:
        port: Which it is.
        url: The same as a URL.
    """

    def __init__(self, ingress: IngressSettings, server: HttpServer, probes: Probes, seat: Seat | None) -> None:
        self._ingress = ingress
        self._server = server
        self._probes = probes
        self._seat = seat
        self._reception: Reception
        self._line: Line | None = None
        self._following: asyncio.Task[None] | None = None
        self.port = 0
        self.url = ""

    async def open(self, stop: asyncio.Event) -> None:
        """Accepts connections; a worker's parent then sets `stop`, by its word or its end.

        Raises:
            RunError: A port is in use.
        """
        ingress, seat = self._ingress, self._seat
        index = seat.index if seat is not None else 0
        doors = seat.take_doors() if seat is not None else take_port(ingress.host, ingress.port, join=ingress.reuse_port)
        with ExitStack() as on_error:
            on_error.callback(close, doors)
            self._reception = Reception(self._server, doors, index)
            self.port, self.url = port_of(doors[index]), url_of(ingress.host, doors[index])
            if ingress.metrics_port is not None:
                await self._probes.open(ingress.host, ingress.metrics_port + index)
            await self._reception.open()
            on_error.pop_all()
        if seat is not None:
            self._line = seat.take_line()
            self._following = asyncio.create_task(self._follow(self._line, stop), name="parent")

    async def leave(self) -> None:
        """Lets nobody in any more, and returns when everybody who was let in has been heard, within bounds.

        1. A worker whose parent goes on leaves its door to it. Anybody else leaves the port.
        2. Where other processes go on, connections are given a moment to learn from an answer that they close.
        3. Who was let in late gets to send a request.
        """
        if self._line is not None and not await self._line.is_parted(PARENT_SECONDS):  # 1
            await self._reception.hand_back()
        else:
            await self._reception.leave(shared=self._ingress.reuse_port)
        if self._line is not None or self._ingress.reuse_port:  # 2
            await self._server.until_left(LAST_ANSWERS_SECONDS)
        await self._server.until_asked(min(FIRST_REQUEST_SECONDS, self._ingress.shutdown_seconds))  # 3

    async def close(self, seconds: float) -> None:
        """Closes all connections; what is being answered is waited for so long."""
        self._server.pre_shutdown()
        await self._server.shutdown(seconds)
        await self._probes.close(seconds)
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def _follow(self, line: Line, stop: asyncio.Event) -> None:
        try:
            await line.follow(stand_in=self._reception.open, step_back=self._reception.shut)
        finally:
            stop.set()
