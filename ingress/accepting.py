"""What one process accepts: connections at its own door, and at those of workers that are away."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from ingress.listening import HttpServer
from ingress.sockets import Door, close, turn_away

HANDSHAKE_SECONDS = 0.5
"""How long a handshake may take that has begun when a process leaves a shared port: more than a round trip around the world,
less than the second after which a peer whose SYN was dropped sends it again."""

_log = structlog.get_logger(__name__)


class Reception:
    """Accepts connections for a server.

    Args:
        server: Answers them.
        doors: All that this process holds; another process may hold them as well.
        own: The number of its own among them.
    """

    def __init__(self, server: HttpServer, doors: Sequence[Door], own: int = 0) -> None:
        self._server = server
        self._doors = list(doors)
        self._own = own
        self._open: dict[int, list[asyncio.Server]] = {}

    async def open(self, number: int | None = None) -> None:
        """Begins to accept at a door, its own if none is named; one that is open stays as it is."""
        number = self._own if number is None else number
        if number in self._open:
            return
        loop = asyncio.get_running_loop()
        # Of a copy, because asyncio closes what it is given, and a door is opened more than once.
        self._open[number] = [await loop.create_server(self._server, sock=each.dup()) for each in self._doors[number]]

    def shut(self, number: int) -> None:
        """Accepts no more at a door. Connections that come wait there for whoever else holds it."""
        for listener in self._open.pop(number, ()):
            listener.close()

    async def hand_back(self) -> None:
        """Accepts no more, anywhere: another process holds the doors, and goes on with whoever waits there."""
        for number in list(self._open):
            self.shut(number)
        close(self._doors)

    async def leave(self, *, shared: bool) -> None:
        """Leaves the port. Whoever has reached this process's own door until then is let in.

        1. The other doors are given up: each is somebody else's to leave.
        2. On a shared port no new connection begins here any more, and handshakes under way are waited for.
        3. Who still waits is let in.
        4. The door is closed.

        Args:
            shared: Whether other processes, not of this one's parent, listen on the port.
        """
        for number in list(self._open):  # 1
            if number != self._own:
                self.shut(number)
        own = self._doors[self._own]
        close(door for door in self._doors if door is not own)
        if shared and turn_away(own):  # 2
            await asyncio.sleep(HANDSHAKE_SECONDS)
        self.shut(self._own)
        late = await self._let_in(own)  # 3
        close([own])  # 4
        _log.info("ingress_left_port", let_in_late=late)

    async def _let_in(self, door: Door) -> int:
        loop = asyncio.get_running_loop()
        count = 0
        for each in door:
            while True:
                try:
                    connection, _ = each.accept()
                except ConnectionError:  # that peer has gone already
                    continue
                except OSError:  # nobody waits any more
                    break
                connection.settimeout(0)
                await loop.connect_accepted_socket(self._server, connection)
                count += 1
        return count
