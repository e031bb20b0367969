"""What one process accepts: connections at its own door, and at those of workers that are away."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Sequence
from contextlib import suppress

import structlog

from ingress import problems
from ingress.http_server import HttpServer
from ingress.sockets import Door, close, turn_away

HANDSHAKE_SECONDS = 0.5
"""How long a handshake may take that has begun when a process leaves a shared port: more than a round trip around the world,
less than the second after which a peer whose SYN was dropped sends it again."""

ACCEPTED_AT_ONCE = 64
"""Connections that are accepted before the loop turns to others."""

CLOSED_AT_ONCE = 8
"""Connections without a request that are closed when another one cannot be accepted."""

PAUSE_SECONDS = 0.1
"""After a failed attempt to accept; who comes meanwhile waits in the kernel's queue."""

_LOG_SECONDS = 60.0
_DRAINED_BYTES = 64 * 1024

_log = structlog.get_logger(__name__)


class Acceptor:
    """Accepts connections at one listening socket, within the server's bound on them.

    Not asyncio's or uvloop's: out of descriptors, libuv accepts and closes whoever comes, and nobody hears of it.

    Args:
        listening: The socket; closed at the end.
        server: Answers whoever comes.
    """

    def __init__(self, listening: socket.socket, server: HttpServer) -> None:
        self._socket = listening
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._paused: asyncio.TimerHandle | None = None
        self._admitting: set[asyncio.Task[None]] = set()
        self._logged_at: dict[str, float] = {}
        self._listen()

    def close(self) -> None:
        """Accepts no more."""
        if self._paused is not None:
            self._paused.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    async def drain(self) -> int:
        """Accepts who still waits; returns how many."""
        count = 0
        while (connection := self._accepted()) is not None:
            await self._admit(connection)
            count += 1
        return count

    def _listen(self) -> None:
        self._paused = None
        self._loop.add_reader(self._socket, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            connection = self._accepted()
            if connection is None:
                return
            if self._server.open.make_room(len(self._admitting)):
                task = self._loop.create_task(self._admit(connection))
                self._admitting.add(task)
                task.add_done_callback(self._admitting.discard)
            else:
                self._refuse(connection)

    def _accepted(self) -> socket.socket | None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except ConnectionError:  # that peer has gone already
                continue
            except (BlockingIOError, InterruptedError):
                return None
            except OSError as error:
                self._pause(errno.errorcode.get(error.errno or 0, "other"))
                return None
            connection.setblocking(False)  # noqa: FBT003 - positional in the standard library
            return connection

    async def _admit(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._server, connection)
        except OSError:  # the peer has gone, or the loop has no room for it
            connection.close()

    def _pause(self, error: str) -> None:
        """Out of descriptors or memory: closes some connections that can be spared, and tries again in a moment."""
        self._server.metrics.accept_failures.labels(error).inc()
        self._say("ingress_accept_failed", error=error)
        for _ in range(CLOSED_AT_ONCE):
            if not self._server.open.close_one():
                break
        if self._paused is None:
            self._loop.remove_reader(self._socket)
            self._paused = self._loop.call_later(PAUSE_SECONDS, self._listen)

    def _refuse(self, connection: socket.socket) -> None:
        self._server.metrics.connections_refused.inc()
        self._say("ingress_connection_refused", limit=self._server.open.limit)
        with suppress(OSError):
            connection.send(_NO_ROOM)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(_DRAINED_BYTES)  # closed with something unread, the answer could be lost
        connection.close()

    def _say(self, event: str, **values: object) -> None:
        now = self._loop.time()
        if now - self._logged_at.get(event, -_LOG_SECONDS) >= _LOG_SECONDS:
            self._logged_at[event] = now
            _log.error(event, **values)


_NO_ROOM = problems.BUSY.raw()


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
        self._open: dict[int, list[Acceptor]] = {}

    async def open(self, number: int | None = None) -> None:
        """Begins to accept at a door, its own if none is named; one that is open stays as it is."""
        number = self._own if number is None else number
        if number in self._open:
            return
        # Of a copy, because a door is opened more than once.
        self._open[number] = [Acceptor(each.dup(), self._server) for each in self._doors[number]]

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
        late = sum([await acceptor.drain() for acceptor in self._open.get(self._own, ())])  # 3
        self.shut(self._own)
        close([own])  # 4
        _log.info("ingress_left_port", let_in_late=late)
