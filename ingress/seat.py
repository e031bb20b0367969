"""Which of several ingress processes one is, and the line to the parent that has started them.

The line is a socket pair. The worker says `ready` when it accepts connections; the parent says at whose door to stand in. It is
also how a worker learns that its parent has ended, in whatever way: the line ends then.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

import msgspec

from ingress.sockets import Door
from kybstream.errors import UsageError

READY = b"r"

_STAND_IN, _STEP_BACK, _RELIEVE = "+", "-", "."


class Seat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker is told on its command line.

    Attributes:
        index: Its number, from 0.
        count: How many there are.
        doors: The descriptors of every worker's listening sockets.
        line: The descriptor of the line to the parent.
    """

    index: int
    count: int
    doors: tuple[tuple[int, ...], ...]
    line: int

    def encode(self) -> str:
        """For the command line."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, text: str) -> Seat:
        """From the command line.

        Raises:
            UsageError: It is not from `encode`.
        """
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.DecodeError:
            raise UsageError("--seat is for the workers that `kyb-stream ingress --workers` starts") from None

    def take_doors(self) -> list[Door]:
        """The sockets themselves."""
        return [tuple(_inherited(each) for each in door) for door in self.doors]

    def take_line(self) -> Line:
        """The line itself."""
        return Line(_inherited(self.line))


def stand_in(number: int) -> bytes:
    """Tells a worker to accept at another's door."""
    return f"{_STAND_IN}{number}\n".encode()


def step_back(number: int) -> bytes:
    """Tells it to accept there no more."""
    return f"{_STEP_BACK}{number}\n".encode()


def relieve() -> bytes:
    """Tells it to end, and that its door is being looked after."""
    return f"{_RELIEVE}\n".encode()


class Line:
    """A worker's end of the line.

    Args:
        end: The socket.
    """

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._parted = asyncio.Event()
        self._told = asyncio.Event()

    async def follow(self, *, stand_in: Callable[[int], Awaitable[None]], step_back: Callable[[int], None]) -> None:
        """Says that the worker is ready, and does what the parent says; returns when the worker is to end."""
        reader, writer = await asyncio.open_unix_connection(sock=self._end)
        writer.write(READY)
        with suppress(ConnectionError):
            async for message in reader:
                text = message.decode("ascii").strip()
                if text.startswith(_STAND_IN):
                    await stand_in(int(text[1:]))
                elif text.startswith(_STEP_BACK):
                    step_back(int(text[1:]))
                else:
                    self._told.set()
                    return
        self._parted.set()
        self._told.set()

    async def is_parted(self, seconds: float) -> bool:
        """Whether the parent has ended: there is nobody to leave the doors to.

        A signal may have come to the worker alone, or to the parent as well: its word, or its end, is waited for so long.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told.wait()
        return self._parted.is_set()


def _inherited(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - positional in the standard library
    taken = socket.socket(fileno=descriptor)
    taken.settimeout(0)
    return taken
