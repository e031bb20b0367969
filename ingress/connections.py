"""How many connections a server keeps, and which of them it closes when another one comes and there is no room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, Protocol

Reason = Literal["idle", "slow_head", "unread_answer"]


class Closable(Protocol):
    """A connection."""

    def abort(self) -> None:
        """Closes it at once."""


class Connections:
    """The open connections of one server.

    A connection with a request under way is never closed here: only the others make room, those first that wait longest.

    1. Idle ones: nothing has come on them since their last answer, or at all.
    2. Those whose request's head is not complete after more than one read.
    3. Those whose peer does not read its answer.

    Args:
        limit: How many there may be.
        on_closed: Called with the reason for each that was closed to make room.
    """

    def __init__(self, limit: int, on_closed: Callable[[Reason], None]) -> None:
        self.limit = limit
        self._on_closed = on_closed
        self._open: set[Closable] = set()
        # Dictionaries keep the order of insertion: the first one waits longest.
        self._waiting: dict[Reason, dict[Closable, None]] = {"idle": {}, "slow_head": {}, "unread_answer": {}}
        self._idle = self._waiting["idle"]

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, connection: Closable) -> None:
        """A new one, idle."""
        self._open.add(connection)
        self._idle[connection] = None

    def lost(self, connection: Closable) -> None:
        """It is no more."""
        self._open.discard(connection)
        for waiting in self._waiting.values():
            waiting.pop(connection, None)

    def idle(self, connection: Closable) -> None:
        """It has been answered, and nothing has come since."""
        if connection in self._open:
            self._idle[connection] = None

    def busy(self, connection: Closable) -> None:
        """A request has come on it."""
        self._idle.pop(connection, None)
        self._waiting["slow_head"].pop(connection, None)

    def head_begun(self, connection: Closable) -> None:
        """Part of a request's head has come on it."""
        self._idle.pop(connection, None)
        self._waiting["slow_head"][connection] = None

    def unread(self, connection: Closable) -> None:
        """Its peer has stopped reading."""
        self._waiting["unread_answer"][connection] = None

    def read(self, connection: Closable) -> None:
        """Its peer reads again."""
        self._waiting["unread_answer"].pop(connection, None)

    def make_room(self, coming: int) -> bool:
        """Closes one if the limit is reached; whether there is room for another one then, beside those that are coming."""
        return len(self._open) + coming < self.limit or self.close_one()

    def close_one(self) -> bool:
        """Closes the one that can best be spared; False when each has a request under way."""
        for reason, waiting in self._waiting.items():
            for connection in waiting:
                self.lost(connection)
                connection.abort()
                self._on_closed(reason)
                return True
        return False
